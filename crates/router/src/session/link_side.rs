//! Between the replay buffer and the node: feeding, acknowledgements, loss.

use std::{io, time::Duration};

use millrace_lifecycle::{HandoverInput, Lost, StreamInput};
use millrace_types::{EndReason, Mark};
use millrace_wire::{End, Health, Message};
use tracing::{debug, info, warn};

use super::{Session, driver::BEAT_EVERY, link_state::LinkState, moving::Moving};
use crate::placement::{Last, Link};

/// Why a Link is lost that says nothing any more.
const SILENT: &str = "silent";
/// A beat that comes later than this says that this router is slow; the silence starts anew.
const LATE: Duration = Duration::from_millis(300);
/// Heartbeats from one health report to the next: a second.
const BEATS_PER_HEALTH: u64 = 5;

impl Session {
    /// A node took the stream: everything that is not published goes to it, then what follows.
    pub(super) fn admitted(&mut self, link: Link) {
        for mark in &link.admitted.resume {
            self.published.note(mark.clone());
        }
        let resume = self.published.resume_by(&self.ladder).unwrap_or_default();
        let (node, pid) = (link.node.clone(), link.admitted.worker_pid);
        let mut state = LinkState::new(link, self.now());
        let given = self.replay.from(&resume).map(|item| state.give(item));
        let replayed = match given.collect::<Result<Vec<_>, _>>() {
            Ok(replayed) => replayed.len(),
            Err(error) => return self.link_lost(&error.to_string()),
        };
        info!(stream = %self.stream, epoch = %self.machine.epoch(), %node, pid, replayed, "stream placed");
        self.event("placed", format!("on {node}, worker {pid}, {replayed} items replayed"));
        self.last = Some(Last { node, broke: false });
        self.link = Some(state);
        self.input(StreamInput::Admitted);
        self.record();
        self.show();
    }

    /// Moves items to the writers, as many as they may hold.
    pub(super) fn feed_links(&mut self) {
        self.link.iter_mut().for_each(LinkState::fill);
        self.moving.iter_mut().for_each(Moving::fill);
    }

    /// The stream is over: `End` follows the last item.
    pub(super) fn finish_link(&mut self) {
        self.end_move(HandoverInput::Cancelled);
        match &mut self.link {
            Some(state) => state.end(End { continues: false }),
            None => self.input(StreamInput::Finished),
        }
    }

    pub(super) fn node_said(&mut self, message: io::Result<Option<Message>>) {
        let now = self.now();
        if let Some(state) = &mut self.link {
            state.heard_at = now;
        }
        match message {
            Ok(Some(Message::Published(published))) => self.published(published.mark),
            Ok(Some(Message::Ended(ended))) => {
                let reason = ended.reason;
                if reason == EndReason::Stopped && self.writer_ended() {
                    return;
                }
                if reason == EndReason::Stopped {
                    self.link = None;
                    return self.input(StreamInput::Finished);
                }
                let node = self.link.as_ref().map(|state| state.link.node.clone());
                let lost = node.map_or(Lost::Link, |node| Lost::Worker(reason, node));
                self.lost(lost, reason.as_str(), &ended.text);
            }
            Ok(Some(other)) => debug!(?other, "node said"),
            Ok(None) => self.link_lost("closed by the node"),
            Err(error) => self.link_lost(&error.to_string()),
        }
    }

    fn published(&mut self, mark: Mark) {
        if !self.published.note(mark) {
            return;
        }
        self.input(StreamInput::Progressed);
        if let Some(state) = self.link.as_mut().filter(|state| !state.progressed) {
            state.progressed = true;
            self.context.fleet.worked(&state.link.node);
        }
        if let Some(marks) = self.published.release_by(&self.ladder) {
            self.replay.release(&marks);
        }
    }

    pub(super) fn link_lost(&mut self, why: &str) {
        self.lost(Lost::Link, "link", why);
    }

    /// A node that is silent, or loses a worker before it has published anything, is asked after all others for a while.
    pub(super) fn lost(&mut self, lost: Lost, reason: &str, text: &str) {
        self.end_move(HandoverInput::WriterLost);
        if let Some(state) = self.link.take() {
            let node = state.link.node;
            let at_fault = match &lost {
                Lost::Link => text == SILENT,
                Lost::Worker(EndReason::BadInput, _) => false,
                Lost::Worker(..) => !state.progressed,
            };
            if at_fault {
                self.context.fleet.failed(&node);
            }
            self.last = Some(Last { node, broke: lost == Lost::Link });
        }
        self.restarts += 1;
        self.context.metrics.losses.with_label_values(&[reason]).inc();
        warn!(stream = %self.stream, epoch = %self.machine.epoch(), reason, text, "placement lost");
        self.event("placement_lost", format!("{reason}: {text}"));
        self.input(StreamInput::Lost(lost));
    }

    pub(super) fn beat(&mut self) {
        let now = self.now();
        let late = now.since(self.beat_at) > BEAT_EVERY + LATE;
        self.beat_at = now;
        let writer_lives = self.link.as_mut().is_none_or(|state| state.beat(now, late));
        if !writer_lives {
            self.link_lost(SILENT);
        }
        let standby_lives = self.moving.as_mut().is_none_or(|moving| moving.beat(now, late));
        if !standby_lives {
            self.move_input(HandoverInput::StandbyLost);
        }
        self.look_at_record();
        self.show();
        self.beats += 1;
        if self.beats.is_multiple_of(BEATS_PER_HEALTH) {
            self.tell_health();
        }
    }

    /// Sends the health report along, for those who only know the watch page.
    fn tell_health(&mut self) {
        let Ok(json) = serde_json::to_string(&self.report.borrow().health) else { return };
        if let Some(state) = &mut self.link {
            state.link.writer.push(&Message::Health(Health { json }));
        }
    }
}
