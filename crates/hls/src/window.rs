//! The window of one stream: which records are there, who may add to them, what a player may fetch.
//!
//! First writer wins: a record never changes once it is in. Writers carry an epoch; older ones than the newest seen are fenced.
//! The media bytes lie beside their record, so that forgetting a record frees them. Text is written by the playlist modules.

mod past;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use millrace_types::{Epoch, Mark, MediaTime, Mono, Msn, PartNo, RungId, Versions};
use serde::{Deserialize, Serialize};

use crate::{
    Hash, InitRecord, PartRecord, RenditionKind,
    rung::{Push, RungWindow},
    segment::Segment,
};

/// `EXT-X-TARGETDURATION` of every playlist; segments of up to 2.4 s round to it.
pub const TARGET_DURATION: Duration = Duration::from_secs(2);

/// Later than any deadline: nobody is waited for.
const FAR: Mono = Mono(Duration::MAX);

/// What a writer announces before its first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpen {
    /// Who writes.
    pub epoch: Epoch,
    /// The other writer of the generation, which makes the same stream elsewhere and goes on: all others are fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Epoch>,
    /// Every rung that will come, in the order of the multivariant playlist.
    pub rungs: Vec<RungId>,
    /// `PART-TARGET` in milliseconds, the same for the stream's life.
    pub part_target_ms: u32,
    /// `PART-HOLD-BACK` in milliseconds, at least three times `part_target_ms`.
    pub hold_back_ms: u32,
    /// What the writer's program speaks.
    #[serde(default, skip_serializing_if = "Versions::is_unsaid")]
    pub speaks: Versions,
    /// How far the writer is about to restore each rung from a window of its own, in order and without holes. Players wait
    /// until then: what they saw at the origin before this one is not all here yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restores: Vec<Mark>,
    /// Another writer comes right behind it and restores what it has, beside this one: players saw what was made by either, so
    /// they wait for both.
    #[serde(default, skip_serializing_if = "is_false")]
    pub followed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
const fn is_false(it: &bool) -> bool {
    !*it
}

/// A record was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is new.
    Added,
    /// The same one was there already.
    Repeat,
    /// The other encoder's has its place.
    Spare,
}

/// Why a record was not taken. `reason()` is the wire value and metric label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A newer writer has taken over.
    #[error("epoch {epoch} is fenced by {fence}")]
    Fenced {
        /// The writer's.
        epoch: Epoch,
        /// The newest one seen.
        fence: Epoch,
    },
    /// Another part is there under the same number.
    #[error("part {msn}.{part} is there with another hash")]
    Conflict {
        /// Its segment.
        msn: Msn,
        /// Its number.
        part: PartNo,
    },
    /// The window has moved past it.
    #[error("part {msn}.{part} lies before the window")]
    TooOld {
        /// Its segment.
        msn: Msn,
        /// Its number.
        part: PartNo,
    },
    /// The rung was not announced.
    #[error("rung {rung} was not announced")]
    UnknownRung {
        /// The rung.
        rung: RungId,
    },
    /// The init section must come first.
    #[error("init section {init} is not there")]
    UnknownInit {
        /// Its hash.
        init: Hash,
    },
    /// The part ends where it starts, or earlier.
    #[error("part {msn}.{part} has no duration")]
    EmptyPart {
        /// Its segment.
        msn: Msn,
        /// Its number.
        part: PartNo,
    },
    /// A number, a moment or a text that no writer of ours makes.
    #[error("{what} of rung {rung} is out of range")]
    OutOfRange {
        /// The rung.
        rung: RungId,
        /// What of it.
        what: &'static str,
    },
    /// The first encoder of the stream has another init section: the two are not interchangeable.
    #[error("segment {msn}: the first encoder has another init section than {init}")]
    OtherEncoder {
        /// The segment.
        msn: Msn,
        /// The part's.
        init: Hash,
    },
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

impl Refusal {
    /// Wire value and metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "fenced",
            Self::Conflict { .. } => "conflict",
            Self::TooOld { .. } => "too_old",
            Self::UnknownRung { .. } => "unknown_rung",
            Self::UnknownInit { .. } => "unknown_init",
            Self::EmptyPart { .. } => "empty_part",
            Self::OutOfRange { .. } => "out_of_range",
            Self::OtherEncoder { .. } => "other_encoder",
            Self::Ended => "ended",
        }
    }
}

/// What came of asking for a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartLookup {
    /// Its bytes.
    Here(Bytes),
    /// It is the next one, named by a preload hint: it may come.
    Hinted,
    /// It is not there and will not come, as far as is known.
    Absent,
}

