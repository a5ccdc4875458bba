//! What does a stream cost on its way from the publisher to the worker, beside nginx-rtmp that ingests it and serves one pull?
//!
//! Watches "CPU of router and node per relayed stream over nginx-rtmp" and "memory of router and node per relayed stream" in
//! docs/SPECIFICATION.md. The workers only swallow what they are given: this program, started by the node under their names.
//!
//! Memory is what one stream more takes: read with half the streams and with all of them, so that what a program holds however many
//! there are counts for neither side. Publishers send the same clip, each from another place of it: as the streams of a real farm,
//! they do not all have their large pictures at the same time.

use std::{
    env,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use millrace_benches::{Common, HardSource, Nginx, RelayFarm, Report, Row, Scrape, Series, Usage};
use millrace_publisher::{Clip, Due, Playout, Publisher, Tag};
use millrace_sandbox::inherited_listener;
use millrace_testkit::{Scratch, free_port};
use millrace_types::Versions;
use millrace_wire::{
    Decoder, Heartbeat, Message, Ready,
    blocking::{read_message, write_message},
};
use tokio::{task::JoinSet, time::interval};

/// Memory per stream that is not the replay buffer: 100 KB.
const BESIDE_REPLAY_KIB: f64 = 100_000.0 / 1024.0;
/// Of the source, sound apart.
const KBPS: u32 = 6_000;
const SOURCE_SECONDS: u32 = 10;
/// From one keyframe of the source to the next: a whole number of them is the source.
const GOP: Duration = Duration::from_secs(2);
/// Readings of memory, spread over a GOP: replay buffers grow by one and lose one at a time.
const READINGS: u32 = 5;
/// As often as a worker says that it lives.
const BEAT: Duration = Duration::from_millis(200);
/// From the last publisher's start until the measurement begins: the replay buffer, 12 s, is full by then and memory used again.
const SETTLE: Duration = Duration::from_secs(16);

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Streams at a time.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..))]
    streams: u16,
    /// How long each side is measured in each round.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Router and node know each other by certificates and encrypt; nginx does not.
    #[arg(long)]
    tls: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let name = env::args().next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name != "relay_cost") {
        swallow()?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&Arguments::parse()))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let clip = HardSource::at(SOURCE_SECONDS, KBPS)?.clip()?;
    let workers = Scratch::new("workers")?;
    for name in ["millrace-worker", "millrace-worker-av"] {
        symlink(env::current_exe()?, workers.path().join(name))?;
    }
    let stream_seconds = f64::from(arguments.streams) * arguments.seconds as f64;
    let (mut router, mut node) = (Series::default(), Series::default());
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    let (mut kept, mut beside, mut of_nginx) =
        (Series::default(), Series::default(), Series::default());
    for _ in 0..arguments.common.rounds {
        let farm =
            RelayFarm::start(arguments.streams.into(), workers.path(), arguments.tls).await?;
        let used = through_the_farm(arguments, &clip, &farm).await?;
        let [by_router, by_node] = used.cpu_seconds.map(|it| it / stream_seconds * 1e3);
        drop(farm);
        router.push(by_router);
        node.push(by_node);
        ours.push(by_router + by_node);
        kept.push(used.replay_kib);
        beside.push(used.pss_kib - used.replay_kib);
        let (seconds, kib) = through_nginx(arguments, &clip).await?;
        theirs.push(seconds / stream_seconds * 1e3);
        of_nginx.push(kib);
    }
    let mut report = Report::new(
        "What does a stream cost on its way to the worker, beside nginx-rtmp?",
        "CPU of router and node per relayed stream over nginx-rtmp",
    );
    let unit = "CPU-ms per stream-second";
    report.row(Row::new("router", unit, &router));
    report.row(Row::new("node", unit, &node));
    report.row(Row::new("router and node", unit, &ours));
    report.row(Row::new("nginx-rtmp, one pull each", unit, &theirs));
    let ratio = Row::new("router and node over nginx-rtmp", "", &ours.over(&theirs));
    report.row(ratio.at_most(if arguments.tls { 1.5 } else { 1.0 }).aiming_at(0.5));
    let unit = "KiB per stream";
    report.row(Row::new("replay buffer", unit, &kept));
    let beside = Row::new("router and node beside it", unit, &beside);
    report.row(beside.at_most(BESIDE_REPLAY_KIB));
    report.row(Row::new("nginx-rtmp", unit, &of_nginx));
    report.say(arguments.common.json)
}

/// What the streams took.
struct Used {
    /// Of router and node, for all of them.
    cpu_seconds: [f64; 2],
    /// What both grow by with one stream more.
    pss_kib: f64,
    /// Media of it that the router keeps for successors.
    replay_kib: f64,
}

/// Router and node while all streams run.
async fn through_the_farm(
    arguments: &Arguments,
    clip: &Clip,
    farm: &RelayFarm,
) -> anyhow::Result<Used> {
    let url = format!("rtmp://{}/live", farm.address("router", "rtmp")?);
    let mut keys = Vec::new();
    for number in 0..arguments.streams {
        keys.push(farm.channel(&format!("relay{number}")).await?);
    }
    let programs = [farm.usage("router")?, farm.usage("node")?];
    let admin = farm.address("router", "admin")?;
    let memory = || {
        let replay = Scrape::of(admin)?.value("millrace_router_replay_bytes");
        let replay_kib = replay.context("millrace_router_replay_bytes")? / 1024.0;
        Ok([pss_kib_of(&programs)?, replay_kib])
    };
    let (used, [pss_kib, replay_kib]) =
        used_by(arguments, clip, &url, keys, &programs, memory).await?;
    Ok(Used { cpu_seconds: [used[0], used[1]], pss_kib, replay_kib })
}

