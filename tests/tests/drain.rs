//! `millrace drain` moves live streams to another node, make before break: no frame is lost or repeated, no discontinuity, and
//! no gap in what is published. So a whole farm is restarted node by node under live streams.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use hyper::Method;
use millrace_testkit::{ClipSpec, until_some};
use millrace_tests::{Ended, Live, ManyFarm, ManyOptions, discontinuities, program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Longer than anything that is waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// From an order until the stream is elsewhere: its keyframes are 2 s apart.
const AS_LONG_AS_A_MOVE: Duration = Duration::from_secs(3);

async fn node_of(live: &Live, farm: &ManyFarm) -> String {
    farm.made_by("router-1", &live.channel.stream, None).await.unwrap().0
}

/// Proves that nothing is missing, and nothing broken.
fn assert_whole(ended: &Ended) {
    ended.assert_lossless();
    for (rung, count) in discontinuities(&ended.recording) {
        assert_eq!(count, 0, "{rung}");
    }
    for rung in &ended.recording.renditions {
        assert_eq!(rung.inits.len(), 1, "{}: the encoders are equal", rung.name);
    }
}

/// The longest time between two parts of one rung, of those around that time.
fn longest_gap(ended: &Ended, from: Instant, to: Instant) -> Duration {
    let pairs = ended.recording.renditions.iter().flat_map(|rung| rung.chunks.windows(2));
    let arrivals = pairs.map(|pair| (pair[0].arrived, pair[1].arrived));
    let around = arrivals.filter(|(before, after)| *after > from && *before < to);
    around.map(|(before, after)| after - before).max().unwrap()
}

/// Runs `millrace ORDER NODE --json`; what it says, and how long it took.
async fn order(farm: &ManyFarm, order: &str, node: &str) -> (Value, Duration) {
    let api = format!("http://{}", farm.address("api-1", "api").unwrap());
    let mut command = Command::new(program("millrace").unwrap());
    command.args([order, node, "--json", "--api", &api]);
    if order == "drain" {
        command.args(["--timeout", "40"]);
    }
    let start = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, progress) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{order} {node}: {said}{progress}{}", farm.log("router-1"));
    println!("{order} {node} after {:?}: {progress}", start.elapsed());
    (serde_json::from_str(&said).unwrap(), start.elapsed())
}

/// What the node says of itself: the command has waited for that.
async fn state(farm: &ManyFarm, node: &str, wanted: &str) {
    let nodes = farm.api(Method::GET, "/v1/nodes", String::new()).await.unwrap();
    let found = nodes["nodes"].as_array().unwrap().iter().find(|found| found["node"] == node);
    assert_eq!(found.unwrap()["state"], wanted, "{nodes}");
}

/// Two streams, both on node-1.
async fn two_on_one(farm: &ManyFarm, seconds: u32) -> [Live; 2] {
    order(farm, "cordon", "node-2").await;
    state(farm, "node-2", "cordoned").await;
    let clip = ClipSpec { seconds, ..ClipSpec::default() };
    let first = Live::begin(farm, "one", clip.clone()).await;
    let second = Live::begin(farm, "two", clip).await;
    for live in [&first, &second] {
        assert_eq!(node_of(live, farm).await, "node-1", "the other takes no new streams");
    }
    order(farm, "uncordon", "node-2").await;
    state(farm, "node-2", "ready").await;
    [first, second]
}

#[tokio::test]
async fn a_farm_is_drained_and_restarted_node_by_node_and_no_stream_loses_a_frame() {
    let mut farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let [one, two] = two_on_one(&farm, 27).await;
    let (empty, _) = order(&farm, "drain", "node-1").await;
    assert_eq!(empty["empty"], true);
    for live in [&one, &two] {
        assert_eq!(node_of(live, &farm).await, "node-2");
        let view = farm.stream("router-1", &live.channel.stream).await.unwrap();
        assert_eq!(view.restarts, 0, "a move is no loss");
    }
    assert_eq!(farm.metric("node-1", "millrace_node_workers").await.unwrap(), 0.0);
    assert_eq!(farm.metric("router-1", "millrace_router_moves_total").await.unwrap(), 2.0);
    let short = ClipSpec { seconds: 3, ..ClipSpec::default() };
    let three = Live::begin(&farm, "three", short.clone()).await;
    assert_eq!(node_of(&three, &farm).await, "node-2", "a draining node takes no new stream");
    let three = three.end().await;

    // A rolling restart: each node in turn. The third stream waits for its publisher, and is moved as well.
    for (node, other) in [("node-1", "node-2"), ("node-2", "node-1")] {
        order(&farm, "drain", node).await;
        farm.kill(node).unwrap();
        farm.start_again(node).await.unwrap();
        order(&farm, "uncordon", node).await;
        state(&farm, node, "ready").await;
        for live in [&one, &two] {
            assert_eq!(node_of(live, &farm).await, other, "nobody comes back by itself");
        }
    }
    let four = Live::begin(&farm, "four", short).await;
    assert_eq!(node_of(&four, &farm).await, "node-2", "the emptier node is chosen");
    let four = four.end().await;

    // Both are on node-1 now, and the other is empty.
    let moved = move_stream(&farm, &one, &["--to", "node-2"]).await;
    assert_eq!(moved.unwrap()["to"], "node-2");
    assert_eq!((node_of(&one, &farm).await, node_of(&two, &farm).await), on("node-2", "node-1"));
    // Wherever there is room: it is moved once, also while the order is still in the registry.
    assert_eq!(move_stream(&farm, &one, &[]).await.unwrap()["to"], "node-1");
    tokio::time::sleep(AS_LONG_AS_A_MOVE).await;
    assert_eq!((node_of(&one, &farm).await, node_of(&two, &farm).await), on("node-1", "node-1"));
    order(&farm, "cordon", "node-2").await;
    let stays = move_stream(&farm, &two, &["--timeout", "1"]).await.unwrap_err();
    assert!(stays.contains("stays on node-1") && stays.contains("takes no new work"), "{stays}");
    assert_eq!(node_of(&two, &farm).await, "node-1");
    let mut ended = vec![three, four];
    for live in [one, two] {
        ended.push(live.end().await);
    }
    ended.iter().for_each(assert_whole);
}