/// How far one rung has come.
#[derive(Clone, Debug, PartialEq)]
pub struct RungStatus {
    /// Which rung.
    pub rung: RungId,
    /// What it carries, once its init section is there.
    pub init: Option<InitRecord>,
    /// Peak bits per second that the multivariant playlist says of it alone; likewise.
    pub bandwidth_bps: Option<u64>,
    /// The newest visible part.
    pub last: Option<(Msn, PartNo)>,
    /// Where that part ends.
    pub end: Option<MediaTime>,
    /// Measured over the listed segments that are full.
    pub bitrate_bps: Option<u64>,
    /// Under which epoch the newest visible part was made.
    pub maker: Option<Epoch>,
}

/// A record with its bytes, to be given to another window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// An init section, before the first part that needs it.
    Init(InitRecord, Bytes),
    /// A part.
    Part(PartRecord, Bytes),
}

/// The window of one stream.
#[derive(Clone, Debug)]
pub struct Window {
    open: StreamOpen,
    rungs: BTreeMap<RungId, RungWindow>,
    ended: bool,
    /// The first to announce itself had a window of its own: there may be other writers of which nothing is known here.
    is_refilled: bool,
}

impl Window {
    /// An empty window, fenced at the writer's epoch.
    pub fn open(open: StreamOpen) -> Self {
        let rungs = open.rungs.iter().map(|rung| (rung.clone(), RungWindow::default())).collect();
        let is_refilled = !open.restores.is_empty();
        Self { open, rungs, ended: false, is_refilled }
    }

    /// A writer announces itself, maybe with another ladder: fences as [`Window::fence`] does, except the writer that it is
    /// `beside`. An ended stream begins anew.
    ///
    /// Rungs that are no longer announced stay as they are. `PART-TARGET` stays as well: players rely on it.
    ///
    /// # Errors
    /// [`Refusal::Fenced`] for an older epoch.
    pub fn reopen(&mut self, open: StreamOpen) -> Result<Vec<Mark>, Refusal> {
        if self.ended && open.epoch > self.open.epoch {
            *self = Self::open(open);
            return Ok(Vec::new());
        }
        let marks = self.fence_but(open.epoch, open.beside)?;
        for rung in &open.rungs {
            self.rungs.entry(rung.clone()).or_default();
        }
        let is_newest = open.epoch == self.open.epoch;
        if is_newest {
            self.open.rungs = open.rungs;
        }
        if is_newest && open.beside.is_none() {
            (self.open.restores, self.open.followed) = (open.restores, open.followed);
        } else {
            // Of two, each restores what it has.
            self.open.restores.extend(open.restores);
            self.open.followed = false;
        }
        Ok(marks)
    }

    /// Refuses writers older than `epoch` from now on and says how far each rung has come without a hole; forgets what lies past a hole.
    ///
    /// A new generation cannot go on inside a segment: open segments are closed short, rungs that lag get gaps.
    ///
    /// # Errors
    /// [`Refusal::Fenced`] for an older epoch.
    pub fn fence(&mut self, epoch: Epoch) -> Result<Vec<Mark>, Refusal> {
        self.fence_but(epoch, None)
    }

    fn fence_but(&mut self, epoch: Epoch, beside: Option<Epoch>) -> Result<Vec<Mark>, Refusal> {
        self.check(epoch)?;
        if epoch > self.open.epoch {
            let goes_on = |other: &Epoch| {
                let is_live = Some(*other) == self.open.beside || *other >= self.open.epoch;
                is_live && *other < epoch && other.generation == epoch.generation
            };
            let beside = beside.filter(goes_on);
            if self.is_dual() {
                if epoch.generation == self.open.epoch.generation {
                    // The router lives, and has everything made that no player has seen.
                    self.rungs.values_mut().for_each(RungWindow::forget_short);
                }
                // What the one that goes may have left.
                self.rungs.values_mut().for_each(|rung| rung.advance(FAR, true));
            }
            self.rungs.values_mut().for_each(|rung| rung.forget_early(beside));
            if epoch.generation > self.open.epoch.generation {
                self.close_all();
            }
            (self.open.epoch, self.open.beside) = (epoch, beside);
        }
        Ok(self.rungs.iter().filter_map(|(id, rung)| rung.mark(id)).collect())
    }

    /// Whether two writers make the stream.
    pub const fn is_dual(&self) -> bool {
        self.open.beside.is_some()
    }

    /// Time has passed: goes on with what the other encoder made where that is due.
    pub fn tick(&mut self, now: Mono) {
        if self.is_dual() && !self.ended {
            self.rungs.values_mut().for_each(|rung| rung.advance(now, true));
        }
    }

