//! Which part comes next in a rung that one or two encoders make: holds parts until it is their turn, and goes on from the
//! other encoder's when those of the one that is shown stay away.
//!
//! ```text
//!            ┌── part of the encoder that is shown, or the first of a segment: at once ──┐
//! Following ─┤                                                                           ├─→ next part
//!            └── only the other's is there: after PATIENCE, if that may go on ───────────┘
//! ```
//! A whole segment is anybody's: the first encoder that comes opens it. Inside one, another may go on when every part before
//! was equal byte for byte, when both opened the segment with an IDR under the same init section (the pictures stay
//! decodable, and are slightly off until the next IDR), or when its part begins with an IDR itself. Knows records only; what
//! was given out once is its caller's, and never changes.

use std::{
    collections::{BTreeMap, btree_map::Range},
    time::Duration,
};

use millrace_types::{Epoch, Mono, Msn, PartNo};

use crate::{
    Hash,
    segment::{Part, Segment},
};

/// How much later than due the next part of the encoder that is shown may come before the other's is taken.
pub(crate) const PATIENCE: Duration = Duration::from_millis(150);

/// How long a part that was cut short waits for a whole one: on a host that is short of time an encoder that goes on lags by
/// seconds.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);

type At = (Msn, PartNo);

/// A part that waits for its turn.
#[derive(Clone, Debug)]
struct Held {
    came: Mono,
    /// Who pushed it; who made it stands in its record.
    writer: Epoch,
    part: Part,
}

/// What is kept of a part to compare its maker's with another's.
#[derive(Clone, Copy, Debug)]
struct Trait {
    hash: Hash,
    init: Hash,
    independent: bool,
}

/// The parts of one rung that are not shown yet, and who is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Splice {
    held: BTreeMap<At, Vec<Held>>,
    /// Of the open segment and later ones: what each maker's parts were, from part 0 on without a hole.
    made: BTreeMap<(Msn, Epoch), Vec<Trait>>,
    /// When the newest part that was given out came.
    shown_at: Mono,
}

impl Splice {
    /// A part came. Its position is not in the run yet, or is another's there: then it only counts for the comparison.
    pub(crate) fn came(&mut self, now: Mono, writer: Epoch, part: Part, is_shown: bool) {
        let record = &part.record;
        let made = self.made.entry((record.msn, record.epoch)).or_default();
        if made.len() == record.part.0 as usize {
            let (hash, init, independent) = (record.hash, record.init, record.independent);
            made.push(Trait { hash, init, independent });
        }
        if !is_shown {
            let at = (record.msn, record.part);
            self.held.entry(at).or_default().push(Held { came: now, writer, part });
        }
    }

    /// The next part of the run, whose position is `at` and whose open segment, if any, is `open`. `patient`: two encoders are
    /// at it, and the one that is shown is waited for.
    pub(crate) fn next(
        &mut self,
        now: Mono,
        at: At,
        open: Option<&Segment>,
        patient: bool,
    ) -> Option<Part> {
        let held = self.held.get(&at)?;
        let index = match patient {
            true => held
                .iter()
                .enumerate()
                .filter_map(|(index, held)| Some((self.due(held, open)?, index)))
                .min()
                .filter(|(due, _)| now >= *due)
                .map(|(_, index)| index)?,
            false => 0,
        };
        let chosen = self.held.remove(&at)?.swap_remove(index);
        self.shown_at = self.shown_at.max(chosen.came);
        // What lies before can be anybody's: it is there.
        self.held = self.held.split_off(&at);
        self.made = self.made.split_off(&(at.0, Epoch::default()));
        Some(chosen.part)
    }

    /// When [`Splice::next`] has something to give that it has not now, if nothing else comes.
    pub(crate) fn deadline(&self, at: At, open: Option<&Segment>) -> Option<Mono> {
        let held = self.held.get(&at)?;
        held.iter().filter_map(|held| self.due(held, open)).min()
    }

