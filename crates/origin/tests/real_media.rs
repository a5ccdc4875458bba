//! A real clip through an origin: every frame reaches a strict player, ffmpeg, and hls.js on the watch page.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "farm/clip.rs"]
mod clip;
mod farm;

use std::{process::Command, time::Duration};

use farm::{Farm, free_ports};
use millrace_testkit::{
    ClipSpec, Player, PlayerOptions,
    browser::{Browser, Frame},
    check,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_frame_reaches_a_low_latency_player_an_ordinary_one_and_ffmpeg() {
    let farm = Farm::start(free_ports()).await;
    let clip = ClipSpec::default();
    let url = format!("http://{}/live/demo/index.m3u8", farm.origin.addresses.playback);
    farm.open(farm.epoch).await;
    let low_latency = PlayerOptions { delta_updates: true, ..PlayerOptions::default() };
    let ordinary = PlayerOptions { whole_segments: true, ..PlayerOptions::default() };
    let players = [low_latency, ordinary].map(|options| Player::start(&url, options));
    clip::publish(&farm, &clip).await;
    for player in players {
        player.ended(Duration::from_secs(20)).await.unwrap();
        let report = check(&player.stop().await.unwrap(), &clip.expected()).unwrap();
        println!("{report}");
        report.assert_lossless();
    }
    let frames = Command::new("ffmpeg")
        .args(["-v", "error", "-i", &url, "-map", "0:v:0", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&frames.stderr), "");
    let lines = String::from_utf8_lossy(&frames.stdout);
    let decoded = lines.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(decoded, clip.frames().count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watch_page_plays_live_with_hls_js_and_names_its_latency() {
    const PLAYED: &str = "new Promise(done => {
        const video = document.querySelector('video');
        const look = () => video.currentTime > 6
            ? done(document.querySelector('#latency').textContent)
            : setTimeout(look, 50);
        look();
    })";
    let farm = Farm::start(free_ports()).await;
    let clip = ClipSpec::default();
    let mut browser = Browser::launch().await.unwrap();
    let page = format!("http://{}/watch/demo", farm.origin.addresses.playback);
    farm.open(farm.epoch).await;
    let watch = async {
        browser.open(&page).await.unwrap();
        let watch = browser.watch_frames("video").await.unwrap();
        let latency = browser.evaluate_within(PLAYED, Duration::from_secs(20)).await.unwrap();
        let state = browser.evaluate("document.querySelector('#state').textContent").await.unwrap();
        if let Some(file) = std::env::var_os("MILLRACE_SCREENSHOT") {
            std::fs::write(file, browser.screenshot().await.unwrap()).unwrap();
        }
        (watch.finish(&mut browser).await.unwrap(), latency, state)
    };
    let ((), (seen, latency, state)) = tokio::join!(clip::publish(&farm, &clip), watch);
    println!(
        "latency shown {latency}, stalls {:?}, longest freeze {} ms",
        seen.stalls_ms(),
        seen.longest_freeze_ms()
    );
    assert_eq!((seen.video_width, seen.video_height), (640, 360));
    assert_eq!(state, "live");
    let numbers: Vec<u32> = seen.frames.iter().filter_map(Frame::number).collect();
    assert!(numbers.len() > 60, "{} stamps read of {} frames", numbers.len(), seen.frames.len());
    assert!(numbers.is_sorted(), "{numbers:?}");
    let seconds: f64 = latency.as_str().unwrap().trim_end_matches(" s").parse().unwrap();
    assert!((0.5..4.0).contains(&seconds), "{seconds}");
}
