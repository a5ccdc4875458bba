//! The registry may go at any moment: what is live stays so, failover included, new streams are placed from what was last
//! known, and an empty registry is filled again by the living.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until_some};
use millrace_tests::{ManyFarm, ManyOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Waits until the farm is seen through the registry as it is: both nodes, and the stream at its node.
async fn reconciled(farm: &ManyFarm, stream: &str, node: &str) {
    farm.nodes_known(2).await.unwrap();
    let seen = until_some("the stream is known again", Duration::from_secs(15), async || {
        let path = format!("/v1/streams/{stream}");
        let view = farm.api(Method::GET, &path, String::new()).await.ok()?;
        (view["node"] == node).then_some(())
    });
    seen.await.unwrap();
}

#[tokio::test]
async fn with_the_registry_gone_streams_live_on_move_and_begin_and_an_empty_one_is_filled_again() {
    let mut farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("live", router).await.unwrap();
    let late = farm.new_channel("late", router).await.unwrap();
    let clip = ClipSpec { seconds: 26, ..ClipSpec::default() };
    let short = ClipSpec { seconds: 6, ..ClipSpec::default() };
    let (file, short_file) = (clip.file().unwrap(), short.file().unwrap());
    let mut publisher = Publisher::start(&file, &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(2.0, Duration::from_secs(20)).await.unwrap();

    farm.etcd.kill_member(0);
    player.media(5.0, Duration::from_secs(20)).await.unwrap();
    let (node, worker) = farm.made_by("router-1", &channel.stream, None).await.unwrap();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let (_, worker) = farm.made_by("router-1", &channel.stream, Some(worker)).await.unwrap();
    player.media(9.0, Duration::from_secs(20)).await.unwrap();
    farm.kill(&node).unwrap();
    let (next, _) = farm.made_by("router-1", &channel.stream, Some(worker)).await.unwrap();
    assert_ne!(next, node);

    let mut newcomer = Publisher::start(&short_file, &late.rtmp_url).unwrap();
    let watcher = Player::start(&late.playback_url, PlayerOptions::default());
    assert!(newcomer.wait(Duration::from_secs(30)).await.unwrap().success(), "{}", newcomer.log());
    watcher.media(5.8, Duration::from_secs(15)).await.unwrap();
    let report = check(&watcher.stop().await.unwrap(), &short.expected().at_least(0..=170));
    report.unwrap().assert_lossless();

    farm.etcd.wipe_member(0).unwrap();
    farm.etcd.start_member(0).unwrap();
    farm.start_again(&node).await.unwrap();
    reconciled(&farm, &channel.stream, &next).await;
    assert!(
        publisher.wait(Duration::from_secs(60)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    player.media(25.8, Duration::from_secs(15)).await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let recording = player.stop().await.unwrap();
    check(&recording, &clip.expected().at_least(0..=last)).unwrap().assert_lossless();
}
