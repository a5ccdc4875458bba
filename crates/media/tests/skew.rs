//! Sound and pictures that arrive apart, always or from some moment on: both are played whole, as they are stamped or as they arrive.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use millrace_media::{AccessUnit, Input, Stats, Track};
use publisher::{Source, audio_body, feed, number_of, timeline, units};

/// Ticks of 90 kHz in a millisecond.
const TICKS_PER_MS: i64 = 90;
const PICTURES: u32 = 30 * 30;

/// What came of a publication, and what was learnt of it.
struct Published {
    video: Vec<AccessUnit>,
    audio: Vec<AccessUnit>,
    stats: Stats,
}

impl Published {
    /// Feeds what arrives within 30 s, each at its moment.
    fn of(mut messages: Vec<(u32, Input)>) -> Self {
        messages.sort_by_key(|(at, _)| *at);
        let messages = messages.into_iter().filter(|(at, _)| *at < PICTURES / 30 * 1_000);
        let mut timeline = timeline();
        let items = feed(&mut timeline, messages);
        let (video, audio) = (units(&items, Track::Video), units(&items, Track::Audio));
        let next = |unit: &AccessUnit| unit.dts + i64::from(unit.duration);
        assert!(audio.windows(2).all(|pair| next(&pair[0]) == pair[1].dts), "a hole");
        assert!(video.windows(2).all(|pair| number_of(&pair[0]) + 1 == number_of(&pair[1])));
        Self { video, audio, stats: timeline.stats() }
    }

    /// The first picture from which on all follow each other evenly, without a hole.
    fn even_from(&self) -> u32 {
        let is_uneven = |pair: &[AccessUnit]| (pair[1].dts - pair[0].dts - 3_000).abs() > 180;
        let pairs: Vec<_> = self.video.windows(2).collect();
        let uneven = pairs.iter().rposition(|pair| is_uneven(pair));
        uneven.map_or(0, |at| number_of(&pairs[at][1]))
    }

    /// The first moment from which on all sound was sent, milliseconds behind the first picture.
    fn heard_from_ms(&self) -> i64 {
        let silence = self.audio.iter().rposition(|unit| !is_sent(unit));
        let first = &self.audio[silence.map_or(0, |at| at + 1)];
        first.pts * 1_000 / 48_000 - self.video[0].pts / TICKS_PER_MS
    }
}

fn is_sent(unit: &AccessUnit) -> bool {
    unit.bytes == audio_body().slice(2..)
}

/// A source whose media of one kind is stamped and sent `stamped` and `sent` milliseconds later than it is.
fn apart(b_frames: u32, track: Track, stamped: u32, sent: u32) -> Vec<(u32, Input)> {
    let source = Source { b_frames, ..Source::new(30, 1, 2.0, f64::from(PICTURES) / 30.0) };
    let later = |(at, input): (u32, Input)| match input {
        Input::Video { timestamp_ms, body } if track == Track::Video && body[1] == 1 => {
            (at + sent, Input::Video { timestamp_ms: timestamp_ms + stamped, body })
        }
        Input::Audio { timestamp_ms, body } if track == Track::Audio && body[1] == 1 => {
            (at + sent, Input::Audio { timestamp_ms: timestamp_ms + stamped, body })
        }
        other => (at, other),
    };
    source.messages().into_iter().map(later).collect()
}

#[test]
fn pictures_that_come_up_to_four_seconds_behind_their_sound_are_all_in_their_place() {
    for (late_ms, b_frames) in [(1_500, 0), (2_200, 0), (2_500, 2), (3_000, 0), (3_900, 0)] {
        let what = format!("{late_ms} ms, {b_frames} B-frames");
        let seen = Published::of(apart(b_frames, Track::Video, 0, late_ms));
        assert!(seen.even_from() <= 3, "{what}: until {}", seen.even_from());
        assert!(seen.heard_from_ms() < 30, "{what}: {} ms", seen.heard_from_ms());
        assert_eq!(seen.video[0].stamp.segment.start, seen.audio[0].stamp.segment.start);
        let told = seen.stats.audio_ahead_ms - i64::from(late_ms);
        assert!(told.abs() < 100, "{what}: {} ms are told", seen.stats.audio_ahead_ms);
        let Stats { clock_shifts, moved_frames, audio_delayed_ms, .. } = seen.stats;
        assert_eq!((clock_shifts, moved_frames, audio_delayed_ms), (0, 0, 0), "{what}");
    }
}

