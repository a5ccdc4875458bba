//! The checker passes a whole stream and fails on every way to lose something. It is itself the judge of all other
//! media tests, so each fault has its own test here.

mod packaged;

use std::time::Duration;

use millrace_testkit::{ClipSpec, Expected, Flaw, Fps, Player, PlayerOptions, Report, check};
use packaged::{Origin, Rendition};

/// Six seconds: three segments.
fn clip(flaws: Vec<Flaw>) -> ClipSpec {
    ClipSpec { width: 426, height: 240, kbps: 300, seconds: 6, flaws, ..Default::default() }
}

async fn report_on(origin: &Origin, options: PlayerOptions, expected: &Expected) -> Report {
    let player = Player::start(&origin.url, options);
    player.ended(Duration::from_secs(20)).await.expect("a finished stream");
    let recording = player.stop().await.expect("a recording");
    check(&recording, expected).expect("a report")
}

async fn report(renditions: &[Rendition], expected: &Expected) -> Report {
    report_on(&Origin::serve(renditions).await, PlayerOptions::default(), expected).await
}

/// Source and audio of a clip with flaws, judged as if it had none.
async fn report_of_flawed(flaws: Vec<Flaw>) -> Report {
    let flawed = clip(flaws);
    report(&[Rendition::source(&flawed), Rendition::audio(&flawed)], &clip(vec![]).expected()).await
}

/// Source and audio of a clean clip, broken by `break_it`.
async fn report_of_broken(break_it: impl FnOnce(&mut Rendition)) -> Report {
    let clip = clip(vec![]);
    let mut source = Rendition::source(&clip);
    break_it(&mut source);
    report(&[source, Rendition::audio(&clip)], &clip.expected()).await
}

/// Fails with the report unless one fault contains `text`.
#[track_caller]
fn assert_fault(report: &Report, text: &str) {
    let faults = report.faults();
    assert!(faults.iter().any(|fault| fault.contains(text)), "no {text:?} in {report}");
}

#[tokio::test]
async fn a_whole_stream_passes() {
    let clip = clip(vec![]);
    let low = Rendition::encoded("low", 30.0, &clip, "null", 2.0);
    let all = [Rendition::source(&clip), low, Rendition::audio(&clip)];
    let report = report(&all, &clip.expected()).await;
    report.assert_lossless();
    for name in ["source", "low"] {
        let found = report.rendition(name).expect("downloaded");
        let video = found.video.as_ref().expect("video");
        assert_eq!((video.first, video.last, video.pictures), (Some(0), Some(179), 180));
        assert_eq!((found.segments, found.parts), (3, 18));
        assert!(video.av[0].clicks >= 4 && video.av[0].worst_ms.abs() < 5.0, "{report}");
    }
    let audio = report.rendition("audio").and_then(|found| found.audio.as_ref()).expect("audio");
    assert!((5.9..6.1).contains(&audio.seconds), "{audio:?}");
}

#[tokio::test]
async fn a_whole_stream_with_b_frames_at_2997_passes() {
    let fps = Fps { frames: 30_000, per_seconds: 1_001 };
    let clip = ClipSpec { fps, bframes: 2, first_frame: 1_000, ..clip(vec![]) };
    let mut source = Rendition::source(&clip);
    source.frame_rate = Some(29.97);
    // Cut by decoding time; pictures that come later than their segment are the packager's affair.
    report(&[source, Rendition::audio(&clip)], &clip.expected()).await.assert_lossless();
}

#[tokio::test]
async fn a_stream_whose_media_clock_is_utc_passes() {
    let clip = clip(vec![]);
    let utc_s = 1_795_222_923.0;
    let all = [Rendition::source_at(&clip, utc_s), Rendition::audio_at(&clip, utc_s)];
    report(&all, &clip.expected()).await.assert_lossless();
}

#[tokio::test]
async fn an_ordinary_player_downloads_the_same_stream() {
    let clip = clip(vec![]);
    let origin = Origin::serve(&[Rendition::source(&clip), Rendition::audio(&clip)]).await;
    let options = PlayerOptions { whole_segments: true, ..Default::default() };
    let report = report_on(&origin, options, &clip.expected()).await;
    report.assert_lossless();
    assert_eq!(report.rendition("source").expect("downloaded").parts, 3);
}

