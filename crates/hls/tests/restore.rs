//! One origin takes a stream over from another: fed the backlog of its writer's window, it writes the same playlists.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod sample;

use bytes::Bytes;
use millrace_hls::{Accepted, Backlog, Hash, InitRecord, PartRecord, StreamOpen, Window};
use millrace_types::{Epoch, Mark, MediaTime, Mono, Msn, PartNo};
use sample::{
    FIRST, PARTS, announcement, epoch, filled, init, opened, part, part_bytes, push, rung,
};

const RUNGS: [&str; 3] = ["source", "720p", "audio"];

/// The window of another origin, which the writer of `from` has announced itself to under `epoch`.
fn announced(from: &Window, epoch: Epoch) -> Window {
    let rungs = from.announced().rungs.clone();
    Window::open(StreamOpen { epoch, rungs, restores: from.restorable(), ..announcement() })
}

fn take(window: &mut Window, epoch: Epoch, record: Backlog) -> Accepted {
    match record {
        Backlog::Init(record, bytes) => window.add_init(epoch, record, bytes),
        Backlog::Part(record, bytes) => window.add_part(Mono::default(), epoch, record, bytes),
    }
    .unwrap()
}

/// Pushes the whole backlog, rung by rung.
fn restored(from: &Window, epoch: Epoch) -> Window {
    let mut window = announced(from, epoch);
    for name in RUNGS {
        for record in from.backlog(&rung(name)) {
            take(&mut window, epoch, record);
        }
    }
    assert!(window.is_restored());
    window
}

fn assert_same_playlists(one: &Window, other: &Window) {
    for name in RUNGS {
        let text = |window: &Window| window.media_playlist(&rung(name), false).unwrap();
        assert_eq!(text(one), text(other));
    }
}

#[test]
fn another_origin_that_is_fed_the_backlog_writes_the_same_playlists() {
    for (segments, parts) in [(1, 2), (4, 0), (15, 1), (40, 3)] {
        let window = filled(segments, parts);
        assert_same_playlists(&window, &restored(&window, epoch(1, 1)));
    }
}

#[test]
fn it_is_restored_once_every_rung_has_come_as_far_as_its_writer_said() {
    let window = filled(3, 2);
    let mut other = announced(&window, epoch(1, 1));
    for name in RUNGS {
        for record in window.backlog(&rung(name)) {
            assert!(!other.is_restored());
            take(&mut other, epoch(1, 1), record);
        }
    }
    assert!(other.is_restored());
    push(&mut other, PartRecord { epoch: epoch(1, 1), ..part("720p", 3, 2) }).unwrap();
    assert!(other.is_restored());
}

#[test]
fn a_writer_that_has_nothing_to_restore_keeps_nobody_waiting() {
    assert!(announced(&opened(), epoch(1, 1)).is_restored());
    let mut window = announced(&filled(3, 2), epoch(1, 1));
    assert!(!window.is_restored());
    window.reopen(StreamOpen { epoch: epoch(1, 2), ..announcement() }).unwrap();
    assert!(window.is_restored(), "its successor has made nothing yet");
}

#[test]
fn who_is_followed_keeps_players_waiting_until_the_other_has_said_what_it_restores_and_has_done_so()
{
    let (first, second) = (filled(3, 1), filled(3, 2));
    let rungs = first.announced().rungs.clone();
    let open =
        StreamOpen { epoch: epoch(1, 1), rungs, restores: first.restorable(), ..announcement() };
    let followed = || Window::open(StreamOpen { followed: true, ..open.clone() });
    let mut window = followed();
    for name in RUNGS {
        for record in first.backlog(&rung(name)) {
            take(&mut window, epoch(1, 1), record);
        }
    }
    assert!(window.awaits_follower() && !window.is_restored());
    let (beside, restores) = (Some(epoch(1, 1)), second.restorable());
    let behind =
        StreamOpen { epoch: epoch(1, 2), beside, restores, followed: false, ..open.clone() };
    window.reopen(behind).unwrap();
    assert!(!window.awaits_follower() && !window.is_restored());
    for name in RUNGS {
        for record in second.backlog(&rung(name)) {
            take(&mut window, epoch(1, 2), record);
        }
    }
    assert!(window.is_restored());
    assert_same_playlists(&second, &window);

    let mut over = followed();
    over.end(epoch(1, 1)).unwrap();
    assert!(over.is_restored(), "nobody follows at the end");
}

