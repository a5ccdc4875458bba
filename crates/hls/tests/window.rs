//! Who may add what to a window, and what a player may fetch or wait for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod sample;

use bytes::Bytes;
use millrace_hls::{
    Accepted, BlockUntil, Hash, InitRecord, PartLookup, PartRecord, Refusal, Reload, StreamOpen,
};
use millrace_types::{Mark, MediaTime, Mono, Msn, PartNo};
use sample::{
    FIRST, PARTS, announcement, epoch, fill, filled, init, opened, part, part_bytes, push, rung,
};

fn until(index: u64, part: impl Into<Option<u32>>) -> Option<BlockUntil> {
    Some(BlockUntil { msn: Msn(FIRST + index), part: part.into().map(PartNo) })
}

#[test]
fn the_first_writer_wins_and_a_repeat_is_harmless() {
    let mut window = filled(0, 2);
    assert_eq!(push(&mut window, part("720p", 0, 1)), Ok(Accepted::Repeat));
    let mut other = part("720p", 0, 1);
    other.hash = Hash::of(b"another encoder's");
    let conflict = Refusal::Conflict { msn: Msn(FIRST), part: PartNo(1) };
    assert_eq!(push(&mut window, other), Err(conflict));
    let there = window.part(&rung("720p"), Msn(FIRST), PartNo(1));
    assert_eq!(there, PartLookup::Here(part_bytes("720p", FIRST, 1)));
}

#[test]
fn records_without_their_ground_are_refused() {
    let mut window = filled(40, 0);
    let mut orphan = part("720p", 40, 0);
    orphan.init = Hash::of(b"never pushed");
    assert!(matches!(push(&mut window, orphan), Err(Refusal::UnknownInit { .. })));
    assert!(matches!(push(&mut window, part("720p", 3, 0)), Err(Refusal::TooOld { .. })));
    assert!(matches!(push(&mut window, part("360p", 40, 0)), Err(Refusal::UnknownRung { .. })));
    let mut empty = part("720p", 40, 0);
    empty.end = empty.start;
    assert!(matches!(push(&mut window, empty), Err(Refusal::EmptyPart { .. })));
    window.end(epoch(1, 0)).unwrap();
    assert_eq!(push(&mut window, part("720p", 41, 0)), Err(Refusal::Ended));
}

#[test]
fn a_fence_refuses_the_old_writer_and_names_the_last_part_before_any_hole() {
    let mut window = filled(1, 2);
    push(&mut window, part("720p", 1, 3)).unwrap();
    let marks = window.fence(epoch(1, 1)).unwrap();
    let video = marks.iter().find(|mark| mark.rung == rung("720p")).unwrap();
    assert_eq!((video.msn, video.part, video.closed), (Msn(FIRST + 1), PartNo(1), false));
    assert_eq!(video.end, part("720p", 1, 1).end);
    let fenced = Refusal::Fenced { epoch: epoch(1, 0), fence: epoch(1, 1) };
    assert_eq!(push(&mut window, part("720p", 1, 2)), Err(fenced.clone()));
    assert_eq!(window.fence(epoch(1, 0)), Err(fenced));
    // What lay past the hole was never seen: the successor makes it anew.
    for number in 2..PARTS {
        let mut record = part("720p", 1, number);
        (record.epoch, record.hash) = (epoch(1, 1), Hash::of(&[number as u8]));
        assert_eq!(push(&mut window, record), Ok(Accepted::Added));
    }
    assert!(window.segment(&rung("720p"), Msn(FIRST + 1)).is_some());
}

#[test]
fn a_successor_may_push_what_its_predecessor_made() {
    let mut window = opened();
    window.fence(epoch(1, 4)).unwrap();
    let record = part("720p", 0, 0);
    assert!(record.epoch < epoch(1, 4));
    let bytes = part_bytes("720p", FIRST, 0);
    assert_eq!(window.add_part(Mono::default(), epoch(1, 4), record, bytes), Ok(Accepted::Added));
}

