//! Memory for media: each part is written into it once, read by whoever serves it, and given back to the kernel.
//!
//! Where media was written nothing is ever written again. The pages of a part may stand in packets until a slow player has
//! acknowledged them ([`crate::pipe`]), also when nobody here remembers the part: the kernel keeps those pages, as they are,
//! until the last packet is gone. The heap would give them to others, whose bytes that player would get.
//!
//! ```text
//! one run, mapped at once:  | slab            | slab            | slab …   unmapped when its last part is dropped
//!                           [part ] [part  ] [part ]→                      each on pages of its own, dropped with it
//! ```
#![allow(unsafe_code)] // memory that is shared while its rest is still written has no safe wrapper (ADR 28)

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    ptr::{self, NonNull},
    slice,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use millrace_telemetry::prometheus::IntGauge;
use nix::libc;

/// Addresses, not memory: a slab takes what the parts in it take.
const SLAB_BYTES: usize = 2 << 20;
/// So many are mapped at once.
const RUN_SLABS: usize = 16;
/// Smaller parts would leave too much of their last page unused: they lie on the heap.
const MIN_BYTES: usize = 16 << 10;

/// All media of an origin.
#[derive(Debug)]
pub(crate) struct Slabs {
    open: Mutex<Open>,
    begun: Arc<Begun>,
    page_bytes: usize,
}

/// Where the next part goes.
#[derive(Debug, Default)]
struct Open {
    /// Side by side; the first is used up to `used`, the others not at all.
    ahead: VecDeque<Arc<Slab>>,
    used: usize,
}

/// The slabs that hold media, by where they are.
#[derive(Debug)]
struct Begun {
    at: RwLock<BTreeSet<usize>>,
    /// Memory of all parts.
    bytes: IntGauge,
}

/// [`SLAB_BYTES`] of memory, mapped for as long as this is there.
#[derive(Debug)]
struct Slab {
    start: NonNull<u8>,
    begun: Arc<Begun>,
}

// SAFETY: a mapping belongs to the process, not to a thread, and nothing reads or writes it through this.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

/// Bytes in slabs, which stay as long as this does.
struct Part {
    /// Of its first page.
    start: NonNull<u8>,
    length: usize,
    /// Of all its pages.
    room: usize,
    slabs: Box<[Arc<Slab>]>,
}

// SAFETY: it owns its share of its slabs, and nobody writes there any more.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `length` bytes from `start` are mapped while `slabs` are held, were written before this was handed out,
        // and are given to nobody else.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.slabs[0].begun.bytes.sub(self.room as i64);
        // SAFETY: whole pages, which are this part's alone and which nobody reads any more.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.room, libc::MADV_DONTNEED) };
    }
}

impl Slabs {
    /// None yet; `bytes` says how much memory the parts in them take.
    pub(crate) fn new(bytes: IntGauge) -> Self {
        let begun = Begun { at: RwLock::default(), bytes };
        // SAFETY: only asks.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        Self { open: Mutex::default(), begun: Arc::new(begun), page_bytes }
    }

    /// A copy of `media`: in slabs, unless it is too small, or there are no addresses or mappings left.
    pub(crate) fn keep(&self, media: &[u8]) -> Bytes {
        if media.len() < MIN_BYTES {
            return Bytes::copy_from_slice(media);
        }
        match self.reserve(media.len()) {
            Ok(part) => {
                // SAFETY: the room was reserved for this part alone, is as long as `media`, and nobody reads it before it
                // is handed out.
                unsafe {
                    ptr::copy_nonoverlapping(media.as_ptr(), part.start.as_ptr(), media.len());
                }
                Bytes::from_owner(part)
            }
            Err(_) => Bytes::copy_from_slice(media),
        }
    }

    /// Whether `media` lies in slabs: a slab is wholly theirs, so where it begins is enough.
    pub(crate) fn hold(&self, media: &Bytes) -> bool {
        let at = media.as_ptr().addr() / SLAB_BYTES;
        self.begun.at.read().unwrap_or_else(PoisonError::into_inner).contains(&at)
    }

    /// Room for `length` bytes, of which there are some, on pages of their own.
    fn reserve(&self, length: usize) -> io::Result<Part> {
        let room = length.next_multiple_of(self.page_bytes);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.ahead.len() * SLAB_BYTES < open.used + room {
            let count = RUN_SLABS.max(room.div_ceil(SLAB_BYTES));
            *open = Open { ahead: run(count, &self.begun)?, used: 0 };
        }
        let end = open.used + room;
        let slabs: Box<[_]> = open.ahead.iter().take(end.div_ceil(SLAB_BYTES)).cloned().collect();
        // SAFETY: slabs ahead lie side by side in one mapping, whose end is not before `end`.
        let start = unsafe { slabs[0].start.add(open.used) };
        open.ahead.drain(..end / SLAB_BYTES);
        open.used = end % SLAB_BYTES;
        drop(open);
        self.begun.add(&slabs);
        self.begun.bytes.add(room as i64);
        Ok(Part { start, length, room, slabs })
    }
}

impl Begun {
    fn add(&self, slabs: &[Arc<Slab>]) {
        let mut at = self.at.write().unwrap_or_else(PoisonError::into_inner);
        at.extend(slabs.iter().map(|slab| slab.number()));
    }

    fn remove(&self, slab: &Slab) {
        let mut at = self.at.write().unwrap_or_else(PoisonError::into_inner);
        at.remove(&slab.number());
    }
}

