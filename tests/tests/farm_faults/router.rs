//! The router's death: the one fault that an encoder sees. It connects again through the front, to the other router.

use std::time::Duration;

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check};
use millrace_tests::{LiveClip, StreamView, discontinuities, unix_ms};

use crate::farm_faults::{
    bench::{Bench, PATIENCE},
    fault::Fault,
    measured::{Moment, Row, Struck},
};

/// Stamps of the second clip begin here.
const SECOND_FRAME: u32 = 10_000;
/// Frames that may be lost with a router: a third of a second. Usual are two: the one whose successor was awaited, and a batch.
const MAX_LOST: u32 = 10;

/// Kills it, and counts what is lost.
pub async fn killed(bench: &mut Bench) -> Row {
    let channel = bench.channel("router").await;
    let first = ClipSpec { seconds: 30, ..ClipSpec::default() };
    let second = ClipSpec { seconds: 6, first_frame: SECOND_FRAME, ..ClipSpec::default() };
    let second_file = second.file().unwrap();
    let live = LiveClip::publish(&first, &channel.rtmp_url).await.unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(5.0, PATIENCE).await.unwrap();
    let before = bench.farm.stream("router-1", "router").await.unwrap();
    let killed_ms = unix_ms();
    let began = Moment::now();
    bench.farm.kill("router-1").unwrap();
    let mut publisher = Publisher::start(&second_file, &channel.rtmp_url).unwrap();
    let status = publisher.wait(Duration::from_secs(30)).await.unwrap();
    assert!(status.success(), "{}", publisher.log());
    player.media(10.0, PATIENCE).await.unwrap();
    let ended = std::time::Instant::now();
    let after = bench.farm.stream("router-2", "router").await.unwrap();
    assert_eq!([generation(&before), generation(&after)], ["1", "2"], "claimed anew");
    let decisions = bench.decisions("router").await;
    let recording = player.stop().await.unwrap();

    let mut expected = first.expected().then(&second).at_least(0..=60);
    let report = check(&recording, &expected).unwrap();
    let videos = report.renditions.iter().filter_map(|found| found.video.as_ref());
    let cut = videos.map(|video| *video.missing.first().unwrap()).min().unwrap();
    expected.clips[0] = 0..=cut - 1;
    check(&recording, &expected).unwrap().assert_lossless();
    for (rung, count) in discontinuities(&recording) {
        assert_eq!(count, 1, "discontinuities of {rung}");
    }
    let sent = (0..).take_while(|&frame| live.sent_ms(frame).is_some_and(|at| at < killed_ms));
    let lost = (sent.count() as u32).saturating_sub(cut);
    assert!(lost <= MAX_LOST, "{lost} frames lost");
    let struck = Struck { fault: Fault::RouterKilled, began, ended, without_etcd: false };
    let mut row = Row::new(&struck, &recording, &decisions);
    row.lost = lost;
    row
}

/// Counts sessions.
fn generation(view: &StreamView) -> String {
    view.rest["epoch"].as_str().unwrap().split_once('.').unwrap().0.to_owned()
}
