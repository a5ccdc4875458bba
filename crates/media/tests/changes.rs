//! Publishers that change what they send, leave, and come back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod publisher;

use std::time::Duration;

use millrace_media::{
    AccessUnit, Cut, Input, Item, Resume, SourceLimits, Timeline, TimelineStart, Track,
};
use millrace_types::{MediaTime, Msn};
use publisher::{
    ASC_44K_MONO, ASC_48K_STEREO, AVCC, OTHER_AVCC, START, Source, audio_configs, audio_header,
    feed, number_of, publish, timeline, units, video_configs, video_header,
};

const SECOND: i64 = 90_000;

fn is_contiguous(units: &[AccessUnit]) -> bool {
    units.windows(2).all(|pair| pair[0].dts + i64::from(pair[0].duration) == pair[1].dts)
}

#[test]
fn equal_headers_sent_again_change_nothing() {
    let source = Source::new(30, 1, 2.0, 8.0);
    let mut messages = source.messages();
    for at in [6_000, 4_000, 3_333] {
        let index = messages.partition_point(|(moment, _)| *moment < at);
        messages.insert(index, source.video(at.into(), video_header(AVCC)));
        messages.insert(index, source.audio(at.into(), audio_header(ASC_48K_STEREO)));
    }
    let items = feed(&mut timeline(), messages);
    let (_, plain) = publish(&source);
    let last = items.len() - 1;
    assert_eq!(units(&items[..last], Track::Video)[..200], units(&plain, Track::Video)[..200]);
    assert_eq!(video_configs(&items).len() + audio_configs(&items).len(), 2);
}

#[test]
fn another_resolution_starts_a_segment_behind_a_discontinuity_at_its_first_idr() {
    let source = Source::new(30, 1, 1.0, 8.0);
    let mut messages = source.messages();
    let index = messages.partition_point(|(at, _)| *at < 3_000);
    messages.insert(index, source.video(3_000, video_header(OTHER_AVCC)));
    let items = feed(&mut timeline(), messages);
    let configs = video_configs(&items);
    assert_eq!((configs.len(), configs[1].width, configs[1].height), (2, 1_920, 1_080));
    let video = units(&items, Track::Video);
    let changed: Vec<_> =
        video.iter().filter(|unit| unit.stamp.segment.discontinuity == 1).collect();
    assert!(
        changed[0].idr && changed[0].stamp.starts == Cut::Segment && number_of(changed[0]) == 90
    );
    let place = |item: &Item| matches!(item, Item::Config(config) if config.seq > 2);
    let config_seq = items.iter().find(|item| place(item)).unwrap().seq();
    let before = video.iter().filter(|unit| unit.seq < config_seq).map(number_of).max();
    assert_eq!(before, Some(89), "the description comes right before what it describes");
    let audio = units(&items, Track::Audio);
    assert!(
        is_contiguous(&audio) && audio.iter().any(|unit| unit.stamp.segment.discontinuity == 1)
    );
}

#[test]
fn other_sound_begins_with_the_next_segment_behind_a_discontinuity() {
    let source = Source::new(30, 1, 2.0, 10.0);
    let mut messages = source.messages();
    let index = messages.partition_point(|(at, _)| *at < 5_000);
    messages.insert(index, source.audio(5_000, audio_header(ASC_44K_MONO)));
    let items = feed(&mut timeline(), messages);
    let configs = audio_configs(&items);
    assert_eq!((configs.len(), configs[1].sample_rate, configs[1].channels), (2, 44_100, 1));
    let changed = items.iter().filter(|item| matches!(item, Item::Config(_))).last().unwrap().seq();
    let audio = units(&items, Track::Audio);
    let (old, new): (Vec<_>, Vec<_>) = audio.into_iter().partition(|unit| unit.seq < changed);
    assert!(is_contiguous(&old) && is_contiguous(&new) && new.len() > 100);
    assert_eq!(new[0].stamp.starts, Cut::Segment);
    assert_eq!(new[0].stamp.segment.discontinuity, 1);
    assert!(old.last().unwrap().stamp.ends.is_some_and(|end| end.segment));
}

