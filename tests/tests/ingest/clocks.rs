//! Timestamps that real networks and encoders produce, and sources that change while they run.

use std::ops::RangeInclusive;

use millrace_publisher::{Clip, Due, Playout, Tag, TagKind};
use millrace_testkit::{ClipSpec, Expected, Report};

use crate::ingest::stage::{
    by_ourselves, by_program, farm, ffmpeg, seconds, seen_of_ourselves, small, tags,
};

/// The source's own milliseconds, from its first frame.
type SourceMs = u32;

fn playout(clip: &ClipSpec) -> Playout {
    Playout::rounds(&tags(clip, &["-c", "copy"]).expect("tags"), 1)
}

/// Publishes a clip in its own time, with timestamps changed from one moment on.
async fn plays_stamped(clip: &ClipSpec, stamp: impl Fn(SourceMs) -> u32) -> Report {
    let farm = farm().await;
    let stamped = playout(clip).map(|due| {
        let timestamp_ms = stamp(due.tag.timestamp_ms);
        Due { tag: Tag { timestamp_ms, ..due.tag }, ..due }
    });
    by_ourselves(&farm.channel(), stamped, seconds(clip), &clip.expected()).await
}

#[tokio::test]
async fn timestamps_that_wrap_at_32_bits_play_on() {
    plays_stamped(&small(), |ms| ms.wrapping_sub(3_000)).await;
}

#[tokio::test]
async fn timestamps_that_jump_back_by_two_seconds_play_on() {
    plays_stamped(&small(), |ms| if ms < 3_000 { ms + 10_000 } else { ms + 8_000 }).await;
}

#[tokio::test]
async fn timestamps_that_start_again_at_zero_play_on() {
    plays_stamped(&small(), |ms| if ms < 3_000 { ms + 600_000 } else { ms - 3_000 }).await;
}

#[tokio::test]
async fn timestamps_that_jump_ahead_by_an_hour_play_on() {
    plays_stamped(&small(), |ms| if ms < 3_000 { ms } else { ms + 3_600_000 }).await;
}

/// What is sent of a clip of which neither these pictures are sent, up to a keyframe, nor, if `silent`, the sound beside
/// them; and what is expected: all others, and a clock that is `off_ms` off after the gap at most.
fn with_a_gap(
    clip: &ClipSpec,
    gap: RangeInclusive<u32>,
    silent: bool,
    off_ms: f64,
) -> (impl Iterator<Item = Due> + use<>, Expected) {
    let ms = |frame: u32| (clip.fps.seconds_at(frame) * 1_000.0).round() as u32;
    let lost = ms(*gap.start())..ms(gap.end() + 1);
    let sent = playout(clip).filter(move |Due { tag, .. }| {
        let may_be_lost = silent || tag.kind == TagKind::Video;
        tag.is_header() || !may_be_lost || !lost.contains(&tag.timestamp_ms)
    });
    let mut expected = clip.expected();
    expected.clips = vec![0..=gap.start() - 1, gap.end() + 1..=*clip.frames().end()];
    expected.max_timing_ms = Some(off_ms);
    (sent, expected)
}

/// Publishes it, and insists on it and on `seconds` of media.
async fn plays_with_a_gap(
    clip: ClipSpec,
    gap: RangeInclusive<u32>,
    silent: bool,
    (seconds, off_ms): (f64, f64),
) {
    let farm = farm().await;
    let (sent, expected) = with_a_gap(&clip, gap, silent, off_ms);
    by_ourselves(&farm.channel(), sent, seconds, &expected).await;
}

#[tokio::test]
async fn a_gap_of_one_second_stays_one_in_the_pictures_and_is_silence() {
    plays_with_a_gap(small(), 60..=89, true, (4.98, 34.0)).await;
}

#[tokio::test]
async fn a_second_without_pictures_stays_a_gap_while_the_sound_goes_on() {
    plays_with_a_gap(small(), 60..=89, false, (4.98, 34.0)).await;
}

