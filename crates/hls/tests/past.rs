//! A writer takes a stream over from another: what was published before it is copied from the origin and put before its own window,
//! which then restores the stream as the origin had it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod sample;

use bytes::Bytes;
use millrace_hls::{
    Accepted, Backlog, PartRecord, StreamOpen, Window,
    intake::{OtherMedia, Past, past_after, past_path},
};
use millrace_types::{Epoch, Msn, PartNo};
use sample::{FIRST, PARTS, announcement, epoch, fill, filled, init, init_bytes, part, push, rung};

const RUNGS: [&str; 3] = ["source", "720p", "audio"];

fn opened_by(writer: Epoch) -> Window {
    let mut window = Window::open(StreamOpen { epoch: writer, ..announcement() });
    for name in RUNGS {
        window.add_init(writer, init(name), init_bytes(name)).unwrap();
    }
    window
}

/// Copies what is new, in answers of so many bytes.
fn copy_on(copy: &mut Window, from: &Window, max_bytes: usize) {
    for name in RUNGS.map(rung) {
        loop {
            let past = from.past(&name, copy.last(&name), max_bytes);
            if past.is_empty() {
                break;
            }
            for record in past {
                copy.copy(record).unwrap();
            }
        }
    }
}

fn copied(from: &Window, max_bytes: usize) -> Window {
    let mut copy = Window::for_copy(&RUNGS.map(rung));
    copy_on(&mut copy, from, max_bytes);
    copy
}

fn assert_same_playlists(one: &Window, other: &Window) {
    for name in RUNGS {
        let text = |window: &Window| window.media_playlist(&rung(name), false).unwrap();
        assert_eq!(text(one), text(other));
    }
}

/// The successor makes that part of every rung, and the origin has it.
fn both(origin: &mut Window, own: &mut Window, index: u64, number: u32) {
    for name in RUNGS {
        let record = PartRecord { epoch: epoch(1, 1), ..part(name, index, number) };
        push(own, record.clone()).unwrap();
        push(origin, record).unwrap();
    }
}

#[test]
fn a_successors_window_is_the_origins_once_the_past_is_before_it() {
    // It begins with a segment, or inside of one; the answers are one part long, some, or everything.
    for (segments, parts) in [(1, 0), (3, 2), (15, 0), (20, 4)] {
        for max_bytes in [0, 100, usize::MAX] {
            let mut origin = filled(segments, parts);
            let (mut own, ahead) = (opened_by(epoch(1, 1)), copied(&origin, max_bytes));
            let mut copy = ahead.clone();
            assert!(!copy.comes_to(&own), "it has made nothing yet");
            for number in parts..PARTS {
                both(&mut origin, &mut own, segments, number);
            }
            // What it has made is not copied.
            assert_same_playlists(&own.after(&ahead), &origin);
            both(&mut origin, &mut own, segments + 1, 0);
            assert!(!copy.comes_to(&own), "whether the part before is the last is not known");
            copy_on(&mut copy, &origin, max_bytes);
            assert!(copy.comes_to(&own));
            assert_same_playlists(&own.after(&copy), &origin);
        }
    }
}

#[test]
fn what_it_goes_on_to_make_follows() {
    let (mut origin, mut own) = (filled(2, 3), opened_by(epoch(1, 1)));
    let copy = copied(&origin, usize::MAX);
    both(&mut origin, &mut own, 2, 3);
    let mut own = own.after(&copy);
    assert_eq!(own.announced(), opened_by(epoch(1, 1)).announced());
    for number in 4..PARTS {
        both(&mut origin, &mut own, 2, number);
    }
    both(&mut origin, &mut own, 3, 0);
    assert_same_playlists(&own, &origin);
    let marks = |window: &mut Window| window.fence(epoch(1, 2)).unwrap();
    assert_eq!(marks(&mut own), marks(&mut origin));
}

#[test]
fn gaps_and_a_discontinuity_are_the_same_too() {
    let mut origin = filled(2, 3);
    origin.reopen(StreamOpen { epoch: epoch(2, 0), ..announcement() }).unwrap();
    let later = |name: &str, index, number| PartRecord {
        epoch: epoch(2, 0),
        discontinuity: 1,
        ..part(name, index, number)
    };
    for (name, first) in [("audio", 3), ("source", 6), ("720p", 6)] {
        for (index, number) in (first..8).flat_map(|index| (0..PARTS).map(move |n| (index, n))) {
            push(&mut origin, later(name, index, number)).unwrap();
        }
    }
    let mut own = opened_by(epoch(2, 1));
    for name in RUNGS {
        let record = PartRecord { epoch: epoch(2, 1), ..later(name, 8, 0) };
        push(&mut own, record.clone()).unwrap();
        push(&mut origin, record).unwrap();
    }
    let copy = copied(&origin, 40);
    assert!(copy.comes_to(&own));
    assert_same_playlists(&own.after(&copy), &origin);
}

