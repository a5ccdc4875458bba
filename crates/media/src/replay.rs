//! The input a successor may need: items from the IDR that covers what is not yet published, within bounds.
//!
//! Releases what every live rung has published and, past its bounds, the oldest whole GOP, which is then lost for a
//! successor and said so. Decides nothing about which rungs are live.
//!
//! The picture that waits for its successor may wait here: its bytes are kept before what is known of it, and nobody is fed it until
//! then. Where it is sent from here, it stays until the next one waits.

mod byte_log;
mod record;

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_types::{MEDIA_TIMESCALE, Mark, MediaTime};

pub use self::byte_log::mapped_bytes;
use self::{
    byte_log::ByteLog,
    record::{Head, MAX_HEAD_BYTES, Payload},
};
use crate::{AccessUnit, Config, Cut, Item, Track};

/// At least this much is kept, if the bytes allow: GOPs, and ticks of media time.
const KEPT_GOPS: usize = 3;
const KEPT_TICKS: i64 = 12 * MEDIA_TIMESCALE as i64;
/// Lost up to an entry that has not come yet.
const UNKNOWN: MediaTime = MediaTime(i64::MAX);

/// A stream's recent items. It keeps a copy of them, in memory of its own: what it was given may be forgotten once it was sent.
#[derive(Debug)]
pub struct Replay {
    /// From the first entry on.
    log: ByteLog,
    /// The descriptions that the log refers to.
    configs: VecDeque<Config>,
    /// Where decoding can begin, oldest first. Everything before the first is gone.
    entries: VecDeque<Entry>,
    /// The descriptions that were effective before the first item.
    before: Effective,
    newest: Effective,
    /// The picture that waits, or waited until now.
    held: Option<Held>,
    /// Where a head is written before it is kept.
    head: Vec<u8>,
    max_bytes: usize,
    lost_gops: u64,
    lost_until: Option<MediaTime>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: u64,
    at: MediaTime,
    /// In the log.
    place: u64,
}

/// Bytes in the log whose head comes later.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Where what precedes them lies.
    record: u64,
    /// Where they begin.
    place: u64,
    count: usize,
    /// Its unit has come.
    is_known: bool,
}

/// The description of each track at some place of the sequence.
#[derive(Clone, Debug, Default)]
struct Effective {
    video: Option<Config>,
    audio: Option<Config>,
}

impl Effective {
    fn apply(&mut self, config: Config) {
        match config.track.track() {
            Track::Video => self.video = Some(config),
            Track::Audio => self.audio = Some(config),
        }
    }
}