/// The player refuses a segment longer than the target duration, on any rung; those without a picture are gaps.
#[tokio::test]
async fn five_seconds_without_pictures_are_gaps_beside_segments_of_sound_no_longer_than_others() {
    let (farm, clip) = (farm().await, ClipSpec { seconds: 10, ..small() });
    let (sent, expected) = with_a_gap(&clip, 60..=209, false, 34.0);
    let mut report = seen_of_ourselves(&farm.channel(), sent, 4.95, &expected).await;
    for rung in report.renditions.iter_mut().filter(|rung| rung.video.is_some()) {
        let gaps = std::mem::take(&mut rung.missing_parts);
        assert!((1..=2).contains(&gaps.len()), "{gaps:?}");
        assert!(gaps.iter().all(|gap| gap.ends_with("is a gap")), "{gaps:?}");
        let still = rung.longest_arrival_gap_ms;
        assert!(still < 4_000, "{} stood still for {still} ms of the five seconds", rung.name);
        // Clicks in the gap have no picture to be compared with: three of the seconds at most.
        for sound in rung.video.iter_mut().flat_map(|video| &mut video.av) {
            sound.expected_clicks -= 3;
        }
    }
    let sound = report.rendition("audio").and_then(|audio| audio.audio.as_ref()).expect("sound");
    assert!(sound.seconds > 9.9, "{} s of sound", sound.seconds);
    report.assert_lossless();
}

/// Both tracks jump by more than two seconds, which is no gap to the farm: what follows is played at once.
#[tokio::test]
async fn a_gap_of_five_seconds_is_left_out() {
    let clip = ClipSpec { seconds: 10, ..small() };
    plays_with_a_gap(clip, 60..=209, true, (4.95, 5_034.0)).await;
}

#[tokio::test]
async fn a_picture_that_changes_its_size_midway_plays_on() {
    let farm = farm().await;
    let before = ClipSpec { seconds: 4, ..small() };
    let after = ClipSpec { first_frame: 120, width: 480, height: 270, ..before.clone() };
    let [mut messages, rest] =
        [&before, &after].map(|clip| tags(clip, &["-c", "copy"]).expect("tags"));
    messages.tags.extend(rest.tags.into_iter().map(|tag| later(tag, 4_000)));
    let playout = Playout::rounds(&Clip { tags: messages.tags }, 1);
    let expected = before.expected().then(&after);
    by_ourselves(&farm.channel(), playout, 4.0 + seconds(&after), &expected).await;
}

fn later(tag: Tag, ms: u32) -> Tag {
    Tag { timestamp_ms: tag.timestamp_ms + ms, ..tag }
}

/// As a phone in a dark room: 30 fps, then every other frame, then every third.
#[tokio::test]
async fn a_variable_frame_rate_plays_every_frame_that_was_sent() {
    let (farm, clip) = (farm().await, small());
    let select =
        "select=lt(n\\,60)+gte(n\\,60)*lt(n\\,120)*not(mod(n\\,2))+gte(n\\,120)*not(mod(n\\,3))";
    let output = ["-vf", select, "-fps_mode", "passthrough", "-c:v", "libx264", "-preset"];
    let output = [&output[..], &["ultrafast", "-g", "30", "-bf", "0", "-c:a", "copy"]].concat();
    let sent = (0..60).chain((60..120).step_by(2)).chain((120..180).step_by(3));
    let mut expected = clip.expected();
    expected.clips = sent.map(|frame| frame..=frame).collect();
    expected.steps = ["source", "144p"].map(|rung| (rung.to_owned(), 1)).into();
    // The part target is 30 fps's for good, and 0.1 s from picture to picture add up to 0.3 s or to more than that.
    expected.min_part_share = 0.3 / 0.376;
    let channel = farm.channel();
    let last_frame_s = 177.5 / 30.0;
    by_program(&channel, ffmpeg(&channel, &clip, &output), last_frame_s, &expected).await;
}
