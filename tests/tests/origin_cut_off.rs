//! A node may be cut off from the origin while both live: its streams go to a node that reaches it, and nothing that was on its
//! way comes in late. No frame is lost, repeated or moved.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millrace_testkit::{
    ClipSpec, Flow, LinkState, Player, PlayerOptions, Publisher, RenditionRecording, check,
};
use millrace_tests::{ManyFarm, ManyOptions};

/// How long anything may take that is only waited for.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_node_that_does_not_reach_the_origin_loses_its_stream_to_one_that_does() {
    let options = ManyOptions { links_to_origin: true, ..ManyOptions::default() };
    let farm = ManyFarm::start(options).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("live", router).await.unwrap();
    let clip = ClipSpec { seconds: 18, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(3.1, PATIENCE).await.unwrap();

    let (held, passing) = (Flow::Held, Flow::Passing);
    let cable = LinkState { to_target: held, from_target: held, refusing: false };
    let answers_lost = LinkState { to_target: passing, from_target: held, refusing: false };
    for (fault, until) in [(cable, 8.5), (answers_lost, 14.0)] {
        let (node, worker) = farm.made_by("router-1", "live", None).await.unwrap();
        farm.origin_links[&node].set(fault);
        let (next, _) = farm.made_by("router-1", "live", Some(worker)).await.unwrap();
        assert_ne!(next, node, "the stream went to another node");
        player.media(until, PATIENCE).await.unwrap();
        // What was held up arrives now, from a writer whose time is over.
        farm.origin_links[&node].set(LinkState::default());
    }

    assert!(
        publisher.wait(Duration::from_secs(60)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    player.media(f64::from(clip.seconds) - 0.2, PATIENCE).await.unwrap();
    let recording = player.stop().await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
    let gaps = recording.renditions.iter().map(RenditionRecording::longest_gap);
    println!("longest gap when a node was cut off from the origin: {:?}", gaps.max().unwrap());
}
