//! What all of these tests do: publish into a farm, play what comes out until it is all there, and check it.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millrace_publisher::{Clip, Due, Publisher as OurPublisher};
use millrace_testkit::{
    ClipSpec, Expected, Player, PlayerOptions, Progress, Publisher, Recording, Report, Scratch,
    check, until,
};
use millrace_tests::{Channel, Farm, FarmOptions};
use tokio::process::Command;

/// How long a publisher may take to end, and its media to come out.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing new for so long: all that was published has come.
const QUIET: Duration = Duration::from_millis(700);

/// Sound begins with its first whole frame: by so much it may be shorter than the pictures.
const FRAME_OF_SOUND_S: f64 = 0.05;

/// A picture so small that two farms fit on two cores: 320x180 at 30 fps, 6 s, a keyframe each second.
pub fn small() -> ClipSpec {
    ClipSpec {
        width: 320,
        height: 180,
        kbps: 250,
        seconds: 6,
        gop: Some(30),
        ..ClipSpec::default()
    }
}

/// A farm with one encoded rung below [`small`], and with room for it however busy this host is.
pub async fn farm() -> Farm {
    farm_with("").await
}

/// The same with lines for its router.
pub async fn farm_with(router: &str) -> Farm {
    let rungs = vec![("144p", 144, 200)];
    let capacity = "workers = 16\nmemory_bytes = 8_000_000_000\n\
        decode_pixels_per_second = 200_000_000\nencode_pixels_per_second = 200_000_000";
    let toml = format!("[router]\n{router}\n[node.capacity]\n{capacity}");
    Farm::start(FarmOptions { rungs, toml, ..FarmOptions::default() }).await.expect("a farm")
}

/// Publishes a clip as it was encoded, by ffmpeg, and insists that every rung shows every frame.
pub async fn plays(clip: ClipSpec) -> Report {
    let farm = farm().await;
    by_ffmpeg(&farm.channel(), &clip, &["-c", "copy"], &clip.expected()).await
}

/// Publishes a clip by ffmpeg with those output options, and insists on what is expected.
pub async fn by_ffmpeg(
    channel: &Channel,
    clip: &ClipSpec,
    output: &[&str],
    expected: &Expected,
) -> Report {
    let publisher = ffmpeg(channel, clip, output);
    by_program(channel, publisher, seconds(clip), expected).await
}

/// ffmpeg that publishes a clip with those output options.
pub fn ffmpeg(channel: &Channel, clip: &ClipSpec, output: &[&str]) -> Publisher {
    let file = clip.file().expect("a clip");
    Publisher::start_with(&file, output, &channel.rtmp_url).expect("ffmpeg")
}

/// The same by a program that is already running and ends by itself.
pub async fn by_program(
    channel: &Channel,
    publisher: Publisher,
    seconds: f64,
    expected: &Expected,
) -> Report {
    let report = seen_of_program(channel, publisher, seconds, expected).await;
    report.assert_lossless();
    report
}

/// The same, and insists on nothing but the seconds.
pub async fn seen_of_program(
    channel: &Channel,
    mut publisher: Publisher,
    seconds: f64,
    expected: &Expected,
) -> Report {
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    let status = publisher.wait(PATIENCE).await.expect("the publisher ends");
    assert!(status.success(), "{status}: {}", publisher.log());
    seen(player, seconds, expected).await
}

/// Publishes messages by our own publisher, and insists on `seconds` of what is expected.
pub async fn by_ourselves(
    channel: &Channel,
    messages: impl IntoIterator<Item = Due>,
    seconds: f64,
    expected: &Expected,
) -> Report {
    let report = seen_of_ourselves(channel, messages, seconds, expected).await;
    report.assert_lossless();
    report
}

/// The same, and insists on nothing but the seconds.
pub async fn seen_of_ourselves(
    channel: &Channel,
    messages: impl IntoIterator<Item = Due>,
    seconds: f64,
    expected: &Expected,
) -> Report {
    let (url, key) = channel.rtmp_url.rsplit_once('/').expect("a key");
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    let mut publisher = OurPublisher::connect(url, key).await.expect("let in");
    publisher.play(messages).await.expect("played");
    publisher.finish().await.expect("finished");
    seen(player, seconds, expected).await
}

/// Waits until a player has `seconds` of every rendition and no more comes, and says what is wrong.
async fn seen(player: Player, seconds: f64, expected: &Expected) -> Report {
    let recording = all_of(player, seconds).await.expect("media");
    let whole = match (expected.clips.first(), expected.clips.last()) {
        (Some(first), Some(last)) => expected.clone().at_least(*first.start()..=*last.end()),
        _ => expected.clone(),
    };
    let judge = move || check(&recording, &whole);
    let report = tokio::task::spawn_blocking(judge).await.expect("no panic").expect("decoded");
    println!("{report}");
    report
}

/// Waits until a player has `seconds` of every rendition and no more comes.
pub async fn all_of(player: Player, seconds: f64) -> anyhow::Result<Recording> {
    let complete = |(name, progress): (&String, &Progress)| {
        let quiet = progress.last_arrival.is_some_and(|arrival| arrival.elapsed() > QUIET);
        let least = if name == "audio" { seconds - FRAME_OF_SOUND_S } else { seconds };
        quiet && progress.media_s >= least
    };
    let all = || {
        let progress = player.progress();
        !progress.is_empty() && progress.iter().all(complete)
    };
    let waited = until("all of the media", PATIENCE, all).await;
    waited.with_context(|| format!("{seconds} s wanted, at {:?}", player.progress()))?;
    player.stop().await
}

/// The length of a clip less half a frame: that much is there once its last frame is.
pub fn seconds(clip: &ClipSpec) -> f64 {
    let frames = clip.frames();
    (f64::from(frames.end() - frames.start()) + 0.5) / clip.fps.rate()
}

/// A clip as the list of FLV tags that an encoder would send; written by ffmpeg with those output options.
pub fn tags(clip: &ClipSpec, output: &[&str]) -> anyhow::Result<Clip> {
    let scratch = Scratch::new("tags")?;
    let flv = scratch.path().join("clip.flv");
    remux(&clip.file()?, output, &flv)?;
    Ok(Clip::parse(Bytes::from(std::fs::read(flv)?))?)
}

fn remux(from: &Path, output: &[&str], to: &Path) -> anyhow::Result<()> {
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(from).args(output);
    ffmpeg.args(["-flvflags", "no_duration_filesize", "-f", "flv"]).arg(to);
    let done = ffmpeg.output()?;
    ensure!(done.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// A program with its arguments, one space between two of them.
pub fn program(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments.split_whitespace());
    command
}
