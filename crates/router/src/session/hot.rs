//! Whether so many watch the stream that it is to have a second encoder. Decided by `crate::hot` for all streams alike; here
//! the session follows, and says so.

use millrace_sched::Heat;
use millrace_telemetry::Clock;
use millrace_types::{Because, DecisionKind, Wall};

use super::Session;

/// A stream that so many watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hot {
    since: Wall,
    /// `None`: the router before knew.
    viewers: Option<u64>,
    /// It has a place in the share of the farm that is for such streams.
    has_place: bool,
}

impl Hot {
    /// As the record of the router before has it.
    pub(super) const fn inherited(since: Wall) -> Self {
        Self { since, viewers: None, has_place: true }
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match self.viewers {
            Some(1) => "hot, 1 viewer".to_owned(),
            Some(viewers) => format!("hot, {} viewers", grouped(viewers)),
            None => "hot".to_owned(),
        }
    }
}

impl Session {
    /// Whether it is to have a second encoder for its viewers, and may.
    pub(super) fn is_hot(&self) -> bool {
        self.hot.is_some_and(|hot| hot.has_place)
    }

    /// Looks how many watch it. One that is pinned needs no viewers.
    pub(super) fn look_at_heat(&mut self, is_pinned: bool) {
        let heat = self.context.heats.borrow().get(&self.stream).copied();
        let heat = if is_pinned { Some(Heat::Cold) } else { heat };
        let (viewers, has_place) = match heat {
            None => return,
            Some(Heat::Cold) => (None, false),
            Some(Heat::Waits { viewers }) => (Some(viewers), false),
            Some(Heat::Granted { viewers }) => (Some(viewers), true),
        };
        let since = self.hot.map_or_else(|| self.context.clock.wall(), |hot| hot.since);
        let now = viewers.map(|_| Hot { since, viewers, has_place });
        let before = std::mem::replace(&mut self.hot, now);
        let place = |hot: Option<Hot>| hot.map(|hot| hot.has_place);
        if place(before) == place(now) || is_pinned {
            return;
        }
        let (kind, because) = match (now, place(before)) {
            (Some(hot), _) if hot.has_place => (DecisionKind::Hot, Because::Viewers),
            (Some(_), _) => (DecisionKind::NotPaired, Because::ShareUsed),
            (None, Some(true)) => (DecisionKind::Cooled, Because::FewViewers),
            (None, _) => return,
        };
        let words = now.map(|hot| hot.words()).unwrap_or_default();
        let noted = self.decision(kind).because(because);
        self.note(noted.saying(words));
    }
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_said_in_groups_of_digits() {
        let said = |viewers| Hot { viewers: Some(viewers), ..Hot::inherited(Wall(0)) }.words();
        let expected =
            ["hot, 7 viewers", "hot, 999 viewers", "hot, 1,240 viewers", "hot, 1,000,000 viewers"];
        assert_eq!([7, 999, 1_240, 1_000_000].map(said), expected);
        assert_eq!(Hot::inherited(Wall(0)).words(), "hot");
    }
}
