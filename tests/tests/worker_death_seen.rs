//! What a viewer sees of a worker's death: nothing.

use std::time::Duration;

use millrace_testkit::{ClipSpec, HttpClient, Publisher, until_some};
use millrace_tests::{Farm, FarmOptions, Presented, Viewer, WebPlayer};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

/// Frames watched after each death: 4 s.
const AFTER_DEATH: usize = 120;
/// Killed, stopped and crashed.
const FAULTS: [Signal; 5] =
    [Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGABRT, Signal::SIGKILL, Signal::SIGSTOP];
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn timing_five_deaths_stall_no_viewer_three_seconds_behind_live() {
    let rungs = vec![("240p", 240, 400)];
    let farm = Farm::start(FarmOptions { rungs, ..FarmOptions::default() }).await.unwrap();
    let channel = farm.channel();
    let clip = ClipSpec { seconds: 60, ..ClipSpec::default() };
    let _publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let http = HttpClient::default();
    let playlist = until_some("a playlist", PATIENCE, async || {
        http.get_ok(&channel.playback_url, PATIENCE).await.ok()
    });
    playlist.await.unwrap();

    let config = json!({ "lowLatencyMode": true, "liveSyncDuration": 3 });
    let player = WebPlayer::HlsJs { config, height: Some(240) };
    let mut viewer = Viewer::play(player, &channel.playback_url).await.unwrap();
    viewer.watch_frames(AFTER_DEATH, PATIENCE).await.unwrap();
    let mut worker = None;
    for signal in FAULTS {
        let pid = farm.worker(&channel.stream, worker).await.unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
        worker = Some(pid);
        let shown = viewer.look().await.unwrap().frames.len();
        viewer.watch_frames(shown + AFTER_DEATH, PATIENCE).await.unwrap();
    }
    let presented = Presented::judge(viewer.look().await.unwrap(), clip.fps);
    println!("{presented}");
    assert_eq!(farm.stream(&channel.stream).await.unwrap().restarts, FAULTS.len() as u64);
    presented.assert_plays(AFTER_DEATH * FAULTS.len());
    assert_eq!(presented.stalls, 0, "{presented}");
    assert!(presented.longest_gap_ms < 500.0, "{presented}");
}
