//! What does a stream cost on its way from the publisher to the worker, beside nginx-rtmp that ingests it and serves one pull?
//!
//! Watches "CPU of router and node per relayed stream over nginx-rtmp" and "memory of router and node per relayed stream" in
//! docs/SPECIFICATION.md. The workers only swallow what they are given: this program, started by the node under their names.
//!
//! Memory is what one stream more takes: read with half the streams and with all of them, so that what a program holds however many
//! there are counts for neither side. Blocks of the replay buffer that wait on a thread, 8 MiB at most however many streams it has, are
//! more in one reading than in the other by chance: they are said apart. Publishers send the same clip, each from another place of it: as the streams of a real farm,
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
    /// Memory of router and node only, which no other work on the machine changes much: nginx is left out.
    #[arg(long)]
    memory_only: bool,
}

impl Arguments {
    fn stream_seconds(&self) -> f64 {
        f64::from(self.streams) * self.seconds as f64
    }
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
    let mut all = Vec::new();
    let (mut theirs, mut of_nginx) = (Series::default(), Series::default());
    for _ in 0..arguments.common.rounds {
        let farm =
            RelayFarm::start(arguments.streams.into(), workers.path(), arguments.tls).await?;
        all.push(through_the_farm(arguments, &clip, &farm).await?);
        drop(farm);
        if !arguments.memory_only {
            let (seconds, kib) = through_nginx(arguments, &clip).await?;
            theirs.push(seconds / arguments.stream_seconds() * 1e3);
            of_nginx.push(kib);
        }
    }
    report(arguments, &all, &theirs, &of_nginx).say(arguments.common.json)
}

fn report(arguments: &Arguments, all: &[Used], theirs: &Series, of_nginx: &Series) -> Report {
    let of = |figure: fn(&Used) -> f64| all.iter().map(figure).collect::<Series>();
    let mut report = Report::new(
        "What does a stream cost on its way to the worker, beside nginx-rtmp?",
        "CPU of router and node per relayed stream over nginx-rtmp",
    );
    if !arguments.memory_only {
        let unit = "CPU-ms per stream-second";
        let ours = of(|used| used.cpu_ms[0] + used.cpu_ms[1]);
        report.row(Row::new("router", unit, &of(|used| used.cpu_ms[0])));
        report.row(Row::new("node", unit, &of(|used| used.cpu_ms[1])));
        report.row(Row::new("router and node", unit, &ours));
        report.row(Row::new("nginx-rtmp, one pull each", unit, theirs));
        let ratio = Row::new("router and node over nginx-rtmp", "", &ours.over(theirs));
        report.row(ratio.at_most(if arguments.tls { 1.5 } else { 1.0 }).aiming_at(0.5));
    }
    let unit = "KiB per stream";
    report.row(Row::new("replay buffer", unit, &of(|used| used.replay_kib)));
    report.row(Row::new(
        "blocks of it that wait",
        unit,
        &of(|used| used.mapped_kib - used.replay_kib),
    ));
    report.row(Row::new("router beside them", unit, &of(Used::router_kib)));
    report.row(Row::new("node", unit, &of(|used| used.pss_kib[1])));
    let beside = of(|used| used.router_kib() + used.pss_kib[1]);
    report.row(Row::new("router and node", unit, &beside).at_most(BESIDE_REPLAY_KIB));
    if !arguments.memory_only {
        report.row(Row::new("nginx-rtmp", unit, of_nginx));
    }
    report
}

/// What the streams took.
struct Used {
    /// Of router and node, ms per stream-second.
    cpu_ms: [f64; 2],
    /// What each grows by with one stream more.
    pss_kib: [f64; 2],
    /// Media of it that the router keeps for successors.
    replay_kib: f64,
    /// The same with blocks that wait for media.
    mapped_kib: f64,
}

impl Used {
    /// What the router grows by beside media and room for it.
    fn router_kib(&self) -> f64 {
        self.pss_kib[0] - self.mapped_kib
    }
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
        let scrape = Scrape::of(admin)?;
        let kib = |name: &str| {
            Ok::<_, anyhow::Error>(scrape.value(name).context(name.to_owned())? / 1024.0)
        };
        let replay_kib = kib("millrace_router_replay_bytes")?;
        let mapped_kib = kib("millrace_router_replay_mapped_bytes")?;
        let [router, node] = programs;
        Ok([router.pss_kib()?, node.pss_kib()?, replay_kib, mapped_kib])
    };
    let (used, [router, node, replay_kib, mapped_kib]) =
        used_by(arguments, clip, &url, keys, &programs, memory).await?;
    let cpu_ms = [used[0], used[1]].map(|seconds| seconds / arguments.stream_seconds() * 1e3);
    Ok(Used { cpu_ms, pss_kib: [router, node], replay_kib, mapped_kib })
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
    let memory = || Ok([program[0].pss_kib()?]);
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
