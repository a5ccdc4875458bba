//! A node's daemon may be upgraded, or die alone, at any moment: its workers run on, the next daemon adopts them, and no frame
//! is lost, repeated or moved. A daemon that comes back too late finds its streams made elsewhere, and its workers add nothing.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use millrace_testkit::{ClipSpec, Recording, until_some};
use millrace_tests::{Live, ManyFarm, ManyOptions};
use nix::sys::signal::Signal;

const NODE: &str = "node-1";

async fn begin(farm: &ManyFarm, seconds: u32) -> Live {
    Live::begin(farm, "live", ClipSpec { seconds, ..ClipSpec::default() }).await
}

/// Proves that nothing is missing, and that no player was told of a break.
async fn end(live: Live) -> Recording {
    let ended = live.end().await;
    ended.assert_lossless();
    for rung in &ended.recording.renditions {
        assert!(!rung.playlist.contains("EXT-X-DISCONTINUITY\n"), "{}: a break", rung.name);
    }
    ended.recording
}

/// The longest time between two parts of any rung within a few seconds of a fault. (The last part of a stream comes later
/// than others: nobody knows that it is the last.)
fn longest_recovery(recording: &Recording, struck: &[Instant]) -> Duration {
    let near = |at: Instant| {
        struck.iter().any(|struck| at > *struck && at < *struck + Duration::from_secs(3))
    };
    let pairs = recording.renditions.iter().flat_map(|rung| rung.chunks.windows(2));
    let gaps = pairs.filter(|pair| near(pair[1].arrived));
    gaps.map(|pair| pair[1].arrived - pair[0].arrived).max().unwrap_or(Duration::MAX)
}

/// How long a daemon takes until it takes Links again.
async fn until_it_listens(link: SocketAddr) -> Duration {
    let since = Instant::now();
    let listens = until_some("links are taken again", Duration::from_secs(10), async || {
        TcpStream::connect(link).is_ok().then_some(())
    });
    listens.await.unwrap();
    since.elapsed()
}

/// Ends the daemon by `signal` and starts the next at once; when that was, and how long it took to listen again.
async fn restart(farm: &mut ManyFarm, signal: Signal) -> (Instant, Duration) {
    let struck = Instant::now();
    let link = farm.end_daemon(NODE, signal).unwrap();
    farm.next_daemon(NODE, link).unwrap();
    let listens = until_it_listens(link).await;
    farm.ready(NODE).await.unwrap();
    (struck, listens)
}

/// Waits until the next daemon has the stream again, with the worker it had.
async fn goes_on_with(farm: &ManyFarm, live: &Live, worker: i32) {
    let adopted =
        until_some("the stream goes on with its worker", Duration::from_secs(15), async || {
            let view = farm.stream("router-1", &live.channel.stream).await.ok()?;
            let adopted =
                farm.metric(NODE, "millrace_node_adoptions_total{result=\"adopted\"}").await;
            (view.state == "live" && adopted.ok()? == 1.0).then_some(view.worker_pid)
        });
    let pid = adopted
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", farm.log(NODE), farm.log("router-1")));
    assert_eq!(pid, Some(worker), "the worker is the same");
}

/// Upgrades the daemon, then kills it alone; the longest gap, and the longest until it listened again.
async fn survive_restarts(farm: &mut ManyFarm, live: &Live) -> (Vec<Instant>, Duration) {
    live.play(3.1).await;
    let (node, worker) = farm.made_by("router-1", &live.channel.stream, None).await.unwrap();
    assert_eq!(node, NODE);
    let (upgraded, first) = restart(farm, Signal::SIGTERM).await;
    goes_on_with(farm, live, worker).await;
    live.play(7.4).await;
    let (killed, second) = restart(farm, Signal::SIGKILL).await;
    goes_on_with(farm, live, worker).await;
    (vec![upgraded, killed], first.max(second))
}

/// Kills daemon and router at once: the next daemon waits for the router, then has the worker close what it holds, and end.
async fn ends_without_router(farm: &mut ManyFarm) {
    let link = farm.end_daemon(NODE, Signal::SIGKILL).unwrap();
    farm.kill("router-1").unwrap();
    farm.next_daemon(NODE, link).unwrap();
    farm.ready(NODE).await.unwrap();
    let counted =
        ["adoptions_total{result=\"abandoned\"}", "worker_ends_total{reason=\"stopped\"}"];
    let ended = until_some("the worker ends as it should", Duration::from_secs(15), async || {
        for metric in counted {
            let count = farm.metric(NODE, &format!("millrace_node_{metric}")).await.ok()?;
            (count == 1.0).then_some(())?;
        }
        Some(())
    });
    ended.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log(NODE)));
}

#[tokio::test]
async fn an_upgraded_and_a_killed_daemon_lose_no_frame_and_one_that_is_late_adds_nothing() {
    let options = ManyOptions { nodes: 1, ..ManyOptions::default() };
    let mut farm = ManyFarm::start(options).await.unwrap();
    let live = begin(&farm, 24).await;
    survive_restarts(&mut farm, &live).await;

    // A second node comes, the daemon of the first dies and stays away: the stream moves, the worker waits.
    farm.start_again("node-2").await.unwrap();
    farm.nodes_known(2).await.unwrap();
    live.play(12.0).await;
    let (_, worker) = farm.made_by("router-1", &live.channel.stream, None).await.unwrap();
    let link = farm.end_daemon(NODE, Signal::SIGKILL).unwrap();
    let (node, _) = farm.made_by("router-1", &live.channel.stream, Some(worker)).await.unwrap();
    assert_eq!(node, "node-2");
    assert!(farm.workers(NODE).contains(&worker), "the worker waits for its next daemon");
    farm.next_daemon(NODE, link).unwrap();
    farm.ready(NODE).await.unwrap();
    let ends = until_some("the late worker ends", Duration::from_secs(12), async || {
        (!farm.workers(NODE).contains(&worker)).then_some(())
    });
    ends.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log(NODE)));
    end(live).await;
}

#[tokio::test]
async fn timing_the_next_part_comes_within_a_second_of_a_daemons_end() {
    let options = ManyOptions { nodes: 1, ..ManyOptions::default() };
    let mut farm = ManyFarm::start(options).await.unwrap();
    let live = begin(&farm, 12).await;
    let (struck, listens) = survive_restarts(&mut farm, &live).await;
    let recording = end(live).await;
    let longest = longest_recovery(&recording, &struck);
    println!("next part after a daemon's end: {longest:?} at most, links taken after {listens:?}");
    assert!(longest <= Duration::from_millis(1_000), "{longest:?}");
    assert!(listens <= Duration::from_millis(300), "{listens:?}");
    ends_without_router(&mut farm).await;
}