#[test]
fn of_two_encoders_a_node_keeps_its_own_parts_and_the_others_before_them() {
    let first = filled(4, 2);
    let mut own = opened_by(epoch(1, 1));
    for name in RUNGS {
        for number in 0..PARTS {
            let bytes = Bytes::from(format!("second's {number}"));
            let record = PartRecord { epoch: epoch(1, 1), ..part(name, 3, number) };
            own.add_part(Default::default(), epoch(1, 1), record, bytes).unwrap();
        }
    }
    let copy = copied(&first, usize::MAX);
    assert!(copy.comes_to(&own));
    let joined = own.after(&copy);
    let makers = joined.backlog(&rung("720p")).into_iter().filter_map(|record| {
        let Backlog::Part(record, bytes) = record else { return None };
        Some((record.msn.0 - FIRST, record.epoch.placement, bytes.starts_with(b"second's")))
    });
    let makers: Vec<_> = makers.collect();
    assert_eq!(makers.len(), 4 * PARTS as usize);
    assert!(makers.iter().all(|(index, by, own)| (*index == 3) == *own && *by == u64::from(*own)));
}

#[test]
fn what_could_not_be_copied_any_more_is_a_gap_and_one_that_has_made_nothing_is_not_ready() {
    let mut own = opened_by(epoch(1, 1));
    let copy = copied(&filled(3, 2), usize::MAX);
    assert!(!own.has_begun());
    for name in RUNGS {
        push(&mut own, PartRecord { epoch: epoch(1, 1), ..part(name, 6, 0) }).unwrap();
    }
    assert!(own.has_begun() && !copy.comes_to(&own));
    let text = own.after(&copy).media_playlist(&rung("720p"), false).unwrap();
    assert!(text.contains(&format!("MEDIA-SEQUENCE:{FIRST}")), "{text}");
    assert!(text.contains("#EXT-X-GAP"), "{text}");
    assert!(text.contains(&format!("{}.0.m4s", FIRST + 6)), "{text}");
    // A rung of which nothing came is as it was.
    let mut lacking = Window::for_copy(&RUNGS.map(rung));
    fill(&mut lacking, "audio", 0, 0);
    assert_same_playlists(&own.after(&lacking), &own);
}

#[test]
fn an_answer_about_the_past_is_read_as_it_was_meant_and_other_media_is_refused() {
    let window = filled(1, 2);
    let backlog = window.past(&rung("720p"), None, usize::MAX);
    let (line, media) = Past::of(backlog.clone());
    let media = Bytes::from(media.concat());
    assert_eq!(line.clone().with_media(media.clone()), Ok(backlog));
    let mut altered = media.to_vec();
    altered[20] ^= 1;
    for wrong in [media.slice(1..), media.slice(..media.len() - 1), altered.into()] {
        assert_eq!(line.clone().with_media(wrong), Err(OtherMedia));
    }
    let longer = Bytes::from([&media[..], b"x"].concat());
    assert_eq!(line.with_media(longer), Err(OtherMedia));
    assert_eq!(Past::default().with_media(Bytes::new()), Ok(Vec::new()));
}

#[test]
fn a_question_about_the_past_says_behind_which_part() {
    let stream = "live".parse().unwrap();
    for after in [None, Some((Msn(FIRST), PartNo(3)))] {
        let path = past_path(&stream, &rung("720p"), after);
        let (path, query) =
            path.split_once('?').map_or((&path[..], None), |(path, query)| (path, Some(query)));
        assert_eq!(path, "/intake/v1/live/past/720p");
        assert_eq!(past_after(query), Some(after));
    }
    for wrong in ["", "after=", "after=1", "after=1.x", "before=1.2"] {
        assert_eq!(past_after(Some(wrong)), None, "{wrong}");
    }
    assert_eq!(Ok(Accepted::Added), opened_by(epoch(1, 0)).copy(first_of("audio")));
}

fn first_of(name: &str) -> Backlog {
    filled(1, 0).past(&rung(name), None, 0).pop().unwrap()
}