#[test]
fn a_new_generation_starts_at_a_fresh_segment_on_every_rung() {
    let mut window = opened();
    fill(&mut window, "source", 2, 3);
    fill(&mut window, "720p", 2, 0);
    fill(&mut window, "audio", 1, 4);
    let marks = window.fence(epoch(2, 0)).unwrap();
    assert!(marks.iter().all(|mark| mark.closed && mark.msn == Msn(FIRST + 2)), "{marks:?}");
    let text = |name| window.media_playlist(&rung(name), false).unwrap();
    assert!(text("source").contains("#EXTINF:1.00000,"));
    let gap = format!("#EXT-X-GAP\n#EXTINF:1.00000,\n{}.m4s\n", FIRST + 2);
    assert!(text("720p").contains(&gap), "{}", text("720p"));
    // Four of its six parts are there: it lasts until the gap.
    let cut_short = format!("#EXTINF:2.00000,\n{}.m4s\n", FIRST + 1);
    assert!(
        text("audio").contains(&cut_short) && text("audio").contains(&gap),
        "{}",
        text("audio")
    );
    assert_eq!(window.segment(&rung("720p"), Msn(FIRST + 2)), None);
}

#[test]
fn a_hole_that_nobody_fills_becomes_a_gap() {
    let mut window = filled(1, 0);
    let by_successor =
        |index, number| PartRecord { epoch: epoch(1, 1), ..part("720p", index, number) };
    for index in 2..=4 {
        for number in 0..PARTS {
            push(&mut window, by_successor(index, number)).unwrap();
        }
    }
    assert_eq!(window.reload(&rung("720p"), until(1, 0)), Reload::Wait);
    push(&mut window, by_successor(5, 0)).unwrap();
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert!(text.contains(&format!("#EXT-X-GAP\n#EXTINF:2.00000,\n{}.m4s\n", FIRST + 1)), "{text}");
    assert!(text.contains(&format!("{}.0.m4s", FIRST + 5)));
}

#[test]
fn segments_that_their_writer_skips_are_gaps_at_once_and_none_is_longer_than_the_target() {
    let mut window = filled(1, 3);
    let closing = PartRecord { last: true, ..part("720p", 1, 3) };
    push(&mut window, closing).unwrap();
    // The picture comes back in the middle of its segment, without an IDR.
    let back = PartRecord { independent: false, ..part("720p", 4, 0) };
    let back = PartRecord { start: back.start + 90_000, end: back.end + 90_000, ..back };
    push(&mut window, back).unwrap();
    assert_eq!(window.reload(&rung("720p"), until(4, 0)), Reload::Ready);
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    for index in 2..4 {
        let gap = format!("#EXT-X-GAP\n#EXTINF:2.40000,\n{}.m4s\n", FIRST + index);
        assert!(text.contains(&gap), "{text}");
    }
    let of_others = window.media_playlist(&rung("audio"), false).unwrap();
    assert!(!of_others.contains("#EXT-X-GAP"), "{of_others}");
}

/// Proves that each segment's PROGRAM-DATE-TIME and duration meet the next one's, but at discontinuities, and that none is longer
/// than what rounds to the target duration.
fn assert_times_meet(text: &str) {
    let (mut at, mut ends_at, mut lasts) = (None::<f64>, None::<f64>, 0.0);
    for line in text.lines() {
        if line == "#EXT-X-DISCONTINUITY" {
            ends_at = None;
        } else if let Some(time) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            let clock = time.split('T').nth(1).unwrap().trim_end_matches('Z');
            let number = clock.split(':').map(|part| part.parse::<f64>().unwrap());
            let now = number.fold(0.0, |sum, part| sum * 60.0 + part);
            assert!(ends_at.is_none_or(|end| (end - now).abs() < 0.0015), "{time} in {text}");
            at = Some(now);
        } else if let Some(length) = line.strip_prefix("#EXTINF:") {
            lasts = length.trim_end_matches(',').parse::<f64>().unwrap();
            assert!(lasts <= 2.4, "{lasts} in {text}");
            ends_at = at.map(|at| at + lasts);
        }
    }
    assert!(lasts > 0.0, "no segment: {text}");
}

#[test]
fn times_meet_around_what_an_origin_never_got_of_a_segment_it_had_begun() {
    // It owned the stream until the middle of segment 1. The node that has it now begins its window with segment 3, or later.
    for (resume, parts) in [(3, 1), (3, 5), (4, 2), (6, 1)] {
        let mut window = filled(1, parts);
        let by = |index, number| PartRecord { epoch: epoch(1, 1), ..part("720p", index, number) };
        let restores = vec![Mark {
            rung: rung("720p"),
            msn: Msn(FIRST + resume),
            part: PartNo(PARTS - 1),
            end: by(resume, PARTS - 1).end,
            closed: true,
        }];
        window.reopen(StreamOpen { epoch: epoch(1, 1), restores, ..announcement() }).unwrap();
        for number in 0..PARTS {
            push(&mut window, by(resume, number)).unwrap();
        }
        let text = window.media_playlist(&rung("720p"), false).unwrap();
        let gaps = usize::try_from(resume - 2).unwrap();
        assert_eq!(text.matches("#EXT-X-GAP").count(), gaps, "{text}");
        assert_times_meet(&text);
    }
}

