//! A stream that is pinned to two encoders, or that many watch: a node may die at any moment, the one that is shown too, and the
//! next part comes as if nothing had happened.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use millrace_testkit::{
    ClipSpec, HttpClient, Player, PlayerOptions, RenditionRecording, until_some,
};
use millrace_tests::{Live, ManyFarm, ManyOptions, discontinuities};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// An origin's estimate looks back over two periods of 6 s, it is told every 3 s, and looked at thrice, a second apart each.
const COOLING: Duration = Duration::from_secs(30);
/// So many make a stream hot here. The player of the test itself counts as one for each of three rungs with a picture.
const HOT_VIEWERS: u64 = 8;

/// Both encoders of the stream, once either alone would do: node and the epoch that its parts are made under.
async fn pair(farm: &ManyFarm, stream: &str) -> [(String, String); 2] {
    let paired = until_some("two encoders", PATIENCE, async || {
        let view = farm.stream("router-1", stream).await.ok()?;
        let text = |value: &Value, name: &str| Some(value[name].as_str()?.to_owned());
        let second = view.rest.get("second").filter(|second| second["paired"] == true)?;
        let first = view.rest.get("node")?.as_str()?.to_owned();
        let made = text(second, "epoch")?;
        let made_by_first = view.rest.get("epoch")?.as_str()?.to_owned();
        Some([(first, made_by_first), (text(second, "node")?, made)])
    });
    paired.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")))
}

/// The node whose pictures players of `rung` see.
async fn shown_node(farm: &ManyFarm, stream: &str, rung: &str) -> String {
    let [first, second] = pair(farm, stream).await;
    let origin = farm.address("origin-1", "playback").unwrap();
    let url = format!("http://{origin}/live/{stream}/status.json");
    let answer = HttpClient::default().send(Method::GET, &url, Bytes::new(), PATIENCE).await;
    let status: Value = serde_json::from_str(&answer.unwrap().text()).unwrap();
    let rungs = status["rungs"].as_array().unwrap();
    let found = rungs.iter().find(|found| found["rung"] == rung).unwrap();
    let shown = [first, second].into_iter().find(|(_, epoch)| found["epoch"] == epoch.as_str());
    shown.unwrap_or_else(|| panic!("{status}")).0
}

/// Gives all nodes the same order.
async fn order(farm: &ManyFarm, order: &str) {
    for node in 1..=3 {
        let path = format!("/v1/nodes/node-{node}/{order}");
        farm.api(Method::POST, &path, String::new()).await.unwrap();
    }
}

async fn explain(farm: &ManyFarm) -> Value {
    farm.api(Method::GET, "/v1/streams/live/explain", String::new()).await.unwrap()
}

/// Pins the stream while no node takes new work, which is said, and then lets them.
async fn pin_without_capacity(farm: &ManyFarm) {
    order(farm, "cordon").await;
    farm.pin("live", true).await.unwrap();
    let single = until_some("said why there is one encoder", PATIENCE, async || {
        let explained = explain(farm).await;
        let why = explained["single_because"].as_str()?;
        why.starts_with("refused").then(|| why.to_owned())
    });
    let single = single.await.unwrap();
    assert_eq!(single.matches("takes no new work").count(), 2, "not the first itself: {single}");
    order(farm, "uncordon").await;
}

/// Of three nodes in two zones, the second is alone in its own.
fn assert_in_two_zones(encoders: &[(String, String); 2]) {
    let in_second = encoders.iter().filter(|(node, _)| node == "node-2").count();
    assert_eq!(in_second, 1, "{encoders:?}");
}

/// Empties the first encoder's node: the second goes on alone at once, and gets another beside it.
async fn drain_first(farm: &ManyFarm) {
    let [drained, stays] = pair(farm, "live").await;
    let path = format!("/v1/nodes/{}/drain", drained.0);
    farm.api(Method::POST, &path, String::new()).await.unwrap();
    let left = until_some("the drained node is left", PATIENCE, async || {
        let view = farm.stream("router-1", "live").await.ok()?;
        (view.rest.get("node")?.as_str()? == stays.0).then_some(())
    });
    left.await.unwrap();
    let [first, second] = pair(farm, "live").await;
    assert!(first.0 == stays.0 && second.0 != drained.0, "{first:?} {second:?}");
}

