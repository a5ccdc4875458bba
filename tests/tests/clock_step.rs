//! The clock of a host is stepped under a live stream, forward and back by more than any window is long.

use std::time::Duration;

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check};
use millrace_tests::{Farm, FarmOptions, HostClock, discontinuities};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600;

#[tokio::test]
async fn a_step_of_the_clock_costs_no_frame_of_a_live_stream_nor_of_one_that_returns_after_it() {
    let clock = HostClock::new().unwrap();
    let environment = clock.environment().to_vec();
    let farm = Farm::start(FarmOptions { environment, ..FarmOptions::default() }).await.unwrap();
    let channel = farm.channel();
    let first = ClipSpec { seconds: 12, ..ClipSpec::default() };
    let second = ClipSpec { seconds: 6, first_frame: 10_000, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&first.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(3.0, PATIENCE).await.unwrap();
    clock.step_to(HOUR).unwrap();
    player.media(5.0, PATIENCE).await.unwrap();
    let worker = farm.worker(&channel.stream, None).await.unwrap();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    player.media(7.0, PATIENCE).await.unwrap();
    clock.step_to(-HOUR).unwrap();
    assert!(publisher.wait(PATIENCE).await.unwrap().success(), "{}", publisher.log());
    // It returns when the clock shows a time before all that was published.
    let mut publisher = Publisher::start(&second.file().unwrap(), &channel.rtmp_url).unwrap();
    assert!(publisher.wait(PATIENCE).await.unwrap().success(), "{}", publisher.log());
    player.media(17.6, PATIENCE).await.unwrap();

    assert_eq!(farm.stream(&channel.stream).await.unwrap().restarts, 1, "nothing but the kill");
    let recording = player.stop().await.unwrap();
    let last = first.frames().last().unwrap();
    let expected = first.expected().then(&second).at_least(0..=last - 2);
    let report = check(&recording, &expected).unwrap();
    println!("{report}");
    report.assert_lossless();
    for (rung, count) in discontinuities(&recording) {
        assert_eq!(count, 1, "{rung}: where the publisher returned, and nowhere else");
    }
}