fn on(one: &str, two: &str) -> (String, String) {
    (one.to_owned(), two.to_owned())
}

/// Runs `millrace move STREAM --json`; what it says, or its error.
async fn move_stream(farm: &ManyFarm, live: &Live, more: &[&str]) -> Result<Value, String> {
    let api = format!("http://{}", farm.address("api-1", "api").unwrap());
    let mut command = Command::new(program("millrace").unwrap());
    command.args(["move", live.channel.stream.as_str(), "--json", "--api", &api]).args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Orders `from` to be drained, and waits until `to` has a standby for the stream: its worker.
async fn begin_to_move(farm: &ManyFarm, stream: &str, from: &str, to: &str) -> i32 {
    let path = format!("/v1/nodes/{from}/drain");
    farm.api(Method::POST, &path, String::new()).await.unwrap();
    let standby = until_some("a standby", PATIENCE, async || {
        let nodes = farm.api(Method::GET, "/v1/nodes", String::new()).await.ok()?;
        let node = nodes["nodes"].as_array()?.iter().find(|node| node["node"] == to)?.clone();
        let line =
            node["streams"].as_array()?.iter().find(|line| line["stream"] == stream)?.clone();
        i32::try_from(line["worker_pid"].as_i64()?).ok()
    });
    standby.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")))
}

/// Waits until the stream is made on that node, by another worker than `old`.
async fn comes_to(farm: &ManyFarm, live: &Live, node: &str, old: i32) -> i32 {
    let came = until_some("the stream comes to the node", PATIENCE, async || {
        let (found, worker) =
            farm.made_by("router-1", &live.channel.stream, Some(old)).await.ok()?;
        (found == node).then_some(worker)
    });
    came.await.unwrap_or_else(|error| panic!("{node}: {error}\n{}", farm.log("router-1")))
}

#[tokio::test]
async fn whoever_dies_while_a_stream_moves_it_loses_no_frame_and_moves_all_the_same() {
    let mut farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let [live, other] = two_on_one(&farm, 40).await;
    let other = other.stop().await;

    // The worker that is to make it: the stream stays, and the next try moves it.
    let standby = begin_to_move(&farm, "one", "node-1", "node-2").await;
    kill(Pid::from_raw(standby), Signal::SIGKILL).unwrap();
    let worker = comes_to(&farm, &live, "node-2", standby).await;
    let view = farm.stream("router-1", "one").await.unwrap();
    assert_eq!(view.restarts, 0, "what makes it was not touched");

    // The worker that makes it: its stream is placed again, where it was or where it was to go.
    order(&farm, "uncordon", "node-1").await;
    begin_to_move(&farm, "one", "node-2", "node-1").await;
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let worker = comes_to(&farm, &live, "node-1", worker).await;

    // The node that is to make it, and comes back.
    order(&farm, "uncordon", "node-2").await;
    begin_to_move(&farm, "one", "node-1", "node-2").await;
    farm.kill("node-2").unwrap();
    assert_eq!(node_of(&live, &farm).await, "node-1", "it stays where it is");
    farm.start_again("node-2").await.unwrap();
    let worker = comes_to(&farm, &live, "node-2", worker).await;

    // The node that makes it.
    order(&farm, "uncordon", "node-1").await;
    begin_to_move(&farm, "one", "node-2", "node-1").await;
    farm.kill("node-2").unwrap();
    comes_to(&farm, &live, "node-1", worker).await;
    live.play(live.played_s() + 2.0).await;
    for ended in [other, live.stop().await] {
        assert_whole(&ended);
    }
}

#[tokio::test]
async fn timing_no_part_is_late_when_streams_move() {
    let farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let streams = two_on_one(&farm, 12).await;
    for live in &streams {
        live.play(4.1).await;
    }
    let start = Instant::now();
    let (_, took) = order(&farm, "drain", "node-1").await;
    let mut ended = Vec::new();
    for live in streams {
        ended.push(live.end().await);
    }
    let until = start + took + Duration::from_secs(2);
    let longest = ended.iter().map(|ended| longest_gap(ended, start, until)).max().unwrap();
    println!("drained in {took:?}; longest time between two parts meanwhile: {longest:?}");
    ended.iter().for_each(assert_whole);
    // A part lasts a third of a second, and none is more than another one late.
    assert!(longest <= Duration::from_millis(668), "{longest:?}");
}
