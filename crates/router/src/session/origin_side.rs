//! Which origin owns the stream's window: another one is chosen when the node has lost it. The worker makes the stream as
//! before; the node gives the new origin everything that it keeps.
//!
//! The change raises the epoch, so that the origin that is left knows by the stream's record that it does not own it any
//! more, whatever the order in which it hears of things. Where a change does not help (there is no other origin, none answers
//! the node, it has just lost another one, or pushes to one of its own), the router asks the origin itself: if that answers, it is the node that
//! is cut off, and the stream goes to another node. If it does not, the node tries on. One that has just come back the node gets to
//! a moment after this router: it has the window, which that origin may have forgotten, and has time to give it.

use std::{net::SocketAddr, time::Duration};

use millrace_lifecycle::HandoverInput;
use millrace_registry::{NodeRecord, NodeState, OriginRecord};
use millrace_sched::next_origin;
use millrace_types::{Alternative, Because, DecisionKind, Mono, NodeId, RefusalReason};
use millrace_wire::{ChangeOrigin, OriginLost};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tracing::{info, warn};

use super::Session;
use crate::origin_fence::Answer;

/// From one change to the next, and from one question to the next, at least.
const EVERY: Duration = Duration::from_secs(1);
/// A node that loses an origin so soon after another may be the one that is cut off.
const SOON: Duration = Duration::from_secs(5);
/// For so long a node may still not reach an origin that has come back, or was started anew: giving it the window takes time.
pub(super) const BACK_PATIENCE: Duration = Duration::from_secs(6);
/// For so long others are chosen before an origin that was lost.
const LOST_FOR: Duration = Duration::from_secs(30);

/// What a session knows of its stream's origin.
#[derive(Debug, Default)]
pub(super) struct OriginSide {
    /// Owns the window, if one is known.
    pub(super) now: Option<OriginRecord>,
    /// Those that were lost, and when.
    lost: Vec<(NodeId, Mono)>,
    /// The node does not reach the one it pushes to.
    is_lost: bool,
    /// Another one would not help the node.
    in_doubt: bool,
    changed_at: Option<Mono>,
    /// Whether it answers this router: what was asked, and when.
    asked: Option<oneshot::Receiver<Answer>>,
    asked_at: Option<Mono>,
    /// It did not answer this router either since it was lost,
    was_away: bool,
    /// and is back since then.
    back_at: Option<Mono>,
}

impl OriginSide {
    fn changed_within(&self, now: Mono, time: Duration) -> bool {
        self.changed_at.is_some_and(|at| now.since(at) < time)
    }
}

impl Session {
    /// The node says that an origin takes nothing any more.
    pub(super) fn origin_lost(&mut self, lost: OriginLost) {
        let OriginLost { intake, with_all } = lost;
        let now = self.now();
        if self.has_just_left(intake) {
            return;
        }
        let known = self.origin.now.as_ref().filter(|origin| origin.intake == intake);
        let known = known.map(|origin| origin.origin.clone());
        warn!(stream = %self.stream, %intake, "origin lost");
        let lost = self.decision(DecisionKind::OriginLost).because(Because::Silent);
        let lost = known.iter().fold(lost, |lost, name| lost.subject(name));
        let nor_others = if with_all { ", nor does any other origin" } else { "" };
        self.note(lost.saying(format!("{intake} does not answer the node{nor_others}")));
        self.origin.in_doubt = with_all || known.is_none() || self.origin.changed_within(now, SOON);
        if let Some(lost) = known {
            let of_late = |(name, at): &(NodeId, Mono)| *name != lost && now.since(*at) < LOST_FOR;
            self.origin.lost.retain(of_late);
            self.origin.lost.push((lost, now));
        }
        self.origin.is_lost = true;
        self.look_for_origin();
    }

    /// Whether the stream was at the origin at `intake` until a moment ago: that it is lost is no news.
    pub(super) fn has_just_left(&self, intake: SocketAddr) -> bool {
        let is_there = self.origin.now.as_ref().is_some_and(|origin| origin.intake == intake);
        !is_there && self.origin.changed_within(self.now(), SOON)
    }

    /// The node's pushes arrive.
    pub(super) fn origin_takes(&mut self) {
        (self.origin.is_lost, self.origin.in_doubt, self.origin.asked) = (false, false, None);
        (self.origin.was_away, self.origin.back_at) = (false, None);
    }

