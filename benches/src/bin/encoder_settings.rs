//! Which libx264 settings are worth their cost? A table of presets and lookaheads, to choose the default from.
//!
//! Watches "encoding with a lookahead of 4 to 8 frames wins back half of the VMAF that `zerolatency` gives away" in
//! docs/SPECIFICATION.md. The worker's own pipeline runs inside this process, once per setting and round.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use millrace_benches::{
    Common, ENCODED, HardSource, Judge, Report, Row, Rungs, Series, collect, own_cpu_seconds,
    start_order,
};
use millrace_media::Item;
use millrace_software::{Software, Tuning, log_errors_to};
use millrace_testkit::Scratch;
use millrace_worker::Pipeline;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Length of the source.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Presets to try.
    #[arg(long, value_delimiter = ',', default_value = "veryfast")]
    presets: Vec<String>,
    /// Lookaheads to try: 0 is `zerolatency`, 40 what x264 does where latency does not matter.
    #[arg(long, value_delimiter = ',', default_value = "0,4,8,40")]
    lookaheads: Vec<u8>,
    /// Reference pictures to try.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    references: Vec<u8>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    log_errors_to(|line| eprintln!("{line}"));
    let source = HardSource::of(arguments.seconds)?;
    let (items, judge) = (source.items()?, Judge::find()?);
    let mut report = Report::new(
        "Which libx264 settings are worth their cost?",
        "encoding with a lookahead of 4 to 8 frames wins back half of the VMAF that zerolatency gives away",
    );
    let tunings = tunings(&arguments)?;
    let mut costs = vec![Series::default(); tunings.len()];
    let mut made = vec![Rungs::new(); tunings.len()];
    for _ in 0..arguments.common.rounds {
        for (index, &tuning) in tunings.iter().enumerate() {
            let before = own_cpu_seconds()?;
            made[index] = encode(&items, tuning)?;
            costs[index].push((own_cpu_seconds()? - before) / f64::from(source.seconds));
        }
    }
    let mut quality = Vec::new();
    for ((tuning, cost), rungs) in tunings.iter().zip(&costs).zip(&made) {
        let name = name(*tuning);
        report.row(Row::new(format!("{name}: all rungs"), "CPU-s per stream-second", cost));
        quality.push(mean_vmaf(&name, rungs, &judge, &source, &mut report)?);
    }
    judge_default(&tunings, &costs, &quality, &mut report);
    report.say(arguments.common.json)
}

/// The VMAF of each rung, and their mean.
fn mean_vmaf(
    name: &str,
    rungs: &Rungs,
    judge: &Judge,
    source: &HardSource,
    report: &mut Report,
) -> anyhow::Result<f64> {
    let scratch = Scratch::new("settings")?;
    let mut mean = 0.0;
    for (rung, width, height, kbps) in ENCODED {
        let bytes = rungs.get(&rung.parse()?).with_context(|| format!("no {rung}"))?;
        let file = scratch.path().join("rung.mp4");
        fs::write(&file, bytes)?;
        let vmaf = judge.vmaf(&file, &source.file, (width, height))?;
        mean += vmaf / ENCODED.len() as f64;
        report.row(Row::new(format!("{name}: {rung}"), "VMAF", &vmaf.into()));
        let rate = bytes.len() as f64 * 8e-3 / f64::from(source.seconds * kbps);
        report.row(Row::new(format!("{name}: {rung}"), "of its bitrate", &rate.into()));
    }
    report.row(Row::new(format!("{name}: mean"), "VMAF", &mean.into()));
    Ok(mean)
}

/// Holds the default against `zerolatency` and the longest lookahead of its preset, where they were tried.
fn judge_default(tunings: &[Tuning], costs: &[Series], quality: &[f64], report: &mut Report) {
    let default = Tuning::default();
    let at = |lookahead| {
        let wanted = Tuning { lookahead, mb_tree: lookahead > 0, ..default };
        tunings.iter().position(|tuning| *tuning == wanted)
    };
    let longest = tunings.iter().map(|tuning| tuning.lookahead).max().unwrap_or_default();
    let (Some(ours), Some(none), Some(most)) = (at(default.lookahead), at(0), at(longest)) else {
        return;
    };
    let cost = costs[ours].over(&costs[none]);
    report.row(Row::new("the default over zerolatency", "cost", &cost).at_most(1.19));
    let share = (quality[most] - quality[ours]) / (quality[most] - quality[none]);
    let what = "of what zerolatency gives away, the default gives away";
    report.row(Row::new(what, "share of VMAF", &share.into()).at_most(0.5));
}

fn tunings(arguments: &Arguments) -> anyhow::Result<Vec<Tuning>> {
    let mut tunings = Vec::new();
    for preset in &arguments.presets {
        // A handful of names, needed to the end.
        let preset: &'static str = preset.clone().leak();
        for &lookahead in &arguments.lookaheads {
            for &references in &arguments.references {
                tunings.push(Tuning { preset, lookahead, mb_tree: lookahead > 0, references });
            }
        }
    }
    Ok(tunings)
}

fn name(tuning: Tuning) -> String {
    let Tuning { preset, lookahead, references, .. } = tuning;
    format!("{preset}, lookahead {lookahead}, ref {references}")
}

fn encode(items: &[Item], tuning: Tuning) -> anyhow::Result<Rungs> {
    let mut pipeline = Pipeline::new(Software { tuning }, &start_order(true))?;
    let (mut rungs, mut out) = (Rungs::new(), Vec::new());
    for item in items {
        pipeline.take(item, &mut out)?;
        out.drain(..).for_each(|message| collect(&message, &mut rungs));
    }
    pipeline.finish(&mut out)?;
    out.iter().for_each(|message| collect(message, &mut rungs));
    Ok(rungs)
}
