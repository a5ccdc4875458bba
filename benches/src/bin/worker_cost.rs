//! What does a transcoded stream cost, beside the best ffmpeg command line for the same ladder?
//!
//! Watches "CPU of worker … over that of the best ffmpeg command line for the same ladder" in docs/SPECIFICATION.md.
//! Both make source, 720p, 480p, 360p and audio of the same hard 1080p30 source as fast as they can; process start,
//! sandbox and socket are in the worker's bill, reading the file and writing segments in ffmpeg's.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use millrace_benches::{
    Common, ENCODED, HardSource, Judge, Report, Row, Rungs, Series, Worker, children_cpu_seconds,
    ladder_command, run, start_order,
};
use millrace_media::Item;
use millrace_software::Tuning;
use millrace_testkit::Scratch;

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

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let source = HardSource::of(arguments.seconds)?;
    let items = source.items()?;
    let mut report = Report::new(
        "What does a transcoded stream cost, beside the best ffmpeg command line?",
        "CPU of worker, and its share of node and origin, over that of the best ffmpeg command line",
    );
    let scratch = Scratch::new("cost")?;
    let (mut ours, mut theirs, mut rungs) = (Series::default(), Series::default(), Rungs::new());
    for _ in 0..arguments.common.rounds {
        let before = children_cpu_seconds()?;
        rungs = transcode(&items)?;
        let between = children_cpu_seconds()?;
        run(ladder_command(&source.file, scratch.path(), Tuning::default()))?;
        let after = children_cpu_seconds()?;
        ours.push((between - before) / f64::from(source.seconds));
        theirs.push((after - between) / f64::from(source.seconds));
    }
    report.row(Row::new("millrace-worker-av", "CPU-s per stream-second", &ours));
    report.row(Row::new("ffmpeg", "CPU-s per stream-second", &theirs));
    report
        .row(Row::new("worker over ffmpeg", "", &ours.over(&theirs)).at_most(0.95).aiming_at(0.87));
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
    report.note("The worker alone: the node's and the origin's share come on top.");
    report.say(arguments.common.json)
}

fn transcode(items: &[Item]) -> anyhow::Result<Rungs> {
    let mut worker = Worker::start("millrace-worker-av", start_order(true))?;
    worker.feed(items)?;
    worker.wait_until_done()?;
    worker.finish()
}
