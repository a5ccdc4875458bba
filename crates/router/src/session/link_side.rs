//! Between the replay buffer and the node: feeding, acknowledgements, loss.

use std::{io, time::Duration};

use millrace_lifecycle::{HandoverInput, Lost, PairingInput, StreamInput};
use millrace_types::{Because, DecisionKind, EndReason, Mark, Reason};
use millrace_wire::{End, Message, Restarting};
use tracing::{debug, info, warn};

use super::{
    Session, driver::BEAT_EVERY, link_state::LinkState, moving::Moving, second::FirstGone,
};
use crate::placement::{Last, Link, SAME_NODE_PATIENCE};

/// Why a Link is lost that says nothing any more.
const SILENT: &str = "silent";
/// A beat that comes later than this says that this router is slow; the silence starts anew.
const LATE: Duration = Duration::from_millis(300);
/// Heartbeats from one look at what seldom changes to the next: a second.
const BEATS_PER_LOOK: u64 = 5;
/// The longest that a node's word is taken for: players do not wait longer.
const LONGEST_GRACE: Duration = Duration::from_secs(5);

impl Session {
    /// A node took the stream: everything that is not published goes to it, then what follows.
    pub(super) fn admitted(&mut self, link: Link) {
        for mark in &link.admitted.resume {
            self.published.note(mark.clone());
        }
        self.worker_lacks = false;
        let resume = self.published.resume_by(&self.ladder).unwrap_or_default();
        let (node, pid) = (link.node.clone(), link.admitted.worker_pid);
        let mut state = LinkState::new(link, self.now());
        let reshaped_at = self.reshape.take().and_then(|reshape| reshape.feed_from());
        let given = match (state.link.admitted.next_seq, reshaped_at) {
            (Some(next_seq), _) => state.give_all(self.replay.since(next_seq)),
            (None, Some(idr_seq)) => state.give_all(self.replay.from_idr(idr_seq)),
            (None, None) => state.give_all(self.replay.from(&resume)),
        };
        let replayed = match given {
            Ok(replayed) => replayed,
            Err(error) => return self.link_lost(&error.to_string()),
        };
        info!(stream = %self.stream, epoch = %self.machine.epoch(), %node, pid, replayed, "stream placed");
        let link = &state.link;
        let whose = if link.admitted.next_seq.is_some() { "its own worker" } else { "worker" };
        let placed = self.decision(DecisionKind::Placed).subject(&node).worker(pid);
        let placed = placed.because(link.chosen.reason).instead_of(link.chosen.others.clone());
        self.note(placed.saying(format!("{whose} {pid} on {node}, {replayed} items replayed")));
        self.last = Some(Last { node, patience: None });
        self.link = Some(state);
        self.ladder_regained();
        self.input(StreamInput::Admitted);
        self.record();
        self.show();
    }

    /// Writes what there is to the node; a standby's writer gets as much as it may hold.
    pub(super) fn feed_links(&mut self) {
        self.moving.iter_mut().for_each(Moving::fill);
        self.second.fill();
        self.link.iter_mut().for_each(|link| link.write(&self.replay));
    }

    /// The stream is over: `End` follows the last item.
    pub(super) fn finish_link(&mut self) {
        self.end_move(HandoverInput::Cancelled);
        self.second_input(PairingInput::Unwanted);
        match &mut self.link {
            Some(state) => state.end(End { continues: false }),
            None => self.input(StreamInput::Finished),
        }
    }