/// CPU-seconds of nginx-rtmp with as many publishers and a pull of each, and the KiB it grows by with one stream more.
async fn through_nginx(arguments: &Arguments, clip: &Clip) -> anyhow::Result<(f64, f64)> {
    let port = free_port()?;
    let nginx = Nginx::start("rtmp.conf", &[("@RTMP_PORT@", &port.to_string())])?;
    let url = format!("rtmp://{}/live", SocketAddr::from(([127, 0, 0, 1], port)));
    let keys: Vec<_> = (0..arguments.streams).map(|number| format!("relay{number}")).collect();
    let program = [Usage::of(nginx.pid())];
    let pulls = keys.iter().map(|key| Pull::start(&format!("{url}/{key}")));
    let pulls = pulls.collect::<anyhow::Result<Vec<_>>>()?;
    let memory = || Ok([pss_kib_of(&program)?]);
    let (used, [kib]) = used_by(arguments, clip, &url, keys, &program, memory).await?;
    drop(pulls);
    Ok((used[0], kib))
}

/// Lets half of the publishers send, then all. CPU-seconds of each program with all of them, and what each figure of `memory`
/// grows by with one stream more.
async fn used_by<const FIGURES: usize>(
    arguments: &Arguments,
    clip: &Clip,
    url: &str,
    keys: Vec<String>,
    programs: &[Usage],
    memory: impl Fn() -> anyhow::Result<[f64; FIGURES]>,
) -> anyhow::Result<(Vec<f64>, [f64; FIGURES])> {
    let (some, more) = keys.split_at(keys.len() / 2);
    let mut publishers = JoinSet::new();
    publish(&mut publishers, clip, url, some).await?;
    let with_some = mean_of(&memory).await?;
    publish(&mut publishers, clip, url, more).await?;
    let cpu_seconds = cpu_seconds_of(programs, arguments.seconds).await?;
    let with_all = mean_of(&memory).await?;
    ensure!(publishers.len() == keys.len(), "a publisher was turned away");
    let grown = |figure: usize| (with_all[figure] - with_some[figure]) / more.len() as f64;
    Ok((cpu_seconds, std::array::from_fn(grown)))
}

/// Starts a publisher for each key, their keyframes spread evenly as they would be by chance, and waits until all have settled.
async fn publish(
    publishers: &mut JoinSet<()>,
    clip: &Clip,
    url: &str,
    keys: &[String],
) -> anyhow::Result<()> {
    let mut spread = interval(GOP / u32::try_from(keys.len().max(1))?);
    let gops = SOURCE_SECONDS / GOP.as_secs() as u32;
    for (gop, key) in (0..gops).cycle().zip(keys) {
        spread.tick().await;
        let mut publisher = Publisher::connect(url, key).await?;
        let playout = playout(clip, GOP * gop);
        publishers.spawn(async move {
            if let Err(error) = publisher.play(playout).await {
                eprintln!("publisher: {error}");
            }
        });
    }
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

/// The clip again and again, for the first time without what comes before `from`.
fn playout(clip: &Clip, from: Duration) -> impl Iterator<Item = Due> + use<> {
    let ahead_ms = from.as_millis() as u32;
    let is_sent = move |due: &Due| due.tag.is_header() || due.after >= from;
    Playout::endless(clip).filter(is_sent).map(move |due| {
        let timestamp_ms = due.tag.timestamp_ms.saturating_sub(ahead_ms);
        Due { after: due.after.saturating_sub(from), tag: Tag { timestamp_ms, ..due.tag } }
    })
}

/// Each figure of `memory`, over a GOP.
async fn mean_of<const FIGURES: usize>(
    memory: impl Fn() -> anyhow::Result<[f64; FIGURES]>,
) -> anyhow::Result<[f64; FIGURES]> {
    let mut sums = [0.0; FIGURES];
    for _ in 0..READINGS {
        tokio::time::sleep(GOP / READINGS).await;
        let now = memory()?;
        sums = std::array::from_fn(|figure| sums[figure] + now[figure]);
    }
    Ok(sums.map(|sum| sum / f64::from(READINGS)))
}

fn pss_kib_of(programs: &[Usage]) -> anyhow::Result<f64> {
    programs.iter().map(|it| it.pss_kib()).sum()
}

async fn cpu_seconds_of(programs: &[Usage], seconds: u64) -> anyhow::Result<Vec<f64>> {
    let now = || programs.iter().map(|it| it.cpu_seconds()).collect::<anyhow::Result<Vec<_>>>();
    let before = now()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(now()?.iter().zip(before).map(|(after, before)| after - before).collect())
}

/// A player of nginx's; killed when dropped.
struct Pull(Child);

impl Pull {
    fn start(url: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "quiet", "-nostdin", "-i", url, "-c", "copy", "-f", "null", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("ffmpeg")?))
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker that takes everything in, says that it lives, and makes nothing.
fn swallow() -> anyhow::Result<()> {
    let (mut from, _) = inherited_listener()?.accept()?;
    let mut to = from.try_clone()?;
    let ready = Ready {
        version: "swallow".to_owned(),
        speaks: Versions::OURS,
        work: None,
        sandbox: Vec::new(),
    };
    write_message(&mut to, &Message::Ready(ready))?;
    let (mut decoder, mut seq, mut next) = (Decoder::default(), 0, Instant::now());
    from.set_read_timeout(Some(BEAT))?;
    loop {
        match read_message(&mut from, &mut decoder) {
            Ok(Some(Message::Item(item))) => seq = item.seq(),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= next {
            next = Instant::now() + BEAT;
            write_message(&mut to, &Message::Heartbeat(Heartbeat { seq, lag_ms: 0 }))?;
        }
    }
}
