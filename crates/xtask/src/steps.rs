//! A list of named steps, timed and stopped at the first that fails: run in order, but for those that wait in a lane of their own
//! and run there, also in order, beside all later ones. Knows nothing of what they do.

use std::{
    fmt::Write as _,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::process;

/// One step: a name for the table, the command that repeats it, and the work.
pub struct Step<'a> {
    name: &'static str,
    repeat: String,
    work: Box<dyn FnOnce() -> Result<()> + Send + 'a>,
    beside: bool,
}

impl<'a> Step<'a> {
    /// A step that is one command.
    pub fn command(name: &'static str, mut command: Command) -> Self {
        let repeat = process::shown(&command);
        Self { name, repeat, work: Box::new(move || process::run(&mut command)), beside: false }
    }

    /// A step that is more than one command; `repeat` is what a person types to do it again.
    pub fn work(
        name: &'static str,
        repeat: &str,
        work: impl FnOnce() -> Result<()> + Send + 'a,
    ) -> Self {
        Self { name, repeat: repeat.to_owned(), work: Box::new(work), beside: false }
    }

    /// Lets the steps after it begin while it runs, and is waited for at the end, also where one of them fails. The next one
    /// beside begins after it, whether or not it failed.
    pub const fn beside(mut self) -> Self {
        self.beside = true;
        self
    }

    fn perform(self) -> Verdict {
        eprintln!("\n== {}", self.name);
        let start = Instant::now();
        let outcome = (self.work)();
        let time = start.elapsed();
        match outcome {
            Ok(()) => {
                eprintln!("== {}: {:.1} s", self.name, time.as_secs_f64());
                Verdict::Passed(time)
            }
            Err(error) => {
                let Self { name, repeat, .. } = self;
                eprintln!("== {name} failed: {error:#}\nto repeat it:\n  {repeat}");
                Verdict::Failed(time)
            }
        }
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
    elapsed: Duration,
}

impl Report {
    /// Whether no step failed.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|(_, verdict)| matches!(verdict, Verdict::Passed(_)))
    }

    /// One line per step with its seconds, and what all took: less than their sum where some ran beside others.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(5);
        let mut table = String::new();
        for (name, verdict) in &self.rows {
            let (word, time) = match *verdict {
                Verdict::Passed(time) => ("ok", Some(time)),
                Verdict::Failed(time) => ("FAILED", Some(time)),
                Verdict::NotRun => ("not run", None),
            };
            let seconds =
                time.map_or_else(|| "-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
            let _ = writeln!(table, "{name:width$}  {seconds:>9}  {word}");
        }
        let _ = writeln!(table, "{:width$}  {:>7.1} s", "total", self.elapsed.as_secs_f64());
        table
    }
}

/// Runs the steps until one fails, and says then how to repeat it.
pub fn run(steps: Vec<Step<'_>>) -> Report {
    let start = Instant::now();
    let mut rows = Vec::new();
    thread::scope(|scope| {
        let (lane, waiting) = mpsc::channel::<(usize, Step<'_>)>();
        let beside = scope.spawn(move || {
            waiting.into_iter().map(|(row, step)| (row, step.perform())).collect::<Vec<_>>()
        });
        let mut stopped = false;
        for step in steps {
            let name = step.name;
            let verdict = if stopped {
                Verdict::NotRun
            } else if step.beside {
                lane.send((rows.len(), step)).expect("a step must not panic");
                Verdict::NotRun
            } else {
                step.perform()
            };
            stopped |= matches!(verdict, Verdict::Failed(_));
            rows.push((name, verdict));
        }
        drop(lane);
        for (row, verdict) in beside.join().expect("a step must not panic") {
            rows[row].1 = verdict;
        }
    });
    Report { rows, elapsed: start.elapsed() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn steps_run_in_order_and_stop_at_the_first_failure() {
        let ran = AtomicU32::new(0);
        let count = || {
            ran.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let report = run(vec![
            Step::work("one", "", count),
            Step::work("two", "do two", || anyhow::bail!("no")),
            Step::work("three", "", count),
        ]);
        assert_eq!(ran.into_inner(), 1);
        assert!(!report.passed());
        let words: Vec<_> = report.rows.iter().map(|(_, verdict)| verdict).collect();
        assert!(matches!(words[..], [Verdict::Passed(_), Verdict::Failed(_), Verdict::NotRun]));
    }

    #[test]
    fn a_step_beside_others_runs_while_they_do_and_its_failure_counts() {
        let (tell, told) = mpsc::channel();
        let report = run(vec![
            Step::work("beside", "", move || {
                tell.send(())?;
                anyhow::bail!("no")
            })
            .beside(),
            Step::work("after", "", move || Ok(told.recv_timeout(Duration::from_secs(10))?)),
        ]);
        let words: Vec<_> = report.rows.iter().map(|(_, verdict)| verdict).collect();
        assert!(matches!(words[..], [Verdict::Failed(_), Verdict::Passed(_)]));
    }

    #[test]
    fn steps_beside_others_run_one_after_another_also_behind_a_failure() {
        let ended = AtomicU32::new(0);
        let report = run(vec![
            Step::work("fails", "", || {
                ended.fetch_add(1, Ordering::Relaxed);
                anyhow::bail!("no")
            })
            .beside(),
            Step::work("after it", "", || {
                anyhow::ensure!(ended.load(Ordering::Relaxed) == 1, "it had not ended");
                Ok(())
            })
            .beside(),
        ]);
        let words: Vec<_> = report.rows.iter().map(|(_, verdict)| verdict).collect();
        assert!(matches!(words[..], [Verdict::Failed(_), Verdict::Passed(_)]));
    }

    #[test]
    fn the_table_lines_up() {
        let report = Report {
            rows: vec![
                ("format", Verdict::Passed(Duration::from_millis(1_200))),
                ("release build", Verdict::Failed(Duration::from_millis(100_049))),
                ("tests", Verdict::NotRun),
            ],
            elapsed: Duration::from_millis(100_900),
        };
        assert_eq!(
            report.table(),
            "format             1.2 s  ok\n\
             release build    100.0 s  FAILED\n\
             tests                  -  not run\n\
             total            100.9 s\n"
        );
    }
}
