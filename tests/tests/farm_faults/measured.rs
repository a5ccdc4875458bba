//! What a fault cost: from arrival times and the farm's decisions to rows of a table. Strikes nothing.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use millrace_testkit::Recording;
use serde_json::Value;

use crate::farm_faults::fault::Fault;

/// How far behind live the simulated viewer is.
const BEHIND: Duration = Duration::from_secs(3);
const DAY_S: f64 = 86_400.0;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: Instant,
    unix_s: f64,
}

impl Moment {
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self { at: Instant::now(), unix_s: unix.as_secs_f64() }
    }

    /// Of a moment after this one, by the clock that this one was read from: hours, minutes and seconds in UTC.
    pub fn time_of_day(&self, later: Instant) -> String {
        let unix_s = self.unix_s + later.saturating_duration_since(self.at).as_secs_f64();
        let hours = (unix_s % DAY_S / 3_600.0).floor();
        format!("{hours:02}:{}", minutes(unix_s))
    }

    /// How long after this moment a decision was made, if it was made after it.
    fn until(&self, decision: &Value) -> Option<Duration> {
        let later_s = seconds_of_day(decision["at"].as_str()?)? - self.unix_s % DAY_S;
        // Nothing here takes half a day: midnight lies between.
        let later_s = if later_s < -DAY_S / 2.0 { later_s + DAY_S } else { later_s };
        Duration::try_from_secs_f64(later_s).ok()
    }
}

/// Of a time by RFC 3339 in UTC.
fn seconds_of_day(at: &str) -> Option<f64> {
    let mut numbers = at.trim_end_matches('Z').split_once('T')?.1.split(':');
    let mut number = || numbers.next()?.parse::<f64>().ok();
    Some(number()? * 3_600.0 + number()? * 60.0 + number()?)
}

/// A fault that was injected, and the time within which its consequences lie.
#[derive(Clone, Copy, Debug)]
pub struct Struck {
    pub fault: Fault,
    pub began: Moment,
    pub ended: Instant,
    /// etcd was away meanwhile.
    pub without_etcd: bool,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub fault: Fault,
    without_etcd: bool,
    noticed: Option<Duration>,
    /// The longest time between two parts of one rung.
    gap: Duration,
    /// From the fault to the next part, or between two parts behind it if that took longer.
    next_part: Duration,
    stall: Duration,
    /// Frames lost, of those sent.
    pub lost: u32,
}

impl Row {
    pub fn new(struck: &Struck, recording: &Recording, decisions: &[Value]) -> Self {
        let rungs = || recording.renditions.iter();
        let waits = rungs().filter_map(|rung| rung.longest_wait(struck.began.at, struck.ended));
        let (gaps, nexts): (Vec<_>, Vec<_>) = waits.unzip();
        let stalls = rungs().map(|rung| rung.longest_stall(struck.began.at, struck.ended, BEHIND));
        let kinds = struck.fault.noticed_by();
        let tells = |decision: &&Value| kinds.iter().any(|kind| decision["kind"] == *kind);
        let noticed = decisions.iter().filter(tells);
        Self {
            fault: struck.fault,
            without_etcd: struck.without_etcd,
            noticed: noticed.filter_map(|decision| struck.began.until(decision)).min(),
            gap: gaps.into_iter().max().unwrap_or(Duration::MAX),
            next_part: nexts.into_iter().max().unwrap_or(Duration::MAX),
            stall: stalls.max().unwrap_or_default(),
            lost: 0,
        }
    }

    pub fn is_in_time(&self) -> bool {
        self.fault.bound().is_none_or(|bound| self.next_part <= bound)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let or_none = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), seconds);
        let etcd = if self.without_etcd { ", without etcd" } else { "" };
        write!(
            f,
            "| {}{etcd} | {} | {} | {} | {} | {} | {} |",
            self.fault.as_str(),
            or_none(self.noticed),
            seconds(self.next_part),
            or_none(self.fault.bound()),
            seconds(self.gap),
            seconds(self.stall),
            self.lost
        )
    }
}

/// The whole table, as it stands in the documents.
pub fn table(rows: &[Row]) -> String {
    let head = "| fault | noticed after | next part after | bound | longest time between two parts | \
                longest stall 3 s behind live | frames lost |\n|---|---|---|---|---|---|---|";
    let rows: Vec<String> = rows.iter().map(Row::to_string).collect();
    format!("{head}\n{}", rows.join("\n"))
}

/// Minutes and seconds of the hour.
fn minutes(unix_s: f64) -> String {
    format!("{:02}:{:09.6}", ((unix_s % 3_600.0) / 60.0).floor(), unix_s % 60.0)
}

/// What was done and what the farm decided, in order, for who looks for the cause of a lost frame.
pub fn timeline(struck: &[Struck], decisions: &[Value]) -> String {
    let faults = struck
        .iter()
        .map(|struck| (minutes(struck.began.unix_s), format!("--- {}", struck.fault.as_str())));
    let decided = decisions.iter().filter_map(|decision| {
        let at = minutes(seconds_of_day(decision["at"].as_str()?)?);
        let word = |name: &str| decision[name].as_str().unwrap_or_default();
        let said = ["program", "kind", "epoch", "subject", "reason", "text"].map(word).join(" ");
        Some((at, said))
    });
    let mut lines: Vec<(String, String)> = faults.chain(decided).collect();
    lines.sort();
    lines.iter().map(|(at, said)| format!("\n{at} {said}")).collect()
}