#[tokio::test]
async fn a_stream_that_grows_by_parts_is_followed() {
    let clip = clip(vec![]);
    let all = [Rendition::source(&clip), Rendition::audio(&clip)];
    let origin = Origin::serve_growing(&all).await;
    let report = report_on(&origin, PlayerOptions::default(), &clip.expected()).await;
    report.assert_lossless();
    assert_eq!(report.rendition("source").expect("downloaded").parts, 18);
}

#[tokio::test]
async fn a_publisher_that_returns_after_a_discontinuity_passes_and_its_lost_frames_are_counted() {
    let first = clip(vec![]);
    let second = ClipSpec { first_frame: 10_000, bframes: 2, ..clip(vec![]) };
    let lossy = ClipSpec { flaws: vec![Flaw::Removed(10_000)], ..second.clone() };
    let expected = first.expected().then(&second);
    for (second, missing) in [(&second, 0), (&lossy, 1)] {
        let source = Rendition::source(&first).then(Rendition::source_at(second, 31.5));
        let audio = Rendition::audio(&first).then(Rendition::audio_at(second, 31.5));
        let report = report(&[source, audio], &expected).await;
        assert_eq!(report.missing_frames(), missing, "{report}");
        assert_eq!(report.faults().len(), missing, "{report}");
    }
}

#[tokio::test]
async fn delta_updates_are_followed() {
    let clip = clip(vec![]);
    let origin = Origin::serve_deltas(&[Rendition::source(&clip), Rendition::audio(&clip)]).await;
    let options = PlayerOptions { delta_updates: true, ..Default::default() };
    report_on(&origin, options, &clip.expected()).await.assert_lossless();
}

#[tokio::test]
async fn a_window_that_slides_is_followed() {
    let clip = clip(vec![]);
    let all = [Rendition::source(&clip), Rendition::audio(&clip)];
    let origin = Origin::serve_windows(&all, &[0..1, 0..2, 1..3]).await;
    report_on(&origin, PlayerOptions::default(), &clip.expected()).await.assert_lossless();
}

#[tokio::test]
async fn a_halved_rate_passes_and_a_frame_missing_from_it_does_not() {
    let clip = ClipSpec { fps: Fps::whole(60), gop: Some(120), ..clip(vec![]) };
    let halved = "select=not(mod(n\\,2))";
    let low = Rendition::encoded("low", 30.0, &clip, halved, 2.0);
    let all = [Rendition::source(&clip), low, Rendition::audio(&clip)];
    report(&all, &clip.expected()).await.assert_lossless();

    let holed = "select=not(mod(n\\,2))*not(eq(n\\,100))";
    let low = Rendition::encoded("low", 30.0, &clip, holed, 2.0);
    let report = report(&[low, Rendition::audio(&clip)], &clip.expected()).await;
    assert_fault(&report, "low: 1 frames missing: 100");
}

#[tokio::test]
async fn a_removed_frame_is_found() {
    let report = report_of_flawed(vec![Flaw::Removed(77)]).await;
    assert_fault(&report, "source: 1 frames missing: 77");
    assert_eq!(report.missing_frames(), 1);
}

#[tokio::test]
async fn a_repeated_frame_is_found() {
    assert_fault(&report_of_flawed(vec![Flaw::Repeated(77)]).await, "1 frames repeated: 77");
}

#[tokio::test]
async fn swapped_frames_are_found() {
    assert_fault(&report_of_flawed(vec![Flaw::Swapped(77)]).await, "1 frames out of order: 77");
}

#[tokio::test]
async fn an_unreadable_frame_is_found() {
    let report = report_of_flawed(vec![Flaw::Unreadable(77)]).await;
    assert_fault(&report, "unreadable frame: at 3.567 s");
    assert_fault(&report, "1 frames missing: 77");
}

#[tokio::test]
async fn a_corrupt_frame_is_found() {
    let report = report_of_broken(|source| {
        let bytes = &mut source.segments[1][2].bytes;
        let middle = bytes.len() / 2;
        bytes[middle..middle + 200].fill(0xff);
    })
    .await;
    assert_fault(&report, "source: ffmpeg: ");
}

#[tokio::test]
async fn a_part_that_is_listed_and_not_served_is_found() {
    let report = report_of_broken(|source| source.segments[1][2].served = false).await;
    assert_fault(&report, "source: missing part: part 1001.2 never came");
    assert_fault(&report, "is listed but answers 404");
    assert_fault(&report, "frames missing: 80-");
}