/// Frees the stream while many watch it: it keeps two encoders, and `explain` says why.
async fn free_while_hot(farm: &ManyFarm) {
    farm.pin("live", false).await.unwrap();
    let hot = until_some("hot, with two encoders", PATIENCE, async || {
        let explained = explain(farm).await;
        let is_paired = explained["second"]["paired"] == true;
        let why = explained["two_because"].as_str().filter(|_| is_paired)?;
        why.starts_with("hot, ").then(|| why.to_owned())
    });
    let viewers = farm.metric("origin-1", "millrace_origin_viewers ").await.unwrap();
    let hot = hot
        .await
        .unwrap_or_else(|error| panic!("{error}: {viewers} viewers\n{}", farm.log("router-1")));
    let viewers: u64 = hot.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((HOT_VIEWERS..20).contains(&viewers), "{hot}");
    assert_eq!(
        farm.metric("router-1", "millrace_router_hot_streams{result=\"granted\"}").await.unwrap(),
        1.0
    );
}

/// Nobody but the test watches any more: one encoder is enough.
async fn cool(farm: &ManyFarm) {
    let cooled = until_some("one encoder again", COOLING, async || {
        let explained = explain(farm).await;
        let cooled = explained["timeline"].as_array()?.iter().any(|it| it["kind"] == "cooled");
        (cooled && explained["second"].is_null() && explained["two_because"].is_null())
            .then_some(())
    });
    cooled.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")));
}

#[tokio::test]
async fn timing_the_nodes_of_a_dual_stream_die_and_the_next_part_comes_within_a_second() {
    let mut farm = ManyFarm::start(ManyOptions {
        nodes: 3,
        zones: 2,
        hot_viewers: Some(HOT_VIEWERS),
        ..ManyOptions::default()
    })
    .await
    .unwrap();
    let clip = ClipSpec { seconds: 70, ..ClipSpec::default() };
    let live = Live::begin(&farm, "live", clip).await;
    let watch = |_| Player::start(&live.channel.playback_url, PlayerOptions::default());
    let viewers: Vec<Player> = (0..3).map(watch).collect();
    let start = Instant::now();
    pin_without_capacity(&farm).await;
    let mut struck = Vec::new();
    assert_in_two_zones(&pair(&farm, "live").await);
    for round in 0..4 {
        if round == 3 {
            free_while_hot(&farm).await;
        }
        let [first, second] = pair(&farm, "live").await;
        assert_ne!(first.0, second.0, "never the same node");
        let node = match round {
            0 | 1 | 3 => shown_node(&farm, "live", "240p").await,
            _ => first.0.clone(),
        };
        farm.kill(&node).unwrap();
        struck.push(Instant::now());
        println!("killed {node} of {} and {}", first.0, second.0);
        farm.start_again(&node).await.unwrap();
    }
    drain_first(&farm).await;
    println!("paired again {:?} after the start", start.elapsed());
    for viewer in viewers {
        viewer.stop().await.unwrap();
    }
    cool(&farm).await;
    println!("cold {:?} after the start", start.elapsed());
    let explained = explain(&farm).await;
    let ended = live.stop().await;
    ended.assert_lossless();
    for (rung, count) in discontinuities(&ended.recording) {
        assert_eq!(count, 0, "{rung}");
    }
    let rungs = &ended.recording.renditions;
    assert!(rungs.iter().all(|rung| rung.inits.len() == 1), "the encoders are equal");
    let next = struck
        .iter()
        .flat_map(|at| rungs.iter().map(|rung| rung.next_arrival_after(*at).unwrap()))
        .max();
    let gap = rungs.iter().map(RenditionRecording::longest_gap).max().unwrap();
    println!("next part after a death: {next:?}; longest gap between two parts: {gap:?}");
    assert!(gap <= Duration::from_millis(1_000), "{gap:?}");
    let timeline = explained["timeline"].as_array().unwrap();
    let drained = timeline.iter().rfind(|it| it["kind"] == "promoted").unwrap();
    assert!(drained["text"].as_str().unwrap().contains("node is to be empty"), "{drained}");
    let kinds: Vec<_> = timeline.iter().map(|it| &it["kind"]).collect();
    for kind in ["paired", "promoted", "hot"] {
        assert!(kinds.iter().any(|found| *found == kind), "{kind}: {kinds:?}");
    }
}
