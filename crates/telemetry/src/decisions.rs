//! The decision log of one program: the newest 10,000 decisions, and the page that shows them.
//!
//! Bounded: the oldest goes when a new one comes. What is said again about the same stream is counted, not kept again, and
//! what strangers cause is kept as rarely as their log lines, so that nobody can push out what matters.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{Json, Router, extract::Query, http::StatusCode, response::IntoResponse, routing::get};
use millrace_types::{Decision, DecisionKind, NodeId, StreamId, Wall};
use serde::{Deserialize, Serialize};

use crate::{Clock, LineLimit, SystemClock};

/// Decisions that are kept.
const KEPT: usize = 10_000;
/// How far back a repetition is looked for.
const LOOK_BACK: usize = 64;
/// Decisions in one answer unless another number is asked for.
const USUAL_LIMIT: usize = 1_000;

/// A decision with who took it and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded(Arc<Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Entry {
    /// RFC 3339 in UTC with microseconds, by the clock of the program's host.
    at: String,
    program: NodeId,
    /// Grows from decision to decision of one program.
    seq: u64,
    #[serde(flatten)]
    decision: Decision,
    /// How often it was said again, and when last.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<Again>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Again {
    times: u64,
    last: String,
}

impl Recorded {
    /// What was decided.
    pub fn decision(&self) -> &Decision {
        &self.0.decision
    }

    /// Its number in the program's log.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }
}

impl Serialize for Recorded {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A moment as people write it: RFC 3339 in UTC, as exact as they like, such as `2026-11-21T01:02`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(String);

impl TryFrom<String> for Moment {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_digit() || "-:.TZ".contains(c);
        match text.len() >= 4 && text.chars().all(fits) {
            true => Ok(Self(text)),
            false => Err(format!("{text:?} is no moment in UTC such as 2026-11-21T01:02:03Z")),
        }
    }
}

impl Moment {
    /// Whether `at` is not before it.
    fn is_reached(&self, at: &str) -> bool {
        at.trim_end_matches('Z') >= self.0.trim_end_matches('Z')
    }
}

/// Which decisions are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionQuery {
    /// About this stream only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// Of this kind only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<DecisionKind>,
    /// Not before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// The newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl DecisionQuery {
    /// How many decisions are wanted.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL_LIMIT).min(KEPT)
    }

    /// The query behind the question mark of a URL.
    pub fn to_url(&self) -> String {
        let limit = format!("limit={}", self.limit());
        let stream = self.stream.as_ref().map(|stream| format!("&stream={stream}"));
        let kind = self.kind.map(|kind| format!("&kind={}", kind.as_str()));
        let since = self.since.as_ref().map(|since| format!("&since={}", since.0));
        [Some(limit), stream, kind, since].into_iter().flatten().collect()
    }

    fn fits(&self, entry: &Entry) -> bool {
        self.stream.as_ref().is_none_or(|stream| entry.decision.stream.as_ref() == Some(stream))
            && self.kind.is_none_or(|kind| entry.decision.kind == kind)
            && self.since.as_ref().is_none_or(|since| since.is_reached(&entry.at))
    }
}

/// What one program says of its decisions.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionPage {
    /// Who says it.
    pub program: NodeId,
    /// Since when its log is: what it decided before, in an earlier life, it does not know.
    pub since: String,
    /// Oldest first.
    pub decisions: Vec<Recorded>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Recorded>,
    next: u64,
    strangers: LineLimit,
}

/// A handle on the log; clones share it.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    program: NodeId,
    since: Wall,
    clock: SystemClock,
    ring: Arc<Mutex<Ring>>,
}

impl DecisionLog {
    /// The empty log of a program.
    pub fn new(program: NodeId) -> Self {
        let clock = SystemClock::new();
        Self { program, since: clock.wall(), clock, ring: Arc::default() }
    }

    /// Keeps a decision; hands back what is kept, which may be an earlier one that was said again.
    pub fn record(&self, decision: Decision) -> Recorded {
        self.keep(&mut self.ring(), decision)
    }

    /// Keeps a decision that anybody can cause who reaches a listener: ten at once, then one in ten seconds.
    pub fn record_of_stranger(&self, mut decision: Decision) {
        let mut ring = self.ring();
        let Some(left_out) = ring.strangers.admit(self.clock.mono()) else { return };
        if left_out > 0 {
            decision.text.push_str(&format!(" (and {left_out} others since)"));
        }
        self.keep(&mut ring, decision);
    }

    /// The decisions that fit, oldest first; the newest ones where there are more than are wanted.
    pub fn list(&self, query: &DecisionQuery) -> Vec<Recorded> {
        let ring = self.ring();
        let fitting = ring.entries.iter().rev().filter(|entry| query.fits(&entry.0));
        let mut found: Vec<_> = fitting.take(query.limit()).cloned().collect();
        found.reverse();
        found
    }

    /// The same as [`Self::list`], with who says it and since when.
    pub fn page(&self, query: &DecisionQuery) -> DecisionPage {
        let decisions = self.list(query);
        DecisionPage { program: self.program.clone(), since: exact(self.since), decisions }
    }

