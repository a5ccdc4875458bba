//! The router's death: the one fault that an encoder sees. It connects again through the front, to the other router.

use std::time::Duration;

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until_some};
use millrace_tests::{LiveClip, ManyFarm, StreamView, discontinuities, unix_ms};

use crate::farm_faults::{
    bench::{Bench, PATIENCE, ROUTER},
    fault::Fault,
    measured::{Moment, Row, Struck},
};

/// Stamps of the second clip begin here.
const SECOND_FRAME: u32 = 10_000;
/// Frames that may be lost with a router: a third of a second. Usual are two: the one whose successor was awaited, and a batch.
const MAX_LOST: u32 = 10;

/// Kills it, and counts what is lost.
pub async fn killed(bench: &mut Bench, fault: Fault) -> Row {
    let is_dual = fault == Fault::DualRouterKilled;
    let name = if is_dual { "router-of-two" } else { "router" };
    let channel = bench.channel(name).await;
    if is_dual {
        bench.farm.pin(name, true).await.unwrap();
    }
    let first = ClipSpec { seconds: 30, ..ClipSpec::default() };
    let second = ClipSpec { seconds: 6, first_frame: SECOND_FRAME, ..ClipSpec::default() };
    let second_file = second.file().unwrap();
    let live = LiveClip::publish(&first, &channel.rtmp_url).await.unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(5.0, PATIENCE).await.unwrap();
    if is_dual {
        two_encoders(&bench.farm, ROUTER, name).await;
    }
    let before = bench.farm.stream(ROUTER, name).await.unwrap();
    let killed_ms = unix_ms();
    let began = Moment::now();
    bench.farm.kill(ROUTER).unwrap();
    let mut publisher = Publisher::start(&second_file, &channel.rtmp_url).unwrap();
    let status = publisher.wait(Duration::from_secs(30)).await.unwrap();
    assert!(status.success(), "{}", publisher.log());
    player.media(10.0, PATIENCE).await.unwrap();
    let ended = std::time::Instant::now();
    if is_dual {
        two_encoders(&bench.farm, "router-2", name).await;
    }
    let after = bench.farm.stream("router-2", name).await.unwrap();
    assert_eq!([generation(&before), generation(&after)], ["1", "2"], "claimed anew");
    let decisions = bench.decisions(name).await;
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
    let struck = Struck { fault, began, ended, without_etcd: false };
    let mut row = Row::new(&struck, &recording, &decisions);
    row.lost = lost;
    row
}

/// Waits until either of two encoders alone would do.
async fn two_encoders(farm: &ManyFarm, router: &str, stream: &str) {
    let paired = until_some("two encoders", PATIENCE, async || {
        let view = farm.stream(router, stream).await.ok()?;
        (view.rest.get("second")?["paired"] == true).then_some(())
    });
    paired.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log(router)));
}

/// Counts sessions.
fn generation(view: &StreamView) -> String {
    view.rest["epoch"].as_str().unwrap().split_once('.').unwrap().0.to_owned()
}
