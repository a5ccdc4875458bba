//! A session whose nodes a test plays, to lose them at a chosen moment. With real nodes moves are tested from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use millrace_lifecycle::Leaver;
use millrace_publisher::{Clip, Playout, Publisher, TagKind};
use millrace_registry::{ChannelRecord, NodeRecord, NodeState, OriginRecord, Registry};
use millrace_telemetry::{Metrics, RelayThreads};
use millrace_types::{EndReason, Mark, MediaTime, Msn, PartNo, StreamKey, Versions};
use millrace_wire::{
    Admitted, ChangeOrigin, Ended, Heartbeat, Hello, Message, MessageReader, MessageWriter,
    OriginLost, Published,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::origin_side::BACK_PATIENCE;
use crate::{Config, Router, moves::Departures, placement::tests::node};

/// Longer than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// More often than a Link's silence is noticed.
const BEAT: Duration = Duration::from_millis(100);

/// A node that takes whatever stream it is asked for.
struct Node(TcpListener);

/// A stream that it has taken.
struct Taken {
    hello: Hello,
    reader: MessageReader<OwnedReadHalf>,
    writer: MessageWriter<OwnedWriteHalf>,
}

impl Node {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    async fn register(&self, registry: &Registry, name: &str, state: NodeState) {
        let link = self.0.local_addr().unwrap();
        let record = NodeRecord { state, ..node(name, link) };
        registry.put(&record).await.unwrap();
    }

    /// The next stream that it is asked for.
    async fn taken(&self) -> Taken {
        let (socket, _) = timeout(PATIENCE, self.0.accept()).await.expect("it is asked").unwrap();
        let (reader, writer) = socket.into_split();
        let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
        let Some(Message::Hello(hello)) = reader.next().await.unwrap() else {
            panic!("a router says hello first");
        };
        let admitted = Admitted {
            resume: Vec::new(),
            worker_pid: 1,
            next_seq: None,
            standby: hello.standby,
            beside: false,
            version: Versions::OURS.newest,
        };
        writer.send(&Message::Admitted(admitted)).await.unwrap();
        Taken { hello, reader, writer }
    }
}

impl Taken {
    /// Says that it lives, and takes items, until it is told what is `awaited`.
    async fn until<T>(mut self, awaited: impl Fn(Message) -> Option<T>) -> (Self, T) {
        let (mut beat, mut seq) = (interval(BEAT), 0);
        loop {
            tokio::select! {
                message = self.reader.next() => match message.unwrap().expect("the router goes on") {
                    Message::Item(item) => seq = item.seq(),
                    other => if let Some(found) = awaited(other) {
                        return (self, found);
                    }
                },
                _ = beat.tick() => {
                    let beat = Message::Heartbeat(Heartbeat { seq, lag_ms: 0 });
                    self.writer.send(&beat).await.unwrap();
                }
            }
        }
    }

    /// The same until it is told to begin.
    async fn until_begin(self) -> (Self, Msn) {
        self.until(|message| match message {
            Message::Begin(begin) => Some(begin.msn),
            _ => None,
        })
        .await
    }

    async fn until_origin_changes(self) -> ChangeOrigin {
        let changed = self.until(|message| match message {
            Message::ChangeOrigin(change) => Some(change),
            _ => None,
        });
        timeout(PATIENCE, changed).await.expect("it is told").1
    }

    /// Says that it lives until the router hangs up, which is not to name another origin before.
    async fn until_left(mut self) {
        let mut beat = interval(BEAT);
        loop {
            tokio::select! {
                message = self.reader.next() => match message {
                    Ok(Some(Message::ChangeOrigin(_))) => panic!("another origin helps nobody"),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return,
                },
                _ = beat.tick() => {
                    let beat = Message::Heartbeat(Heartbeat { seq: 0, lag_ms: 0 });
                    let _ = self.writer.send(&beat).await;
                }
            }
        }
    }

    /// Says that everything before a segment is published, and its last word.
    async fn flushed(&mut self, msn: Msn) {
        for rung in &self.hello.ladder.rungs {
            let (rung, before) = (rung.id.clone(), Msn(msn.0 - 1));
            let mark = Mark { rung, msn: before, part: PartNo(0), end: MediaTime(0), closed: true };
            self.writer.send(&Message::Published(Published { mark })).await.unwrap();
        }
        let ended = Ended { reason: EndReason::Stopped, text: String::new() };
        self.writer.send(&Message::Ended(ended)).await.unwrap();
    }
}

/// A stream of which a test can stop the sound, and everything by dropping it.
struct Playing {
    is_mute: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

async fn play(registry: &Registry, router: &Router) -> Playing {
    let key = StreamKey::from_random("live".parse().unwrap(), [1; 17]);
    let json = serde_json::json!({ "channel": "live", "key_hashes": [key.hash()] });
    registry.put(&serde_json::from_value::<ChannelRecord>(json).unwrap()).await.unwrap();
    let url = format!("rtmp://{}/live", router.addresses.rtmp);
    let mut publisher = Publisher::connect(&url, &key.reveal()).await.unwrap();
    let is_mute = Arc::new(AtomicBool::new(false));
    let muted = is_mute.clone();
    let task = tokio::spawn(async move {
        let heard = |kind| kind != TagKind::Audio || !muted.load(Relaxed);
        let due = Playout::endless(&Clip::demo()).filter(|due| heard(due.tag.kind));
        drop(publisher.play(due).await);
    });
    Playing { is_mute, _task: AbortOnDropHandle::new(task) }
}

async fn register_origin(registry: &Registry, name: &str, at: SocketAddr) {
    let json = serde_json::json!({ "origin": name, "intake": at, "playback": at, "admin": at });
    registry.put(&serde_json::from_value::<OriginRecord>(json).unwrap()).await.unwrap();
}

/// An origin that refuses whatever it is asked.
async fn answers_everybody(listener: TcpListener) {
    let answer = "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        // What comes with the headers is all that such a request is.
        let _ = socket.read(&mut [0; 4_096]).await;
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}

async fn router(registry: &Registry) -> Router {
    let here: SocketAddr = ([127, 0, 0, 1], 0).into();
    let config = Config { listen_rtmp: here, listen_admin: here, ..Config::default() };
    let starting = crate::start(config, registry.clone(), Metrics::new(), RelayThreads::default());
    starting.await.unwrap()
}

#[tokio::test]
async fn nobody_goes_on_with_a_worker_that_was_lost_while_its_stream_was_crossing_to_another_node()
{
    let registry = Registry::in_memory();
    let (writer, standby) = (Node::new().await, Node::new().await);
    writer.register(&registry, "a", NodeState::Ready).await;
    let router = router(&registry).await;
    let playing = play(&registry, &router).await;

    // A worker that has all the router has sent may be gone on with.
    drop(writer.taken().await);
    let again = writer.taken().await;
    assert!(again.hello.replay_from.is_some(), "{:?}", again.hello);
    let again = tokio::spawn(again.until_begin());

    standby.register(&registry, "b", NodeState::Ready).await;
    writer.register(&registry, "a", NodeState::Draining).await;
    let other = standby.taken().await;
    assert!(other.hello.standby, "{:?}", other.hello);
    // Without sound the stream crosses for as long as the router waits for that.
    playing.is_mute.store(true, Relaxed);
    let (other, _) = timeout(PATIENCE, other.until_begin()).await.expect("it begins");
    again.abort();
    let next = tokio::select! {
        taken = writer.taken() => taken,
        taken = standby.taken() => taken,
    };
    assert!(!next.hello.standby, "the stream is placed anew: {:?}", next.hello);
    assert_eq!(
        next.hello.replay_from, None,
        "its worker was given sound behind pictures that it lacks"
    );
    drop((other, playing));
    router.stop().await;
}

#[tokio::test]
async fn an_order_to_leave_that_comes_when_the_stream_is_elsewhere_already_moves_nothing() {
    let registry = Registry::in_memory();
    let (writer, other) = (Node::new().await, Node::new().await);
    writer.register(&registry, "a", NodeState::Ready).await;
    let router = router(&registry).await;
    let playing = play(&registry, &router).await;
    let taken = writer.taken().await;
    let writes = tokio::spawn(taken.until(|_| None::<()>));
    let off_a = || async {
        let draining = BTreeSet::from(["a".parse().unwrap()]);
        router.sessions.leaving(Departures { draining, ordered: BTreeMap::new() }).await.pop()
    };
    let is_made = async {
        loop {
            if let Some(leaver) = off_a().await {
                return leaver;
            }
            tokio::task::yield_now().await;
        }
    };
    let leaver = timeout(PATIENCE, is_made).await.expect("it is made");
    other.register(&registry, "b", NodeState::Ready).await;
    router.sessions.move_away(Leaver { from: "b".parse().unwrap(), ..leaver }).await;
    assert!(timeout(5 * BEAT, other.0.accept()).await.is_err(), "nobody else is asked");
    writer.register(&registry, "a", NodeState::Draining).await;
    assert!(other.taken().await.hello.standby, "now it is to leave");
    writes.abort();
    drop(playing);
    router.stop().await;
}

#[tokio::test]
async fn an_origin_that_is_lost_right_after_a_move_is_made_up_for_by_the_node_that_was_left() {
    let registry = Registry::in_memory();
    for (name, port) in [("one", 1), ("two", 2)] {
        register_origin(&registry, name, ([127, 0, 0, 1], port).into()).await;
    }
    let (writer, standby) = (Node::new().await, Node::new().await);
    writer.register(&registry, "a", NodeState::Ready).await;
    let router = router(&registry).await;
    let playing = play(&registry, &router).await;
    let left = writer.taken().await;
    let lost = left.hello.origin_intake.expect("there are origins");
    let left = tokio::spawn(left.until(|message| matches!(message, Message::End(_)).then_some(())));

    standby.register(&registry, "b", NodeState::Ready).await;
    writer.register(&registry, "a", NodeState::Draining).await;
    let other = standby.taken().await;
    let (other, msn) = timeout(PATIENCE, other.until_begin()).await.expect("it begins");
    let other =
        tokio::spawn(other.until(|message| matches!(message, Message::Publish).then_some(())));
    let (mut left, ()) = timeout(PATIENCE, left).await.expect("it is told to end").unwrap();
    left.flushed(msn).await;
    let (mut other, ()) = timeout(PATIENCE, other).await.expect("it publishes").unwrap();

    let message = Message::OriginLost(OriginLost { intake: lost, with_all: false });
    other.writer.send(&message).await.unwrap();
    let (first, second) = tokio::join!(left.until_origin_changes(), other.until_origin_changes());
    assert_ne!(first.intake, lost);
    assert_eq!((first.beside, second.intake), (None, first.intake));
    assert_eq!(second.beside, Some(first.epoch), "it gives what it has behind the other");
    assert!(second.epoch > first.epoch);
    drop(playing);
    router.stop().await;
}

#[tokio::test]
async fn a_node_that_no_origin_answers_is_left_at_once_and_the_stream_keeps_its_origin() {
    let registry = Registry::in_memory();
    for name in ["one", "two"] {
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        register_origin(&registry, name, origin.local_addr().unwrap()).await;
        tokio::spawn(answers_everybody(origin));
    }
    let (cut_off, other) = (Node::new().await, Node::new().await);
    cut_off.register(&registry, "a", NodeState::Ready).await;
    let router = router(&registry).await;
    let playing = play(&registry, &router).await;
    let mut taken = cut_off.taken().await;
    let intake = taken.hello.origin_intake.expect("there are origins");

    other.register(&registry, "b", NodeState::Ready).await;
    let lost = OriginLost { intake, with_all: true };
    taken.writer.send(&Message::OriginLost(lost)).await.unwrap();
    let left = tokio::spawn(taken.until_left());
    let next = other.taken().await;
    timeout(PATIENCE, left).await.expect("it is left").unwrap();
    assert_eq!(next.hello.origin_intake, Some(intake));
    assert!(!next.hello.standby, "{:?}", next.hello);
    drop(playing);
    router.stop().await;
}

#[tokio::test]
async fn a_node_is_not_left_for_an_origin_that_has_just_come_back_before_it_had_time_to_reach_it() {
    let registry = Registry::in_memory();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = gone.local_addr().unwrap();
    drop(gone);
    register_origin(&registry, "only", at).await;
    let (writer, other) = (Node::new().await, Node::new().await);
    writer.register(&registry, "a", NodeState::Ready).await;
    let router = router(&registry).await;
    let playing = play(&registry, &router).await;
    let mut taken = writer.taken().await;
    let intake = taken.hello.origin_intake.expect("there is an origin");

    other.register(&registry, "b", NodeState::Ready).await;
    let lost = OriginLost { intake, with_all: true };
    taken.writer.send(&Message::OriginLost(lost)).await.unwrap();
    let writes = tokio::spawn(taken.until_left());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let back = TcpListener::bind(at).await.unwrap();
    let since = Instant::now();
    tokio::spawn(answers_everybody(back));

    let next = timeout(2 * BACK_PATIENCE, other.taken()).await.expect("it is left in the end");
    assert!(since.elapsed() >= BACK_PATIENCE, "{:?}", since.elapsed());
    assert!(!next.hello.standby, "{:?}", next.hello);
    timeout(PATIENCE, writes).await.expect("it is left").unwrap();
    drop(playing);
    router.stop().await;
}
