//! The input a successor may need: items from the IDR that covers what is not yet published, within bounds.
//!
//! Releases what every live rung has published and, past its bounds, the oldest whole GOP, which is then lost for a
//! successor and said so. Decides nothing about which rungs are live.

use std::collections::VecDeque;

use millrace_types::{MEDIA_TIMESCALE, Mark, MediaTime};

use crate::{AccessUnit, Config, Cut, Item, Track};

/// At least this much is kept, if the bytes allow: GOPs, and ticks of media time.
const KEPT_GOPS: usize = 3;
const KEPT_TICKS: i64 = 12 * MEDIA_TIMESCALE as i64;
/// Lost up to an entry that has not come yet.
const UNKNOWN: MediaTime = MediaTime(i64::MAX);

/// A stream's recent items.
#[derive(Clone, Debug)]
pub struct Replay {
    /// From the first entry on.
    items: VecDeque<Item>,
    /// Where decoding can begin, oldest first. Everything before the first is gone.
    entries: VecDeque<Entry>,
    /// The descriptions that were effective before the first item.
    before: Effective,
    newest: Effective,
    bytes: usize,
    max_bytes: usize,
    lost_gops: u64,
    lost_until: Option<MediaTime>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: u64,
    at: MediaTime,
}

/// The description of each track at some place of the sequence.
#[derive(Clone, Debug, Default)]
struct Effective {
    video: Option<Config>,
    audio: Option<Config>,
}

impl Effective {
    fn apply(&mut self, item: &Item) {
        if let Item::Config(config) = item {
            match config.track.track() {
                Track::Video => self.video = Some(config.clone()),
                Track::Audio => self.audio = Some(config.clone()),
            }
        }
    }
}

impl Replay {
    /// An empty buffer that holds at most `max_bytes` of media.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            items: VecDeque::new(),
            entries: VecDeque::new(),
            before: Effective::default(),
            newest: Effective::default(),
            bytes: 0,
            max_bytes,
            lost_gops: 0,
            lost_until: None,
        }
    }

    /// Keeps the next item of the sequence.
    pub fn push(&mut self, item: Item) {
        self.newest.apply(&item);
        if let Item::Unit(unit) = &item {
            if self.is_entry(unit) {
                self.enter(unit);
            }
            self.bytes += if self.entries.is_empty() { 0 } else { unit.bytes.len() };
        }
        if self.entries.is_empty() {
            self.before.apply(&item);
            return;
        }
        self.items.push_back(item);
        while self.is_over_bounds() {
            self.lose_oldest_gop();
        }
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
        let from = entry.map_or(u64::MAX, |entry| entry.seq);
        let split = self.items.partition_point(|item| item.seq() < from);
        let mut effective = self.before.clone();
        self.items.range(..split).for_each(|item| effective.apply(item));
        let configs = [effective.video, effective.audio].into_iter().flatten();
        configs.map(Item::Config).chain(self.items.range(split..).cloned())
    }

    /// What a worker is fed that has taken everything before `seq`: see [`Self::oldest`].
    pub fn since(&self, seq: u64) -> impl Iterator<Item = Item> + '_ {
        let split = self.items.partition_point(|item| item.seq() < seq);
        self.items.range(split..).cloned()
    }

    /// The oldest item that is held; `None` while there is none.
    pub fn oldest(&self) -> Option<u64> {
        self.items.front().map(Item::seq)
    }

    /// Whether a successor can still be fed everything that the last released marks do not cover.
    pub const fn is_lossless(&self) -> bool {
        self.lost_until.is_none()
    }

    /// GOPs that were lost to the bounds.
    pub const fn lost_gops(&self) -> u64 {
        self.lost_gops
    }

    /// Bytes of media held.
    pub const fn bytes(&self) -> usize {
        self.bytes
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

    fn enter(&mut self, unit: &AccessUnit) {
        let at = match unit.track {
            Track::Video => MediaTime(unit.pts),
            Track::Audio => unit.stamp.segment.start,
        };
        self.entries.push_back(Entry { seq: unit.seq, at });
        if self.lost_until == Some(UNKNOWN) {
            self.lost_until = Some(at);
        }
    }

    fn covering(&self, end: MediaTime) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.at <= end)
    }

    fn is_over_bounds(&self) -> bool {
        let too_long = self.entries.len() > KEPT_GOPS && self.span() > KEPT_TICKS;
        too_long || self.bytes > self.max_bytes && !self.items.is_empty()
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
        while let Some(item) = self.items.pop_front_if(|item| item.seq() < seq) {
            self.before.apply(&item);
            if let Item::Unit(unit) = item {
                self.bytes -= unit.bytes.len();
            }
        }
        while self.entries.pop_front_if(|entry| entry.seq < seq).is_some() {}
    }
}

fn smallest_end(marks: &[Mark]) -> Option<MediaTime> {
    marks.iter().map(|mark| mark.end).min()
}