impl Replay {
    /// An empty buffer that holds at most `max_bytes` of media.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            log: ByteLog::default(),
            configs: VecDeque::new(),
            entries: VecDeque::new(),
            before: Effective::default(),
            newest: Effective::default(),
            held: None,
            head: Vec::with_capacity(MAX_HEAD_BYTES),
            max_bytes,
            lost_gops: 0,
            lost_until: None,
        }
    }

    /// Takes the bytes of the picture that waits for its successor, if one does, and leaves none in their place: the next picture
    /// that is pushed comes without. While nothing is kept, they stay where they are. What was held before is as any other from
    /// here on, once its unit has come.
    pub fn hold(&mut self, waiting: Option<&mut Bytes>) {
        self.held = self.held.filter(|held| !held.is_known);
        let Some(bytes) = waiting.filter(|bytes| !bytes.is_empty() && !self.entries.is_empty())
        else {
            return;
        };
        let (record, bytes) = (self.log.end(), std::mem::take(bytes));
        self.keep(&bytes, |head| record::write_held(bytes.len(), head));
        let (count, place) = (bytes.len(), self.log.end() - bytes.len() as u64);
        self.held = Some(Held { record, place, count, is_known: false });
    }

    /// How many bytes the picture has that was held last, until [`Self::hold`] is called again.
    pub fn held_bytes(&self) -> Option<usize> {
        self.held.map(|held| held.count)
    }

    /// They themselves, as they lie in memory.
    pub fn held(&self) -> impl Iterator<Item = &[u8]> {
        let (place, count) = self.held.map_or((u64::MAX, 0), |held| (held.place, held.count));
        self.log.slices(place, count)
    }

    /// Keeps the next item of the sequence.
    pub fn push(&mut self, item: &Item) {
        match item {
            Item::Config(config) => {
                self.newest.apply(config.clone());
                match self.entries.is_empty() {
                    true => self.before.apply(config.clone()),
                    false => self.configs.push_back(config.clone()),
                }
                self.keep(&[], |head| record::write_config(config.seq, head));
            }
            Item::Unit(unit) => {
                let held = self.held_of(unit);
                if self.is_entry(unit) {
                    self.enter(unit, held);
                }
                self.keep_unit(unit, held);
            }
            Item::Tick(tick) => self.keep(&[], |head| record::write_tick(tick, head)),
        }
        while !self.entries.is_empty() && self.is_over_bounds() {
            self.lose_oldest_gop();
        }
    }

    /// The picture that waits, if this is its unit.
    fn held_of(&mut self, unit: &AccessUnit) -> Option<Held> {
        let held = self.held.as_mut().filter(|held| !held.is_known)?;
        held.is_known = unit.track == Track::Video && unit.bytes.is_empty();
        held.is_known.then_some(*held)
    }

    /// `held`: its bytes are in the log already.
    fn keep_unit(&mut self, unit: &AccessUnit, held: Option<Held>) {
        let before = held.map(|held| self.log.end() - held.place);
        let count = held.map_or(unit.bytes.len(), |held| held.count);
        self.keep(&unit.bytes, |head| {
            record::write_unit(unit, Payload { bytes: count, before }, head);
        });
    }

    /// Appends a head and what follows it; before the first entry, nothing.
    fn keep(&mut self, payload: &[u8], write_head: impl FnOnce(&mut Vec<u8>)) {
        if self.entries.is_empty() {
            return self.drop_before(0);
        }
        self.head.clear();
        write_head(&mut self.head);
        self.log.append(&self.head);
        self.log.append(payload);
    }

    /// Forgets what lies before the IDR that covers the smallest end of `marks`, those of all live rungs. Without marks,
    /// nothing.
    pub fn release(&mut self, marks: &[Mark]) {
        let Some(end) = smallest_end(marks) else { return };
        if self.lost_until.is_some_and(|until| until <= end) {
            self.lost_until = None;
        }
        if let Some(entry) = self.covering(end) {
            self.drop_before(entry.seq);
        }
    }

    /// What a successor is fed that has to go on behind `marks`: the effective descriptions, then everything from the IDR
    /// that covers the smallest end. Without marks, from the oldest IDR that is held.
    pub fn from(&self, marks: &[Mark]) -> impl Iterator<Item = Item> + '_ {
        let covering = match smallest_end(marks) {
            Some(end) => self.covering(end).or(self.entries.front()),
            None => self.entries.front(),
        };
        self.items_at(covering)
    }

    /// What an encoder is fed that makes nothing before the newest IDR: the effective descriptions, then everything from there.
    pub fn from_newest(&self) -> impl Iterator<Item = Item> + '_ {
        self.items_at(self.entries.back())
    }

    /// What an encoder is fed that makes nothing before that IDR, by its sequence number; from the next one, if it is lost.
    pub fn from_idr(&self, seq: u64) -> impl Iterator<Item = Item> + '_ {
        self.items_at(self.entries.iter().find(|entry| entry.seq >= seq))
    }

    fn items_at(&self, entry: Option<&Entry>) -> impl Iterator<Item = Item> + use<'_> {
        let (seq, place) = entry.map_or((u64::MAX, u64::MAX), |entry| (entry.seq, entry.place));
        let mut effective = self.before.clone();
        let earlier = self.configs.iter().take_while(|config| config.seq < seq);
        earlier.for_each(|config| effective.apply(config.clone()));
        let configs = [effective.video, effective.audio].into_iter().flatten();
        configs.map(Item::Config).chain(self.items_from(place, seq))
    }

    /// What a worker is fed that has taken everything before `seq`: see [`Self::oldest`].
    pub fn since(&self, seq: u64) -> impl Iterator<Item = Item> + '_ {
        let entry = self.entries.iter().rfind(|entry| entry.seq <= seq).or(self.entries.front());
        let (oldest, place) = entry.map_or((u64::MAX, u64::MAX), |entry| (entry.seq, entry.place));
        self.items_from(place, seq.max(oldest))
    }

    /// The items from a place in the log on, without those before `seq`.
    fn items_from(&self, mut place: u64, seq: u64) -> impl Iterator<Item = Item> + use<'_> {
        std::iter::from_fn(move || {
            loop {
                let begin = place;
                let (head, length) = self.head_at(begin)?;
                place += length;
                match head {
                    Head::Config(at) if at >= seq => return self.config(at).map(Item::Config),
                    Head::Tick(tick) if tick.seq >= seq => return Some(Item::Tick(tick)),
                    Head::Config(_) | Head::Tick(_) => {}
                    Head::Held(count) => place += count as u64,
                    Head::Unit(unit, Payload { bytes: count, before }) => {
                        let from = before.map_or(place, |before| begin - before);
                        if before.is_none() {
                            place += count as u64;
                        }
                        if unit.seq >= seq {
                            let bytes = self.payload(from, count);
                            return Some(Item::Unit(AccessUnit { bytes, ..unit }));
                        }
                    }
                }
            }
        })
    }

    /// The head at a place of the log, and how long it is.
    fn head_at(&self, place: u64) -> Option<(Head, u64)> {
        let mut bytes = [0; MAX_HEAD_BYTES];
        let mut space = &mut bytes[..];
        self.log.slices(place, MAX_HEAD_BYTES).for_each(|slice| space.put_slice(slice));
        let read = MAX_HEAD_BYTES - space.len();
        let (head, length) = (read > 0).then(|| record::read_head(&bytes[..read]))?;
        Some((head, length as u64))
    }

    fn payload(&self, place: u64, count: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(count);
        self.log.slices(place, count).for_each(|slice| bytes.put_slice(slice));
        bytes.freeze()
    }

    fn config(&self, seq: u64) -> Option<Config> {
        let index = self.configs.binary_search_by_key(&seq, |config| config.seq).ok()?;
        self.configs.get(index).cloned()
    }

    /// The oldest item that is held; `None` while there is none.
    pub fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// Whether a successor can still be fed everything that the last released marks do not cover.
    pub const fn is_lossless(&self) -> bool {
        self.lost_until.is_none()
    }

    /// GOPs that were lost to the bounds.
    pub const fn lost_gops(&self) -> u64 {
        self.lost_gops
    }

    /// Bytes held: media, and what is known of each unit.
    pub const fn bytes(&self) -> usize {
        self.log.len()
    }

    /// Bytes of memory that they take, which nothing else can use: in whole blocks, less than 32 KiB more.
    pub fn memory_bytes(&self) -> usize {
        self.log.memory()
    }

    /// Media time from the oldest entry to the newest, ticks of 90 kHz.
    pub fn span(&self) -> i64 {
        match (self.entries.front(), self.entries.back()) {
            (Some(first), Some(last)) => last.at - first.at,
            _ => 0,
        }
    }

    /// Decoding can begin at an IDR, and without video at any segment.
    fn is_entry(&self, unit: &AccessUnit) -> bool {
        match unit.track {
            Track::Video => unit.idr,
            Track::Audio => self.newest.video.is_none() && unit.stamp.starts == Cut::Segment,
        }
    }

    fn enter(&mut self, unit: &AccessUnit, held: Option<Held>) {
        let at = match unit.track {
            Track::Video => MediaTime(unit.pts),
            Track::Audio => unit.stamp.segment.start,
        };
        let place = held.map_or(self.log.end(), |held| held.record);
        self.entries.push_back(Entry { seq: unit.seq, at, place });
        if self.lost_until == Some(UNKNOWN) {
            self.lost_until = Some(at);
        }
    }

    fn covering(&self, end: MediaTime) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.at <= end)
    }

    fn is_over_bounds(&self) -> bool {
        let too_long = self.entries.len() > KEPT_GOPS && self.span() > KEPT_TICKS;
        too_long || self.bytes() > self.max_bytes
    }

    fn lose_oldest_gop(&mut self) {
        self.lost_gops += 1;
        match self.entries.get(1).copied() {
            Some(next) => {
                self.lost_until = Some(next.at);
                self.drop_before(next.seq);
            }
            None => {
                self.lost_until = Some(UNKNOWN);
                self.drop_before(u64::MAX);
            }
        }
    }

    fn drop_before(&mut self, seq: u64) {
        while let Some(config) = self.configs.pop_front_if(|config| config.seq < seq) {
            self.before.apply(config);
        }
        while self.entries.pop_front_if(|entry| entry.seq < seq).is_some() {}
        let kept = self.entries.front().map_or(u64::MAX, |entry| entry.place);
        self.log.drop_before(self.held.map_or(kept, |held| kept.min(held.record)));
    }
}

fn smallest_end(marks: &[Mark]) -> Option<MediaTime> {
    marks.iter().map(|mark| mark.end).min()
}
