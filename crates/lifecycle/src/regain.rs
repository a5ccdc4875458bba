//! Which stream gets its ladder now, of those that were placed while no node had room for it: one at a time, once there has been room
//! for it for a while, and one for which there was none after all later and later. Decides; sessions change their ladder.

use std::{collections::BTreeMap, time::Duration};

use millrace_types::{Mono, StreamId};

/// How long there must have been room without a break.
const STEADY: Duration = Duration::from_secs(10);
/// From one stream of a router to the next: what nodes say of their room is a moment old.
const APART: Duration = Duration::from_secs(5);
/// From one try of a stream to the next; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A stream that goes on without encoders, since there was no room for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unencoded {
    /// Which.
    pub stream: StreamId,
    /// Some node says that it has room for its ladder.
    pub has_room: bool,
    /// It was told to change its ladder and has not yet.
    pub is_changing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    room_since: Option<Mono>,
    tries: u32,
    next_at: Mono,
}

/// What is known of all streams that lack their ladder.
#[derive(Clone, Debug, Default)]
pub struct Regains {
    known: BTreeMap<StreamId, Known>,
    next_at: Mono,
}

impl Regains {
    /// The stream to get its ladder now. `streams` are all that lack it; the others are forgotten once they would be tried again.
    pub fn due(&mut self, now: Mono, streams: &[Unencoded]) -> Option<StreamId> {
        let lacks = |stream: &StreamId| streams.iter().any(|lacks| lacks.stream == *stream);
        self.known.retain(|stream, known| lacks(stream) || now < known.next_at);
        for Unencoded { stream, has_room, .. } in streams {
            let known = self.known.entry(stream.clone()).or_default();
            known.room_since = has_room.then(|| known.room_since.unwrap_or(now));
        }
        // One that never comes to a point where it may change holds nobody up for longer than to its next try.
        let is_busy = |it: &Unencoded| it.is_changing && now < self.known[&it.stream].next_at;
        if now < self.next_at || streams.iter().any(is_busy) {
            return None;
        }
        let is_due = |it: &&Unencoded| {
            let known = self.known[&it.stream];
            let is_steady = known.room_since.is_some_and(|since| now.since(since) >= STEADY);
            is_steady && !it.is_changing && now >= known.next_at
        };
        let stream = streams.iter().find(is_due)?.stream.clone();
        if let Some(known) = self.known.get_mut(&stream) {
            known.next_at = now + (FIRST_PAUSE * 2_u32.pow(known.tries.min(10))).min(LONGEST_PAUSE);
            known.tries += 1;
        }
        self.next_at = now + APART;
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono(Duration::from_secs(secs))
    }

    fn lacks(stream: &str, has_room: bool) -> Unencoded {
        Unencoded { stream: stream.parse().unwrap(), has_room, is_changing: false }
    }

    /// When a stream was told, seconds, if it lacks its ladder throughout.
    fn told(until: u64, lacking: impl Fn(u64) -> Vec<Unencoded>) -> Vec<(u64, String)> {
        let mut regains = Regains::default();
        let due = |now| Some((now, regains.due(at(now), &lacking(now))?.to_string()));
        (0..until).filter_map(due).collect()
    }

    #[test]
    fn a_stream_gets_its_ladder_once_there_has_been_room_for_ten_seconds_without_a_break() {
        assert_eq!(told(12, |_| vec![lacks("a", true)]), [(10, "a".to_owned())]);
        assert_eq!(told(60, |now| vec![lacks("a", now % 10 != 9)]), []);
        assert_eq!(told(60, |_| vec![lacks("a", false)]), []);
    }

    #[test]
    fn streams_get_theirs_one_after_the_other_and_none_while_another_changes() {
        let [a, b] = [(10, "a".to_owned()), (15, "b".to_owned())];
        assert_eq!(told(30, |_| vec![lacks("a", true), lacks("b", true)]), [a.clone(), b]);
        let changes = |now| Unencoded { is_changing: now > 10, ..lacks("a", true) };
        let later = (40, "b".to_owned());
        assert_eq!(told(60, |now| vec![changes(now), lacks("b", true)]), [a, later]);
    }

    #[test]
    fn a_stream_for_which_there_was_no_room_after_all_is_tried_later_and_later() {
        let tried = |lacking: &dyn Fn(u64) -> Vec<Unencoded>| -> Vec<u64> {
            told(2_500, lacking).into_iter().map(|(now, _)| now).collect()
        };
        let times = [10, 40, 100, 220, 460, 940, 1_540, 2_140];
        assert_eq!(tried(&|_| vec![lacks("a", true)]), times);
        // Nor is that forgotten while it has its ladder for a moment.
        let but_at =
            |now: u64| if times.contains(&(now - 1)) { vec![] } else { vec![lacks("a", true)] };
        assert_eq!(tried(&|now| but_at(now.max(1))), times);
    }
}
