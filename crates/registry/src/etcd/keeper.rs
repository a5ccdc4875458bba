//! What to write next so that the kept records stand in the registry. Decides; never writes or sleeps.
//!
//! ```text
//! wanted --absent, or of this process, or not ours yet--> write --done--> stands
//! stands --gone, or changed by set--> write        stands --another's since--> left to it until it goes
//! ```
//!
//! The last process to start under a name has it. One that was asleep, and wakes up after its lease has gone, finds its
//! successor's record and leaves it alone.
//!
//! The caller owns the store and the clock: ask [`Keeper::next`], do as it says, report with [`Keeper::wrote`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millrace_types::Mono;

use crate::view::{Entry, View};

/// A record is written twice a second at most.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// What the holder of a handle wants of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// JSON; `None`: it shall go.
    pub text: Option<String>,
    /// Of which handle: a dropped one takes nothing from its successor.
    pub token: u64,
}

/// All kept keys.
pub type Wishes = BTreeMap<String, Wanted>;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Replace what was written at `revision` (0: nothing is there) by `text`, under the lease; `None`: delete it.
    Write { key: String, revision: i64, text: Option<String> },
    /// Nothing is there of what shall go: forget the wish.
    Forget { key: String },
    /// Nothing, until then or until something changes.
    Wait(Option<Mono>),
}

/// Of one key.
#[derive(Debug, Default)]
struct State {
    /// This process has written it, for the handle of that token.
    claimed_by: Option<u64>,
    /// A write that is under way: for which handle, and what was to be there at which revision.
    under_way: Option<(u64, i64)>,
    /// The first that was never answered, since one took place.
    unanswered: Option<(u64, i64)>,
    /// When it may be written again.
    next: Mono,
    /// It is another's.
    superseded: bool,
}

/// Keeps the kept records.
#[derive(Debug, Default)]
pub struct Keeper {
    states: BTreeMap<String, State>,
    /// All that this process ever had, the current one last.
    leases: Vec<i64>,
}

impl Keeper {
    /// From now on records go under this lease.
    pub fn leased(&mut self, lease: i64) {
        if self.leases.last() != Some(&lease) {
            self.leases.push(lease);
        }
    }

    /// The next step, given what is known and what is wanted.
    pub fn next(&mut self, now: Mono, view: &View, wishes: &Wishes) -> Step {
        let mut wake: Option<Mono> = None;
        for (key, wanted) in wishes {
            let Some(step) = self.due(key, wanted, view.get(key)) else { continue };
            let ready = self.states.get(key).map_or(now, |state| state.next);
            if ready <= now || wanted.text.is_none() {
                return step;
            }
            wake = Some(wake.map_or(ready, |wake| wake.min(ready)));
        }
        Step::Wait(wake)
    }

    /// A write is under way, in the place of what was written at `revision`. One that is never answered may have taken place, and
    /// what stands there then is a successor's.
    pub fn writes(&mut self, key: &str, revision: i64, wanted: Option<&Wanted>) {
        let state = self.states.entry(key.to_owned()).or_default();
        state.unanswered = state.unanswered.or(state.under_way);
        state.under_way = wanted.map(|wanted| (wanted.token, revision));
    }

    /// A write was answered, whether it took place or not.
    pub fn wrote(&mut self, now: Mono, key: &str, took_place: bool, wanted: Option<&Wanted>) {
        let state = self.states.entry(key.to_owned()).or_default();
        state.under_way = None;
        if took_place {
            state.unanswered = None;
            state.claimed_by = wanted.map(|wanted| wanted.token);
            state.next = now + WRITE_EVERY;
        }
    }

    /// Nothing is wanted of the key any more.
    pub fn forget(&mut self, key: &str) {
        self.states.remove(key);
    }

    /// The keys that are another's by now.
    pub fn superseded(&self) -> BTreeSet<String> {
        let superseded = self.states.iter().filter(|(_, state)| state.superseded);
        superseded.map(|(key, _)| key.clone()).collect()
    }

