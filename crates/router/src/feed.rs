//! What is on its way to a node: items in sequence, moved to the Link's writer as fast as the node takes them.
//!
//! Bounded in bytes, policy `Reject`: a node that is this far behind loses the stream, and another is fed from the replay
//! buffer.

use std::collections::VecDeque;

use millrace_media::Item;

/// Input that may wait for one node, bytes: more than the replay buffer holds.
const MAX_BYTES: usize = 96 << 20;

/// The node is too far behind.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("node is {0} bytes behind")]
pub struct TooFarBehind(usize);

/// Items that wait for the Link.
#[derive(Debug, Default)]
pub struct Feed {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Feed {
    /// Puts an item in line.
    ///
    /// # Errors
    /// [`TooFarBehind`]: give the Link up.
    pub fn push(&mut self, item: Item) -> Result<(), TooFarBehind> {
        self.bytes += size(&item);
        self.items.push_back(item);
        if self.bytes > MAX_BYTES { Err(TooFarBehind(self.bytes)) } else { Ok(()) }
    }

    /// Puts all of them in line; how many they were.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn fill(&mut self, items: impl Iterator<Item = Item>) -> Result<usize, TooFarBehind> {
        let mut count = 0;
        for item in items {
            self.push(item)?;
            count += 1;
        }
        Ok(count)
    }

    /// The next item. Once nothing waits, it holds no memory.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= size(&item);
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        Some(item)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Unit(unit) => unit.bytes.len(),
        Item::Config(_) | Item::Tick(_) => 0,
    }
}
