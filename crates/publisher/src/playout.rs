//! Which tag of a clip is due when, once or in repetition with timestamps that go on. Pure: nobody waits here.

use std::time::Duration;

use crate::{Clip, Tag};

/// A tag and the moment, counted from the first, at which a live encoder would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since the first tag.
    pub after: Duration,
    /// The tag, its timestamp rewritten.
    pub tag: Tag,
}

/// Plays a clip a number of times. Codec headers and metadata are sent in the first round only.
#[derive(Clone, Debug)]
pub struct Playout {
    tags: Vec<Tag>,
    period_ms: u32,
    rounds: Option<u32>,
    start_ms: u32,
    round: u32,
    next: usize,
}

impl Playout {
    /// Plays `clip` `rounds` times.
    pub fn rounds(clip: &Clip, rounds: u32) -> Self {
        let mut playout = Self::endless(clip);
        playout.rounds = Some(rounds);
        playout
    }

    /// Plays `clip` again and again.
    pub fn endless(clip: &Clip) -> Self {
        let (tags, period_ms) = (clip.tags.clone(), clip.period_ms());
        Self { tags, period_ms, rounds: None, start_ms: 0, round: 0, next: 0 }
    }

    /// Adds `start_ms` to every timestamp, modulo 2^32.
    #[must_use]
    pub fn starting_at(mut self, start_ms: u32) -> Self {
        self.start_ms = start_ms;
        self
    }

    /// How far the clip's timestamp lies behind its first tag's.
    fn offset_ms(&self, tag: &Tag) -> u32 {
        let first = self.tags.first().map_or(0, |tag| tag.timestamp_ms);
        tag.timestamp_ms.wrapping_sub(first)
    }
}

impl Iterator for Playout {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        // A clip without frames has no period and cannot be repeated.
        let may_repeat = self.period_ms > 0;
        loop {
            if self.rounds.is_some_and(|rounds| self.round >= rounds) {
                return None;
            }
            let Some(tag) = self.tags.get(self.next) else {
                if !may_repeat {
                    return None;
                }
                (self.round, self.next) = (self.round + 1, 0);
                continue;
            };
            self.next += 1;
            if self.round > 0 && tag.is_header() {
                continue;
            }
            let played_ms = u64::from(self.round) * u64::from(self.period_ms);
            let after_ms = played_ms + u64::from(self.offset_ms(tag));
            // Wire timestamps are modulo 2^32 by definition.
            let timestamp_ms =
                tag.timestamp_ms.wrapping_add(self.start_ms).wrapping_add(played_ms as u32);
            let tag = Tag { timestamp_ms, ..tag.clone() };
            return Some(Due { after: Duration::from_millis(after_ms), tag });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TagKind;

    #[test]
    fn repetition_goes_on_without_a_gap_and_without_headers() {
        let video: Vec<_> = Playout::rounds(&Clip::demo(), 3)
            .filter(|due| due.tag.kind == TagKind::Video && due.tag.body.len() > 5)
            .collect();
        let headers = video.iter().filter(|due| due.tag.is_header()).count();
        assert_eq!(headers, 1);
        let stamps: Vec<_> =
            video.iter().filter(|due| !due.tag.is_header()).map(|d| d.tag.timestamp_ms).collect();
        assert_eq!(stamps.len(), 900);
        assert!(stamps.windows(2).all(|pair| (33..=34).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn timestamps_wrap_while_the_pace_goes_on() {
        let mut playout = Playout::rounds(&Clip::demo(), 1).starting_at(u32::MAX - 5_000);
        let last = playout.by_ref().last().unwrap();
        assert!(last.tag.timestamp_ms < 6_000);
        assert!(last.after > Duration::from_millis(9_900));
    }

    #[test]
    fn a_clip_without_frames_ends() {
        assert_eq!(Playout::endless(&Clip { tags: Vec::new() }).next(), None);
    }
}