#[test]
fn what_changes_at_the_next_keyframe_is_told_before_and_segments_until_then_bring_no_discontinuity()
{
    let source = Source::new(30, 1, 8.0, 20.0);
    let mut timeline = timeline();
    let (before, after): (Vec<_>, Vec<_>) =
        source.messages().into_iter().partition(|(at, _)| *at < 9_000);
    let mut items = feed(&mut timeline, before);
    assert_eq!(timeline.break_at_next_keyframe(Msn(0)), 1);
    // Other sound has a discontinuity of its own, where the next segment starts.
    let index = after.partition_point(|(at, _)| *at < 12_000);
    let (between, after) = after.split_at(index);
    items.extend(feed(&mut timeline, between.to_vec()));
    let mut after = after.to_vec();
    after.insert(0, source.audio(12_000, audio_header(ASC_44K_MONO)));
    items.extend(feed(&mut timeline, after));
    let video = units(&items, Track::Video);
    let first_of = |discontinuity| {
        let of = |unit: &&AccessUnit| unit.stamp.segment.discontinuity == discontinuity;
        let first = video.iter().find(of).unwrap();
        (number_of(first), first.idr, first.stamp.starts)
    };
    let sound = first_of(1);
    assert!((361..=420).contains(&sound.0) && !sound.1, "{sound:?}");
    assert_eq!(first_of(2), (480, true, Cut::Segment));
    let segments = video.iter().filter(|unit| unit.stamp.starts == Cut::Segment).count();
    assert!(segments > 2 * 3, "{segments} segments, most of them without a keyframe");
    let last = video.last().unwrap().stamp.segment;
    assert_eq!(last.discontinuity, 2);
    // Nobody has seen what is behind that keyframe yet: what changes as well changes with it.
    let there = video.iter().find(|unit| unit.stamp.segment.discontinuity == 2).unwrap();
    let before = Msn(there.stamp.segment.msn.0 - 1);
    assert_eq!(timeline.break_at_next_keyframe(before), 2);
    assert_eq!(timeline.break_at_next_keyframe(there.stamp.segment.msn), 3);
}

#[test]
fn a_publisher_that_returns_goes_on_behind_a_discontinuity_and_never_in_the_past() {
    let source = Source::new(30, 1, 2.0, 6.0);
    let mut timeline = timeline();
    let first = feed(&mut timeline, source.messages());
    let left = feed(&mut timeline, [(6_000, Input::PublisherLeft)]);
    let closing = units(&left, Track::Video).pop().unwrap();
    assert!(closing.stamp.ends.is_some_and(|end| end.segment));
    let closing_sound = units(&left, Track::Audio).pop().unwrap();
    assert!(closing_sound.stamp.ends.is_some_and(|end| end.segment));
    let mut back = vec![(6_000, Input::PublisherBack { utc: START + Duration::from_secs(3) })];
    back.extend(source.messages());
    let second = feed(&mut timeline, back);
    assert!(video_configs(&second).is_empty(), "equal headers are no change");
    let last = units(&first, Track::Video).pop().unwrap();
    let video = units(&second, Track::Video);
    assert_eq!(video[0].stamp.segment.msn, last.stamp.segment.msn.next());
    assert_eq!(video[0].stamp.segment.discontinuity, 1);
    assert!(video[0].dts >= closing.dts + i64::from(closing.duration));
    assert!(units(&second, Track::Audio)[0].pts >= closing_sound.pts + 1_024);
    assert_eq!(second[0].seq(), left.last().unwrap().seq() + 1);
}

#[test]
fn a_session_that_goes_on_elsewhere_continues_numbers_and_time() {
    let last_end = MediaTime::from_wall(START) + 5 * SECOND;
    let mut timeline = Timeline::new(TimelineStart {
        utc: START,
        resume: Some(Resume {
            next_msn: Msn(77),
            discontinuity: 3,
            last_end,
            part_target: Some(45_000),
        }),
        low_latency: true,
        limits: SourceLimits::default(),
    });
    let items = feed(&mut timeline, Source::new(30, 1, 2.0, 3.0).messages());
    let stamp = units(&items, Track::Video)[0].stamp;
    assert_eq!((stamp.segment.msn, stamp.segment.discontinuity), (Msn(77), 4));
    assert_eq!(stamp.segment.start, last_end + 45_000);
    assert_eq!(timeline.part_target(), Some(45_000));
}
