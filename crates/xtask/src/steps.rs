//! A list of named steps: run in order, timed, stopped at the first that fails. Knows nothing of what they do.

use std::{
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::process;

/// One step: a name for the table, the command that repeats it, and the work.
pub struct Step<'a> {
    name: &'static str,
    repeat: String,
    work: Box<dyn FnOnce() -> Result<()> + 'a>,
}

impl<'a> Step<'a> {
    /// A step that is one command.
    pub fn command(name: &'static str, mut command: Command) -> Self {
        let repeat = process::shown(&command);
        Self { name, repeat, work: Box::new(move || process::run(&mut command)) }
    }

    /// A step that is more than one command; `repeat` is what a person types to do it again.
    pub fn work(name: &'static str, repeat: &str, work: impl FnOnce() -> Result<()> + 'a) -> Self {
        Self { name, repeat: repeat.to_owned(), work: Box::new(work) }
    }
}

/// How one step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

/// How all went, in the order of the list.
pub struct Report {
    rows: Vec<(&'static str, Verdict)>,
}

impl Report {
    /// Whether no step failed.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|(_, verdict)| matches!(verdict, Verdict::Passed(_)))
    }

    /// One line per step with its seconds, and the sum.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(5);
        let mut table = String::new();
        let mut sum = Duration::ZERO;
        for (name, verdict) in &self.rows {
            let (word, time) = match *verdict {
                Verdict::Passed(time) => ("ok", Some(time)),
                Verdict::Failed(time) => ("FAILED", Some(time)),
                Verdict::NotRun => ("not run", None),
            };
            sum += time.unwrap_or_default();
            let seconds =
                time.map_or_else(|| "-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
            let _ = writeln!(table, "{name:width$}  {seconds:>9}  {word}");
        }
        let _ = writeln!(table, "{:width$}  {:>7.1} s", "total", sum.as_secs_f64());
        table
    }
}

/// Runs the steps until one fails, and says then how to repeat it.
pub fn run(steps: Vec<Step<'_>>) -> Report {
    let mut rows = Vec::new();
    let mut stopped = false;
    for step in steps {
        if stopped {
            rows.push((step.name, Verdict::NotRun));
            continue;
        }
        eprintln!("\n== {}", step.name);
        let start = Instant::now();
        let outcome = (step.work)();
        let time = start.elapsed();
        match outcome {
            Ok(()) => {
                eprintln!("== {}: {:.1} s", step.name, time.as_secs_f64());
                rows.push((step.name, Verdict::Passed(time)));
            }
            Err(error) => {
                eprintln!("== {} failed: {error:#}\nto repeat it:\n  {}", step.name, step.repeat);
                rows.push((step.name, Verdict::Failed(time)));
                stopped = true;
            }
        }
    }
    Report { rows }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn steps_run_in_order_and_stop_at_the_first_failure() {
        let ran = Cell::new(0);
        let count = || {
            ran.set(ran.get() + 1);
            Ok(())
        };
        let report = run(vec![
            Step::work("one", "", count),
            Step::work("two", "do two", || anyhow::bail!("no")),
            Step::work("three", "", count),
        ]);
        assert_eq!(ran.get(), 1);
        assert!(!report.passed());
        let words: Vec<_> = report.rows.iter().map(|(_, verdict)| verdict).collect();
        assert!(matches!(words[..], [Verdict::Passed(_), Verdict::Failed(_), Verdict::NotRun]));
    }

    #[test]
    fn the_table_lines_up_and_sums_the_time() {
        let report = Report {
            rows: vec![
                ("format", Verdict::Passed(Duration::from_millis(1_200))),
                ("release build", Verdict::Failed(Duration::from_millis(100_049))),
                ("tests", Verdict::NotRun),
            ],
        };
        assert_eq!(
            report.table(),
            "format             1.2 s  ok\n\
             release build    100.0 s  FAILED\n\
             tests                  -  not run\n\
             total            101.2 s\n"
        );
    }
}
