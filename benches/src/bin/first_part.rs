//! How long after its first keyframe can a stream be played, beside nginx-rtmp with ffmpeg's HLS muxer?
//!
//! Watches "first keyframe received to first part playable" in docs/SPECIFICATION.md. The same publisher sends the same
//! hard 1080p30 source to both in real time; a player that knows only the first URL fetches playlists until one names
//! media, and then the init section and the media. Time runs until it has both. Each round is a new farm and a new stream.

use std::{
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use millrace_benches::{Common, HardSource, Nginx, Report, Row, Series, Standalone};
use millrace_publisher::{Clip, Playout, Publisher, TagKind};
use millrace_testkit::{HttpClient, free_port, resolve};
use tokio::time::sleep;

/// Nobody's first part may take so long.
const PATIENCE: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Length of the source.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let clip = HardSource::of(arguments.seconds)?.clip()?;
    let mut report = Report::new(
        "How long after its first keyframe can a stream be played?",
        "first keyframe received to first part playable",
    );
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    for _ in 0..arguments.common.rounds {
        let farm = Standalone::start()?;
        let ready = &farm.ready;
        let url = ready.rtmp.trim_end_matches(&ready.stream_key).trim_end_matches('/');
        ours.push(first_media(&clip, url, &ready.stream_key, &ready.playback).await?);
        drop(farm);
        theirs.push(beside(&clip).await?);
    }
    report.row(Row::new("millrace standalone", "s", &ours).at_most(0.6).aiming_at(0.3));
    report.row(Row::new("nginx-rtmp and ffmpeg's HLS muxer", "s", &theirs));
    report.say(arguments.common.json)
}

/// The peer's first segment.
async fn beside(clip: &Clip) -> anyhow::Result<f64> {
    let port = free_port()?.to_string();
    let nginx = Nginx::start("rtmp.conf", &[("@RTMP_PORT@", &port)])?;
    let url = format!("rtmp://127.0.0.1:{port}/live");
    // It waits already when the publisher comes, which is kinder than starting it then.
    let _muxer = Muxer::start(&format!("{url}/bench"), &nginx.www())?;
    first_media(clip, &url, "bench", &format!("http://{}/index.m3u8", nginx.address)).await
}

struct Muxer(Child);

impl Muxer {
    fn start(url: &str, dir: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-i", url, "-c", "copy", "-f", "hls"]);
        command.args(["-hls_time", "2", "-hls_list_size", "15", "-hls_segment_type", "fmp4"]);
        command.arg(dir.join("index.m3u8")).stdin(Stdio::null());
        Ok(Self(command.spawn().context("ffmpeg")?))
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds from sending the first keyframe to having the first media with its init section.
async fn first_media(clip: &Clip, url: &str, key: &str, playlist: &str) -> anyhow::Result<f64> {
    let mut publisher = Publisher::connect(url, key).await?;
    let keyframe = clip.tags.iter().position(|tag| tag.kind == TagKind::Video && !tag.is_header());
    let keyframe = keyframe.context("a clip without pictures")?;
    let player = tokio::spawn(play(playlist.to_owned()));
    let (begun, mut sent) = (Instant::now(), None);
    for (index, due) in Playout::rounds(clip, 1).enumerate() {
        if player.is_finished() {
            break;
        }
        sleep(due.after.saturating_sub(begun.elapsed())).await;
        if index == keyframe {
            sent = Some(Instant::now());
        }
        publisher.send(&due.tag).await?;
    }
    let played = player.await??;
    // The peer may break the connection when it is told goodbye; the answer is known already.
    let _ = publisher.finish().await;
    Ok((played - sent.context("no keyframe was sent")?).as_secs_f64())
}

/// Follows playlists to the first media; when it was there.
async fn play(first: String) -> anyhow::Result<Instant> {
    let (client, begun, mut url) = (HttpClient::default(), Instant::now(), first);
    while begun.elapsed() < PATIENCE {
        let answer = client.get(&url, PATIENCE).await?;
        let text = if answer.status == 200 { answer.text() } else { String::new() };
        let is_multivariant = text.contains("#EXT-X-STREAM-INF");
        match named(&text) {
            // Asks for parts: without directives a playlist waits for a whole segment.
            Some(next) if is_multivariant => {
                url = format!("{}?_HLS_msn=0&_HLS_part=0", resolve(&url, &next));
            }
            Some(media) => {
                if let Some(init) = attribute(&text, "#EXT-X-MAP:") {
                    client.get_ok(&resolve(&url, &init), PATIENCE).await?;
                }
                client.get_ok(&resolve(&url, &media), PATIENCE).await?;
                return Ok(Instant::now());
            }
            None => sleep(ASK_EVERY).await,
        }
    }
    bail!("{url} names no media within {PATIENCE:?}")
}

/// The first part, segment or playlist that a playlist names.
fn named(playlist: &str) -> Option<String> {
    playlist.lines().find_map(|line| match line.starts_with('#') {
        true => attribute(line, "#EXT-X-PART:"),
        false => Some(line.trim().to_owned()).filter(|uri| !uri.is_empty()),
    })
}

/// The `URI` of the first such tag.
fn attribute(text: &str, tag: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(tag))?;
    Some(rest.split_once("URI=\"")?.1.split_once('"')?.0.to_owned())
}