    pub(super) fn node_said(&mut self, message: io::Result<Option<Message>>) {
        let now = self.now();
        if let Some(state) = &mut self.link {
            state.heard(now);
        }
        match message {
            Ok(Some(Message::Published(published))) => self.published(published.mark),
            Ok(Some(Message::OriginLost(lost))) => self.origin_lost(lost),
            Ok(Some(Message::Ended(ended))) => {
                let reason = ended.reason;
                if reason == EndReason::Stopped
                    && (self.writer_ended_for_ladder() || self.writer_ended())
                {
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
            Ok(Some(Message::Restarting(restarting))) => self.restarting(restarting),
            Ok(Some(other)) => debug!(?other, "node said"),
            Ok(None) => self.link_lost("closed by the node"),
            Err(error) => self.link_lost(&error.to_string()),
        }
    }

    /// The node's daemon goes, and the worker waits for the next one.
    fn restarting(&mut self, restarting: Restarting) {
        self.end_move(HandoverInput::WriterLost);
        if let Some(state) = self.link.take() {
            let node = state.link.node;
            let grace = Duration::from_millis(restarting.grace_ms.into()).min(LONGEST_GRACE);
            info!(stream = %self.stream, epoch = %self.machine.epoch(), %node, ?grace, "node restarts");
            let restarts = self.decision(DecisionKind::NodeRestarts).subject(&node);
            self.note(restarts.saying(format!("it is given {grace:?}")));
            self.last = Some(Last { node, patience: Some(grace) });
            if self.promote_second(FirstGone::Restarts) {
                return;
            }
            self.input(StreamInput::Lost(Lost::Restart));
        }
    }

    fn published(&mut self, mark: Mark) {
        if !self.published.note(mark) {
            return;
        }
        self.input(StreamInput::Progressed);
        self.move_input(HandoverInput::Published);
        self.origin_takes();
        if let Some(state) = self.link.as_mut().filter(|state| !state.progressed) {
            state.progressed = true;
            self.context.fleet.worked(&state.link.node);
        }
        self.look_whether_covered();
        self.release();
    }

    pub(super) fn link_lost(&mut self, why: &str) {
        self.lost(Lost::Link, "link", why);
    }

    /// A node that is silent, or loses a worker before it has published anything, is asked after all others for a while.
    pub(super) fn lost(&mut self, lost: Lost, reason: &str, text: &str) {
        self.end_move(HandoverInput::WriterLost);
        let mut noted =
            self.decision(DecisionKind::PlacementLost).saying(text).because(match &lost {
                Lost::Worker(reason, _) => Reason::from(*reason),
                Lost::Link if text == SILENT => Because::Silent.into(),
                Lost::Link | Lost::Restart | Lost::Reshaped => Because::LinkBroke.into(),
            });
        if let Some(state) = &self.link {
            let pid = state.link.admitted.worker_pid;
            noted = noted.subject(&state.link.node).worker(pid);
        }
        self.note(noted);
        if let Some(state) = self.link.take() {
            let node = state.link.node;
            let at_fault = match &lost {
                Lost::Link => text == SILENT,
                Lost::Worker(EndReason::BadInput, _) | Lost::Restart | Lost::Reshaped => false,
                Lost::Worker(..) => !state.progressed,
            };
            if at_fault {
                self.context.fleet.failed(&node, text);
            }
            let patience = (lost == Lost::Link && text != SILENT).then_some(SAME_NODE_PATIENCE);
            self.last = Some(Last { node, patience });
        }
        self.restarts += 1;
        self.context.metrics.losses.with_label_values(&[reason]).inc();
        warn!(stream = %self.stream, epoch = %self.machine.epoch(), reason, text, "placement lost");
        if !self.promote_second(FirstGone::Lost) {
            self.input(StreamInput::Lost(lost));
        }
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
            self.standby_lost(Some(SILENT));
        }
        if !self.second.beat(now, late) {
            self.second_failed(SILENT);
        }
        self.look_at_second();
        self.look_for_origin();
        let is_look = self.beats.is_multiple_of(BEATS_PER_LOOK);
        self.look_at_record(is_look);
        self.look_at_reshape();
        self.count_replay(self.replay.memory_bytes());
        self.show();
        self.beats += 1;
        if let Some(state) = self.link.as_mut().filter(|_| is_look) {
            state.tell_health(&self.report.borrow().health, now);
        }
    }
}
