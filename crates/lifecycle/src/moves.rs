//! Which streams a router moves now, of those that should not stay where they are: a few at a time, and one that could not
//! be moved is tried again later and later. Decides; sessions move.

use std::{collections::BTreeMap, time::Duration};

use millrace_types::{Mono, NodeId, StreamId};

/// Streams of one router that move at the same time: each is decoded twice while it does.
pub const MOST_AT_ONCE: usize = 4;
/// From a try that failed to the next; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A stream that should go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// Which.
    pub stream: StreamId,
    /// The node that it is to leave.
    pub from: NodeId,
    /// Where to; `None`: wherever there is room.
    pub to: Option<NodeId>,
    /// It is on its way.
    pub moving: bool,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    count: u32,
    next_at: Mono,
}

/// The tries of all streams that should go elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Moves(BTreeMap<StreamId, Try>);

impl Moves {
    /// Those to move now. `leavers` are all that should, in the order in which they shall; the others are forgotten.
    pub fn due<'a>(&mut self, now: Mono, leavers: &'a [Leaver]) -> Vec<&'a Leaver> {
        self.0.retain(|stream, _| leavers.iter().any(|leaver| leaver.stream == *stream));
        let moving = leavers.iter().filter(|leaver| leaver.moving).count();
        let is_due = |leaver: &&Leaver| {
            let known = self.0.get(&leaver.stream);
            !leaver.moving && known.is_none_or(|known| now >= known.next_at)
        };
        let chosen = leavers.iter().filter(is_due).take(MOST_AT_ONCE.saturating_sub(moving));
        let chosen: Vec<&Leaver> = chosen.collect();
        for Leaver { stream, .. } in &chosen {
            let count = self.0.get(stream).map_or(0, |known| known.count);
            let pause = (FIRST_PAUSE * 2_u32.pow(count.min(10))).min(LONGEST_PAUSE);
            self.0.insert(stream.clone(), Try { count: count + 1, next_at: now + pause });
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono(Duration::from_secs(secs))
    }

    fn leavers(names: &[&str], moving: usize) -> Vec<Leaver> {
        let leaver = |(at, name): (usize, &&str)| Leaver {
            stream: name.parse().unwrap(),
            from: "node-1".parse().unwrap(),
            to: None,
            moving: at < moving,
        };
        names.iter().enumerate().map(leaver).collect()
    }

    fn due(moves: &mut Moves, now: u64, leavers: &[Leaver]) -> Vec<String> {
        moves.due(at(now), leavers).iter().map(|leaver| leaver.stream.to_string()).collect()
    }

    #[test]
    fn only_so_many_move_at_the_same_time() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut moves = Moves::default();
        assert_eq!(due(&mut moves, 0, &leavers(&names, 0)), ["a", "b", "c", "d"]);
        assert_eq!(due(&mut moves, 0, &leavers(&names, 4)), Vec::<String>::new());
        assert_eq!(due(&mut moves, 1, &leavers(&names[1..], 3)), ["e"]);
        assert_eq!(due(&mut moves, 1, &leavers(&names[3..], 2)), ["f"]);
    }

    #[test]
    fn a_stream_that_cannot_leave_is_tried_later_and_later_and_anew_once_it_had_not_to() {
        let (stuck, mut moves) = (leavers(&["a"], 0), Moves::default());
        let tried = (0..100).filter(|&now| !due(&mut moves, now, &stuck).is_empty());
        assert_eq!(tried.collect::<Vec<_>>(), [0, 2, 6, 14, 30, 60, 90]);
        assert!(due(&mut moves, 100, &[]).is_empty());
        assert_eq!(due(&mut moves, 101, &stuck), ["a"]);
    }
}
