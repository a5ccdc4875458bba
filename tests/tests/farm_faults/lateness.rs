//! How long a viewer waited for each part of a stream, and what is known of those that were late: what else was, and what the
//! machine did meanwhile.

use std::{
    fmt,
    time::{Duration, Instant},
};

use millrace_testkit::{Chunk, Recording};
use millrace_tests::{Pressure, Seen};

use crate::farm_faults::{
    fault::ONE_PART_LATE,
    measured::{Moment, Struck},
};

/// What is late within this time of each other has one cause.
const TOGETHER: Duration = Duration::from_secs(2);
/// A part that is in time comes so long after the one before.
const PART: Duration = Duration::from_millis(334);

/// From one part of a rung to the next.
#[derive(Clone, Debug)]
pub struct Wait {
    rung: String,
    part: String,
    from: Instant,
    lasted: Duration,
}

impl Wait {
    fn is_late(&self) -> bool {
        self.lasted > ONE_PART_LATE
    }

    /// When the part came.
    pub fn to(&self) -> Instant {
        self.from + self.lasted
    }
}

/// All waits that begin or end within a time, but for what the other faults cost, which have bounds of their own.
pub fn waits(arrivals: &Recording, from: Instant, to: Instant, struck: &[Struck]) -> Vec<Wait> {
    let has_own_bound =
        |struck: &&Struck| struck.fault.bound().is_some_and(|bound| bound > ONE_PART_LATE);
    let others: Vec<&Struck> = struck.iter().filter(has_own_bound).collect();
    let is_counted = |before: &Chunk, after: &Chunk| {
        let is_other = |it: &&Struck| after.arrived > it.began.at && before.arrived < it.ended;
        after.arrived > from && before.arrived < to && !others.iter().any(is_other)
    };
    let mut waits = Vec::new();
    for rung in &arrivals.renditions {
        let pairs = rung.chunks.windows(2).map(|pair| (&pair[0], &pair[1]));
        waits.extend(pairs.filter(|(before, after)| is_counted(before, after)).map(
            |(before, after)| Wait {
                rung: rung.name.clone(),
                part: format!("{}.{}", after.msn, after.part.map_or(0, |part| part.0)),
                from: before.arrived,
                lasted: after.arrived - before.arrived,
            },
        ));
    }
    waits.sort_by_key(|wait| wait.from);
    waits
}

/// One part that was late.
struct Late {
    wait: Wait,
    /// Other rungs that were late within two seconds of it.
    beside: Vec<String>,
    seen: Seen,
    at: String,
}

impl Late {
    /// Whether the machine let the programs wait for at least as long as the part was late: then it may be the cause of all of it.
    fn is_hosts(&self) -> bool {
        let late = self.wait.lasted.saturating_sub(PART);
        self.seen.all_waited() + self.seen.stolen >= late
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wait { rung, part, lasted, .. } = &self.wait;
        let cause = if self.is_hosts() { "the host" } else { "the farm" };
        let (at, seen) = (&self.at, &self.seen);
        write!(
            f,
            "{at} {part} of {rung} after {lasted:.2?}, beside {:?}: {cause}; {seen}",
            self.beside
        )
    }
}

/// Prints how long the waits were, and each that was late. How many those are.
pub fn tell(when: &str, waits: &[Wait], began: Moment, pressure: &Pressure) -> usize {
    println!("{when}: {}", summary(waits));
    let late = late(waits, began, pressure);
    late.iter().for_each(|late| println!("{when}: {late}"));
    late.len()
}

/// Those of the waits that were late.
fn late(waits: &[Wait], began: Moment, pressure: &Pressure) -> Vec<Late> {
    let late: Vec<&Wait> = waits.iter().filter(|wait| wait.is_late()).collect();
    let close = |a: &Wait, b: &Wait| a.from < b.to() + TOGETHER && b.from < a.to() + TOGETHER;
    let tell = |wait: &&Wait| {
        let beside = late.iter().filter(|other| other.rung != wait.rung && close(wait, other));
        Late {
            wait: (*wait).clone(),
            beside: beside.map(|other| other.rung.clone()).collect(),
            seen: pressure.seen(wait.from, wait.to()),
            at: began.time_of_day(wait.to()),
        }
    };
    late.iter().map(tell).collect()
}

/// How many waits, how many of them late, how long they were.
fn summary(waits: &[Wait]) -> String {
    let mut lasted: Vec<Duration> = waits.iter().map(|wait| wait.lasted).collect();
    lasted.sort();
    let late = waits.iter().filter(|wait| wait.is_late()).count();
    let at = |share: f64| lasted[((lasted.len() - 1) as f64 * share) as usize];
    format!(
        "{} waits for a part, {late} late; half {:.3?}, 99 of 100 {:.3?}, 999 of 1000 {:.3?}, all {:.3?} or less",
        waits.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(rung: &str, from: Instant, ms: u64) -> Wait {
        let lasted = Duration::from_millis(ms);
        Wait { rung: rung.to_owned(), part: "7.1".to_owned(), from, lasted }
    }

    #[test]
    fn a_part_is_late_by_the_farm_unless_programs_waited_as_long_for_a_processor() {
        let told = |waited_ms| {
            let waited = vec![("node-1".to_owned(), Duration::from_millis(waited_ms))];
            let seen = Seen { waited, ..Seen::default() };
            let wait = wait("240p", Instant::now(), 800);
            Late { wait, beside: Vec::new(), seen, at: "12:00:00".to_owned() }.to_string()
        };
        assert!(told(465).contains("the farm"), "{}", told(465));
        assert!(told(466).contains("the host"), "{}", told(466));
    }

    #[test]
    fn what_is_late_on_another_rung_in_the_same_seconds_is_told_with_it() {
        let (pressure, began) = (Pressure::default(), Moment::now());
        let at = |s| began.at + Duration::from_secs(s);
        let waits = [
            wait("240p", at(0), 700),
            wait("144p", at(1), 668),
            wait("audio", at(2), 669),
            wait("source", at(60), 900),
        ];
        let beside: Vec<_> =
            late(&waits, began, &pressure).into_iter().map(|late| late.beside).collect();
        assert_eq!(beside, [vec!["audio".to_owned()], vec!["240p".to_owned()], vec![]]);
        assert!(summary(&waits).starts_with("4 waits for a part, 3 late"), "{}", summary(&waits));
    }
}