    /// When the next [`Window::tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        let is_live = self.is_dual() && !self.ended;
        self.rungs.values().filter(|_| is_live).filter_map(RungWindow::deadline).min()
    }

    /// A router claims the stream's session under a new generation, which fences as [`Window::fence`] does. A stream that has
    /// ended has nothing to go on from.
    ///
    /// # Errors
    /// [`Refusal::Fenced`] unless the generation is above the one in force: of two that claim the same, one gets it.
    pub fn claim(&mut self, epoch: Epoch) -> Result<Vec<Mark>, Refusal> {
        let fence = self.open.epoch;
        if epoch.generation <= fence.generation {
            return Err(Refusal::Fenced { epoch, fence });
        }
        let marks = self.fence(epoch)?;
        Ok(if self.ended { Vec::new() } else { marks })
    }

    /// Discontinuity number of the newest segment of any rung; `None` before the first.
    pub fn discontinuity(&self) -> Option<u64> {
        let newest = self.rungs.values().filter_map(|rung| rung.segments().next_back());
        newest.map(|segment| segment.discontinuity).max()
    }

    /// Adds an init section. `bytes` have the record's hash: the caller checks.
    ///
    /// # Errors
    /// Says why not.
    pub fn add_init(
        &mut self,
        writer: Epoch,
        record: InitRecord,
        bytes: Bytes,
    ) -> Result<Accepted, Refusal> {
        let rung = self.writable(writer, &record.rung)?;
        rung.add_init(record, bytes)
    }

    /// Adds a part. `writer` is who pushes it, `record.epoch` who made it. `bytes` have the record's hash and length: the caller checks.
    ///
    /// # Errors
    /// Says why not.
    pub fn add_part(
        &mut self,
        now: Mono,
        writer: Epoch,
        record: PartRecord,
        bytes: Bytes,
    ) -> Result<Accepted, Refusal> {
        self.admit(writer, &record.rung)?;
        let (is_dual, is_newest) = (self.is_dual(), writer == self.open.epoch);
        // Of two, the other fills what one of them lacks.
        let in_order = !self.has_what_was_announced() && !is_dual;
        let rung = self.writable(writer, &record.rung)?;
        rung.add_part(Push { now, writer, is_dual, is_newest, in_order }, record, bytes)
    }

    /// The publisher is gone for good: closes what is open; the playlists end with `EXT-X-ENDLIST`.
    ///
    /// # Errors
    /// [`Refusal::Fenced`] for an older epoch.
    pub fn end(&mut self, epoch: Epoch) -> Result<(), Refusal> {
        self.check(epoch)?;
        self.rungs.values_mut().for_each(|rung| {
            rung.advance(FAR, true);
            rung.forget_early(None);
        });
        self.close_all();
        self.ended = true;
        Ok(())
    }

    /// Forgets every record of an ended stream; only the fence stays.
    pub fn release(&mut self) {
        self.rungs.clear();
        self.open.rungs.clear();
        self.ended = true;
    }

    /// Forgets the oldest segments, of all rungs alike, until at most `max_bytes` of media are left; the newest segment of each
    /// rung stays.
    pub fn forget_beyond(&mut self, max_bytes: u64) {
        while self.rungs.values().map(RungWindow::bytes).sum::<u64>() > max_bytes {
            let Some(oldest) = self.rungs.values().filter_map(RungWindow::oldest_of_many).min()
            else {
                return;
            };
            self.rungs.values_mut().for_each(|rung| rung.forget_oldest(oldest));
        }
    }

    fn check(&self, epoch: Epoch) -> Result<(), Refusal> {
        let fence = self.open.epoch;
        let is_fenced = epoch < fence && self.open.beside != Some(epoch);
        if is_fenced { Err(Refusal::Fenced { epoch, fence }) } else { Ok(()) }
    }

    fn writable(&mut self, writer: Epoch, rung: &RungId) -> Result<&mut RungWindow, Refusal> {
        self.admit(writer, rung)?;
        if self.ended {
            return Err(Refusal::Ended);
        }
        self.rungs.get_mut(rung).ok_or_else(|| Refusal::UnknownRung { rung: rung.clone() })
    }

    /// A newer writer than any fences the others. Where the window is refilled it announces itself first: it may be the one that
    /// goes on beside another, and have what nobody else has.
    fn admit(&mut self, writer: Epoch, rung: &RungId) -> Result<(), Refusal> {
        if writer > self.open.epoch {
            if self.is_refilled {
                return Err(Refusal::UnknownRung { rung: rung.clone() });
            }
            self.fence(writer)?;
        }
        self.check(writer)
    }

    fn close_all(&mut self) {
        let were_open: Vec<bool> = self.rungs.values_mut().map(RungWindow::close).collect();
        let furthest = self.rungs.values().max_by_key(|rung| rung.last());
        let furthest: Vec<Segment> =
            furthest.into_iter().flat_map(RungWindow::segments).cloned().collect();
        for (rung, was_open) in self.rungs.values_mut().zip(were_open) {
            rung.follow(&furthest, was_open);
        }
    }

    /// The newest writer's announcement; its epoch is the fence.
    pub fn announced(&self) -> &StreamOpen {
        &self.open
    }

    /// Whether everything is here that its writers said they would restore, and no other is still to say so.
    pub fn is_restored(&self) -> bool {
        !self.awaits_follower() && self.has_what_was_announced()
    }

    /// Whether another writer is still to announce what it restores.
    pub const fn awaits_follower(&self) -> bool {
        self.open.followed && !self.ended
    }

    fn has_what_was_announced(&self) -> bool {
        let is_here = |mark: &Mark| {
            let last = self.rungs.get(&mark.rung).and_then(RungWindow::last);
            last >= Some((mark.msn, mark.part))
        };
        self.ended || self.open.restores.iter().all(is_here)
    }

    /// What another origin needs of a rung to write the same playlist, in the order in which it needs it: the listed
    /// segments, then parts that wait for a hole before them. A part that ends a closed segment says so.
    pub fn backlog(&self, rung: &RungId) -> Vec<Backlog> {
        self.rungs.get(rung).map(RungWindow::backlog).unwrap_or_default()
    }

    /// How far each announced rung comes with its backlog: for [`StreamOpen::restores`].
    pub fn restorable(&self) -> Vec<Mark> {
        let announced = self.open.rungs.iter().filter_map(|id| Some((id, self.rungs.get(id)?)));
        announced.filter_map(|(id, rung)| rung.restorable(id)).collect()
    }

    /// Whether [`Window::end`] was called.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether there is, or was, a rung of that name.
    pub fn has_rung(&self, rung: &RungId) -> bool {
        self.rungs.contains_key(rung)
    }

    /// Whether the rung shows pictures; `None` without an init section.
    pub fn is_video(&self, rung: &RungId) -> Option<bool> {
        let init = self.rungs.get(rung)?.current_init()?;
        Some(matches!(init.kind, RenditionKind::Video { .. }))
    }

    /// The init section of that hash.
    pub fn init(&self, rung: &RungId, hash: Hash) -> Option<Bytes> {
        self.rungs.get(rung)?.init(hash).cloned()
    }

    /// A part, or whether to wait for it.
    pub fn part(&self, rung: &RungId, msn: Msn, part: PartNo) -> PartLookup {
        let Some(window) = self.rungs.get(rung) else { return PartLookup::Absent };
        match window.part(msn, part) {
            Some(found) if found.bytes.is_empty() => PartLookup::Absent,
            Some(found) => PartLookup::Here(found.bytes.clone()),
            None if !self.ended && window.next() == Some((msn, part)) => PartLookup::Hinted,
            None => PartLookup::Absent,
        }
    }

    /// The parts of a full segment, to be sent one after the other; `None` while it is open, or when it is a gap or not there.
    pub fn segment(&self, rung: &RungId, msn: Msn) -> Option<Vec<Bytes>> {
        let segment = self.rungs.get(rung)?.segment(msn)?;
        let full = segment.closed && !segment.is_gap();
        let bytes = segment.parts.iter().map(|part| part.bytes.clone());
        full.then(|| bytes.filter(|bytes| !bytes.is_empty()).collect())
    }

    /// How far each announced rung has come.
    pub fn status(&self) -> Vec<RungStatus> {
        let announced = self.open.rungs.iter().filter_map(|id| Some((id, self.rungs.get(id)?)));
        announced
            .map(|(id, rung)| RungStatus {
                rung: id.clone(),
                init: rung.current_init().cloned(),
                bandwidth_bps: rung.bandwidth_bps(),
                last: rung.last(),
                end: rung.end(),
                bitrate_bps: bitrate_bps(rung),
                maker: rung.maker(),
            })
            .collect()
    }

    /// Segments before which a discontinuity lies that no record says, because a rung's encoder became another.
    pub(crate) fn breaks(&self) -> BTreeSet<Msn> {
        self.rungs.values().flat_map(RungWindow::breaks).copied().collect()
    }

    pub(crate) fn rung(&self, rung: &RungId) -> Option<&RungWindow> {
        self.rungs.get(rung)
    }
}

/// Mean bits per second of the listed segments that are full.
pub(crate) fn bitrate_bps(rung: &RungWindow) -> Option<u64> {
    let full = || rung.listed().filter(|segment| segment.closed && !segment.is_gap());
    let seconds: f64 = full().map(Segment::seconds).sum();
    let bytes: u64 = full().map(Segment::bytes).sum();
    (seconds > 0.0).then(|| (bytes as f64 * 8.0 / seconds) as u64)
}
