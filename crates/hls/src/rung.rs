//! The window of one rung: a run of segments without holes, and parts that came early and wait for the hole before them.
//!
//! Only the run is ever seen by a player. Epochs and the other rungs are [`Window`](crate::Window)'s business.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use millrace_types::{Epoch, MEDIA_TIMESCALE, Mark, MediaTime, Mono, Msn, PartNo, RungId};

use crate::{
    Accepted, Backlog, Hash, InitRecord, PartRecord, Refusal, RenditionKind,
    segment::{LONGEST_SEGMENT, Part, Segment},
    splice::Splice,
};

/// Full segments in a playlist.
pub const LISTED_SEGMENTS: usize = 15;
/// Full segments that can still be fetched: a player may use what a playlist named one window ago (RFC 8216bis 6.2.2).
const KEPT_SEGMENTS: usize = 2 * LISTED_SEGMENTS;
/// How many segments beyond a hole may arrive before the hole is given up and becomes a gap.
const PATIENCE_SEGMENTS: u64 = 3;

/// Longest gap, in ticks.
const LONGEST_GAP: i64 = LONGEST_SEGMENT;

/// Most init sections at a time: more than one for each segment that can still be fetched.
const MAX_INITS: usize = 64;
/// Most parts that wait for a hole to be filled: the patience, ten times over.
const MAX_EARLY_PARTS: usize = 512;
/// Parts in one segment are fewer: at 0.2 s they last 13 minutes.
const MAX_PARTS: u32 = 4_096;
/// Numbers stay where every player's arithmetic is exact (RFC 8216 4.2 allows more).
const MAX_MSN: u64 = 1 << 53;
/// The year 10000, in ticks: what `EXT-X-PROGRAM-DATE-TIME` can say ends there.
const MAX_TIME: i64 = 253_402_300_800 * MEDIA_TIMESCALE as i64;
/// What is measured of a publisher's own track is announced with so much more, percent.
const MEASURED_PERCENT: u64 = 120;
/// A terabit in a second.
const MAX_BANDWIDTH_BPS: u64 = 1_000_000_000_000;

/// How a part comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Push {
    /// When.
    pub(crate) now: Mono,
    /// By whom; who made it stands in its record.
    pub(crate) writer: Epoch,
    /// Two encoders make the stream.
    pub(crate) is_dual: bool,
    /// By the one that came last.
    pub(crate) is_newest: bool,
    /// From a window that has the same holes.
    pub(crate) in_order: bool,
}

/// One rung's part of the window.
#[derive(Clone, Debug, Default)]
pub(crate) struct RungWindow {
    inits: Vec<(InitRecord, Bytes)>,
    segments: VecDeque<Segment>,
    early: Splice,
    /// The two encoders have different init sections.
    is_at_odds: bool,
    /// Segments that another encoder's init section comes into force with: its writers said no discontinuity.
    breaks: BTreeSet<Msn>,
    /// The most that a full segment took, bits per second; never less than before. 0: none was full yet.
    peak_bps: u64,
}

impl RungWindow {
    pub(crate) fn add_init(
        &mut self,
        record: InitRecord,
        bytes: Bytes,
    ) -> Result<Accepted, Refusal> {
        check_init(&record)?;
        if self.inits.last().is_some_and(|(last, _)| *last == record) {
            return Ok(Accepted::Repeat);
        }
        self.inits.retain(|(init, _)| init.hash != record.hash);
        if self.inits.len() >= MAX_INITS {
            self.forget_unneeded_inits();
        }
        in_range(self.inits.len() < MAX_INITS, &record.rung, "count of init sections")?;
        self.inits.push((record, bytes));
        Ok(Accepted::Added)
    }

