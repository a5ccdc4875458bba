//! Two encoders make a stream: every part is shown exactly once and in order, whoever dies when, and no segment is gone on with
//! by an encoder that cannot.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod sample;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use millrace_hls::{Accepted, Hash, PartLookup, PartRecord, Refusal, StreamOpen, Window};
use millrace_types::{Epoch, Mono, Msn, PartNo};
use proptest::prelude::*;
use sample::{FIRST, PARTS, announcement, epoch, init, init_bytes, part, rung};

const RUNG: &str = "720p";
const OTHER: &[u8] = b"another encoder's init section";
const PART: Duration = Duration::from_millis(334);
const PATIENCE: Duration = Duration::from_millis(150);

fn at(millis: u64) -> Mono {
    Mono(Duration::from_millis(millis))
}

/// What an encoder makes: its own bytes, or the same as every other's.
fn made(maker: Epoch, index: u64, number: u32, equal: bool) -> (PartRecord, Bytes) {
    let record = part(RUNG, index, number);
    let whose = if equal { 0 } else { maker.placement };
    let bytes = Bytes::from(format!("{} {index}.{number}", whose));
    let hash = Hash::of(&bytes);
    (PartRecord { epoch: maker, hash, length: bytes.len() as u32, ..record }, bytes)
}

fn push(
    window: &mut Window,
    now: Mono,
    (record, bytes): (PartRecord, Bytes),
) -> Result<Accepted, Refusal> {
    window.add_part(now, record.epoch, record, bytes)
}

/// A stream of one rung with two writers, whose epochs are 1.1 and 1.2.
fn paired() -> Window {
    let mut window = Window::open(StreamOpen { epoch: epoch(1, 1), ..announcement() });
    let beside = Some(epoch(1, 1));
    window.reopen(StreamOpen { epoch: epoch(1, 2), beside, ..announcement() }).unwrap();
    window.add_init(epoch(1, 1), init(RUNG), init_bytes(RUNG)).unwrap();
    window
}