#[test]
fn times_meet_where_a_rung_that_lagged_is_given_up_for_another_router() {
    for parts in [1, 3, 5] {
        let mut window = filled(1, parts);
        for name in ["source", "audio"] {
            for number in parts..PARTS {
                push(&mut window, part(name, 1, number)).unwrap();
            }
            for number in 0..3 {
                push(&mut window, part(name, 2, number)).unwrap();
            }
        }
        window.reopen(StreamOpen { epoch: epoch(2, 0), ..announcement() }).unwrap();
        let text = window.media_playlist(&rung("720p"), false).unwrap();
        assert_eq!(text.matches("#EXT-X-GAP").count(), 1, "{text}");
        assert_times_meet(&text);
    }
}

#[test]
fn a_part_without_bytes_makes_its_segment_a_gap_and_those_who_wait_for_it_go_on() {
    let mut window = filled(1, 3);
    push(&mut window, PartRecord { last: true, ..part("720p", 1, 3) }).unwrap();
    assert_eq!(window.part(&rung("720p"), Msn(FIRST + 2), PartNo(0)), PartLookup::Hinted);
    let whole = part("720p", 2, 0);
    let end = part("720p", 3, 0).start;
    let nothing = PartRecord { end, last: true, length: 0, hash: Hash::of(b""), ..whole };
    window.add_part(Mono::default(), epoch(1, 0), nothing, Default::default()).unwrap();
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    let gap = format!("#EXT-X-GAP\n#EXTINF:2.00000,\n{}.m4s\n", FIRST + 2);
    assert!(text.contains(&gap) && !text.contains(&format!("{}.0.m4s\"\n", FIRST + 2)), "{text}");
    assert_eq!(window.part(&rung("720p"), Msn(FIRST + 2), PartNo(0)), PartLookup::Absent);
    assert_eq!(window.segment(&rung("720p"), Msn(FIRST + 2)), None);
    assert_eq!(window.reload(&rung("720p"), until(2, 0)), Reload::Ready);
    push(&mut window, part("720p", 3, 0)).unwrap();
    assert_eq!(window.reload(&rung("720p"), until(3, 0)), Reload::Ready);
}

#[test]
fn parts_without_bytes_bring_no_init_section_and_no_discontinuity_before_there_is_something_to_show()
 {
    let mut window = filled(1, 3);
    let other = InitRecord { hash: Hash::of(b"other"), ..init("720p") };
    window.add_init(epoch(1, 0), other.clone(), Bytes::from_static(b"other")).unwrap();
    let nothing = |index, number| {
        let hash = Hash::of(b"");
        PartRecord { init: other.hash, length: 0, hash, ..part("720p", index, number) }
    };
    let blank = [(1, 3), (1, 4), (1, 5), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5)];
    for (index, number) in blank {
        let record = nothing(index, number);
        window.add_part(Mono::default(), epoch(1, 0), record, Bytes::new()).unwrap();
    }
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert_eq!(text.matches("#EXT-X-MAP").count(), 1, "{text}");
    assert_eq!(text.matches(",GAP=YES\n").count(), 3, "{text}");
    assert_eq!(text.matches("#EXT-X-GAP\n").count(), 1, "{text}");
    // It is shown where its maker says that a discontinuity lies, on every rung at once and only one.
    fill(&mut window, "source", 2, PARTS);
    for name in ["source", "720p"] {
        let first = PartRecord { discontinuity: 1, ..part(name, 3, 0) };
        let init = if name == "720p" { other.hash } else { first.init };
        push(&mut window, PartRecord { init, ..first }).unwrap();
    }
    for (name, maps) in [("source", 1), ("720p", 2)] {
        let text = window.media_playlist(&rung(name), false).unwrap();
        assert_eq!(text.matches("#EXT-X-MAP").count(), maps, "{text}");
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
        let behind = text.split_once("#EXT-X-DISCONTINUITY\n").unwrap().1;
        assert!(behind.contains(&format!("{}.0.m4s", FIRST + 3)), "{text}");
        assert!(!behind.contains(&format!("{}.m4s", FIRST + 2)), "{text}");
    }
}

