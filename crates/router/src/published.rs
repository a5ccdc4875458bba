//! How far each rung is published, and from where a successor must be able to begin.

use std::collections::BTreeMap;

use millrace_types::{Ladder, MEDIA_TIMESCALE, Mark, MediaTime, Msn, PartNo, RungId, RungKind};

/// A rung this far behind the furthest one no longer holds input back, ticks of 90 kHz. Sound that always comes late (up to 4.5 s are
/// waited for) is not so far behind when its part is done.
const MAX_LAG: i64 = 6 * MEDIA_TIMESCALE as i64;

/// The newest mark of each rung.
#[derive(Clone, Debug, Default)]
pub struct PublishedMarks(BTreeMap<RungId, Mark>);

impl PublishedMarks {
    /// Takes a mark in; whether it is news.
    pub fn note(&mut self, mark: Mark) -> bool {
        let newer =
            self.0.get(&mark.rung).is_none_or(|old| (mark.msn, mark.part) > (old.msn, old.part));
        if newer {
            self.0.insert(mark.rung.clone(), mark);
        }
        newer
    }

    /// Whether nothing is published yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn to_vec(&self) -> Vec<Mark> {
        self.0.values().cloned().collect()
    }

    /// The marks that input may be released by: of every rung of the ladder except those that lag. `None` as long as
    /// one that does not lag has none.
    pub fn release_by(&self, ladder: &Ladder) -> Option<Vec<Mark>> {
        let furthest = self.0.values().map(|mark| mark.end).max()?;
        let first = self.0.values().map(|mark| mark.end).min()?;
        let mut marks = Vec::new();
        for rung in &ladder.rungs {
            match self.0.get(&rung.id) {
                Some(mark) if furthest - mark.end <= MAX_LAG => marks.push(mark.clone()),
                Some(_) => {}
                None if furthest - first > MAX_LAG => {}
                None => return None,
            }
        }
        Some(marks)
    }

    /// How far both of two encoders have published: rungs that one has nothing of are not there.
    pub fn slower(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(rung, mark)| Some((rung, mark, other.0.get(rung)?)));
        let slower = both.map(|(rung, mark, other)| {
            let is_slower = (mark.msn, mark.part) <= (other.msn, other.part);
            (rung.clone(), if is_slower { mark.clone() } else { other.clone() })
        });
        Self(slower.collect())
    }

    /// Whether every rung is published up to the segment `msn`, of which nothing needs to be there.
    pub fn reaches(&self, ladder: &Ladder, msn: Msn) -> bool {
        let reached = |mark: &Mark| mark.msn >= msn || mark.closed && mark.msn.next() == msn;
        ladder.rungs.iter().all(|rung| self.0.get(&rung.id).is_some_and(reached))
    }

    /// The newest segment of any rung; `None` before the first part.
    pub fn newest(&self) -> Option<Msn> {
        self.0.values().map(|mark| mark.msn).max()
    }

    /// How far the rungs of the ladder that are encoded have come; one that has no part yet, to number 0.
    pub fn encoded(&self, ladder: &Ladder) -> Vec<Mark> {
        let encoded = ladder.rungs.iter().filter(|rung| matches!(rung.kind, RungKind::Video(_)));
        let none = |rung: &RungId| Mark {
            rung: rung.clone(),
            msn: Msn(0),
            part: PartNo(0),
            end: MediaTime(0),
            closed: true,
        };
        encoded
            .map(|rung| self.0.get(&rung.id).cloned().unwrap_or_else(|| none(&rung.id)))
            .collect()
    }

    /// The marks a successor resumes from: `None`, and so from the oldest input, as long as a rung has none.
    pub fn resume_by(&self, ladder: &Ladder) -> Option<Vec<Mark>> {
        ladder.rungs.iter().map(|rung| self.0.get(&rung.id).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{FrameRate, Rung, VideoRung};

    use super::*;

    fn mark(rung: &str, part: u32, end: i64) -> Mark {
        let rung = rung.parse().unwrap();
        Mark { rung, msn: Msn(1), part: PartNo(part), end: MediaTime(end), closed: false }
    }

    fn ladder(rungs: &[&str]) -> Ladder {
        let rung = |id: &&str| Rung { id: id.parse().unwrap(), kind: RungKind::Source };
        Ladder { rungs: rungs.iter().map(rung).collect() }
    }

    #[test]
    fn a_segment_is_reached_once_every_rung_has_closed_the_one_before() {
        let (ladder, mut marks) = (ladder(&["a", "b"]), PublishedMarks::default());
        let closed = |rung: &str, part| Mark { closed: true, ..mark(rung, part, 0) };
        marks.note(closed("a", 6));
        assert!(!marks.reaches(&ladder, Msn(2)), "b has nothing");
        marks.note(mark("b", 5, 0));
        assert!(!marks.reaches(&ladder, Msn(2)), "b is open");
        marks.note(closed("b", 6));
        assert!(marks.reaches(&ladder, Msn(2)) && !marks.reaches(&ladder, Msn(3)));
    }

    #[test]
    fn rungs_that_an_encoder_left_within_a_segment_are_named() {
        let video = RungKind::Video(VideoRung {
            width: 2,
            height: 2,
            frame_rate: FrameRate { num: 30, den: 1 },
            halved: false,
            bitrate_kbps: 100,
        });
        let mut ladder = ladder(&["source", "240p", "144p", "90p"]);
        ladder.rungs[1..].iter_mut().for_each(|rung| rung.kind = video.clone());
        let mut marks = PublishedMarks::default();
        assert_eq!(marks.newest(), None);
        for rung in ["source", "240p"] {
            marks.note(mark(rung, 3, 120_000));
        }
        marks.note(Mark { closed: true, ..mark("144p", 5, 180_000) });
        let closed = Mark { closed: true, ..mark("144p", 5, 180_000) };
        let none = Mark { msn: Msn(0), closed: true, ..mark("90p", 0, 0) };
        assert_eq!(marks.encoded(&ladder), [mark("240p", 3, 120_000), closed, none]);
        assert_eq!(marks.newest(), Some(Msn(1)));
    }

    #[test]
    fn a_rung_without_a_part_holds_all_input_and_one_that_lags_holds_none() {
        let ladder = ladder(&["a", "b"]);
        let mut marks = PublishedMarks::default();
        assert!(marks.note(mark("a", 0, 30_000)));
        assert_eq!(marks.release_by(&ladder), None);
        assert_eq!(marks.resume_by(&ladder), None);
        marks.note(mark("b", 0, 30_000));
        assert_eq!(marks.release_by(&ladder).map(|marks| marks.len()), Some(2));
        marks.note(mark("a", 15, 570_000));
        assert_eq!(
            marks.release_by(&ladder).map(|marks| marks.len()),
            Some(2),
            "6 s are not too far"
        );
        marks.note(mark("a", 16, 600_000));
        assert_eq!(marks.release_by(&ladder), Some(vec![mark("a", 16, 600_000)]));
        assert!(!marks.note(mark("a", 8, 300_000)));
    }

    #[test]
    fn of_two_encoders_the_slower_one_holds_input_rung_by_rung() {
        let [mut first, mut second] = [PublishedMarks::default(), PublishedMarks::default()];
        first.note(mark("a", 5, 150_000));
        first.note(mark("b", 3, 90_000));
        second.note(mark("a", 4, 120_000));
        assert_eq!(first.slower(&second).to_vec(), [mark("a", 4, 120_000)]);
        assert_eq!(first.slower(&second).release_by(&ladder(&["a", "b"])), None);
        second.note(mark("b", 4, 120_000));
        let both = [mark("a", 4, 120_000), mark("b", 3, 90_000)];
        assert_eq!(first.slower(&second).to_vec(), both);
    }
}
