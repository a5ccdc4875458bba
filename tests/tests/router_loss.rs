//! A router may die at any moment: the encoder connects to another, and the same playlist goes on. What is lost is what sat in
//! the dead router and its sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millrace_testkit::{
    ClipSpec, Front, Player, PlayerOptions, Publisher, Recording, check, until, until_some,
};
use millrace_tests::{LiveClip, ManyFarm, ManyOptions, discontinuities, unix_ms};

/// Stamps of the second clip begin here.
const SECOND_FRAME: u32 = 10_000;
/// Frames that may be lost with a router: a third of a second. Usual are two: the one whose successor was awaited, and a batch.
const MAX_LOST: u32 = 10;

/// Both clips are there in order with one discontinuity between them, and the first frame of the first one that is missing.
fn cut_between(recording: &Recording, first: &ClipSpec, second: &ClipSpec) -> u32 {
    let mut expected = first.expected().then(second).at_least(0..=60);
    let report = check(recording, &expected).unwrap();
    let videos = report.renditions.iter().filter_map(|found| found.video.as_ref());
    let cuts: Vec<_> = videos.map(|video| *video.missing.first().unwrap()).collect();
    let cut = *cuts.iter().min().unwrap();
    println!("the first clip ends before frame {cuts:?} of each rung\n{report}");
    expected.clips[0] = 0..=cut - 1;
    check(recording, &expected).unwrap().assert_lossless();
    for (rung, count) in discontinuities(recording) {
        assert_eq!(count, 1, "discontinuities of {rung}");
    }
    cut
}

/// Encoders that share a key take it from each other across routers three times a minute; then who sends stays.
async fn one_key_at_two_routers(farm: &ManyFarm) {
    let first = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("shared", first).await.unwrap();
    let file = ClipSpec { seconds: 60, ..ClipSpec::default() }.file().unwrap();
    let publish = |router: &str| {
        let url = channel
            .rtmp_url
            .replace(&first.to_string(), &farm.address(router, "rtmp").unwrap().to_string());
        Publisher::start(&file, &url).unwrap()
    };
    let sends = async |router: &str| {
        let view = farm.stream(router, "shared").await.ok()?;
        let connected = view.rest["publisher"]["connected"] == true;
        (view.state == "live" && connected).then_some(())
    };
    let mut encoders = Vec::new();
    for router in ["router-1", "router-2", "router-1", "router-2"] {
        encoders.push(publish(router));
        let what = format!("an encoder sends to {router}");
        until_some(&what, Duration::from_secs(15), async || sends(router).await).await.unwrap();
    }
    let mut fifth = publish("router-1");
    assert!(!fifth.wait(Duration::from_secs(10)).await.unwrap().success());
    let refused = || farm.log("router-1").contains("takeover_limit");
    until("the fifth is told why", Duration::from_secs(5), refused).await.unwrap();
    assert!(encoders[3].is_running() && sends("router-2").await.is_some());
}

#[tokio::test]
async fn an_encoder_whose_router_dies_goes_on_at_another_in_the_same_playlist() {
    let options = ManyOptions { nodes: 1, routers: 2, ..ManyOptions::default() };
    let mut farm = ManyFarm::start(options).await.unwrap();
    let routers = ["router-1", "router-2"].map(|name| farm.address(name, "rtmp").unwrap());
    let front = Front::start(routers.to_vec()).await.unwrap();
    let channel = farm.new_channel("live", front.address()).await.unwrap();
    let first = ClipSpec { seconds: 30, ..ClipSpec::default() };
    let second = ClipSpec { seconds: 8, first_frame: SECOND_FRAME, ..ClipSpec::default() };
    let second_file = second.file().unwrap();
    let live = LiveClip::publish(&first, &channel.rtmp_url).await.unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(6.0, Duration::from_secs(20)).await.unwrap();
    let before = farm.stream("router-1", &channel.stream).await.unwrap();
    let killed_ms = unix_ms();
    farm.kill("router-1").unwrap();
    let mut publisher = Publisher::start(&second_file, &channel.rtmp_url).unwrap();
    assert!(
        publisher.wait(Duration::from_secs(30)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    player.media(13.0, Duration::from_secs(15)).await.unwrap();
    let after = farm.stream("router-2", &channel.stream).await.unwrap();
    let recording = player.stop().await.unwrap();
    let cut = cut_between(&recording, &first, &second);
    let sent = (0..).take_while(|&frame| live.sent_ms(frame).is_some_and(|at| at < killed_ms));
    let sent = sent.count() as u32;
    println!("frames lost with the router: {} of {sent} sent", sent.saturating_sub(cut));
    assert!(sent.saturating_sub(cut) <= MAX_LOST, "{cut} of {sent}");
    let generation = |view: &millrace_tests::StreamView| {
        view.rest["epoch"].as_str().unwrap().split_once('.').unwrap().0.to_owned()
    };
    assert_eq!((generation(&before), generation(&after)), ("1".to_owned(), "2".to_owned()));
    farm.start_again("router-1").await.unwrap();
    one_key_at_two_routers(&farm).await;
}