    /// While the node does not reach its origin: gives the stream to another origin, or to another node.
    pub(super) fn look_for_origin(&mut self) {
        if self.link.is_none() || !self.origin.is_lost {
            return;
        }
        let epoch = self.machine.epoch().next_placement();
        if self.origin.in_doubt || !self.replace_lost_origin() {
            return self.doubt_node();
        }
        self.machine.used(epoch);
        // A standby was asked under an epoch that is behind the writer's from here on.
        self.move_input(HandoverInput::StandbyLost);
        let is_paired = self.keep_second();
        let Some(intake) = self.origin.now.as_ref().map(|origin| origin.intake) else { return };
        let first = ChangeOrigin { epoch, intake, beside: None, followed: is_paired };
        let (behind, beside) = (epoch.next_placement(), Some(epoch));
        let next = ChangeOrigin { epoch: behind, intake, beside, followed: false };
        // Of two that give it what they have, the second does so later, and players wait for both.
        let left = self.left_node.take().filter(|left| !is_paired && left.is_there());
        let followed = ChangeOrigin { followed: true, ..first };
        let writer = match left.is_some_and(|left| left.tell(followed)) {
            true => next,
            false => first,
        };
        if is_paired {
            self.second.change_origin(next);
        }
        if is_paired || writer.beside.is_some() {
            self.machine.used(next.epoch);
        }
        if let Some(state) = &mut self.link {
            state.change_origin(writer);
        }
        self.record();
        self.show();
    }

    /// Asks the origin itself. If it answers, another node may reach it.
    fn doubt_node(&mut self) {
        let answered = self.origin.asked.as_mut().map(oneshot::Receiver::try_recv);
        if answered == Some(Err(TryRecvError::Empty)) {
            return;
        }
        self.origin.asked = None;
        match answered {
            Some(Ok(answer @ (Answer::Has | Answer::HasNothing))) if self.has_other_node() => {
                if !self.is_just_back(answer) {
                    self.blame_node();
                }
            }
            // The others may have gone with it: a change is tried as well.
            Some(answer) => {
                if answer == Ok(Answer::Silent) {
                    (self.origin.was_away, self.origin.back_at) = (true, None);
                }
                self.origin.in_doubt = false;
            }
            None => self.ask_origin(),
        }
    }

    /// Whether the origin answers since a moment ago only, so that the node may not have tried again yet.
    fn is_just_back(&mut self, answer: Answer) -> bool {
        let has_forgotten = answer == Answer::HasNothing && !self.published.is_empty();
        if !self.origin.was_away && !has_forgotten {
            return false;
        }
        let now = self.now();
        now.since(*self.origin.back_at.get_or_insert(now)) < BACK_PATIENCE
    }

    fn ask_origin(&mut self) {
        let now = self.now();
        let is_due = self.origin.asked_at.is_none_or(|at| now.since(at) >= EVERY);
        let Some(at) = self.origin.now.as_ref().filter(|_| is_due).map(|origin| origin.intake)
        else {
            return;
        };
        let (tell, asked) = oneshot::channel();
        let (fence, stream) = (self.context.fence.clone(), self.stream.clone());
        let epoch = self.machine.epoch();
        tokio::spawn(async move { tell.send(fence.asked(at, &stream, epoch).await) });
        (self.origin.asked, self.origin.asked_at) = (Some(asked), Some(now));
    }

    fn has_other_node(&self) -> bool {
        let Some(state) = &self.link else { return false };
        let nodes = self.context.registry.list::<NodeRecord>();
        nodes.iter().any(|node| node.node != state.link.node && node.state == NodeState::Ready)
    }

    fn blame_node(&mut self) {
        let Some(state) = &self.link else { return };
        let why = "it does not reach the origin, which answers this router";
        self.context.fleet.failed(&state.link.node, why);
        self.origin_takes();
        self.link_lost(why);
    }

    /// Chooses another origin in place of a lost one, for a writer under a new epoch; whether there is one.
    pub(super) fn replace_lost_origin(&mut self) -> bool {
        let now = self.now();
        if !self.origin.is_lost || self.origin.changed_within(now, EVERY) {
            return false;
        }
        let mut origins = self.context.registry.list::<OriginRecord>();
        origins.retain(|origin| self.context.fleet.speaks.common(origin.speaks).is_ok());
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
        let gone = lost.iter().filter(|name| **name != next.origin);
        let gone = gone.map(|name| {
            Alternative::new(name.clone(), RefusalReason::NodeUnavailable, "it was lost")
        });
        self.note(changed.because(Because::ByName).instead_of(gone));
        self.context.metrics.origin_changes.inc();
        self.origin.now = Some(next);
        self.origin_takes();
        self.origin.changed_at = Some(now);
        true
    }
}