/// Who made each part that a player can fetch, in order.
fn shown(window: &Window, segments: u64) -> Vec<String> {
    let numbers = (0..segments).flat_map(|index| (0..PARTS).map(move |number| (index, number)));
    let bytes = numbers.map_while(|(index, number)| {
        match window.part(&rung(RUNG), Msn(FIRST + index), PartNo(number)) {
            PartLookup::Here(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            PartLookup::Hinted | PartLookup::Absent => None,
        }
    });
    bytes.collect()
}

fn shown_by(window: &Window, segments: u64) -> String {
    shown(window, segments).iter().map(|text| text.chars().next().unwrap()).collect()
}

#[test]
fn an_origin_that_has_lost_its_memory_hears_of_both_writers_before_it_takes_anything_of_the_newer()
{
    let [a, b] = [epoch(1, 1), epoch(1, 2)];
    let mut before = paired();
    push(&mut before, at(0), made(a, 0, 0, false)).unwrap();
    push(&mut before, at(100), made(b, 0, 0, false)).unwrap();
    push(&mut before, at(334), made(b, 0, 1, false)).unwrap();
    // It starts again. The first writer comes with what it has made, the second goes on behind what it was told is safe.
    let restores = vec![before.restorable().remove(0)];
    let mut window = Window::open(StreamOpen { epoch: a, restores, ..announcement() });
    window.add_init(a, init(RUNG), init_bytes(RUNG)).unwrap();
    let unknown = Err(Refusal::UnknownRung { rung: rung(RUNG) });
    assert_eq!(
        push(&mut window, at(668), made(b, 0, 2, false)),
        unknown,
        "it is to announce itself"
    );
    window.reopen(StreamOpen { epoch: b, beside: Some(a), ..announcement() }).unwrap();
    for number in 0..3 {
        push(&mut window, at(700), made(b, 0, number, false)).unwrap();
    }
    assert!(push(&mut window, at(710), made(a, 0, 0, false)).is_ok(), "the first is not fenced");
}

#[test]
fn the_encoder_that_opens_a_segment_is_shown_to_its_end_though_the_other_is_ahead() {
    let (mut window, [a, b]) = (paired(), [epoch(1, 1), epoch(1, 2)]);
    push(&mut window, at(0), made(a, 0, 0, false)).unwrap();
    for number in 0..PARTS {
        let now = at(u64::from(number) * 334);
        let ahead = push(&mut window, now, made(b, 0, number, false)).unwrap();
        assert_eq!(ahead == Accepted::Spare, number == 0);
        if number > 0 {
            push(&mut window, now + Duration::from_millis(100), made(a, 0, number, false)).unwrap();
        }
    }
    push(&mut window, at(2_100), made(b, 1, 0, false)).unwrap();
    assert_eq!(shown_by(&window, 2), "1111112");
    let late = push(&mut window, at(2_150), made(a, 1, 0, false));
    assert_eq!(late, Ok(Accepted::Spare), "first writer wins");
}

#[test]
fn the_other_goes_on_a_part_and_150_ms_after_the_last_of_a_dead_one() {
    let (mut window, [a, b]) = (paired(), [epoch(1, 1), epoch(1, 2)]);
    for number in 0..3 {
        for maker in [a, b] {
            let now = at(u64::from(number) * 334);
            push(&mut window, now, made(maker, 0, number, false)).unwrap();
        }
    }
    push(&mut window, at(1_002), made(b, 0, 3, false)).unwrap();
    let due = at(668) + PART + PATIENCE;
    assert!(window.deadline().unwrap().since(due) < Duration::from_millis(2));
    window.tick(at(1_100));
    assert_eq!(shown_by(&window, 1), "111");
    window.tick(window.deadline().unwrap());
    assert_eq!(shown_by(&window, 1), "1112");
    for number in 4..6 {
        push(&mut window, at(u64::from(number) * 334), made(b, 0, number, false)).unwrap();
    }
    assert_eq!(shown_by(&window, 1), "111222", "from then on at once");
    assert_eq!(window.deadline(), None);
}

#[test]
fn an_encoder_that_joined_inside_a_segment_waits_for_the_next() {
    let (mut window, [a, b]) = (paired(), [epoch(1, 1), epoch(1, 2)]);
    push(&mut window, at(0), made(a, 0, 0, false)).unwrap();
    let (record, bytes) = made(b, 0, 1, false);
    push(&mut window, at(334), (record, bytes)).unwrap();
    window.tick(at(10_000));
    assert_eq!(shown_by(&window, 1), "1", "it did not open the segment");
    push(&mut window, at(10_001), made(a, 0, 1, false)).unwrap();
    assert_eq!(shown_by(&window, 1), "11");
}

#[test]
fn a_passed_through_rung_is_gone_on_with_where_all_was_equal_so_far() {
    for equal in [true, false] {
        let (mut window, [a, b]) = (paired(), [epoch(1, 1), epoch(1, 2)]);
        let forced = |maker, number| {
            let (record, bytes) = made(maker, 0, number, equal);
            (PartRecord { independent: false, ..record }, bytes)
        };
        for (maker, number) in [(a, 0), (b, 0), (b, 1)] {
            push(&mut window, at(u64::from(number) * 334), forced(maker, number)).unwrap();
        }
        window.tick(at(5_000));
        assert_eq!(shown(&window, 1).len(), if equal { 2 } else { 1 });
    }
}

#[test]
fn a_part_cut_short_by_an_encoder_that_was_told_to_end_is_shown_only_if_nobody_goes_on() {
    let short = |maker, number| {
        let (record, bytes) = made(maker, 0, number, false);
        (PartRecord { last: true, short: true, ..record }, bytes)
    };
    let (mut window, [a, b]) = (paired(), [epoch(1, 1), epoch(1, 2)]);
    for maker in [a, b] {
        push(&mut window, at(0), made(maker, 0, 0, false)).unwrap();
    }
    push(&mut window, at(100), short(a, 1)).unwrap();
    push(&mut window, at(334), made(b, 0, 1, false)).unwrap();
    window.tick(at(700));
    assert_eq!(shown_by(&window, 1), "12");
    // A third is asked to go on beside the second, which is about to make the whole part.
    push(&mut window, at(750), short(a, 2)).unwrap();
    window.tick(at(2_800));
    let third = StreamOpen { epoch: epoch(1, 3), beside: Some(b), ..announcement() };
    let beside = window.clone().reopen(third.clone());
    assert!(beside.unwrap().iter().all(|mark| !mark.closed), "the short one is forgotten");
    let alone = window.clone().reopen(StreamOpen { beside: None, ..third });
    assert!(alone.unwrap().iter().all(|mark| !mark.closed), "who comes alone makes it again");
    let mut left_alone = window.clone();
    left_alone.tick(at(10_749));
    assert_eq!(shown_by(&left_alone, 1), "12");
    left_alone.tick(at(10_750));
    assert_eq!(shown_by(&left_alone, 1), "121");
    // Both were told: a new router has claimed the stream.
    push(&mut window, at(800), short(b, 2)).unwrap();
    assert_eq!(shown_by(&window, 1), "12");
    let marks = window.claim(epoch(2, 0)).unwrap();
    assert_eq!(shown_by(&window, 1), "121");
    assert!(marks.iter().all(|mark| mark.closed));
}

#[test]
fn only_the_writer_beside_the_newest_is_not_fenced() {
    let mut window = paired();
    assert!(push(&mut window, at(0), made(epoch(1, 0), 0, 0, false)).is_err());
    assert!(push(&mut window, at(0), made(epoch(1, 1), 0, 0, false)).is_ok());
    let third = StreamOpen { epoch: epoch(1, 3), beside: Some(epoch(1, 2)), ..announcement() };
    window.reopen(third).unwrap();
    let fenced = push(&mut window, at(0), made(epoch(1, 1), 0, 1, false));
    assert!(matches!(fenced, Err(Refusal::Fenced { .. })), "{fenced:?}");
    assert!(push(&mut window, at(0), made(epoch(1, 2), 0, 0, false)).is_ok());
    window.reopen(StreamOpen { epoch: epoch(1, 2), ..announcement() }).unwrap();
    assert!(window.is_dual(), "what it said before it had company changes nothing");
    window.reopen(StreamOpen { epoch: epoch(1, 4), ..announcement() }).unwrap();
    assert!(!window.is_dual() && push(&mut window, at(0), made(epoch(1, 3), 1, 0, false)).is_err());
}

#[test]
fn encoders_that_are_not_interchangeable_are_found_out_before_either_is_needed() {
    let hash = Hash::of(OTHER);
    let other_init = || {
        let mut window = paired();
        let record = millrace_hls::InitRecord { hash, ..init(RUNG) };
        for number in 0..PARTS {
            push(&mut window, at(0), made(epoch(1, 1), 0, number, false)).unwrap();
        }
        window.add_init(epoch(1, 2), record, Bytes::from_static(OTHER)).unwrap();
        window
    };
    let mut window = other_init();
    push(&mut window, at(0), made(epoch(1, 1), 1, 0, false)).unwrap();
    let second = |index, number| {
        let (record, bytes) = made(epoch(1, 2), index, number, false);
        (PartRecord { init: hash, ..record }, bytes)
    };
    let refused = |index| Err(Refusal::OtherEncoder { msn: Msn(FIRST + index), init: hash });
    assert_eq!(push(&mut window, at(1), second(1, 0)), refused(1));

    let mut window = other_init();
    for number in 0..PARTS {
        push(&mut window, at(1), second(1, number)).unwrap();
        let first = push(&mut window, at(2), made(epoch(1, 1), 1, number, false));
        assert_eq!(first, Ok(Accepted::Spare), "the second was before it");
    }
    assert_eq!(shown_by(&window, 2), "111111222222", "what it has begun it finishes");
    assert_eq!(push(&mut window, at(3), second(2, 0)), refused(2));
}

/// One encoder's life: how late it is with each part, and the parts it makes.
#[derive(Clone, Debug)]
struct Encoder {
    first_segment: u64,
    lag_ms: Vec<u64>,
    dies_before: usize,
}

const SEGMENTS: u64 = 5;

fn encoder() -> impl Strategy<Value = Encoder> {
    let parts = SEGMENTS as usize * PARTS as usize;
    (prop::collection::vec(0_u64..400, parts), 0..=parts)
        .prop_map(|(lag_ms, dies_before)| Encoder { first_segment: 0, lag_ms, dies_before })
}

/// When each part of an encoder comes to the origin: in its own order, each at its time plus its lag.
fn arrivals(encoder: &Encoder, maker: Epoch) -> Vec<(u64, Epoch, u64, u32)> {
    let mut before = 0;
    let mut all = Vec::new();
    for index in 0..encoder.lag_ms.len() {
        let due = index as u64 * 334 + encoder.lag_ms[index];
        before = before.max(due);
        let (segment, number) = (index as u64 / u64::from(PARTS), index as u32 % PARTS);
        if index < encoder.dies_before && segment >= encoder.first_segment {
            all.push((before, maker, segment, number));
        }
    }
    all
}

proptest! {
    #[test]
    fn every_part_is_shown_once_and_in_order_whoever_dies_when(
        first in encoder(),
        second in encoder(),
        first_survives in any::<bool>(),
    ) {
        let (mut first, mut second) = (first, second);
        let parts = first.lag_ms.len();
        if first_survives { first.dies_before = parts } else { second.dies_before = parts }
        let mut window = paired();
        let mut events = arrivals(&first, epoch(1, 1));
        events.extend(arrivals(&second, epoch(1, 2)));
        events.sort_by_key(|event| event.0);
        let (mut before, mut seen_at) = (Vec::new(), BTreeMap::new());
        let mut look = |window: &Window, now: u64| {
            let now_shown = shown(window, SEGMENTS);
            assert!(now_shown.starts_with(&before), "what was shown has changed");
            for index in before.len()..now_shown.len() {
                seen_at.insert(index, now);
            }
            before = now_shown;
        };
        for (now, maker, segment, number) in events.iter().copied() {
            while let Some(due) = window.deadline().filter(|due| *due <= at(now)) {
                window.tick(due);
                look(&window, due.0.as_millis() as u64);
            }
            push(&mut window, at(now), made(maker, segment, number, false)).unwrap();
            look(&window, now);
        }
        while let Some(due) = window.deadline() {
            window.tick(due);
            look(&window, due.0.as_millis() as u64);
        }
        prop_assert_eq!(before.len(), parts);
        for (index, text) in before.iter().enumerate() {
            let (segment, number) = (index as u64 / u64::from(PARTS), index as u32 % PARTS);
            let place = format!(" {segment}.{number}");
            prop_assert!(text.ends_with(&place), "{text} at {place}");
        }
        // The one that lives is never waited for longer than until its own part is there, and the other's would be late.
        let living = if first_survives { &first } else { &second };
        let alive = arrivals(living, epoch(1, 0));
        for (index, (came, ..)) in alive.iter().enumerate() {
            let last = index.checked_sub(1).map_or(0, |last| seen_at[&last]);
            let bound = came.max(&(last + 334)) + 152;
            prop_assert!(seen_at[&index] <= bound, "part {index} at {} of {bound}", seen_at[&index]);
        }
    }
}