impl Slab {
    fn number(&self) -> usize {
        self.start.addr().get() / SLAB_BYTES
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // First: once it is unmapped, its place may be anybody's.
        self.begun.remove(self);
        // SAFETY: this alone stands for these pages, and no part is left in them.
        unsafe { unmap(self.start.as_ptr(), SLAB_BYTES) };
    }
}

/// So many slabs side by side.
///
/// # Errors
/// What the system says: no memory, or too many mappings.
fn run(count: usize, begun: &Arc<Begun>) -> io::Result<VecDeque<Arc<Slab>>> {
    // One more, to begin at a multiple of a slab.
    let mapped = (count + 1) * SLAB_BYTES;
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, at a place of the kernel's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), mapped, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = start.cast::<u8>();
    let before = start.align_offset(SLAB_BYTES);
    // SAFETY: `before` is less than a slab, and all of this lies within what was just mapped and nobody else knows. Huge
    // pages would hold more than a part, and could not be given back with it; where the kernel has none, it says so in vain.
    let first = unsafe {
        let first = start.add(before);
        unmap(start, before);
        unmap(first.add(count * SLAB_BYTES), SLAB_BYTES - before);
        libc::madvise(first.cast(), count * SLAB_BYTES, libc::MADV_NOHUGEPAGE);
        NonNull::new_unchecked(first)
    };
    // SAFETY: each lies within the mapping.
    let slab = |number| unsafe { first.add(number * SLAB_BYTES) };
    Ok((0..count)
        .map(|number| Arc::new(Slab { start: slab(number), begun: begun.clone() }))
        .collect())
}

/// Gives whole pages back; packets that hold some keep them.
///
/// # Safety
/// They are mapped, and nobody uses them from here.
unsafe fn unmap(start: *mut u8, length: usize) {
    if length > 0 {
        // SAFETY: as the caller promises.
        unsafe { libc::munmap(start.cast(), length) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn slabs() -> Slabs {
        Slabs::new(IntGauge::new("bytes", "Of slabs.").unwrap())
    }

    fn media(number: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + number * 7) as u8).collect()
    }

    /// The lines of smaps(5) about the mapping of an address.
    fn mapping(address: usize) -> Option<String> {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let range = |line: &str| {
            let (from, to) = line.split_whitespace().next()?.split_once('-')?;
            let bound = |hex| usize::from_str_radix(hex, 16).ok();
            Some(bound(from)?..bound(to)?)
        };
        let lines =
            maps.lines().skip_while(|it| !range(it).is_some_and(|it| it.contains(&address)));
        let lines: Vec<_> = lines.take_while(|it| !it.starts_with("VmFlags")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn is_mapped(address: usize) -> bool {
        mapping(address).is_some()
    }

    fn resident_kib(address: usize) -> usize {
        let mapping = mapping(address).unwrap();
        let rss = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn parts_of_any_size_keep_their_bytes_and_all_but_small_ones_lie_in_slabs() {
        let slabs = slabs();
        let lengths = [
            0,
            1,
            MIN_BYTES - 1,
            MIN_BYTES,
            100_000,
            SLAB_BYTES - 1,
            SLAB_BYTES,
            5 * SLAB_BYTES + 1,
        ];
        let lengths = lengths.repeat(9);
        let parts: Vec<_> =
            lengths.iter().enumerate().map(|(at, it)| slabs.keep(&media(at, *it))).collect();
        for (at, (part, length)) in parts.iter().zip(lengths).enumerate() {
            assert!(part[..] == media(at, length), "{at}");
            assert_eq!(slabs.hold(part), length >= MIN_BYTES, "{length}");
        }
        assert!(!slabs.hold(&Bytes::from(media(1, 100_000))));
        let tail = parts[4].slice(99_000..);
        assert!(slabs.hold(&tail) && tail == media(4, 100_000)[99_000..]);
    }

    #[test]
    fn a_part_gives_its_pages_back_at_once_and_a_slab_its_addresses_with_the_last_part() {
        let slabs = slabs();
        let page = slabs.page_bytes;
        let [first, gone, across] =
            [20_000, 5 * page, SLAB_BYTES].map(|it| slabs.keep(&media(it, it)));
        let at = first.as_ptr().addr();
        assert_eq!((at % SLAB_BYTES, gone.as_ptr().addr() % page), (0, 0));
        let room = |it: &Bytes| it.len().next_multiple_of(page) as i64;
        assert_eq!(slabs.begun.bytes.get(), room(&first) + room(&gone) + room(&across));
        let before = resident_kib(at);
        drop(gone);
        assert_eq!(before - resident_kib(at), 5 * page / 1024);
        assert_eq!(slabs.begun.bytes.get(), room(&first) + room(&across));
        drop(across);
        assert!(is_mapped(at) && is_mapped(at + SLAB_BYTES));
        assert!(first[..] == media(20_000, 20_000));
        drop(first);
        assert!(!is_mapped(at) && is_mapped(at + SLAB_BYTES), "the second one is still written");
        let begun = slabs.begun.clone();
        drop(slabs);
        assert!(!is_mapped(at + SLAB_BYTES));
        assert_eq!((begun.bytes.get(), begun.at.read().unwrap().len()), (0, 0));
    }

    #[test]
    fn where_a_part_was_none_is_written_again_while_its_slab_is_there() {
        let slabs = slabs();
        let stays = slabs.keep(&media(0, 20_000));
        let mut seen = BTreeSet::from([stays.as_ptr().addr()]);
        for number in 0..30 {
            let gone = slabs.keep(&media(number, 50_000));
            assert!(seen.insert(gone.as_ptr().addr()));
        }
    }
}
