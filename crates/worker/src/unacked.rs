//! What is not safe for certain: parts that the daemon has not acknowledged, and the init sections they need.

use std::collections::{BTreeMap, VecDeque};

use millrace_types::RungId;
use millrace_wire::{Init, Message, Part, PartAck};

/// Parts held for a daemon that may need them again.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    inits: BTreeMap<RungId, Init>,
    parts: VecDeque<Part>,
    bytes: usize,
    acked: BTreeMap<RungId, PartAck>,
}

impl Unacked {
    /// Keeps what is about to be said.
    pub(crate) fn keep(&mut self, message: &Message) {
        match message {
            Message::Init(init) => {
                self.inits.insert(init.record.rung.clone(), init.clone());
            }
            Message::Part(part) => {
                self.bytes += part.bytes.len();
                self.parts.push_back(part.clone());
            }
            _ => {}
        }
    }

    /// Forgets the parts of a rung up to the acknowledged one.
    pub(crate) fn acknowledge(&mut self, ack: &PartAck) {
        self.parts.retain(|Part { record, .. }| {
            record.rung != ack.rung || (record.msn, record.part) > (ack.msn, ack.part)
        });
        self.bytes = self.parts.iter().map(|part| part.bytes.len()).sum();
        let further = |old: &PartAck| (ack.msn, ack.part) > (old.msn, old.part);
        if self.acked.get(&ack.rung).is_none_or(further) {
            self.acked.insert(ack.rung.clone(), ack.clone());
        }
    }

    /// How far each rung was acknowledged.
    pub(crate) fn acked(&self) -> Vec<PartAck> {
        self.acked.values().cloned().collect()
    }

    /// What the next daemon must be told: every current init section, then the parts in the order they were made.
    pub(crate) fn repeat(&self) -> Vec<Message> {
        let inits = self.inits.values().cloned().map(Message::Init);
        inits.chain(self.parts.iter().cloned().map(Message::Part)).collect()
    }

    /// Of all parts held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
