//! What a benchmark found: a table for people or one JSON object, and whether every bound was kept.

use std::{fmt, process::ExitCode};

use serde::Serialize;

use crate::{Series, usage::load_average};

/// One measured thing.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    what: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    n: usize,
    /// The median may not exceed it.
    bound: Option<f64>,
    aim: Option<f64>,
}

impl Row {
    /// A measured thing without a bound.
    pub fn new(what: impl Into<String>, unit: &'static str, series: &Series) -> Self {
        let (median, min, max, n) = (series.median(), series.min(), series.max(), series.len());
        Self { what: what.into(), unit, median, min, max, n, bound: None, aim: None }
    }

    /// Demands that the median does not exceed `bound`.
    #[must_use]
    pub fn at_most(self, bound: f64) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// Says what we work towards.
    #[must_use]
    pub fn aiming_at(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }

    /// NaN breaks a bound.
    fn is_kept(&self) -> bool {
        self.bound.is_none_or(|bound| self.median <= bound)
    }
}

/// The answer to a benchmark's question.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    question: &'static str,
    /// First words of the row of docs/SPECIFICATION.md.
    watches: &'static str,
    load_average_before: f64,
    load_average_after: f64,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// An empty report; the load of the machine is noted now and when it is said.
    pub fn new(question: &'static str, watches: &'static str) -> Self {
        let load = load_average();
        Self {
            question,
            watches,
            load_average_before: load,
            load_average_after: load,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a sentence.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints it; the exit code says whether every bound was kept.
    ///
    /// # Errors
    /// It cannot be written as JSON, which only a bug could cause.
    pub fn say(mut self, json: bool) -> anyhow::Result<ExitCode> {
        self.load_average_after = load_average();
        if json {
            println!("{}", serde_json::to_string_pretty(&self)?);
        } else {
            println!("{self}");
        }
        let kept = self.rows.iter().all(Row::is_kept);
        Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.question)?;
        writeln!(f, "docs/SPECIFICATION.md: {}", self.watches)?;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (before, after) = (self.load_average_before, self.load_average_after);
        writeln!(f, "{cores} cores, load average {before:.1} before, {after:.1} after\n")?;
        let wide = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        let head = ["median", "min", "max", "n", "bound", "aim"];
        write!(f, "{:wide$}", "")?;
        head.iter().try_for_each(|word| write!(f, " {word:>9}"))?;
        writeln!(f)?;
        for row in &self.rows {
            write!(f, "{:wide$}", row.what)?;
            for value in [row.median, row.min, row.max] {
                write!(f, " {:>9}", digits(value))?;
            }
            write!(f, " {:>9}", row.n)?;
            for limit in [row.bound, row.aim] {
                write!(f, " {:>9}", limit.map(digits).unwrap_or_default())?;
            }
            writeln!(f, "  {}{}", row.unit, if row.is_kept() { "" } else { "  EXCEEDED" })?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_bound_is_said_and_exits_with_a_failure() {
        let mut report = Report::new("how long?", "length");
        report.row(Row::new("ours", "m", &Series::from(2.0)).at_most(1.0));
        assert!(report.to_string().contains("EXCEEDED"));
        assert_eq!(format!("{:?}", report.say(true).unwrap()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn what_was_never_measured_keeps_no_bound() {
        assert!(!Row::new("ours", "m", &Series::default()).at_most(1.0).is_kept());
    }
}