    fn due(&mut self, key: &str, wanted: &Wanted, found: Option<&Entry>) -> Option<Step> {
        let ours = |entry: &Entry| self.leases.contains(&entry.lease);
        let state = self.states.entry(key.to_owned()).or_default();
        let write = |revision, text| Step::Write { key: key.to_owned(), revision, text };
        let Some(text) = &wanted.text else {
            return Some(match found.filter(|entry| ours(entry)) {
                Some(entry) => write(entry.revision, None),
                None => Step::Forget { key: key.to_owned() },
            });
        };
        let (claimed_by, unanswered) = (state.claimed_by, state.unanswered.or(state.under_way));
        let may_have_written = |entry: &Entry| {
            let another = |(token, at)| token == wanted.token && entry.revision != at;
            claimed_by == Some(wanted.token) || unanswered.is_some_and(another)
        };
        state.superseded = false;
        match found {
            None => Some(write(0, Some(text.clone()))),
            Some(entry) if Some(&entry.lease) == self.leases.last() && entry.text == *text => None,
            Some(entry) if ours(entry) || entry.lease == 0 || !may_have_written(entry) => {
                Some(write(entry.revision, Some(text.clone())))
            }
            Some(_) => {
                state.superseded = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/m/nodes/a";

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn wishes(text: Option<&str>) -> Wishes {
        [(KEY.to_owned(), Wanted { text: text.map(str::to_owned), token: 1 })].into()
    }

    fn found(text: &str, revision: i64, lease: i64) -> View {
        let mut view = View::default();
        view.put(KEY, Entry { text: text.to_owned(), revision, lease });
        view
    }

    fn write(revision: i64, text: Option<&str>) -> Step {
        Step::Write { key: KEY.to_owned(), revision, text: text.map(str::to_owned) }
    }

    fn keeper_that_wrote(lease: i64) -> Keeper {
        let mut keeper = Keeper::default();
        keeper.leased(lease);
        keeper.wrote(at(0), KEY, true, wishes(Some("x")).get(KEY));
        keeper
    }

    #[test]
    fn changes_in_quick_succession_are_written_as_one_half_a_second_later() {
        let (mut keeper, view) = (keeper_that_wrote(5), found("x", 1, 5));
        assert_eq!(keeper.next(at(10), &view, &wishes(Some("x"))), Step::Wait(None));
        assert_eq!(keeper.next(at(20), &view, &wishes(Some("y"))), Step::Wait(Some(at(500))));
        assert_eq!(keeper.next(at(500), &view, &wishes(Some("z"))), write(1, Some("z")));
    }

    #[test]
    fn a_record_that_vanished_or_has_an_earlier_lease_of_ours_is_written_again() {
        let mut keeper = keeper_that_wrote(5);
        let wish = wishes(Some("x"));
        assert_eq!(keeper.next(at(600), &View::default(), &wish), write(0, Some("x")));
        keeper.leased(6);
        assert_eq!(keeper.next(at(600), &found("x", 9, 5), &wish), write(9, Some("x")));
        assert_eq!(keeper.next(at(600), &found("x", 9, 0), &wish), write(9, Some("x")));
        assert_eq!(keeper.next(at(600), &found("x", 9, 6), &wish), Step::Wait(None));
    }

    #[test]
    fn who_starts_later_takes_the_name_and_who_wakes_up_leaves_it() {
        let mut newcomer = Keeper::default();
        newcomer.leased(8);
        assert_eq!(
            newcomer.next(at(0), &found("x", 3, 5), &wishes(Some("n"))),
            write(3, Some("n"))
        );
        let mut sleeper = keeper_that_wrote(5);
        sleeper.leased(9);
        let wish = wishes(Some("x"));
        assert_eq!(sleeper.next(at(600), &found("n", 4, 8), &wish), Step::Wait(None));
        assert!(sleeper.superseded().contains(KEY));
        assert_eq!(sleeper.next(at(700), &View::default(), &wish), write(0, Some("x")));
        assert!(sleeper.superseded().is_empty());
    }

    #[test]
    fn who_fell_asleep_before_its_first_write_was_answered_leaves_it_as_well() {
        let wish = wishes(Some("x"));
        let unsure = || {
            let mut sleeper = Keeper::default();
            sleeper.leased(5);
            assert_eq!(sleeper.next(at(0), &View::default(), &wish), write(0, Some("x")));
            sleeper.writes(KEY, 0, wish.get(KEY));
            sleeper.leased(9);
            sleeper
        };
        let mut sleeper = unsure();
        assert_eq!(sleeper.next(at(600), &found("n", 4, 8), &wish), Step::Wait(None));
        assert!(sleeper.superseded().contains(KEY));
        // Its view is behind: it tries again, and hears who is there.
        let mut sleeper = unsure();
        assert_eq!(sleeper.next(at(600), &View::default(), &wish), write(0, Some("x")));
        sleeper.writes(KEY, 0, wish.get(KEY));
        sleeper.wrote(at(610), KEY, false, wish.get(KEY));
        assert_eq!(sleeper.next(at(620), &found("n", 4, 8), &wish), Step::Wait(None));
        // What it was to replace is there still: it did not take place. And its own is its own.
        let mut newcomer = Keeper::default();
        newcomer.leased(8);
        newcomer.writes(KEY, 3, wish.get(KEY));
        assert_eq!(newcomer.next(at(0), &found("o", 3, 5), &wish), write(3, Some("x")));
        assert_eq!(newcomer.next(at(0), &found("x", 4, 8), &wish), Step::Wait(None));
        assert!(newcomer.superseded().is_empty());
        // Who heard that another is there, and has written nothing, is the last to start.
        newcomer.wrote(at(0), KEY, false, wish.get(KEY));
        assert_eq!(newcomer.next(at(0), &found("n", 4, 7), &wish), write(4, Some("x")));
    }

    #[test]
    fn what_is_withdrawn_is_deleted_but_never_anothers() {
        let mut keeper = keeper_that_wrote(5);
        assert_eq!(keeper.next(at(600), &found("x", 2, 5), &wishes(None)), write(2, None));
        let forget = Step::Forget { key: KEY.to_owned() };
        assert_eq!(keeper.next(at(600), &found("n", 4, 8), &wishes(None)), forget);
        assert_eq!(keeper.next(at(600), &View::default(), &wishes(None)), forget);
    }
}
