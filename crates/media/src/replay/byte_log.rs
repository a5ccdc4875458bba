//! Bytes that are appended at one end and forgotten at the other, in blocks of one size.
//!
//! What one stream gives back fits whatever another needs next, however their pictures differ in size; at most the rest of
//! one block at either end holds nothing. Blocks that are given back wait for the thread's next stream that needs one: the
//! allocator, which would look at their neighbours far away in memory, is left alone.

use std::{cell::RefCell, collections::VecDeque};

use bytes::BytesMut;

/// Large enough that blocks cost little to come by, small beside what a stream is allowed apart from its media. Not quite
/// 16 KiB: so many of them and what the allocator writes before them fill whole pages, and no page more.
pub(super) const BLOCK_BYTES: usize = (16 << 10) - 16;
/// Blocks that are come by together: one piece of memory of 1 MiB, which none of the allocator's small pieces come between.
const SLAB_BLOCKS: usize = 64;
/// A log's list of its blocks grows by so many: twice as long each time, half of it would hold nothing.
const MORE_BLOCKS: usize = 32;
/// Blocks that may wait on a thread, whatever is in use.
const MIN_SPARE: usize = SLAB_BLOCKS;
/// Beyond that, one waits for so many in use: what all streams have lost together with a GOP that they began together.
const USED_PER_SPARE: usize = 4;

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

/// Blocks of one thread's logs.
#[derive(Default)]
struct Spares {
    waiting: Vec<BytesMut>,
    used: usize,
}

impl Spares {
    fn take(&mut self) -> BytesMut {
        self.used += 1;
        if let Some(block) = self.waiting.pop() {
            return block;
        }
        let mut slab = BytesMut::with_capacity(SLAB_BLOCKS * BLOCK_BYTES);
        while slab.capacity() > BLOCK_BYTES {
            self.waiting.push(slab.split_off(slab.capacity() - BLOCK_BYTES));
        }
        slab
    }

    fn give_back(&mut self, mut block: BytesMut) {
        // It may have been taken on another thread.
        self.used = self.used.saturating_sub(1);
        if self.waiting.len() < MIN_SPARE + self.used / USED_PER_SPARE {
            block.clear();
            self.waiting.push(block);
        }
    }
}

/// A place counts the bytes that were ever appended before it.
#[derive(Debug, Default)]
pub(super) struct ByteLog {
    /// All full but for the last.
    blocks: VecDeque<BytesMut>,
    /// Place of the first block's first byte.
    base: u64,
    begin: u64,
    end: u64,
}

impl ByteLog {
    /// Place of the oldest byte that is held.
    pub(super) const fn begin(&self) -> u64 {
        self.begin
    }

    /// Place of the next byte.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    pub(super) const fn len(&self) -> usize {
        (self.end - self.begin) as usize
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        self.end += bytes.len() as u64;
        while !bytes.is_empty() {
            match self.blocks.back_mut().filter(|block| block.len() < BLOCK_BYTES) {
                Some(block) => {
                    let room = BLOCK_BYTES - block.len();
                    let (fits, rest) = bytes.split_at(room.min(bytes.len()));
                    block.extend_from_slice(fits);
                    bytes = rest;
                }
                None => {
                    if self.blocks.len() == self.blocks.capacity() {
                        self.blocks.reserve_exact(MORE_BLOCKS);
                    }
                    self.blocks.push_back(SPARES.with_borrow_mut(Spares::take));
                }
            }
        }
    }

    /// Forgets what lies before a place.
    pub(super) fn drop_before(&mut self, place: u64) {
        self.begin = place.clamp(self.begin, self.end);
        let full = ((self.begin - self.base) as usize / BLOCK_BYTES).min(self.blocks.len());
        self.base += (full * BLOCK_BYTES) as u64;
        self.give_back(full);
        if self.begin == self.end {
            self.give_back(self.blocks.len());
            self.base = self.end;
        }
    }

    /// Gives the first so many blocks back.
    fn give_back(&mut self, count: usize) {
        let blocks = self.blocks.drain(..count);
        // At the end of the thread there are no spares any more.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            blocks.for_each(|block| spares.give_back(block));
        });
    }

    /// The bytes from a place on, at most `count`, as they lie in the blocks. From a place that is forgotten: none.
    pub(super) fn slices(&self, place: u64, count: usize) -> impl Iterator<Item = &[u8]> {
        let is_held = (self.begin..self.end).contains(&place);
        let mut left = if is_held { count.min((self.end - place) as usize) } else { 0 };
        let offset = place.saturating_sub(self.base) as usize;
        let (first, mut within) = (offset / BLOCK_BYTES, offset % BLOCK_BYTES);
        self.blocks.iter().skip(first).map_while(move |block| {
            let from = std::mem::take(&mut within);
            let taken = left.min(block.len().saturating_sub(from));
            left -= taken;
            (taken > 0).then(|| &block[from..from + taken])
        })
    }
}

impl Drop for ByteLog {
    fn drop(&mut self) {
        self.give_back(self.blocks.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spares() -> (usize, usize) {
        SPARES.with_borrow(|spares| (spares.waiting.len(), spares.used))
    }

    #[test]
    fn blocks_that_are_given_back_are_taken_again_and_few_wait() {
        let mut logs: Vec<_> = std::iter::repeat_with(ByteLog::default).take(200).collect();
        logs.iter_mut().for_each(|log| log.append(&[7; 3 * BLOCK_BYTES]));
        let left = (SLAB_BLOCKS - 600 % SLAB_BLOCKS, 600);
        assert_eq!(spares(), left);
        logs.truncate(190);
        assert_eq!(spares(), (left.0 + 30, 570));
        logs[0].append(&[7; 2 * BLOCK_BYTES]);
        assert_eq!(spares(), (left.0 + 28, 572));
        logs.truncate(1);
        let (waiting, used) = spares();
        assert_eq!(used, 5);
        assert!(waiting < MIN_SPARE + 572 / USED_PER_SPARE, "{waiting} wait");
    }

    proptest! {
        #[test]
        fn what_is_held_reads_as_it_was_written_and_takes_no_more_than_a_block_more_at_either_end(
            steps in prop::collection::vec((0_usize..40_000, 0_usize..45_000), 1..20),
        ) {
            let (mut log, mut all) = (ByteLog::default(), Vec::new());
            for (more, less) in steps {
                let bytes: Vec<u8> = (0..more).map(|at| ((all.len() + at) / 7) as u8).collect();
                log.append(&bytes);
                all.extend_from_slice(&bytes);
                log.drop_before(log.begin() + less as u64);
                prop_assert_eq!(log.end(), all.len() as u64);
                let begin = log.begin() as usize;
                prop_assert_eq!(log.slices(log.begin(), usize::MAX).collect::<Vec<_>>().concat(), &all[begin..]);
                let middle = begin + log.len() / 3;
                let some: Vec<_> = log.slices(middle as u64, 20_000).collect();
                prop_assert_eq!(some.concat(), &all[middle..all.len().min(middle + 20_000)]);
                let held: usize = log.blocks.iter().map(BytesMut::capacity).sum();
                prop_assert!(held < log.len() + 2 * BLOCK_BYTES, "{} bytes for {}", held, log.len());
            }
        }
    }
}