#[test]
fn sound_that_comes_up_to_four_seconds_behind_its_pictures_is_heard_in_its_place() {
    for late_ms in [2_200, 2_500, 3_000, 3_900] {
        let seen = Published::of(apart(0, Track::Audio, 0, late_ms));
        assert_eq!(seen.even_from(), 0);
        // Until its first frame came nobody could know that any will.
        let heard = seen.heard_from_ms();
        assert!((heard - i64::from(late_ms)).abs() < 100, "{late_ms} ms: {heard}");
        let told = seen.stats.audio_ahead_ms + i64::from(late_ms);
        assert!(told.abs() < 100, "{late_ms} ms: {} ms are told", seen.stats.audio_ahead_ms);
        assert_eq!((seen.stats.clock_shifts, seen.stats.audio_delayed_ms), (0, 0));
    }
}

#[test]
fn tracks_that_come_together_and_are_stamped_apart_are_played_as_they_are_stamped() {
    for apart_ms in [2_200, 2_500, 3_000, 3_900] {
        let seen = Published::of(apart(2, Track::Audio, apart_ms, 0));
        assert!(seen.even_from() <= 3, "{apart_ms} ms: until {}", seen.even_from());
        let heard = seen.heard_from_ms();
        // With B-frames the first picture is shown one frame behind its decoding.
        assert!((heard - i64::from(apart_ms)).abs() < 40, "{apart_ms} ms: from {heard} ms on");
        let seen = Published::of(apart(0, Track::Video, apart_ms, 0));
        assert_eq!(seen.even_from(), 0);
        // The sound of what lies before the first picture is left out, and nothing else.
        assert!(seen.heard_from_ms() < 30, "{apart_ms} ms: from {} ms on", seen.heard_from_ms());
        assert_eq!((seen.stats.clock_shifts, seen.stats.late_audio_frames), (0, 0));
    }
}

#[test]
fn tracks_that_are_stamped_farther_apart_are_played_as_they_arrive() {
    for (track, sign) in [(Track::Audio, 1), (Track::Video, -1)] {
        let seen = Published::of(apart(0, track, 5_000, 0));
        assert!(seen.even_from() <= 3 && seen.heard_from_ms() < 60, "{track:?}");
        let Stats { audio_ahead_ms, audio_delayed_ms, clock_shifts, .. } = seen.stats;
        assert!((audio_ahead_ms - sign * 5_000).abs() < 100, "{track:?}: {audio_ahead_ms} ms");
        assert!((audio_delayed_ms + sign * 5_000).abs() < 100, "{track:?}: {audio_delayed_ms} ms");
        assert_eq!(clock_shifts, 1);
    }
}

#[test]
fn a_track_that_falls_behind_for_good_is_moved_once_and_then_played_whole() {
    for track in [Track::Audio, Track::Video] {
        let mut messages = apart(0, track, 0, 0);
        for (at, input) in &mut messages {
            let is_it = match input {
                Input::Video { body, .. } => track == Track::Video && body[1] == 1,
                Input::Audio { body, .. } => track == Track::Audio && body[1] == 1,
                _ => false,
            };
            // As an encoder that stops for six seconds and does not catch up.
            if is_it && *at > 5_000 {
                *at += 6_000;
            }
        }
        let seen = Published::of(messages);
        let settled = 5 + 6 + 3 + 1;
        assert!(seen.even_from() < (settled - 6) * 30, "{track:?}: {}", seen.even_from());
        assert!(seen.heard_from_ms() < i64::from(settled) * 1_000, "{}", seen.heard_from_ms());
        let Stats { audio_ahead_ms, clock_shifts, .. } = seen.stats;
        assert_eq!(clock_shifts, 1, "{track:?}");
        let told =
            if track == Track::Audio { audio_ahead_ms + 6_000 } else { audio_ahead_ms - 6_000 };
        assert!(told.abs() < 100, "{track:?}: {audio_ahead_ms} ms");
    }
}
