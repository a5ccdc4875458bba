//! The players people use show what was published: every frame by its stamp, at its place on the timeline, in its size.

use std::time::Duration;

use millrace_testkit::{ClipSpec, HttpClient, Publisher, Scratch, cache_dir, until_some};
use millrace_tests::{
    Channel, Farm, FarmOptions, Presented, SMALL_PICTURE, Viewer, WebPlayer, decode, read_stamps,
    shaka_script,
};
use serde_json::json;
use tokio::process::Command;

/// Different stamps that each player shows: 6 s.
const STAMPS: usize = 180;
/// The same for Chromium's own HLS, which sometimes goes back to where it began after some seconds.
const NATIVE_STAMPS: usize = 90;
/// Frames watched besides: some are shown before the player has found its place.
const LEAD_IN: usize = 60;
/// How long a player may take to show them.
const PATIENCE: Duration = Duration::from_secs(25);

/// A farm with one encoded rung, and a clip for it.
struct Stage {
    farm: Farm,
    channel: Channel,
    clip: ClipSpec,
    publisher: Option<Publisher>,
}

impl Stage {
    /// Nobody publishes yet.
    async fn empty() -> Self {
        let rungs = vec![("240p", 240, 400)];
        let farm = Farm::start(FarmOptions { rungs, ..FarmOptions::default() }).await.unwrap();
        let clip = ClipSpec { seconds: 40, ..ClipSpec::default() };
        clip.file().unwrap();
        Self { channel: farm.channel(), farm, clip, publisher: None }
    }

    fn publish(&mut self) {
        let clip = self.clip.file().unwrap();
        self.publisher = Some(Publisher::start(&clip, &self.channel.rtmp_url).unwrap());
    }

    /// Begins to publish, and waits until players are let in.
    async fn set() -> Self {
        let mut stage = Self::empty().await;
        stage.publish();
        let (http, url) = (HttpClient::default(), &stage.channel.playback_url);
        let live =
            until_some("a playlist", PATIENCE, async || http.get_ok(url, PATIENCE).await.ok());
        live.await.unwrap();
        stage
    }

    /// Insists that Chromium shows the best rung on a page of ours with that player.
    async fn is_shown_by(&self, player: WebPlayer) {
        let mut viewer = Viewer::play(player, &self.channel.playback_url).await.unwrap();
        self.is_shown_to(&mut viewer).await;
        assert_eq!(viewer.problems().await.unwrap(), Vec::<String>::new());
    }

    async fn is_shown_to(&self, viewer: &mut Viewer) {
        self.shows(viewer, STAMPS).await;
    }

    /// Insists on so many different stamps.
    async fn shows(&self, viewer: &mut Viewer, stamps: usize) {
        let seen = viewer.watch_frames(stamps + LEAD_IN, PATIENCE).await.unwrap();
        let presented = Presented::judge(seen, self.clip.fps);
        println!("{presented}");
        presented.assert_plays(stamps);
        assert_eq!(presented.width, self.clip.width);
    }
}

#[tokio::test]
async fn the_watch_page_plays_and_looks_like_it() {
    let stage = Stage::set().await;
    let mut viewer = Viewer::visit(stage.farm.watch_url()).await.unwrap();
    stage.is_shown_to(&mut viewer).await;
    let browser = viewer.browser();
    let latency = browser.evaluate("document.querySelector('#latency').textContent").await.unwrap();
    let latency: f64 = latency.as_str().unwrap().trim_end_matches(" s").parse().unwrap();
    assert!((0.3..6.0).contains(&latency), "{latency} s behind live");
    let console = browser.console().to_vec();
    assert!(console.iter().all(|line| line.level != "exception"), "{console:?}");

    let path = cache_dir().unwrap().join("watch-page.png");
    std::fs::write(&path, browser.screenshot().await.unwrap()).unwrap();
    let place = "(() => { const { x, y, width, height } = document.querySelector('video')\
        .getBoundingClientRect(); return [width, height, x, y].map(Math.round).join(':') })()";
    let place = browser.evaluate(place).await.unwrap();
    let crop = format!("crop={}", place.as_str().unwrap());
    let decoded = decode(path.to_str().unwrap(), &crop, &[], PATIENCE).await.unwrap();
    println!("{} shows frame {:?}", path.display(), decoded.stamps);
    let shows = |stamp: &Option<u32>| stamp.is_some_and(|n| stage.clip.frames().contains(&n));
    assert!(decoded.stamps.len() == 1 && decoded.stamps.iter().all(shows), "{decoded:?}");
}