#[tokio::test]
async fn a_part_that_is_never_listed_is_found() {
    let report = report_of_broken(|source| source.segments[1][2].listed = false).await;
    assert_fault(&report, "source: violation: segment 1001: 2 s, but its parts have 1.667 s");
    assert_fault(&report, "frames missing: 80-");
}

#[tokio::test]
async fn a_part_with_another_duration_than_declared_is_found() {
    let report = report_of_broken(|source| source.segments[1][2].duration_s -= 0.04).await;
    assert_fault(&report, "part 1001.2 is declared as 0.2933 s and has 0.3333 s");
}

#[tokio::test]
async fn parts_outside_the_part_target_are_found() {
    let report = report_of_broken(|source| {
        let parts = &mut source.segments[1];
        let moved = parts.remove(3);
        parts[2].bytes.extend(moved.bytes);
        parts[2].duration_s += moved.duration_s;
    })
    .await;
    assert_fault(&report, "part 1001.2 has 199.6 % of the target of 0.334 s");
}

#[tokio::test]
async fn sound_that_is_60_ms_off_is_found_in_both_directions() {
    for ms in [60, -60] {
        let report = report_of_flawed(vec![Flaw::AudioLateMs(ms)]).await;
        assert_fault(&report, "source: sound of audio is ");
        let av = &report.renditions[0].video.as_ref().expect("video").av[0];
        assert!((av.worst_ms - f64::from(ms)).abs() < 5.0, "{av:?}");
    }
    report_of_flawed(vec![Flaw::AudioLateMs(30)]).await.assert_lossless();
}

#[tokio::test]
async fn a_hole_in_the_media_sequence_is_found() {
    let clip = clip(vec![]);
    let all = [Rendition::source(&clip), Rendition::audio(&clip)];
    let origin = Origin::serve_windows(&all, &[0..1, 2..3]).await;
    let report = report_on(&origin, PlayerOptions::default(), &clip.expected()).await;
    assert_fault(&report, "source: msn: 1002 follows 1000");
    assert_fault(&report, "frames missing: 60-119");
}

#[tokio::test]
async fn a_media_sequence_that_goes_back_is_found() {
    let clip = clip(vec![]);
    let all = [Rendition::source(&clip), Rendition::audio(&clip)];
    let origin = Origin::serve_windows(&all, &[0..2, 1..3, 0..3]).await;
    let report = report_on(&origin, PlayerOptions::default(), &clip.expected()).await;
    assert_fault(&report, "media sequence 1000 after 1001");
}

#[tokio::test]
async fn a_reload_that_does_not_wait_for_news_is_found() {
    let clip = clip(vec![]);
    let all = [Rendition::source(&clip), Rendition::audio(&clip)];
    let origin = Origin::serve_windows(&all, &[0..2, 0..2, 0..3]).await;
    let report = report_on(&origin, PlayerOptions::default(), &clip.expected()).await;
    assert_fault(&report, "source: violation: reload for 1002.0 came back without it");
}

#[tokio::test]
async fn a_hint_that_names_another_part_is_found() {
    let clip = clip(vec![]);
    let source = Rendition { wrong_hints: true, ..Rendition::source(&clip) };
    let origin = Origin::serve_growing(&[source, Rendition::audio(&clip)]).await;
    let report = report_on(&origin, PlayerOptions::default(), &clip.expected()).await;
    assert_fault(&report, "source: violation: part 1000.1 is 0.1.m4s, hinted as 0.2.m4s");
}

#[tokio::test]
async fn segments_that_start_with_different_frames_are_found() {
    let clip = clip(vec![]);
    let other = Rendition::encoded("low", 30.0, &clip, "null", 1.0);
    let report = report(&[Rendition::source(&clip), other], &clip.expected()).await;
    assert_fault(
        &report,
        "segment 1001 starts with frame Some(60) at 3.0000 s on source, with Some(30)",
    );
}

#[tokio::test]
async fn missing_sound_is_found() {
    let clip = clip(vec![]);
    let report = report(&[Rendition::source(&clip)], &clip.expected()).await;
    assert_fault(&report, "0 clicks in no rendition");
}
