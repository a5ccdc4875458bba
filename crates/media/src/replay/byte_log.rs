//! Bytes that are appended at one end and forgotten at the other, in blocks of one size.
//!
//! What one stream gives back fits whatever another needs next, however their pictures differ in size; at most the rest of
//! one block at either end holds nothing. A few blocks that are given back wait for the thread's next stream that needs one, the
//! others go back to the system at once, page for page: the allocator would keep them, between its other pieces.

use std::{
    alloc::{Layout, handle_alloc_error},
    cell::RefCell,
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use memmap2::MmapMut;

/// Whole pages, large enough that blocks cost little to come by, small beside what a stream is allowed apart from its media.
pub(super) const BLOCK_BYTES: usize = 16 << 10;
/// A log's list of its blocks grows by so many: twice as long each time, half of it would hold nothing.
const MORE_BLOCKS: usize = 32;
/// Blocks that wait on a thread at most, however many streams it has: 8 MiB, some GOPs. So hardly any of those that streams are given
/// come from the system; one that does costs its four pages.
const MAX_SPARE: usize = 512;

/// All that there are.
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SPARES: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Block(MmapMut);

impl Block {
    fn map() -> Self {
        let made = MmapMut::map_anon(BLOCK_BYTES);
        // As for every other piece of memory that there is not.
        let made = made.unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; BLOCK_BYTES]>()));
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        Self(made)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory of all blocks of the process, bytes: those that hold something for streams, and those that wait for some.
pub fn mapped_bytes() -> usize {
    BLOCKS.load(Ordering::Relaxed) * BLOCK_BYTES
}

/// A block, of this thread's if one waits.
fn take() -> Block {
    SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(Block::map)
}

/// A place counts the bytes that were ever appended before it.
#[derive(Debug, Default)]
pub(super) struct ByteLog {
    /// All full but for the last.
    blocks: VecDeque<Block>,
    /// Place of the first block's first byte.
    base: u64,
    begin: u64,
    end: u64,
}

impl ByteLog {
    /// Place of the next byte.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    pub(super) const fn len(&self) -> usize {
        (self.end - self.begin) as usize
    }

    /// Bytes of the blocks that hold them.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let filled = (self.end - self.base) as usize;
            if filled == self.memory() {
                if self.blocks.len() == self.blocks.capacity() {
                    self.blocks.reserve_exact(MORE_BLOCKS);
                }
                self.blocks.push_back(take());
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let room = &mut block.0[filled % BLOCK_BYTES..];
            let (fits, rest) = bytes.split_at(room.len().min(bytes.len()));
            room[..fits.len()].copy_from_slice(fits);
            self.end += fits.len() as u64;
            bytes = rest;
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
            let room = MAX_SPARE - spares.len();
            spares.extend(blocks.take(room));
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
            let taken = left.min(BLOCK_BYTES - from);
            left -= taken;
            (taken > 0).then(|| &block.0[from..from + taken])
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

    fn spares() -> usize {
        SPARES.with_borrow(Vec::len)
    }

    #[test]
    fn blocks_that_are_given_back_are_taken_again_and_few_wait() {
        let mut logs: Vec<_> = std::iter::repeat_with(ByteLog::default).take(200).collect();
        logs.iter_mut().for_each(|log| log.append(&[7; 3 * BLOCK_BYTES]));
        assert_eq!(spares(), 0);
        logs.truncate(190);
        assert_eq!(spares(), 30);
        logs[0].append(&[7; 2 * BLOCK_BYTES]);
        assert_eq!((spares(), logs[0].memory()), (28, 5 * BLOCK_BYTES));
        logs.clear();
        assert_eq!(spares(), MAX_SPARE);
        assert!(mapped_bytes() >= MAX_SPARE * BLOCK_BYTES, "those that wait are some of all");
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
                log.drop_before(log.begin + less as u64);
                prop_assert_eq!(log.end(), all.len() as u64);
                let begin = log.begin as usize;
                prop_assert_eq!(log.slices(log.begin, usize::MAX).collect::<Vec<_>>().concat(), &all[begin..]);
                let middle = begin + log.len() / 3;
                let some: Vec<_> = log.slices(middle as u64, 20_000).collect();
                prop_assert_eq!(some.concat(), &all[middle..all.len().min(middle + 20_000)]);
                let held = log.memory();
                prop_assert!(held < log.len() + 2 * BLOCK_BYTES, "{} bytes for {}", held, log.len());
            }
        }
    }
}