    pub(crate) fn add_part(
        &mut self,
        push: Push,
        record: PartRecord,
        bytes: Bytes,
    ) -> Result<Accepted, Refusal> {
        if !self.inits.iter().any(|(init, _)| init.hash == record.init) {
            return Err(Refusal::UnknownInit { init: record.init });
        }
        if record.end <= record.start {
            return Err(Refusal::EmptyPart { msn: record.msn, part: record.part });
        }
        check_part(&record)?;
        let (at, part) = ((record.msn, record.part), Part { record, bytes });
        self.is_at_odds |= push.is_dual && self.early.is_at_odds(&part);
        // What it has begun it may finish.
        if self.is_at_odds && push.is_newest && at.1 == PartNo(0) {
            return Err(Refusal::OtherEncoder { msn: at.0, init: part.record.init });
        }
        let shown = self.part(at.0, at.1).map(|shown| &shown.record);
        let maker = push.is_dual.then_some(part.record.epoch);
        let held = self.early.held(at, maker).map(|held| &held.record);
        if let Some(there) = shown.or(held) {
            let is_repeat = there.hash == part.record.hash;
            if push.is_dual && there.epoch != part.record.epoch {
                self.early.came(push.now, push.writer, part, true);
                return Ok(Accepted::Spare);
            }
            return match is_repeat {
                true => Ok(Accepted::Repeat),
                false => Err(Refusal::Conflict { msn: at.0, part: at.1 }),
            };
        }
        if self.next().is_some_and(|next| at < next) {
            return Err(Refusal::TooOld { msn: at.0, part: at.1 });
        }
        let is_next = self.next() == Some(at);
        let fits = is_next || self.early.len() < MAX_EARLY_PARTS;
        in_range(fits, &part.record.rung, "count of parts")?;
        self.early.came(push.now, push.writer, part, false);
        self.advance(push.now, push.is_dual);
        self.give_up_hole(&push);
        Ok(Accepted::Added)
    }

    /// Moves parts whose turn it is into the run. `patient`: see [`Splice::next`].
    pub(crate) fn advance(&mut self, now: Mono, patient: bool) {
        while let Some(at) = self.next_or_first() {
            let Some(part) = self.early.next(now, at, self.segments.back(), patient) else { break };
            self.break_for(&part);
            match self.segments.back_mut() {
                Some(open) if !open.closed => open.push(part),
                last => {
                    let before =
                        last.filter(|_| part.bytes.is_empty()).map(|last| last.init_at_end());
                    let init = before.unwrap_or(part.record.init);
                    let mut segment = Segment::opened_by(&part.record, init);
                    segment.push(part);
                    self.segments.push_back(segment);
                }
            }
            self.measure();
        }
        self.forget_old();
    }

