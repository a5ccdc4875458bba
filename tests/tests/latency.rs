//! How late viewers see what a camera shows, measured from the moment each frame is sent to the moment it is on the screen.

use std::time::Duration;

use millrace_testkit::{ClipSpec, HttpClient, Scratch, resolve, until, until_some};
use millrace_tests::{Channel, Farm, FarmOptions, LiveClip, Viewer, WebPlayer, decode, unix_ms};
use serde_json::json;

/// Frames measured: 8 s.
const SAMPLES: usize = 240;
/// The first frames shown are not measured: the player still looks for its place, and makes up for 0.05 s in a second. 5 s.
const SETTLING: usize = 150;
/// The viewer joins after so many frames: 4 s.
const BEFORE: u32 = 120;
const PATIENCE: Duration = Duration::from_secs(30);
const ASK: Duration = Duration::from_secs(7);

async fn farm() -> Farm {
    let rungs = vec![("240p", 240, 400)];
    Farm::start(FarmOptions { rungs, ..FarmOptions::default() }).await.unwrap()
}

fn clip() -> ClipSpec {
    ClipSpec { seconds: 40, ..ClipSpec::default() }
}

/// Median and 95th percentile of the delay from camera to screen on the encoded rung in hls.js, milliseconds.
async fn glass_to_glass_ms(channel: &Channel) -> (f64, f64) {
    let live = LiveClip::publish(&clip(), &channel.rtmp_url).await.unwrap();
    let begun = || live.sent_ms(BEFORE).is_some();
    until("a stream to join", PATIENCE, begun).await.unwrap();
    let config = json!({ "lowLatencyMode": true, "maxLiveSyncPlaybackRate": 1.05 });
    let player = WebPlayer::HlsJs { config, height: Some(240) };
    let mut viewer = Viewer::play(player, &channel.playback_url).await.unwrap();
    let zero_ms = viewer.clock_zero_ms().await.unwrap();
    let seen = viewer.watch_frames(SETTLING + SAMPLES, PATIENCE).await.unwrap();
    assert_eq!(seen.video_height, 240, "the encoded rung plays");
    let mut delays: Vec<f64> = seen.frames[SETTLING..]
        .iter()
        .filter_map(|frame| Some(zero_ms + frame.now_ms - live.sent_ms(frame.number()?)?))
        .collect();
    assert!(delays.len() * 20 > SAMPLES * 19, "{} of {SAMPLES} samples", delays.len());
    delays.sort_by(f64::total_cmp);
    let (median, p95) = (delays[delays.len() / 2], delays[delays.len() * 95 / 100]);
    println!("glass to glass: median {median:.0} ms, p95 {p95:.0} ms, {} samples", delays.len());
    (median, p95)
}

#[tokio::test]
async fn timing_a_viewer_in_hls_js_is_at_most_two_and_a_half_seconds_behind_the_camera() {
    let farm = farm().await;
    let (median, p95) = glass_to_glass_ms(&farm.channel()).await;
    assert!(median <= 2_500.0 && p95 <= 2_500.0, "median {median}, p95 {p95}");
}

#[tokio::test]
async fn timing_a_viewer_of_a_low_latency_channel_is_at_most_1600_ms_behind_the_camera() {
    let farm = farm().await;
    let channel = farm.new_low_latency_channel("quick").await.unwrap();
    let (median, p95) = glass_to_glass_ms(&channel).await;
    assert!(median <= 1_600.0 && p95 <= 1_600.0, "median {median}, p95 {p95}");
}

/// Downloads the first part of a rung as soon as there is one: init section and part.
async fn first_part(http: &HttpClient, playback_url: &str, rung: &str) -> Vec<u8> {
    // Without directives the playlist waits for a whole segment.
    let playlist = resolve(playback_url, &format!("{rung}/index.m3u8?_HLS_msn=0&_HLS_part=0"));
    let text = http.get_ok(&playlist, ASK).await.unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut media = Vec::new();
    for tag in ["#EXT-X-MAP:", "#EXT-X-PART:"] {
        let line = text.lines().find(|line| line.starts_with(tag)).unwrap();
        let uri = line.split("URI=\"").nth(1).unwrap().split('"').next().unwrap();
        media.extend(http.get_ok(&resolve(&playlist, uri), ASK).await.unwrap());
    }
    media
}

#[tokio::test]
async fn timing_the_first_part_is_playable_600_ms_after_the_first_keyframe_was_sent() {
    let farm = farm().await;
    let channel = farm.channel();
    let http = HttpClient::default();
    let live = LiveClip::publish(&clip(), &channel.rtmp_url).await.unwrap();
    let multivariant =
        until_some("a playlist", ASK, async || http.get_ok(&channel.playback_url, ASK).await.ok());
    multivariant.await.unwrap();
    let [picture, sound] =
        ["240p", "audio"].map(|rung| first_part(&http, &channel.playback_url, rung));
    let (picture, sound) = tokio::join!(picture, sound);
    let delay_ms = unix_ms() - live.sent_ms(0).unwrap();
    println!("first part of picture and sound {delay_ms:.0} ms after the first keyframe");
    assert!(sound.len() > 1_000, "{} bytes of sound", sound.len());
    let scratch = Scratch::new("first").unwrap();
    let file = scratch.path().join("first.mp4");
    std::fs::write(&file, picture).unwrap();
    let decoded = decode(file.to_str().unwrap(), "null", &[], PATIENCE).await.unwrap();
    assert_eq!(decoded.stamps, (0..10).map(Some).collect::<Vec<_>>(), "{}", decoded.said);
    assert!(delay_ms <= 600.0, "{delay_ms} ms");
}
