//! How much memory does a worker take, and what does one cost that only repackages?
//!
//! Watches "memory of `millrace-worker-av`", "memory of `millrace-worker` (passthrough)" and "CPU of `millrace-worker`
//! over `ffmpeg -c copy` to HLS" in docs/SPECIFICATION.md. Memory is read while the worker
//! works, near the end; ffmpeg's is the most it ever had. A transcoding worker is measured on a host that runs eight: they
//! share the code of FFmpeg's libraries, and what counts is how many streams fit into a host.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::ensure;
use clap::Parser;
use millrace_benches::{
    Common, HardSource, Report, Row, Series, Usage, Worker, children_cpu_seconds, copy_command,
    ladder_command, run, start_order,
};
use millrace_media::Item;
use millrace_software::Tuning;
use millrace_testkit::Scratch;

/// Workers that wait beside the one that works: eight to a host.
const NEIGHBOURS: usize = 7;
/// 100 MB in MiB.
const TRANSCODING_BOUND: f64 = 100e6 / (1 << 20) as f64;
/// 70 MB in MiB.
const TRANSCODING_AIM: f64 = 70e6 / (1 << 20) as f64;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Length of the source.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let source = HardSource::of(arguments.seconds)?;
    let items = source.items()?;
    let mut report = Report::new(
        "How much memory does a worker take, and what does repackaging cost?",
        "memory of millrace-worker-av and of millrace-worker; CPU of millrace-worker over ffmpeg -c copy to HLS",
    );
    let scratch = Scratch::new("memory")?;
    transcoding(
        &mut report,
        &items,
        ladder_command(&source.file, scratch.path(), Tuning::default()),
    )?;

    let (mut pss, mut ours, mut theirs) = (Series::default(), Series::default(), Series::default());
    for _ in 0..arguments.common.rounds {
        let before = children_cpu_seconds()?;
        let mut worker = Worker::start("millrace-worker", start_order(false))?;
        worker.feed(&items)?;
        worker.wait_until_done()?;
        pss.push(worker.usage().pss_kib()? / 1024.0);
        worker.finish()?;
        let between = children_cpu_seconds()?;
        run(copy_command(&source.file, scratch.path()))?;
        ours.push((between - before) * 1e3 / f64::from(source.seconds));
        theirs.push((children_cpu_seconds()? - between) * 1e3 / f64::from(source.seconds));
    }
    report.row(Row::new("passthrough worker, PSS", "MiB", &pss).at_most(12.0));
    report.row(Row::new("passthrough worker", "CPU-ms per stream-second", &ours));
    report.row(Row::new("ffmpeg -c copy", "CPU-ms per stream-second", &theirs));
    report.row(Row::new("passthrough worker over ffmpeg", "", &ours.over(&theirs)).at_most(1.5));
    report.say(arguments.common.json)
}

fn transcoding(report: &mut Report, items: &[Item], peer: Command) -> anyhow::Result<()> {
    let start = || Worker::start("millrace-worker-av", start_order(true));
    let _neighbours = (0..NEIGHBOURS).map(|_| start()).collect::<anyhow::Result<Vec<_>>>()?;
    let mut worker = start()?;
    let (most, rest) = items.split_at(items.len() * 9 / 10);
    worker.feed(most)?;
    let usage = worker.usage();
    let (rss, pss) = (usage.rss_kib()? / 1024.0, usage.pss_kib()? / 1024.0);
    let peak = usage.peak_rss_kib()? / 1024.0;
    worker.feed(rest)?;
    worker.finish()?;
    let share = Row::new("millrace-worker-av, PSS, one of eight", "MiB", &pss.into());
    report.row(share.at_most(TRANSCODING_BOUND).aiming_at(TRANSCODING_AIM));
    report.row(Row::new("millrace-worker-av, RSS", "MiB", &rss.into()));
    report.row(Row::new("millrace-worker-av, most ever", "MiB", &peak.into()));
    report.row(Row::new("ffmpeg, most ever", "MiB", &peak_of(peer)?.into()));
    Ok(())
}

/// The most that a command ever had resident, in MiB.
fn peak_of(mut command: Command) -> anyhow::Result<f64> {
    let mut child = command.spawn()?;
    let (usage, mut peak) = (Usage::of(child.id()), 0.0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // A process that just ended has no memory any more.
        peak = usage.peak_rss_kib().unwrap_or(peak);
        std::thread::park_timeout(Duration::from_millis(20));
    };
    ensure!(status.success(), "ffmpeg: {status}");
    Ok(peak / 1024.0)
}
