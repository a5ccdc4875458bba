//! What a stream's writers published before the one that has the window: copied from an origin, and put before what that one made.
//!
//! ```text
//! origin ──past──→ copy      record by record, in order
//! copy + own ──after──→      one window: the copy up to the first own part, then what is own
//! ```
//! Nothing that the writer made itself is replaced: where both have a part, its own stays.

use millrace_types::{Epoch, Mark, MediaTime, Mono, Msn, PartNo, RungId};

use super::{Accepted, Backlog, Refusal, StreamOpen, Window};
use crate::rung::RungWindow;

impl Window {
    /// What players are shown of a rung behind the part `after`, from the oldest listed segment on, each init section before the
    /// first part that needs it: at most `max_bytes` of media and one part more.
    pub fn past(
        &self,
        rung: &RungId,
        after: Option<(Msn, PartNo)>,
        max_bytes: usize,
    ) -> Vec<Backlog> {
        self.rungs.get(rung).map(|rung| rung.past(after, max_bytes)).unwrap_or_default()
    }

    /// An empty window for a copy of what another one shows: it is fed in order ([`Window::copy`]), and has the holes that the
    /// other has.
    pub fn for_copy(rungs: &[RungId]) -> Self {
        let endless = |rung: &RungId| Mark {
            rung: rung.clone(),
            msn: Msn(u64::MAX),
            part: PartNo(u32::MAX),
            end: MediaTime(0),
            closed: false,
        };
        Self::open(StreamOpen {
            epoch: Epoch::default(),
            beside: None,
            rungs: rungs.to_vec(),
            part_target_ms: 0,
            hold_back_ms: 0,
            speaks: Default::default(),
            restores: rungs.iter().map(endless).collect(),
            followed: false,
        })
    }

    /// Adds the next record of another window's past.
    ///
    /// # Errors
    /// Says why not.
    pub fn copy(&mut self, record: Backlog) -> Result<Accepted, Refusal> {
        let writer = self.open.epoch;
        match record {
            Backlog::Init(record, bytes) => self.add_init(writer, record, bytes),
            Backlog::Part(record, bytes) => self.add_part(Mono::default(), writer, record, bytes),
        }
    }

    /// The newest part of a rung that a player can see.
    pub fn last(&self, rung: &RungId) -> Option<(Msn, PartNo)> {
        self.rungs.get(rung)?.last()
    }

    /// Whether every announced rung has a part.
    pub fn has_begun(&self) -> bool {
        let begun = |rung| self.rungs.get(rung).and_then(RungWindow::first).is_some();
        self.open.rungs.iter().all(begun)
    }

    /// Whether a copy has come to the first part that the writer of `own` made of every rung: nothing is missing between.
    pub fn comes_to(&self, own: &Self) -> bool {
        let first = |rung| own.rungs.get(rung).and_then(RungWindow::first);
        own.has_begun() && own.open.rungs.iter().all(|rung| self.last(rung) >= first(rung))
    }

    /// This window with what `copy` has before the first part of each rung. A hole between the two is a gap.
    pub fn after(&self, copy: &Self) -> Self {
        let mut joined = Self::for_copy(&self.open.rungs);
        for rung in &self.open.rungs {
            let first = self.rungs.get(rung).and_then(RungWindow::first);
            let is_before = |record: &Backlog| match record {
                Backlog::Init(..) => true,
                Backlog::Part(record, _) => {
                    first.is_none_or(|first| (record.msn, record.part) < first)
                }
            };
            let before = copy.past(rung, None, usize::MAX).into_iter().filter(is_before);
            for record in before.chain(self.backlog(rung)) {
                // Each was taken by a window once: what this one refuses does not fit there.
                let _ = joined.copy(record);
            }
        }
        let mut rungs = self.rungs.clone();
        let grown = joined.rungs.into_iter().filter(|(rung, _)| copy.last(rung).is_some());
        rungs.extend(grown);
        Self { open: self.open.clone(), rungs, ended: self.ended, is_refilled: self.is_refilled }
    }
}
