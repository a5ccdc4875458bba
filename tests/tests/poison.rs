//! A stream that kills its encoders on one node after the other goes on without them, under the same names.

use std::{collections::BTreeSet, time::Duration};

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until_some};
use millrace_tests::{ManyFarm, ManyOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[tokio::test]
async fn a_stream_whose_workers_die_on_two_nodes_goes_on_unencoded_on_every_rung() {
    let farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("poison", router).await.unwrap();
    let clip = ClipSpec { seconds: 20, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(5.0, Duration::from_secs(20)).await.unwrap();
    // Each worker is killed the moment it appears, until the farm stops encoding.
    let (mut killed, mut nodes) = (None, BTreeSet::new());
    let unencoded = until_some("the farm stops encoding", Duration::from_secs(10), async || {
        let view = farm.stream("router-1", &channel.stream).await.ok()?;
        let encodes = view.rest["rungs"].to_string().contains("bitrate_kbps");
        if let Some(pid) = view.worker_pid.filter(|&pid| encodes && Some(pid) != killed) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            killed = Some(pid);
            nodes.insert(view.rest["node"].to_string());
        }
        (!encodes && view.state == "live").then_some(view.restarts)
    });
    let restarts = unencoded.await.unwrap();
    println!("unencoded after {restarts} workers on {nodes:?}");
    assert_eq!(nodes.len(), 2, "the second node was tried, and no third worker on it");
    assert_eq!(restarts, 3, "two on the node that had published, one on the other");
    assert!(
        publisher.wait(Duration::from_secs(40)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    player.media(f64::from(clip.seconds) - 0.2, Duration::from_secs(8)).await.unwrap();
    let recording = player.stop().await.unwrap();
    // What an encoder made and what passes through do not join inside a GOP: the other rungs lose nothing.
    let untouched = millrace_testkit::Recording {
        renditions: recording
            .renditions
            .iter()
            .filter(|rung| ["source", "audio"].contains(&rung.name.as_str()))
            .cloned()
            .collect(),
        ..recording.clone()
    };
    let last = clip.frames().last().unwrap() - 2;
    check(&untouched, &clip.expected().at_least(0..=last)).unwrap().assert_lossless();
    for rung in ["240p", "144p", "audio"] {
        let media_s = recording.rendition(rung).unwrap().media_s();
        assert!(media_s > f64::from(clip.seconds) - 0.5, "{rung} went on for {media_s} s");
    }
}
