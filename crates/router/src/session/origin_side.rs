//! Which origin owns the stream's window: another one is chosen when the node has lost it. The worker makes the stream as
//! before; the node gives the new origin everything that it keeps.
//!
//! The change raises the epoch, so that the origin that is left knows by the stream's record that it does not own it any
//! more, whatever the order in which it hears of things. As long as there is no other origin the node tries on.

use std::{net::SocketAddr, time::Duration};

use millrace_registry::OriginRecord;
use millrace_sched::next_origin;
use millrace_types::{Because, DecisionKind, Mono, NodeId};
use millrace_wire::{ChangeOrigin, Message};
use tracing::{info, warn};

use super::Session;

/// From one change to the next, at least: a node that has lost the network finds every origin lost.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// For so long others are chosen before an origin that was lost.
const LOST_FOR: Duration = Duration::from_secs(30);

/// What a session knows of its stream's origin.
#[derive(Debug, Default)]
pub(super) struct OriginSide {
    /// Owns the window, if one is known.
    pub(super) now: Option<OriginRecord>,
    /// Those that were lost, and when.
    lost: Vec<(NodeId, Mono)>,
    /// The one there is is lost, and there was no other yet.
    is_lost: bool,
    changed_at: Option<Mono>,
}

impl Session {
    /// The node says that the origin at `intake` takes nothing any more.
    pub(super) fn origin_lost(&mut self, intake: SocketAddr) {
        let Some(lost) = self.origin.now.as_ref().filter(|origin| origin.intake == intake) else {
            return;
        };
        let (lost, now) = (lost.origin.clone(), self.now());
        warn!(stream = %self.stream, origin = %lost, "origin lost");
        self.note(self.decision(DecisionKind::OriginLost).subject(&lost).because(Because::Silent));
        let of_late = |(name, at): &(NodeId, Mono)| *name != lost && now.since(*at) < LOST_FOR;
        self.origin.lost.retain(of_late);
        self.origin.lost.push((lost, now));
        self.origin.is_lost = true;
        self.look_for_origin();
    }

    /// The node's pushes arrive.
    pub(super) fn origin_takes(&mut self) {
        self.origin.is_lost = false;
    }

    /// Gives the stream to another origin while a node makes it, if the one it has is lost and there is another.
    pub(super) fn look_for_origin(&mut self) {
        let epoch = self.machine.epoch().next_placement();
        if self.link.is_none() || !self.replace_lost_origin() {
            return;
        }
        self.machine.used(epoch);
        if let (Some(state), Some(origin)) = (&mut self.link, &self.origin.now) {
            let change = ChangeOrigin { epoch, intake: origin.intake };
            state.link.writer.push(&Message::ChangeOrigin(change));
        }
        self.record();
        self.show();
    }

    /// Chooses another origin in place of a lost one, for a writer under a new epoch; whether there is one.
    pub(super) fn replace_lost_origin(&mut self) -> bool {
        let now = self.now();
        let is_due = self.origin.changed_at.is_none_or(|at| now.since(at) >= CHANGE_EVERY);
        if !self.origin.is_lost || !is_due {
            return false;
        }
        let origins = self.context.registry.list::<OriginRecord>();
        let names = origins.iter().map(|origin| &origin.origin);
        let lost: Vec<NodeId> = self.origin.lost.iter().map(|(name, _)| name.clone()).collect();
        let left = self.origin.now.as_ref().map(|origin| &origin.origin);
        let next = next_origin(&self.stream, names, left, &lost);
        let other = next.and_then(|next| origins.iter().find(|at| at.origin == *next));
        // The same one may be back elsewhere.
        let same = self.origin.now.as_ref().and_then(|now| {
            origins.iter().find(|at| at.origin == now.origin && at.intake != now.intake)
        });
        let Some(next) = other.or(same).cloned() else { return false };
        info!(stream = %self.stream, origin = %next.origin, "origin changed");
        let changed = self.decision(DecisionKind::OriginChanged).subject(&next.origin);
        self.note(changed.because(Because::ByName));
        self.context.metrics.origin_changes.inc();
        self.origin.now = Some(next);
        (self.origin.is_lost, self.origin.changed_at) = (false, Some(now));
        true
    }
}
