//! Does the node ever call a worker hung that is only slow?
//!
//! Watches "false hang verdicts on busy cores" in docs/SPECIFICATION.md. A farm carries the built-in clip as a transcoded
//! stream while threads of this process keep every core busy; nobody stops or kills a worker, so every verdict that one
//! hung is false.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Parser;
use millrace_benches::{Report, Row, Series, Standalone, load_average};
use millrace_publisher::{Clip, Playout};

const LOOK_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
struct Arguments {
    /// How long the stream runs.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Threads that do nothing but keep cores busy.
    #[arg(long, default_value_t = 2)]
    busy: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut report = Report::new(
        "Does the node ever call a worker hung that is only slow?",
        "false hang verdicts on busy cores",
    );
    let farm = Arc::new(Standalone::start()?);
    let publishing = {
        let farm = farm.clone();
        tokio::spawn(async move { farm.publish(Playout::endless(&Clip::demo())).await })
    };
    let busy = Busy::start(arguments.busy);
    let end = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
    let mut loads = Series::new();
    while Instant::now() < end {
        tokio::time::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now()))).await;
        ensure!(!publishing.is_finished(), "the publisher was cut off");
        loads.push(load_average());
    }
    let metrics = farm.node_metrics()?;
    publishing.abort();
    drop(busy);
    let hung = metrics.value(r#"millrace_node_worker_ends_total{reason="hung"}"#).unwrap_or(0.0);
    let ends = metrics.sum("millrace_node_worker_ends_total");
    let parts = metrics.value("millrace_node_parts_total").unwrap_or(0.0);
    ensure!(parts > 0.0, "no part was made");
    report.row(Row::new("hang verdicts", "", &hung.into()).at_most(0.0));
    report.row(Row::new("ends of workers, whatever the reason", "", &ends.into()));
    report.row(Row::new("parts made meanwhile", "", &parts.into()));
    report.row(Row::new("load average", "", &loads));
    report.note(format!("{} minutes, {} busy threads.", arguments.minutes, arguments.busy));
    report.say(arguments.json)
}

/// Threads that use all the time they are given; they end when this is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start(threads: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        for _ in 0..threads {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
