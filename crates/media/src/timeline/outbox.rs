//! Items on their way out: gives each its place in the stream's one sequence.

use std::collections::VecDeque;

use millrace_types::MediaTime;

use crate::{AccessUnit, Config, Item, Tick, TrackConfig};

/// The stream's sequence and what nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    next_seq: u64,
}

impl Outbox {
    pub(super) fn config(&mut self, track: TrackConfig) {
        let seq = self.take_seq();
        self.items.push_back(Item::Config(Config { seq, track }));
    }

    pub(super) fn unit(&mut self, unit: AccessUnit) {
        let seq = self.take_seq();
        self.items.push_back(Item::Unit(AccessUnit { seq, ..unit }));
    }

    pub(super) fn tick(&mut self, to: MediaTime) {
        let seq = self.take_seq();
        self.items.push_back(Item::Tick(Tick { seq, to }));
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }
}