#[test]
fn a_hole_in_a_segment_that_is_still_open_is_held_back() {
    let mut window = filled(1, 2);
    push(&mut window, part("720p", 2, 0)).unwrap();
    assert_eq!(window.reload(&rung("720p"), until(2, 0)), Reload::Wait);
    assert!(!window.media_playlist(&rung("720p"), false).unwrap().contains("#EXT-X-GAP"));
}

#[test]
fn a_leap_past_the_whole_window_starts_it_anew() {
    let mut window = filled(3, 2);
    push(&mut window, part("720p", 1000, 0)).unwrap();
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert!(text.contains(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n", FIRST + 1000)), "{text}");
}

#[test]
fn a_stream_that_ended_begins_anew_only_for_a_newer_writer() {
    let mut window = filled(2, 0);
    window.end(epoch(1, 0)).unwrap();
    window.release();
    assert_eq!(window.segment(&rung("720p"), Msn(FIRST)), None);
    assert_eq!(window.reload(&rung("720p"), None), Reload::NoRung);
    let newer = StreamOpen { epoch: epoch(2, 0), ..announcement() };
    assert!(window.reopen(StreamOpen { epoch: epoch(0, 9), ..announcement() }).is_err());
    assert_eq!(window.reopen(newer), Ok(Vec::new()));
    assert!(!window.is_ended());
}

#[test]
fn a_reload_waits_for_the_next_part_and_the_next_segment() {
    let window = filled(2, 3);
    let reload = |block| window.reload(&rung("720p"), block);
    assert_eq!(reload(None), Reload::Ready);
    assert_eq!(reload(until(2, 2)), Reload::Ready);
    assert_eq!(reload(until(2, 3)), Reload::Wait);
    assert_eq!(reload(until(1, None)), Reload::Ready);
    assert_eq!(reload(until(2, None)), Reload::Wait);
    assert_eq!(reload(until(3, 0)), Reload::Wait);
    assert_eq!(window.reload(&rung("nope"), None), Reload::NoRung);
    assert_eq!(opened().reload(&rung("720p"), None), Reload::Wait);
}

#[test]
fn a_part_past_a_segments_last_means_the_next_segments_first() {
    let (closed, begun) = (filled(2, 0), filled(2, 1));
    assert_eq!(closed.reload(&rung("720p"), until(1, PARTS)), Reload::Wait);
    assert_eq!(begun.reload(&rung("720p"), until(1, PARTS)), Reload::Ready);
}

#[test]
fn a_reload_too_far_in_the_future_is_refused() {
    let window = filled(2, 3);
    let reload = |block| window.reload(&rung("720p"), block);
    // The last full segment is 1.
    assert_eq!(reload(until(3, None)), Reload::Wait);
    assert_eq!(reload(until(4, None)), Reload::TooFar);
    assert_eq!(reload(until(2, 3 + 9)), Reload::Wait);
    assert_eq!(reload(until(2, 3 + 10)), Reload::TooFar);
    let absurd = BlockUntil { msn: Msn(u64::MAX), part: Some(PartNo(u32::MAX)) };
    assert_eq!(reload(Some(absurd)), Reload::TooFar);
}

#[test]
fn only_the_hinted_part_is_worth_waiting_for() {
    let mut window = filled(2, 3);
    let lookup = |window: &millrace_hls::Window, index, number| {
        window.part(&rung("720p"), Msn(FIRST + index), PartNo(number))
    };
    assert_eq!(lookup(&window, 2, 3), PartLookup::Hinted);
    assert_eq!(lookup(&window, 2, 4), PartLookup::Absent);
    assert_eq!(lookup(&window, 3, 0), PartLookup::Absent);
    let mut early_end = part("720p", 2, 3);
    early_end.last = true;
    push(&mut window, early_end).unwrap();
    assert_eq!(lookup(&window, 2, 4), PartLookup::Absent);
    assert_eq!(lookup(&window, 3, 0), PartLookup::Hinted);
}

#[test]
fn a_segment_is_its_parts_and_only_when_it_is_full() {
    let window = filled(1, 2);
    let expected: Vec<Bytes> = (0..PARTS).map(|number| part_bytes("720p", FIRST, number)).collect();
    assert_eq!(window.segment(&rung("720p"), Msn(FIRST)), Some(expected));
    assert_eq!(window.segment(&rung("720p"), Msn(FIRST + 1)), None);
}

#[test]
fn the_status_says_how_far_each_rung_is_and_what_it_weighs() {
    let mut window = filled(1, 2);
    window.add_init(epoch(1, 0), init("720p"), sample::init_bytes("720p")).unwrap();
    let status = window.status();
    assert_eq!(
        status.iter().map(|rung| rung.rung.as_str()).collect::<Vec<_>>(),
        ["source", "720p", "audio"]
    );
    assert_eq!(status[1].last, Some((Msn(FIRST + 1), PartNo(1))));
    let bytes: usize = (0..PARTS).map(|number| part_bytes("720p", FIRST, number).len()).sum();
    assert_eq!(status[1].bitrate_bps, Some(bytes as u64 * 8 / 2));
    assert_eq!(status[1].end, Some(MediaTime(part("720p", 1, 1).end.0)));
}

#[test]
fn a_writer_that_was_taken_over_cannot_write_lines_or_sums_into_a_playlist() {
    let mut window = opened();
    let refused = |outcome| matches!(outcome, Err(Refusal::OutOfRange { .. }));
    let mut escaping = init("720p");
    escaping.codecs = "avc1\"\n#EXT-X-ENDLIST".into();
    assert!(refused(window.add_init(epoch(1, 0), escaping, Bytes::new())));
    let mut boundless = init("720p");
    boundless.bandwidth_bps = u64::MAX;
    assert!(refused(window.add_init(epoch(1, 0), boundless, Bytes::new())));
}

#[test]
fn numbers_and_moments_without_measure_are_refused_and_change_nothing() {
    let mut window = filled(0, 2);
    let before = window.media_playlist(&rung("720p"), false);
    let wrongs: [fn(&mut millrace_hls::PartRecord); 5] = [
        |part| part.msn = Msn(u64::MAX),
        |part| part.part = PartNo(u32::MAX),
        |part| part.start = MediaTime(i64::MIN),
        |part| part.end = MediaTime(i64::MAX),
        |part| part.segment_start = MediaTime(-1),
    ];
    for wrong in wrongs {
        let mut record = part("720p", 0, 2);
        wrong(&mut record);
        assert!(matches!(push(&mut window, record), Err(Refusal::OutOfRange { .. })));
    }
    assert_eq!(window.media_playlist(&rung("720p"), false), before);
}

#[test]
fn a_hole_that_is_never_filled_holds_back_a_bounded_number_of_parts() {
    let mut window = filled(0, 2);
    let taken = (1..4_000).take_while(|number| push(&mut window, part("720p", 1, *number)).is_ok());
    assert_eq!(taken.count(), 512);
    push(&mut window, part("720p", 0, 2)).expect("what comes next is always taken");
}

#[test]
fn a_part_that_ends_before_its_segment_began_leaves_no_negative_duration() {
    let mut window = filled(0, 2);
    let mut record = part("720p", 0, 2);
    (record.start, record.end, record.last) = (MediaTime(1), MediaTime(2), true);
    push(&mut window, record).unwrap();
    let playlist = window.media_playlist(&rung("720p"), false).unwrap();
    assert!(playlist.contains("#EXTINF:") && !playlist.contains(":-"), "{playlist}");
}

#[test]
fn beyond_its_bytes_the_oldest_segments_of_all_rungs_go_and_the_newest_of_each_stay() {
    let mut window = filled(12, 2);
    let held = |window: &millrace_hls::Window, name: &str| -> Vec<u64> {
        let there = |index: &u64| {
            let first = window.part(&rung(name), Msn(FIRST + index), PartNo(0));
            matches!(first, PartLookup::Here(_))
        };
        (0..=12).filter(there).collect()
    };
    let bytes = |segments: std::ops::RangeInclusive<u64>| -> u64 {
        let parts = |index| if index < 12 { PARTS } else { 2 };
        let of =
            |name: &str, index: u64, number| part_bytes(name, FIRST + index, number).len() as u64;
        let names = ["source", "720p", "audio"];
        let all = segments.flat_map(|index| (0..parts(index)).map(move |number| (index, number)));
        all.flat_map(|(index, number)| names.map(|name| of(name, index, number))).sum()
    };
    window.forget_beyond(bytes(0..=12));
    assert_eq!(held(&window, "source").len(), 13);
    window.forget_beyond(bytes(5..=12));
    for name in ["source", "720p", "audio"] {
        assert_eq!(held(&window, name), (5..=12).collect::<Vec<_>>(), "{name}");
    }
    window.forget_beyond(0);
    assert_eq!(held(&window, "720p"), [12]);
    push(&mut window, part("720p", 12, 2)).unwrap();
}