#[tokio::test]
async fn the_watch_page_waits_for_a_stream_that_has_not_begun() {
    let mut stage = Stage::empty().await;
    let mut viewer = Viewer::visit(stage.farm.watch_url()).await.unwrap();
    // Polled inside the page; the browser's own patience is the deadline.
    let said = "new Promise(done => setInterval(() => { \
        const said = document.getElementById('absent'); \
        if (!said.hidden) done(said.textContent); }, 50))";
    let said = viewer.browser().evaluate(said).await.unwrap();
    assert!(said.as_str().is_some_and(|text| text.contains("is live. It plays here")), "{said}");
    stage.publish();
    stage.is_shown_to(&mut viewer).await;
    let hidden = viewer.browser().evaluate("document.getElementById('absent').hidden").await;
    assert_eq!(hidden.unwrap(), true);
}

#[tokio::test]
async fn hls_js_plays() {
    let config = json!({ "lowLatencyMode": true });
    Stage::set().await.is_shown_by(WebPlayer::HlsJs { config, height: Some(360) }).await;
}

#[tokio::test]
async fn chromium_plays_without_any_player() {
    let stage = Stage::set().await;
    let url = &stage.channel.playback_url;
    let mut viewer = Viewer::play(WebPlayer::Native, url).await.unwrap();
    stage.shows(&mut viewer, NATIVE_STAMPS).await;
    assert_eq!(viewer.problems().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn shaka_plays() {
    let script = shaka_script().unwrap();
    // One rung only: shaka 5.2 in low-latency mode shows nothing for the rest of a segment when it changes rungs inside
    // one, since it does not go back to the part with the keyframe.
    let one = json!({ "minHeight": 360 });
    let config = json!({ "streaming": { "lowLatencyMode": true }, "restrictions": one });
    Stage::set().await.is_shown_by(WebPlayer::Shaka { script, config }).await;
}

/// Insists that each stamp follows the one before.
fn assert_in_a_row(stamps: &[Option<u32>]) {
    let follows = |pair: &[Option<u32>]| pair[0].is_some() && pair[1] == pair[0].map(|n| n + 1);
    assert!(stamps.len() >= STAMPS && stamps.windows(2).all(follows), "{stamps:?}");
}

#[tokio::test]
async fn ffmpeg_decodes_every_frame_of_six_seconds() {
    let stage = Stage::set().await;
    let six = ["-t", "6"];
    let decoded = decode(&stage.channel.playback_url, "null", &six, PATIENCE).await.unwrap();
    assert_in_a_row(&decoded.stamps);
    assert_eq!(decoded.said, "");
}

#[tokio::test]
async fn gstreamer_decodes_every_frame_of_six_seconds() {
    let stage = Stage::set().await;
    let scratch = Scratch::new("gstreamer").unwrap();
    let pictures = scratch.path().join("pictures");
    let (width, height) = SMALL_PICTURE;
    let sink = format!(
        "video-sink=videoconvert ! videoscale ! video/x-raw,format=GRAY8,width={width},height={height} \
         ! filesink sync=true location={}",
        pictures.display()
    );
    let mut gstreamer = Command::new("gst-launch-1.0");
    gstreamer.args(["playbin3", &format!("uri={}", stage.channel.playback_url), &sink]);
    gstreamer.arg("audio-sink=fakesink sync=true");
    let player = Publisher::spawn(gstreamer).unwrap();
    let decoded = until_some("6 s decoded by GStreamer", PATIENCE, async || {
        let size = std::fs::metadata(&pictures).ok()?.len();
        (size >= (STAMPS * width * height) as u64).then_some(())
    });
    decoded.await.unwrap_or_else(|late| panic!("{late}: {}", player.log()));
    assert_in_a_row(&read_stamps(&std::fs::read(&pictures).unwrap()));
}