    /// When [`RungWindow::advance`] is due again, if nothing comes.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.early.deadline(self.next()?, self.segments.back())
    }

    /// An encoder whose init section is another finishes the open segment under the old one: its parameter sets are in
    /// its pictures. The next segment carries the new one, behind a discontinuity. A part without bytes needs none.
    fn break_for(&mut self, Part { record, bytes }: &Part) {
        let Some(last) = self.segments.back().filter(|_| !bytes.is_empty()) else { return };
        if last.init_at_end() != record.init && record.discontinuity <= last.discontinuity {
            self.breaks.insert(if last.closed { record.msn } else { record.msn.next() });
        }
    }

    /// Looks at the newest segment, once it is full.
    fn measure(&mut self) {
        let full = self.segments.back().filter(|last| last.closed);
        let peak_bps = full.and_then(Segment::peak_bps).unwrap_or_default();
        self.peak_bps = self.peak_bps.max(peak_bps.min(MAX_BANDWIDTH_BPS));
    }

    /// Where the run goes on, or, while there is none, the earliest segment whose beginning is there.
    fn next_or_first(&self) -> Option<(Msn, PartNo)> {
        self.next().or_else(|| Some((self.early.first_segment(Msn(0))?, PartNo(0))))
    }

    /// A hole that nobody fills must not stop the stream: it becomes a gap, past the patience or when its writer has gone
    /// past it; at once when parts come `in_order`, from a window that has the same hole.
    fn give_up_hole(&mut self, push: &Push) {
        let (Some((next, _)), Some((newest, _))) = (self.next(), self.early.newest()) else {
            return;
        };
        let Some(resume) = self.early.first_segment(next.next()) else { return };
        let Some(resumed) = self.early.held((resume, PartNo(0)), None) else { return };
        let resumed = resumed.record.clone();
        let is_early = newest <= Msn(next.0 + PATIENCE_SEGMENTS);
        if is_early && !push.in_order && !self.is_skipped_by(&resumed) {
            return;
        }
        self.early.skip_to(resume);
        let was_open = self.close();
        if resume.0 - next.0 > LISTED_SEGMENTS as u64 {
            self.segments.clear();
        } else {
            // No player has been told how long it is.
            if was_open || push.in_order {
                self.stretch(resume, &resumed);
            }
            self.fill_gap(resume, &resumed);
        }
        self.advance(push.now, push.is_dual);
    }

    /// Whether nobody will fill the hole before `resumed`: who made it also closed the run, and makes a rung's parts in
    /// their order.
    fn is_skipped_by(&self, resumed: &PartRecord) -> bool {
        let last = self.segments.back().filter(|last| last.closed);
        let closing = last.and_then(|last| last.parts.last());
        closing.is_some_and(|closing| closing.record.epoch == resumed.epoch)
    }

    /// Makes the last segment, which was cut short, as long as it has to be for gaps to fill the rest of the time up to
    /// `resume`; behind a discontinuity times need not meet.
    fn stretch(&mut self, resume: Msn, resumed: &PartRecord) {
        let Some(last) = self.segments.back_mut() else { return };
        let missing = i64::try_from(resume.0 - last.msn.next().0).unwrap_or_default();
        if resumed.discontinuity <= last.discontinuity {
            last.stretch_to(resumed.start + -missing * LONGEST_GAP);
        }
    }

    /// Gaps from the end of the run up to `resume`, sharing the time between them. Where it is more than they may last, it is
    /// the time before the first that is left out.
    fn fill_gap(&mut self, resume: Msn, resumed: &PartRecord) {
        let Some(last) = self.segments.back() else { return };
        let (mut msn, init) = (last.msn.next(), last.init);
        let missing = i64::try_from(resume.0 - msn.0).unwrap_or(i64::MAX).max(1);
        let total = (resumed.start - last.end).clamp(missing, missing * LONGEST_GAP);
        let first = last.end.max(resumed.start + -total);
        let border = |index| first + total * index / missing;
        for index in 0..i64::try_from(resume.0 - msn.0).unwrap_or_default() {
            let span = (border(index), border(index + 1));
            self.segments.push_back(Segment::gap(msn, resumed.discontinuity, init, span));
            msn = msn.next();
        }
    }

    fn forget_old(&mut self) {
        let closed = self.closed_count();
        self.segments.drain(..closed.saturating_sub(KEPT_SEGMENTS));
        self.forget_unneeded_inits();
    }

    /// Bytes of all parts that are held.
    pub(crate) fn bytes(&self) -> u64 {
        let early = self.early.parts().map(|part| part.bytes.len() as u64);
        self.segments.iter().map(Segment::bytes).chain(early).sum()
    }

    /// The oldest segment, if others follow it.
    pub(crate) fn oldest_of_many(&self) -> Option<Msn> {
        self.segments.front().filter(|_| self.segments.len() > 1).map(|segment| segment.msn)
    }

    /// Forgets that segment, if it is the oldest and others follow it.
    pub(crate) fn forget_oldest(&mut self, msn: Msn) {
        if self.oldest_of_many() == Some(msn) {
            self.segments.pop_front();
            self.forget_unneeded_inits();
        }
    }

    fn forget_unneeded_inits(&mut self) {
        let needed = |hash: Hash| {
            self.segments.iter().any(|segment| segment.init == hash)
                || self.early.parts().any(|part| part.record.init == hash)
        };
        let newest = self.inits.last().map(|(init, _)| init.hash);
        let keep: Vec<bool> = self
            .inits
            .iter()
            .map(|(init, _)| Some(init.hash) == newest || needed(init.hash))
            .collect();
        let mut keep = keep.into_iter();
        self.inits.retain(|_| keep.next().unwrap_or(true));
    }

    /// Parts that were cut short are forgotten.
    pub(crate) fn forget_short(&mut self) {
        self.early.forget_short();
    }

    /// Parts that no player has seen are forgotten, so that another writer can make them; except those of `writer`, which
    /// goes on.
    pub(crate) fn forget_early(&mut self, writer: Option<Epoch>) {
        self.is_at_odds = false;
        self.early.keep_only(writer);
    }

    /// Closes the open segment as short as it is; whether there was one.
    pub(crate) fn close(&mut self) -> bool {
        let last = self.segments.back_mut();
        last.is_some_and(|last| !std::mem::replace(&mut last.closed, true))
    }

    /// Adds a gap for each of `others`' segments that lies past the end of this run, whose last segment `was_open` until now.
    pub(crate) fn follow(&mut self, others: &[Segment], was_open: bool) {
        for other in others {
            let Some(last) = self.segments.back_mut() else { return };
            if other.msn == last.msn.next() {
                if was_open && !last.is_gap() {
                    last.stretch_to(other.start);
                }
                let end = other.end.max(last.end + 1);
                let span = (last.end.max(end + -LONGEST_GAP), end);
                let gap = Segment::gap(other.msn, other.discontinuity, last.init, span);
                self.segments.push_back(gap);
            }
        }
        self.forget_old();
    }

    /// The part that comes next; `None` before the first.
    pub(crate) fn next(&self) -> Option<(Msn, PartNo)> {
        let last = self.segments.back()?;
        Some(if last.closed {
            (last.msn.next(), PartNo(0))
        } else {
            (last.msn, PartNo(u32::try_from(last.parts.len()).unwrap_or(u32::MAX)))
        })
    }

    /// The newest part that a player can see; a gap counts as its part 0.
    pub(crate) fn last(&self) -> Option<(Msn, PartNo)> {
        let last = self.segments.back()?;
        let part = u32::try_from(last.parts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        Some((last.msn, PartNo(part)))
    }

    pub(crate) fn mark(&self, rung: &RungId) -> Option<Mark> {
        let (msn, part) = self.last()?;
        let last = self.segments.back()?;
        Some(Mark { rung: rung.clone(), msn, part, end: last.end, closed: last.closed })
    }

    /// Every segment that can be fetched, the open one last.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The segments a playlist names: the newest [`LISTED_SEGMENTS`] closed ones and the open one.
    pub(crate) fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.range(self.closed_count().saturating_sub(LISTED_SEGMENTS)..)
    }

    /// See [`Window::backlog`](crate::Window::backlog).
    pub(crate) fn backlog(&self) -> Vec<Backlog> {
        let early = self.early.parts().map(|part| (part, false));
        let (mut backlog, pushed) = self.records(self.listed_parts().chain(early));
        let newest = self.inits.last().filter(|(init, _)| Some(init.hash) != pushed);
        let newest = newest.cloned().map(|(record, bytes)| Backlog::Init(record, bytes));
        backlog.extend(newest);
        backlog
    }

    /// See [`Window::past`](crate::Window::past).
    pub(crate) fn past(&self, after: Option<(Msn, PartNo)>, max_bytes: usize) -> Vec<Backlog> {
        let newer = |(part, _): &(&Part, bool)| Some((part.record.msn, part.record.part)) > after;
        let mut bytes = 0;
        let some = self.listed_parts().filter(newer).take_while(|(part, _)| {
            let fits = bytes <= max_bytes;
            bytes += part.bytes.len();
            fits
        });
        self.records(some).0
    }

    /// The parts of the listed segments, and whether each ends a closed one.
    fn listed_parts(&self) -> impl Iterator<Item = (&Part, bool)> {
        self.listed().flat_map(|segment| {
            let last = segment.parts.len().saturating_sub(1);
            let ends = move |index| segment.closed && index == last;
            segment.parts.iter().enumerate().map(move |(index, part)| (part, ends(index)))
        })
    }

    /// Those parts, each init section before the first that needs it; and which of these is the last.
    fn records<'a>(
        &self,
        parts: impl Iterator<Item = (&'a Part, bool)>,
    ) -> (Vec<Backlog>, Option<Hash>) {
        let (mut records, mut pushed) = (Vec::new(), None);
        let init = |hash| self.inits.iter().find(|(init, _)| Some(init.hash) == hash).cloned();
        for (part, ends) in parts {
            if pushed != Some(part.record.init) {
                pushed = Some(part.record.init);
                records.extend(init(pushed).map(|(record, bytes)| Backlog::Init(record, bytes)));
            }
            let last = part.record.last || ends;
            let record = PartRecord { last, ..part.record.clone() };
            records.push(Backlog::Part(record, part.bytes.clone()));
        }
        (records, pushed)
    }

    /// The first part that is here, shown or not.
    pub(crate) fn first(&self) -> Option<(Msn, PartNo)> {
        let early = self.early.parts().next();
        let first = self.listed_parts().next().map(|(part, _)| part).or(early)?;
        Some((first.record.msn, first.record.part))
    }

    /// How far the run comes with parts; gaps behind it are not restored.
    pub(crate) fn restorable(&self, rung: &RungId) -> Option<Mark> {
        let segment = self.listed().rev().find(|segment| !segment.parts.is_empty())?;
        let record = &segment.parts.last()?.record;
        let (msn, part, end) = (record.msn, record.part, segment.end);
        Some(Mark { rung: rung.clone(), msn, part, end, closed: segment.closed })
    }

    fn closed_count(&self) -> usize {
        self.segments.len() - usize::from(self.segments.back().is_some_and(|last| !last.closed))
    }

    pub(crate) fn segment(&self, msn: Msn) -> Option<&Segment> {
        let first = self.segments.front()?.msn;
        self.segments.get(usize::try_from(msn.0.checked_sub(first.0)?).ok()?)
    }

    pub(crate) fn part(&self, msn: Msn, part: PartNo) -> Option<&Part> {
        self.segment(msn)?.parts.get(part.0 as usize)
    }

    /// The init section of that hash.
    pub(crate) fn init(&self, hash: Hash) -> Option<&Bytes> {
        self.inits.iter().find(|(init, _)| init.hash == hash).map(|(_, bytes)| bytes)
    }

    /// What the newest init section says.
    pub(crate) fn current_init(&self) -> Option<&InitRecord> {
        self.inits.last().map(|(record, _)| record)
    }

    /// Segments of which all rungs have to know that a discontinuity lies before them.
    pub(crate) const fn breaks(&self) -> &BTreeSet<Msn> {
        &self.breaks
    }

    /// Peak bits per second: what the encoder is capped to and, of a publisher's own track, what was measured and more, or what the
    /// publisher says if that is larger. Until a segment is full what its maker assumed of such a track stands for what is
    /// measured: a best rung that seemed to need less than another would not be chosen.
    pub(crate) fn bandwidth_bps(&self) -> Option<u64> {
        let init = self.current_init()?;
        let is_capped = matches!(init.kind, RenditionKind::Video { transcoded: true, .. });
        Some(match (self.peak_bps, init.announced_bps) {
            (peak, _) if is_capped => init.bandwidth_bps.max(peak),
            (0, announced) => announced.unwrap_or(0).max(init.bandwidth_bps),
            (peak, announced) => announced.unwrap_or(0).max(peak * MEASURED_PERCENT / 100),
        })
    }

    /// Under which epoch the newest visible part was made.
    pub(crate) fn maker(&self) -> Option<Epoch> {
        let newest = self.segments.iter().rev().find_map(|segment| segment.parts.last());
        newest.map(|part| part.record.epoch)
    }

    /// Where the last visible sample ends.
    pub(crate) fn end(&self) -> Option<MediaTime> {
        self.segments.back().map(|last| last.end)
    }
}

/// Workers are confined because they may be taken over: what they write may not reach a playlist or a sum unchecked.
fn check_init(init: &InitRecord) -> Result<(), Refusal> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ',' | '-' | '_' | '+');
    in_range(init.codecs.chars().all(is_plain), &init.rung, "codecs")?;
    let said = init.bandwidth_bps.max(init.announced_bps.unwrap_or(0));
    in_range(said <= MAX_BANDWIDTH_BPS, &init.rung, "bandwidth")
}

fn check_part(part: &PartRecord) -> Result<(), Refusal> {
    in_range(part.msn.0 <= MAX_MSN, &part.rung, "segment number")?;
    in_range(part.part.0 < MAX_PARTS, &part.rung, "part number")?;
    for moment in [part.segment_start, part.start, part.end] {
        in_range((0..MAX_TIME).contains(&moment.0), &part.rung, "time")?;
    }
    Ok(())
}

fn in_range(is_in_range: bool, rung: &RungId, what: &'static str) -> Result<(), Refusal> {
    if is_in_range { Ok(()) } else { Err(Refusal::OutOfRange { rung: rung.clone(), what }) }
}
