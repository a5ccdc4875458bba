//! Publishers that come just as their stream's session ends, too late for it.

use millrace_telemetry::{DecisionLog, Metrics};
use millrace_types::StreamKey;

use super::*;
use crate::{Config, metrics::RouterMetrics, report::StreamReport};

/// The task with one session, which has just ended, and its publisher.
async fn with_an_ended_session() -> (Task, Newcomer) {
    let (config, registry) = (Config::default(), millrace_registry::Registry::in_memory());
    let key = StreamKey::from_random("live".parse().unwrap(), [1; 17]);
    let json = serde_json::json!({ "channel": "live", "key_hashes": [key.hash()] });
    let channel: ChannelRecord = serde_json::from_value(json).unwrap();
    registry.put(&channel).await.unwrap();
    let metrics = RouterMetrics::new(&Metrics::new());
    let decisions = DecisionLog::new(config.name.clone());
    let heats = watch::Sender::default().subscribe();
    let all = crate::router::sessions(&config, &registry, metrics, &decisions, None, heats);
    let newcomer = Newcomer {
        channel,
        stream: "live".parse().unwrap(),
        key_hash: key.hash(),
        peer: ([127, 0, 0, 1], 1).into(),
        runtime: runtime::Handle::current(),
    };
    let (commands, _) = mpsc::channel(1);
    let report = StreamReport::new(newcomer.stream.clone(), Wall(0));
    let (newest, key_until) = (newcomer.clone(), FOREVER);
    let ended = Handle {
        commands,
        report: watch::Sender::new(report).subscribe(),
        takeovers: Takeovers::default(),
        newest,
        key_until,
    };
    let sessions = BTreeMap::from([(newcomer.stream.clone(), ended)]);
    let running = JoinSet::new();
    (Task { context: all.context, sessions, running, is_stopping: false }, newcomer)
}

/// Says that the session has ended, and hands over a publisher that had come too late for it: what that one is told.
async fn end_with_a_late_one(task: &mut Task, stream: &StreamId) -> crate::ingest::Granted {
    let (granted, publication) = Publication::new(1);
    let late = Some(Waiting { publication, since: Wall(1) });
    task.forget(Ok((stream.clone(), late))).await;
    granted
}

#[tokio::test]
async fn a_publisher_that_comes_as_its_session_ends_begins_the_next_one() {
    let (mut task, newcomer) = with_an_ended_session().await;
    let mut granted = end_with_a_late_one(&mut task, &newcomer.stream).await;
    assert!(!task.sessions[&newcomer.stream].commands.is_closed(), "a session of its own");
    assert_eq!(task.running.len(), 1);
    assert!(granted.refusal_now().is_none(), "nobody turned it away");
    // That session lives: whoever came too late for the one before has been overtaken.
    let mut granted = end_with_a_late_one(&mut task, &newcomer.stream).await;
    let told = granted.refusal_now().map(|refusal| refusal.reason);
    assert_eq!(told, Some(RefusalReason::TakenOver));
    assert_eq!(task.running.len(), 1);
}

#[tokio::test]
async fn one_whose_key_was_revoked_meanwhile_does_not() {
    let (mut task, newcomer) = with_an_ended_session().await;
    task.context.registry.delete::<ChannelRecord>("live").await.unwrap();
    let mut granted = end_with_a_late_one(&mut task, &newcomer.stream).await;
    let told = granted.refusal_now().map(|refusal| refusal.reason);
    assert_eq!(told, Some(RefusalReason::BadKey));
    assert!(task.sessions.is_empty() && task.running.is_empty());
}