#[test]
fn of_two_that_restore_the_second_makes_no_gap_of_what_the_first_is_about_to_bring() {
    let (one, two) = (epoch(1, 1), epoch(1, 2));
    let first = filled(3, 2);
    let open =
        StreamOpen { epoch: one, restores: first.restorable(), followed: true, ..announcement() };
    let mut window = Window::open(open);
    for name in RUNGS {
        for record in first.backlog(&rung(name)) {
            take(&mut window, one, record);
        }
    }
    // The second has made everything from the fourth segment on, and comes before the first has ended the third.
    let mark = |name: &str| Mark {
        rung: rung(name),
        msn: Msn(FIRST + 4),
        part: PartNo(0),
        end: MediaTime(0),
        closed: false,
    };
    let restores = RUNGS.map(mark).to_vec();
    window
        .reopen(StreamOpen { epoch: two, beside: Some(one), restores, ..announcement() })
        .unwrap();
    for name in RUNGS {
        push(&mut window, PartRecord { epoch: two, ..part(name, 4, 0) }).unwrap();
    }
    assert!(!window.is_restored());
    for name in RUNGS {
        for number in 2..PARTS {
            let rest = Backlog::Part(part(name, 3, number), part_bytes(name, FIRST + 3, number));
            assert_eq!(take(&mut window, one, rest), Accepted::Added, "{name} {number}");
        }
    }
    assert!(window.is_restored());
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert!(!text.contains("#EXT-X-GAP"), "{text}");
    assert_eq!(text.matches("#EXTINF").count(), 4, "{text}");
}

#[test]
fn segments_that_were_closed_short_and_gaps_are_the_same_too() {
    let mut window = filled(2, 3);
    // A new generation closes the open segments; its pictures come back three segments later.
    window.reopen(StreamOpen { epoch: epoch(2, 0), ..announcement() }).unwrap();
    let later = |name: &str, index, number| PartRecord {
        epoch: epoch(2, 0),
        discontinuity: 1,
        ..part(name, index, number)
    };
    for index in 3..8 {
        for number in 0..PARTS {
            push(&mut window, later("audio", index, number)).unwrap();
            if index > 5 {
                push(&mut window, later("720p", index, number)).unwrap();
                push(&mut window, later("source", index, number)).unwrap();
            }
        }
    }
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert_eq!(text.matches("#EXT-X-GAP").count(), 3, "{text}");
    assert_same_playlists(&window, &restored(&window, epoch(2, 1)));
}

#[test]
fn each_encoders_init_section_comes_before_its_parts() {
    let mut window = filled(2, 0);
    let bytes = Bytes::from_static(b"another encoder");
    let other = InitRecord { hash: Hash::of(&bytes), ..init("720p") };
    window.add_init(epoch(1, 0), other.clone(), bytes).unwrap();
    for number in 0..PARTS {
        let record = PartRecord { init: other.hash, ..part("720p", 2, number) };
        push(&mut window, record).unwrap();
    }
    let text = window.media_playlist(&rung("720p"), false).unwrap();
    assert_eq!(text.matches("#EXT-X-MAP").count(), 2, "{text}");
    assert_same_playlists(&window, &restored(&window, epoch(1, 1)));
}

#[test]
fn an_origin_that_has_part_of_it_takes_the_rest_and_what_waits_for_a_hole_comes_too() {
    let mut window = filled(2, 3);
    push(&mut window, part("720p", 2, 4)).unwrap();
    let mut other = filled(1, 4);
    let open = StreamOpen { epoch: epoch(1, 1), restores: window.restorable(), ..announcement() };
    other.reopen(open).unwrap();
    for name in RUNGS {
        for record in window.backlog(&rung(name)) {
            take(&mut other, epoch(1, 1), record);
        }
    }
    assert_same_playlists(&window, &other);
    let filling = PartRecord { epoch: epoch(1, 1), ..part("720p", 2, 3) };
    push(&mut other, filling).unwrap();
    let text = other.media_playlist(&rung("720p"), false).unwrap();
    assert!(text.contains(&format!("{}.4.m4s", FIRST + 2)), "{text}");
}
