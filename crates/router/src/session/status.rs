//! What the session shows of itself.

use millrace_telemetry::Clock;

use super::Session;
use crate::report::{Event, HealthReport, PublisherReport};

impl Session {
    /// Notes something that happened, for operators.
    pub(super) fn event(&mut self, kind: &'static str, text: String) {
        let at = self.context.clock.wall().to_string();
        let event = Event { at, stream: self.stream.clone(), kind, text };
        // Full: the farm-wide list misses one; the stream's own has it.
        let _ = self.context.events.try_send(event.clone());
        self.events.push(event);
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
            report.node = self.link.as_ref().map(|state| state.link.node.clone());
            report.worker_pid = self.link.as_ref().map(|state| state.link.admitted.worker_pid);
            report.epoch = self.machine.epoch().to_string();
            report.moving = self.moving.is_some();
            report.stays = self.stays.clone();
            report.considered = self.considered.clone();
            report.restarts = self.restarts;
            report.set_rungs(&self.ladder, &self.published.to_vec());
            report.health = HealthReport::of(&stats, self.replay.is_lossless());
            report.events = self.events.to_vec();
        });
    }
}
