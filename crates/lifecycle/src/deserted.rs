//! Which streams stay without a router: theirs has gone, and none has claimed them in the time that a publisher has to return.
//! Decides; a router ends their records.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millrace_types::{Epoch, Mono, StreamId};

/// How long a stream may be without a router: as long as its publisher may take to come back to another.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream's session, by the epoch it was last seen with.
pub type Session = (StreamId, Epoch);

/// The sessions without a router, and since when.
#[derive(Clone, Debug, Default)]
pub struct Deserted(BTreeMap<Session, Mono>);

impl Deserted {
    /// The sessions to end now. `without` are all that have no router at this moment; the others are forgotten.
    pub fn due(&mut self, now: Mono, without: &BTreeSet<Session>) -> Vec<Session> {
        self.0.retain(|session, _| without.contains(session));
        for session in without {
            self.0.entry(session.clone()).or_insert(now);
        }
        let due = self.0.iter().filter(|(_, since)| now.since(**since) >= PATIENCE);
        due.map(|(session, _)| session.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str, generation: u64) -> Session {
        (name.parse().unwrap(), Epoch { generation, placement: 1 })
    }

    #[test]
    fn a_stream_is_over_when_no_router_has_had_it_for_as_long_as_its_publisher_may_be_away() {
        let at = |secs| Mono(Duration::from_secs(secs));
        let (one, two) = (BTreeSet::from([session("one", 1)]), session("two", 1));
        let both = BTreeSet::from([session("one", 1), two.clone()]);
        let mut deserted = Deserted::default();
        assert!(deserted.due(at(0), &both).is_empty());
        assert!(deserted.due(at(20), &one).is_empty(), "the other has a router again");
        assert_eq!(deserted.due(at(30), &both), [session("one", 1)]);
        assert_eq!(deserted.due(at(60), &BTreeSet::from([two.clone()])), [two]);
        let later = BTreeSet::from([session("two", 2)]);
        assert!(deserted.due(at(61), &later).is_empty(), "another session has its own time");
    }
}
