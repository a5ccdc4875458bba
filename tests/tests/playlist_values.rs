//! The values of a playlist that players plan by, for the usual channel and for one of low latency.

use std::time::Duration;

use millrace_testkit::{
    ClipSpec, HttpClient, Publisher, playlist::MediaPlaylist, resolve, until_some,
};
use millrace_tests::{Channel, Farm, FarmOptions};

const PATIENCE: Duration = Duration::from_secs(15);

/// What a rung's playlist says once it has two segments.
async fn playlist(http: &HttpClient, channel: &Channel, rung: &str) -> MediaPlaylist {
    let url = resolve(&channel.playback_url, &format!("{rung}/index.m3u8"));
    let whole = until_some("a playlist of two segments", PATIENCE, async || {
        let text = http.get_ok(&url, PATIENCE).await.ok()?;
        let list = MediaPlaylist::parse(&String::from_utf8_lossy(&text)).ok()?;
        (list.segments.len() > 2).then_some(list)
    });
    whole.await.unwrap()
}

#[tokio::test]
async fn segments_aim_at_two_seconds_and_players_hold_back_a_second_and_a_half_or_three_parts() {
    let rungs = vec![("240p", 240, 400)];
    let farm = Farm::start(FarmOptions { rungs, ..FarmOptions::default() }).await.unwrap();
    let usual = farm.channel();
    let low = farm.new_low_latency_channel("quick").await.unwrap();
    let clip = ClipSpec { seconds: 12, ..ClipSpec::default() }.file().unwrap();
    let _publishers =
        [&usual, &low].map(|channel| Publisher::start(&clip, &channel.rtmp_url).unwrap());
    let http = HttpClient::default();
    for rung in ["source", "240p", "audio"] {
        let (usual, low) = tokio::join!(playlist(&http, &usual, rung), playlist(&http, &low, rung));
        assert_eq!((usual.target_duration_s, low.target_duration_s), (2, 2), "{rung}");
        assert_eq!((usual.part_target_s, low.part_target_s), (Some(0.376), Some(0.267)), "{rung}");
        assert_eq!(usual.part_hold_back_s, Some(1.5), "{rung}");
        assert!(low.part_hold_back_s.is_some_and(|s| (s - 0.801).abs() < 1e-6), "{rung}: {low:?}");
    }
}
