//! What the session shows of itself.

use millrace_types::{Decision, DecisionKind};

use super::Session;
use crate::report::{HealthReport, NO_KEYFRAME, PublisherReport};

impl Session {
    /// A decision about this stream as it stands.
    pub(super) fn decision(&self, kind: DecisionKind) -> Decision {
        Decision::of(kind).stream(&self.stream).epoch(self.machine.epoch())
    }

    /// Keeps a decision about this stream, for operators.
    pub(super) fn note(&mut self, decision: Decision) {
        self.events.push(self.context.decisions.record(decision));
    }

    /// Counts what is kept for a successor.
    pub(super) fn count_replay(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.context.metrics.replay_bytes.add(bytes - self.counted_bytes);
        self.counted_bytes = bytes;
    }

    /// Publishes the report.
    pub(super) fn show(&mut self) {
        let stats = self.timeline.as_ref().map(|timeline| timeline.stats()).unwrap_or_default();
        let state = match () {
            () if self.link.is_some() => "live",
            () if self.placing.is_some() => "placing",
            () => "waiting",
        };
        let connected = self.publisher.is_some();
        let away_s = self.left_at.map(|left_at| self.now().since(left_at).as_secs());
        self.report.send_modify(|report| {
            report.state = state;
            report.publisher =
                self.peer.map(|address| PublisherReport { address, connected, away_s });
            report.origin = self.origin.now.as_ref().map(|origin| origin.origin.clone());
            report.node = self.link.as_ref().map(|state| state.link.node.clone());
            report.worker_pid = self.link.as_ref().map(|state| state.link.admitted.worker_pid);
            let epoch = self.link.as_ref().map_or(self.machine.epoch(), |state| state.writes_as);
            let epoch = epoch.to_string();
            if report.epoch != epoch {
                // Each line of the session says it.
                tracing::Span::current().record("epoch", &epoch);
            }
            report.epoch = epoch;
            report.moving = self.moving.is_some();
            report.stays = self.stays.clone();
            report.two_because = self.second.wanted_because();
            report.second = self.second.report();
            report.single_because = self.second.single_because();
            report.unencoded_because =
                self.unencoded_because.map(|reason| reason.as_str().to_owned());
            report.lack = self.lack();
            report.restarts = self.restarts;
            report.set_rungs(&self.ladder, &self.published.to_vec());
            let health = HealthReport::of(&stats, self.replay.is_lossless());
            if health.waits_for_keyframe && !report.health.waits_for_keyframe {
                tracing::warn!(stream = %self.stream, "{NO_KEYFRAME}");
            }
            report.health = health;
            report.events = self.events.to_vec();
        });
    }
}