    fn keep(&self, ring: &mut Ring, decision: Decision) -> Recorded {
        let at = exact(self.clock.wall());
        let mut lately = ring.entries.iter_mut().rev().take(LOOK_BACK);
        let of_stream = lately.find(|entry| entry.0.decision.stream == decision.stream);
        if let Some(entry) = of_stream.filter(|entry| entry.0.decision.is_repeated_by(&decision)) {
            let kept = Arc::make_mut(&mut entry.0);
            let times = kept.again.as_ref().map_or(0, |again| again.times) + 1;
            kept.again = Some(Again { times, last: at });
            return entry.clone();
        }
        let (program, seq) = (self.program.clone(), ring.next);
        ring.next += 1;
        let entry = Recorded(Arc::new(Entry { at, program, seq, decision, again: None }));
        if ring.entries.len() == KEPT {
            ring.entries.pop_front();
        }
        ring.entries.push_back(entry.clone());
        entry
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 3339 with microseconds, so that what programs on one host decide in one millisecond stays in order.
fn exact(wall: Wall) -> String {
    format!("{}{:03}Z", wall.to_string().trim_end_matches('Z'), wall.0 % 1_000)
}

/// `/v1/decisions`, to be merged with a program's own pages.
pub fn decision_routes(log: DecisionLog) -> Router {
    let page = move |query: Result<Query<DecisionQuery>, _>| {
        let log = log.clone();
        async move {
            let refused = |rejection: axum::extract::rejection::QueryRejection| {
                (StatusCode::BAD_REQUEST, rejection.body_text()).into_response()
            };
            query.map_or_else(refused, |query| Json(log.page(&query)).into_response())
        }
    };
    Router::new().route("/v1/decisions", get(page))
}

#[cfg(test)]
mod tests {
    use millrace_types::{Epoch, RefusalReason};

    use super::*;

    fn log() -> DecisionLog {
        DecisionLog::new("node-1".parse().unwrap())
    }

    fn ended(stream: &str, placement: u64) -> Decision {
        let epoch = Epoch { generation: 1, placement };
        let stream = stream.parse().unwrap();
        Decision::of(DecisionKind::WorkerEnded).stream(&stream).epoch(epoch)
    }

    #[test]
    fn the_newest_ten_thousand_are_kept_in_order() {
        let log = log();
        for number in 0..KEPT as u64 + 5 {
            log.record(ended(&format!("stream-{number}"), number));
        }
        let all = log.list(&DecisionQuery { limit: Some(usize::MAX), ..Default::default() });
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].decision(), &ended("stream-5", 5));
        assert!(all.windows(2).all(|two| two[0].0.seq < two[1].0.seq));
        let last = log.list(&DecisionQuery { limit: Some(1), ..Default::default() });
        assert_eq!(last, all[KEPT - 1..]);
    }

    #[test]
    fn what_is_said_again_is_counted_also_while_others_speak_and_news_of_the_stream_begins_anew() {
        let log = log();
        let refused = |placement, reason: RefusalReason| {
            let refused = Decision { kind: DecisionKind::Refused, ..ended("a", placement) };
            refused.because(reason)
        };
        for placement in 0..50 {
            log.record(refused(placement, RefusalReason::NoCapacity));
            log.record(ended("b", placement));
        }
        log.record(refused(50, RefusalReason::Fenced));
        log.record(refused(51, RefusalReason::NoCapacity));
        let stream = Some("a".parse().unwrap());
        let of_a = log.list(&DecisionQuery { stream, ..Default::default() });
        let said: Vec<_> = of_a
            .iter()
            .map(|entry| (entry.decision().reason.unwrap().as_str(), entry.0.again.is_some()))
            .collect();
        assert_eq!(said, [("no_capacity", true), ("fenced", false), ("no_capacity", false)]);
        assert_eq!(of_a[0].0.again.as_ref().unwrap().times, 49);
        let stream = Some("b".parse().unwrap());
        let of_b = log.list(&DecisionQuery { stream, ..Default::default() });
        assert_eq!(of_b.len(), 50, "each worker's end is news");
    }

    #[test]
    fn strangers_push_nothing_out() {
        let log = log();
        log.record(ended("a", 0));
        for number in 0..KEPT as u64 * 2 {
            log.record_of_stranger(ended(&format!("s-{number}"), 0));
        }
        assert!(log.list(&DecisionQuery::default()).len() < 20);
    }

    #[test]
    fn a_moment_may_be_given_as_exactly_as_one_likes() {
        let at = "2026-11-21T01:02:03.000456Z";
        let reached = |since: &str| Moment::try_from(since.to_owned()).unwrap().is_reached(at);
        assert!(reached("2026-11-21") && reached("2026-11-21T01:02:03Z") && reached(at));
        assert!(!reached("2026-11-21T01:02:03.000457Z") && !reached("2026-11-21T01:03"));
        let error = Moment::try_from("1&limit=2".to_owned()).unwrap_err();
        assert!(error.contains("1&limit=2"), "{error}");
    }
}
