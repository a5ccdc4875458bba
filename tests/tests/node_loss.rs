//! A whole node may die or freeze at any moment: its streams go on elsewhere, and no frame is lost, repeated or moved.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use millrace_testkit::{ClipSpec, Recording, RenditionRecording, until_some};
use millrace_tests::{Live, ManyFarm, ManyOptions};
use nix::sys::signal::Signal;

/// The longest time from one of the faults to the next part of any rung. A part that was on its way when the fault struck does
/// not count for it: the longest time between two parts does then.
fn longest_recovery(recording: &Recording, struck: &[Instant]) -> Duration {
    let next = |at: &Instant| {
        let rungs = recording.renditions.iter();
        rungs.filter_map(|rung| rung.next_arrival_after(*at)).max().unwrap_or(Duration::MAX)
    };
    let gaps = recording.renditions.iter().map(RenditionRecording::longest_gap);
    struck.iter().map(next).chain(gaps).max().unwrap_or_default()
}

/// Kills the node that makes the stream, `kills` times, each time once the stream is made elsewhere; each comes back.
async fn survive_kills(seconds: u32, kills: usize) -> Duration {
    let mut farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let clip = ClipSpec { seconds, ..ClipSpec::default() };
    let live = Live::begin(&farm, "live", clip).await;
    let (mut struck, mut old) = (Vec::new(), None);
    for round in 0..kills {
        let enough = 3.1 + 5.7 * round as f64;
        live.play(enough).await;
        let (node, worker) = farm.made_by("router-1", &live.channel.stream, old).await.unwrap();
        farm.kill(&node).unwrap();
        struck.push(Instant::now());
        old = Some(worker);
        let (next, _) = farm.made_by("router-1", &live.channel.stream, old).await.unwrap();
        assert_ne!(next, node, "the stream went to another node");
        farm.start_again(&node).await.unwrap();
    }
    let view = farm.stream("router-1", &live.channel.stream).await.unwrap();
    assert_eq!(view.restarts, kills as u64, "restarts counted are faults injected");
    let ended = live.end().await;
    ended.assert_lossless();
    let recording = ended.recording;
    let longest = longest_recovery(&recording, &struck);
    println!("next part after a node's death: {longest:?} at most");
    longest
}

#[tokio::test]
async fn three_killed_nodes_lose_no_frame() {
    survive_kills(22, 3).await;
}

#[tokio::test]
async fn timing_the_next_part_comes_within_three_seconds_of_a_nodes_death() {
    let longest = survive_kills(16, 2).await;
    assert!(longest <= Duration::from_millis(3_000), "{longest:?}");
}

#[tokio::test]
async fn a_node_that_freezes_is_fenced_and_adds_nothing_when_it_thaws() {
    let farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let clip = ClipSpec { seconds: 20, ..ClipSpec::default() };
    let live = Live::begin(&farm, "live", clip).await;
    live.play(3.1).await;
    let (node, worker) = farm.made_by("router-1", &live.channel.stream, None).await.unwrap();
    farm.signal(&node, Signal::SIGSTOP).unwrap();
    let struck = Instant::now();
    let moved = farm.made_by("router-1", &live.channel.stream, Some(worker)).await.unwrap();
    assert_ne!(moved.0, node);
    live.play(8.0).await;
    farm.signal(&node, Signal::SIGCONT).unwrap();
    let worker_gone = until_some("the old worker is gone", Duration::from_secs(10), async || {
        (!std::path::Path::new(&format!("/proc/{worker}")).exists()).then_some(())
    });
    worker_gone.await.unwrap();
    let ended = live.end().await;
    ended.assert_lossless();
    let recording = ended.recording;
    println!("next part after a node froze: {:?}", longest_recovery(&recording, &[struck]));
}
