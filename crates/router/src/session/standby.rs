//! A node that is asked to make a stream which another one makes: the question, and then the connection. What it is for is
//! decided elsewhere.

use std::{collections::BTreeSet, io};

use millrace_media::Item;
use millrace_registry::{NodeRecord, NodeState};
use millrace_sched::{Constraints, ZONE};
use millrace_types::{Epoch, Mono, NodeId};
use millrace_wire::Message;
use tokio::task::JoinHandle;

use super::{Session, link_state::LinkState};
use crate::placement::{Link, Unplaced};

/// Share of what is scarcest on a node that a second encoder leaves free, percent: it is the first to go without.
const SPARE_PERCENT: u8 = 15;

/// Which other node a stream is to have.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// It helps this writer, which stays.
    pub(super) beside: Option<Epoch>,
    /// Only if there is no other.
    pub(super) rather_not: Option<NodeId>,
    /// This one and no other.
    pub(super) only: Option<NodeId>,
}

/// A node on its way to make a stream, or to help to.
#[derive(Default)]
pub(super) struct Standby {
    asking: Option<JoinHandle<Result<Link, Unplaced>>>,
    pub(super) link: Option<LinkState>,
    /// The last item there was when it was admitted.
    behind: u64,
}

/// What is waited for of it.
#[expect(clippy::large_enum_variant, reason = "one at a time, and looked at where it is returned")]
pub enum StandbyEvent {
    Asked(Box<Result<Link, Unplaced>>),
    Said(io::Result<Option<Message>>),
    Written,
}

impl Standby {
    pub(super) fn ask(&mut self, asking: JoinHandle<Result<Link, Unplaced>>) {
        *self = Self::default();
        self.asking = Some(asking);
    }

    /// Waits for whatever comes first; cancel-safe.
    pub(super) async fn event(&mut self) -> StandbyEvent {
        if let Some(asking) = &mut self.asking {
            let asked = asking.await.unwrap_or_else(|error| Err(Unplaced::by_bug(&error)));
            self.asking = None;
            return StandbyEvent::Asked(Box::new(asked));
        }
        let Some(standby) = &mut self.link else { return std::future::pending().await };
        loop {
            let is_pending = standby.wants_flush();
            tokio::select! {
                said = standby.link.reader.next() => return StandbyEvent::Said(said),
                written = standby.link.writer.flush(), if is_pending => match written {
                    Ok(()) => return StandbyEvent::Written,
                    Err(error) => standby.broke(&error),
                },
            }
        }
    }

    /// It was admitted: everything since the newest IDR goes to it. Whether that fits.
    pub(super) fn admitted(
        &mut self,
        now: Mono,
        link: Link,
        items: impl Iterator<Item = Item>,
    ) -> bool {
        let mut standby = LinkState::new(link, now);
        let mut fits = true;
        for item in items {
            self.behind = item.seq();
            fits &= standby.give(item).is_ok();
        }
        self.link = Some(standby);
        fits
    }

    /// It was heard; whether it has worked off what was there when it was admitted, if it says how far it is.
    pub(super) fn heard(&mut self, now: Mono, message: &Message) -> bool {
        if let Some(standby) = &mut self.link {
            standby.heard(now);
        }
        matches!(message, Message::Heartbeat(beat) if beat.seq >= self.behind)
    }

    /// Moves items to its writer.
    pub(super) fn fill(&mut self) {
        self.link.iter_mut().for_each(LinkState::fill);
    }

    /// Whether it lives, if there is one; says that this router does.
    pub(super) fn beat(&mut self, now: Mono, is_late: bool) -> bool {
        self.link.as_mut().is_none_or(|standby| standby.beat(now, is_late))
    }

    pub(super) fn say(&mut self, message: &Message) {
        if let Some(standby) = &mut self.link {
            standby.link.writer.push(message);
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

impl Session {
    /// Asks nodes other than the stream's, under an epoch of its own.
    pub(super) fn ask_other_node(&mut self, wanted: Wanted) -> JoinHandle<Result<Link, Unplaced>> {
        let Wanted { beside, rather_not, only } = wanted;
        let epoch = self.machine.epoch().next_placement();
        self.machine.used(epoch);
        let hello = millrace_wire::Hello { beside, ..self.hello(epoch, true) };
        let here = self.link.iter().map(|writer| writer.link.node.clone());
        let avoid: BTreeSet<_> = here.collect();
        let mut constraints = Constraints { avoid, only, ..Constraints::default() };
        if beside.is_some() {
            let nodes = self.context.registry.list::<NodeRecord>();
            let here = nodes.iter().filter(|node| constraints.avoid.contains(&node.node));
            constraints.apart_from =
                here.filter_map(|node| node.labels.get(ZONE).cloned()).collect();
            constraints.spare_percent = SPARE_PERCENT;
            let is_left = |node: &&NodeRecord| {
                let is_ruled_out = constraints.avoid.contains(&node.node);
                node.state == NodeState::Ready
                    && !is_ruled_out
                    && Some(&node.node) != rather_not.as_ref()
            };
            if nodes.iter().any(|node| is_left(&node)) {
                constraints.avoid.extend(rather_not);
            }
        }
        let fleet = self.context.fleet.clone();
        tokio::spawn(async move { fleet.place(hello, None, constraints).await })
    }
}