    /// When a part may be shown, if nothing better comes: one of the encoder that is shown at once, another's once the next of
    /// that is late, a part's length after its last; a short one when nobody goes on. `None`: never.
    fn due(&self, held: &Held, open: Option<&Segment>) -> Option<Mono> {
        let record = &held.part.record;
        let is_own = shown(open).is_none_or(|shown| shown == record.epoch);
        if !is_own && !self.may_go_on(held, open) {
            return None;
        }
        let length = Duration::from_secs_f64(record.duration_seconds().clamp(0.0, 1.0));
        Some(match (record.short, is_own) {
            (true, _) => held.came + SHORT_PATIENCE,
            (false, true) => held.came,
            (false, false) => held.came.max(self.shown_at + length) + PATIENCE,
        })
    }

    fn may_go_on(&self, held: &Held, open: Option<&Segment>) -> bool {
        let record = &held.part.record;
        let Some(open) = open.filter(|open| !open.parts.is_empty()) else { return true };
        if record.independent && record.init == open.init {
            return true;
        }
        let Some(made) = self.made.get(&(record.msn, record.epoch)) else { return false };
        if made.len() < open.parts.len() || record.init != open.init {
            return false;
        }
        let equal = || made.iter().zip(&open.parts).all(|(own, run)| own.hash == run.record.hash);
        let opened = &open.parts[0].record;
        let alike = made[0].independent && opened.independent && made[0].init == opened.init;
        alike || equal()
    }

    /// Whether another encoder opened that segment under an init section other than this part's.
    pub(crate) fn is_at_odds(&self, part: &Part) -> bool {
        let record = &part.record;
        let segment = (record.msn, Epoch::default())..(record.msn.next(), Epoch::default());
        let mut others = self.made.range(segment).filter(|((_, maker), _)| *maker != record.epoch);
        others.any(|(_, made)| made.first().is_some_and(|first| first.init != record.init))
    }

    /// The part of that maker, or with `None` of anybody, that waits at a position.
    pub(crate) fn held(&self, at: At, maker: Option<Epoch>) -> Option<&Part> {
        let held = self.held.get(&at)?.iter().map(|held| &held.part);
        let mut theirs = held.filter(|part| maker.is_none_or(|maker| part.record.epoch == maker));
        theirs.next()
    }

    /// Every part that waits, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.held.values().flatten().map(|held| &held.part)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    /// The first segment whose beginning waits, from `from` on.
    pub(crate) fn first_segment(&self, from: Msn) -> Option<Msn> {
        let range: Range<'_, At, _> = self.held.range((from, PartNo(0))..);
        range.map(|(at, _)| at).find(|(_, part)| part.0 == 0).map(|(msn, _)| *msn)
    }

    /// The newest position at which a part waits.
    pub(crate) fn newest(&self) -> Option<At> {
        self.held.keys().next_back().copied()
    }

    /// Forgets what waits before that segment.
    pub(crate) fn skip_to(&mut self, msn: Msn) {
        self.held = self.held.split_off(&(msn, PartNo(0)));
    }

    /// Forgets what was cut short: somebody makes a whole one.
    pub(crate) fn forget_short(&mut self) {
        self.held.values_mut().for_each(|held| held.retain(|held| !held.part.record.short));
        self.held.retain(|_, held| !held.is_empty());
    }

    /// Forgets what waits, except what `writer` pushed.
    pub(crate) fn keep_only(&mut self, writer: Option<Epoch>) {
        for held in self.held.values_mut() {
            held.retain(|held| Some(held.writer) == writer);
        }
        self.held.retain(|_, held| !held.is_empty());
    }
}

/// The maker of the newest part of a segment that is not over.
fn shown(open: Option<&Segment>) -> Option<Epoch> {
    let open = open.filter(|open| !open.closed)?;
    open.parts.last().map(|part| part.record.epoch)
}
