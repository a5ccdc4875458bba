//! What real ffmpeg publishes comes out on every rung: each frame exactly once and in order, sound with picture.

use std::time::Duration;

use millrace_testkit::{ClipSpec, Fps, Player, PlayerOptions, Publisher, check};
use millrace_tests::{Farm, FarmOptions};

/// 20 s in CI, 60 s in the long form (`cargo xtask test --full`).
fn seconds() -> u32 {
    if std::env::var_os("MILLRACE_FULL").is_some() { 60 } else { 20 }
}

/// Publishes the clip and downloads every rung as it comes.
async fn play_through(clip: &ClipSpec, options: FarmOptions) {
    let farm = Farm::start(options).await.unwrap();
    let channel = farm.channel();
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    let length = Duration::from_secs(u64::from(clip.seconds));
    let status = publisher.wait(length + Duration::from_secs(15)).await.unwrap();
    assert!(status.success(), "{}", publisher.log());
    // All but the last two pictures at 30 fps.
    player.media(f64::from(clip.seconds) - 0.07, Duration::from_secs(8)).await.unwrap();
    let recording = player.stop().await.unwrap();
    assert_eq!(farm.stream(&channel.stream).await.unwrap().restarts, 0);
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
}

#[tokio::test]
async fn every_frame_of_1080p30_appears_once_on_every_rung() {
    let clip = ClipSpec { width: 1920, height: 1080, seconds: seconds(), ..ClipSpec::default() };
    play_through(&clip, FarmOptions::default()).await;
}

#[tokio::test]
async fn every_frame_of_720p60_appears_once_and_encoded_rungs_show_every_second_one() {
    let fps = Fps::whole(60);
    let clip = ClipSpec {
        width: 1280,
        height: 720,
        fps,
        seconds: seconds(),
        gop: Some(120),
        ..ClipSpec::default()
    };
    play_through(&clip, FarmOptions::default()).await;
}

#[tokio::test]
async fn keyframes_eight_seconds_apart_still_give_two_second_segments() {
    let clip = ClipSpec { seconds: seconds(), gop: None, ..ClipSpec::default() };
    play_through(&clip, FarmOptions::default()).await;
}
