//! What does a transcoded stream cost, beside the best ffmpeg command line for the same ladder?
//!
//! Watches "CPU of worker … over that of the best ffmpeg command line for the same ladder" in docs/SPECIFICATION.md.
//! Both make source, 720p, 480p, 360p and audio of the same hard 1080p30 source as fast as they can; process start,
//! sandbox and socket are in the worker's bill, reading the file and writing segments in ffmpeg's. What router, node,
//! origin and api spend on a stream is measured through the front door: a farm carries the same source in real time,
//! and the time that its process uses beyond an idle farm's is added to the worker's.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use millrace_benches::{
    Common, ENCODED, HardSource, Judge, Report, Row, Rungs, Series, Standalone, Worker,
    children_cpu_seconds, ladder_command, run, start_order,
};
use millrace_media::Item;
use millrace_publisher::{Clip, Playout};
use millrace_software::Tuning;
use millrace_testkit::Scratch;

/// How long an idle farm is watched, and how long a farm may work on after its publisher left.
const ASIDE: Duration = Duration::from_secs(3);

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Length of the source.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Skip VMAF.
    #[arg(long)]
    no_vmaf: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let source = HardSource::of(arguments.seconds)?;
    let (items, clip) = (source.items()?, source.clip()?);
    let mut report = Report::new(
        "What does a transcoded stream cost, beside the best ffmpeg command line?",
        "CPU of worker, and its share of node and origin, over that of the best ffmpeg command line",
    );
    let scratch = Scratch::new("cost")?;
    let [mut ours, mut theirs, mut farms, mut all] = [const { Series::new() }; 4];
    let mut rungs = Rungs::new();
    for _ in 0..arguments.common.rounds {
        let before = children_cpu_seconds()?;
        rungs = transcode(&items)?;
        let between = children_cpu_seconds()?;
        run(ladder_command(&source.file, scratch.path(), Tuning::default()))?;
        let after = children_cpu_seconds()?;
        let per_second = |time: f64| time / f64::from(source.seconds);
        let (worker, ffmpeg) = (per_second(between - before), per_second(after - between));
        let farm = per_second(farm_seconds(&clip).await?);
        ours.push(worker);
        theirs.push(ffmpeg);
        farms.push(farm);
        all.push((worker + farm) / ffmpeg);
    }
    report.row(Row::new("millrace-worker-av", "CPU-s per stream-second", &ours));
    report.row(Row::new("ffmpeg", "CPU-s per stream-second", &theirs));
    let unit = "CPU-s per stream-second";
    report.row(Row::new("router, node, origin and api, live", unit, &farms));
    report.row(Row::new("worker over ffmpeg", "", &ours.over(&theirs)));
    report.row(Row::new("all over ffmpeg", "", &all).at_most(0.95).aiming_at(0.87));
    if !arguments.no_vmaf {
        let judge = Judge::find()?;
        for (name, width, height, _) in ENCODED {
            let file = scratch.path().join(format!("{name}.mp4"));
            fs::write(&file, rungs.get(&name.parse()?).with_context(|| format!("no {name}"))?)?;
            let size = (width, height);
            let ours = judge.vmaf(&file, &source.file, size)?;
            let playlist = scratch.path().join(name).join("index.m3u8");
            let theirs = judge.vmaf(&playlist, &source.file, size)?;
            report.row(Row::new(format!("{name} of the worker"), "VMAF", &ours.into()));
            report.row(Row::new(format!("{name} of ffmpeg"), "VMAF", &theirs.into()));
            let lost = Series::from(theirs - ours);
            report.row(Row::new(format!("{name} lost to ffmpeg"), "VMAF", &lost).at_most(0.5));
        }
    }
    report.say(arguments.common.json)
}

fn transcode(items: &[Item]) -> anyhow::Result<Rungs> {
    let mut worker = Worker::start("millrace-worker-av", start_order(true))?;
    worker.feed(items)?;
    worker.wait_until_done()?;
    worker.finish()
}

/// CPU time of router, node, origin and api for the clip in real time, beyond what they use without a stream.
async fn farm_seconds(clip: &Clip) -> anyhow::Result<f64> {
    let farm = Standalone::start()?;
    let usage = farm.usage();
    // What the start itself costs is over when the spare workers are there.
    tokio::time::sleep(ASIDE).await;
    let (before, begun) = (usage.cpu_seconds()?, Instant::now());
    tokio::time::sleep(ASIDE).await;
    let idle = (usage.cpu_seconds()? - before) / begun.elapsed().as_secs_f64();
    let (before, begun) = (usage.cpu_seconds()?, Instant::now());
    farm.publish(Playout::rounds(clip, 1)).await?;
    tokio::time::sleep(ASIDE).await;
    Ok(usage.cpu_seconds()? - before - idle * begun.elapsed().as_secs_f64())
}
