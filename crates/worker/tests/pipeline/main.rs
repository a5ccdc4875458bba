//! The pipeline on real H.264 and AAC, judged by ffmpeg: every frame once, at its time, cut where it was stamped.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod clip;
mod rendition;
mod splices;

use std::time::Duration;

use anyhow::Result;
use clip::Clip;
use millrace_media::{AccessUnit, Input, Item, Track};
use millrace_software::{Software, log_errors_to};
use millrace_types::{
    Epoch, FrameRate, Ladder, MEDIA_TIMESCALE, Mark, MediaTime, Mono, Msn, PartNo, Rung, RungKind,
    VideoRung,
};
use millrace_wire::{Hello, Message, Start};
use millrace_worker::{NoBackend, Pipeline};
use rendition::Rendition;

const CLIP: Clip = Clip { seconds: 8, x264: "bframes=3:b-pyramid=normal", ..clip::SMALL };

fn video(id: &str, width: u32, height: u32, fps: u32, halved: bool) -> Rung {
    let kind = RungKind::Video(VideoRung {
        width,
        height,
        frame_rate: FrameRate { num: fps, den: 1 },
        halved,
        bitrate_kbps: width * height / 400,
    });
    Rung { id: id.parse().unwrap(), kind }
}

fn ladder(encoded: Vec<Rung>) -> Ladder {
    let named = |id: &str, kind| Rung { id: id.parse().unwrap(), kind };
    let mut rungs = vec![named("source", RungKind::Source)];
    rungs.extend(encoded);
    rungs.push(named("audio", RungKind::Audio));
    Ladder { rungs }
}

/// The marks of an encoder that has nothing to do until it is told to begin a segment.
fn nothing_to_do(ladder: &Ladder) -> Vec<Mark> {
    let everything = |rung: &Rung| Mark {
        rung: rung.id.clone(),
        msn: Msn(u64::MAX),
        part: PartNo(u32::MAX),
        end: MediaTime(0),
        closed: true,
    };
    ladder.rungs.iter().map(everything).collect()
}

fn start(ladder: Ladder, resume: Vec<Mark>) -> Start {
    let epoch = Epoch { generation: 1, placement: 1 };
    Start { stream: "test".parse().unwrap(), epoch, ladder, resume, hello: None, version: 2 }
}

fn run(start: &Start, items: &[Item], finish: bool) -> Result<Vec<Message>> {
    log_errors_to(|line| eprintln!("{line}"));
    let (mut pipeline, mut out) = (Pipeline::new(Software::default(), start)?, Vec::new());
    for item in items {
        pipeline.take(item, &mut out)?;
    }
    if finish {
        pipeline.finish(&mut out)?;
    }
    Ok(out)
}

fn units(items: &[Item], track: Track) -> Vec<&AccessUnit> {
    let all = items.iter().filter_map(|item| match item {
        Item::Unit(unit) => Some(unit),
        _ => None,
    });
    all.filter(|unit| unit.track == track).collect()
}

/// Presentation times of a track, in order.
fn presented(items: &[Item], track: Track) -> Vec<i64> {
    let mut times: Vec<_> = units(items, track).iter().map(|unit| unit.pts).collect();
    times.sort_unstable();
    times
}

fn pts_of(rendition: &Rendition) -> Result<Vec<i64>> {
    let mut times: Vec<_> = rendition.packets()?.iter().map(|packet| packet.pts).collect();
    times.sort_unstable();
    Ok(times)
}

/// Records follow each other without a hole, and each stands where its number says.
fn assert_contiguous(rendition: &Rendition) {
    for pair in rendition.parts.windows(2) {
        let (one, next) = (&pair[0].0, &pair[1].0);
        assert_eq!(one.end, next.start, "{one:?} {next:?}");
        let follows = if one.last { (one.msn.0 + 1, 0) } else { (one.msn.0, one.part.0 + 1) };
        assert_eq!((next.msn.0, next.part.0), follows, "{one:?} {next:?}");
    }
}

#[test]
fn a_passthrough_worker_keeps_every_unit_and_its_times() -> Result<()> {
    let items = CLIP.items()?;
    let (mut pipeline, mut out) =
        (Pipeline::new(NoBackend, &start(ladder(vec![]), vec![]))?, Vec::new());
    for item in &items {
        pipeline.take(item, &mut out)?;
    }
    pipeline.finish(&mut out)?;
    for (rung, track) in [("source", Track::Video), ("audio", Track::Audio)] {
        let rendition = Rendition::of(&out, rung);
        assert_contiguous(&rendition);
        let units = units(&items, track);
        let packets = rendition.packets()?;
        let times: Vec<_> = packets.iter().map(|it| (it.dts, it.pts)).collect();
        let given: Vec<_> = units.iter().map(|it| (it.dts, it.pts)).collect();
        assert_eq!(times, given, "{rung}");
        rendition.decoded_frames()?;
        let independent = rendition.parts.iter().filter(|(record, _)| record.independent).count();
        let idrs = units.iter().filter(|unit| unit.idr).count();
        let expected = if rung == "source" { idrs } else { rendition.parts.len() };
        assert_eq!(independent, expected, "{rung}");
    }
    Ok(())
}

#[test]
fn encoded_rungs_show_every_frame_once_with_an_idr_at_every_segment() -> Result<()> {
    let items = CLIP.items()?;
    let rungs = vec![video("720p", 1280, 720, 30, false), video("480p", 854, 480, 30, false)];
    let out = run(&start(ladder(rungs), vec![]), &items, true)?;
    let source = Rendition::of(&out, "source");
    for rung in ["720p", "480p"] {
        let rendition = Rendition::of(&out, rung);
        assert_contiguous(&rendition);
        assert_eq!(rendition.inits.len(), 1);
        assert_eq!(pts_of(&rendition)?, presented(&items, Track::Video), "{rung}");
        assert_eq!(rendition.decoded_frames()?, CLIP.frames(), "{rung}");
        let packets = rendition.packets()?;
        assert!(packets.iter().all(|packet| packet.pts == packet.dts));
        let keys: Vec<_> = packets.iter().filter(|it| it.key).map(|it| it.pts).collect();
        let segments = |it: &Rendition| -> Vec<_> {
            let starts = it.parts.iter().filter(|(record, _)| record.part.0 == 0);
            starts.map(|(record, _)| record.start.0).collect()
        };
        assert_eq!(keys, segments(&rendition), "{rung}");
        assert_eq!(segments(&rendition), segments(&source), "{rung}");
    }
    Ok(())
}

#[test]
fn segments_are_cut_and_begin_with_an_idr_also_where_the_source_has_none() -> Result<()> {
    let items = Clip { gop_seconds: 8.0, ..CLIP }.items()?;
    let out = run(&start(ladder(vec![video("360p", 640, 360, 30, false)]), vec![]), &items, true)?;
    let rendition = Rendition::of(&out, "360p");
    assert_contiguous(&rendition);
    assert_eq!(rendition.decoded_frames()?, CLIP.frames());
    let segments = rendition.parts.iter().filter(|(record, _)| record.last).count();
    assert!(segments >= 4);
    assert_eq!(rendition.packets()?.iter().filter(|packet| packet.key).count(), segments);
    for (record, _) in &rendition.parts {
        assert_eq!(record.independent, record.part.0 == 0, "{record:?}");
    }
    Ok(())
}

/// What a router says to a node of rungs that are no longer encoded.
fn given_up(start: &Start, given_up: Vec<Mark>, whole_from: u64) -> Start {
    let hello = Hello {
        stream: start.stream.clone(),
        epoch: start.epoch,
        ladder: start.ladder.clone(),
        part_target_ms: 376,
        hold_back_ms: 1_500,
        source_pixels_per_second: 0,
        origin_intake: None,
        replay_from: None,
        standby: false,
        beside: None,
        announced: Default::default(),
        speaks: Default::default(),
        given_up,
        whole_from,
    };
    Start { hello: Some(hello), ..start.clone() }
}

#[test]
fn a_rung_that_is_no_longer_encoded_has_nothing_to_show_before_the_keyframe_that_was_announced()
-> Result<()> {
    let mut items = Clip { gop_seconds: 4.0, ..CLIP }.items()?;
    let announced = units(&items, Track::Video)
        .iter()
        .find(|unit| unit.idr && unit.dts >= 4 * i64::from(MEDIA_TIMESCALE) + first_dts(&items))
        .map(|unit| unit.stamp.segment)
        .unwrap();
    for item in &mut items {
        if let Item::Unit(unit) = item
            && unit.stamp.segment.msn >= announced.msn
        {
            unit.stamp.segment.discontinuity = 1;
        }
    }
    let mut ladder = ladder(vec![]);
    ladder.rungs.insert(1, Rung { id: "480p".parse()?, kind: RungKind::Source });
    let left = |msn: u64, part| Mark {
        rung: "480p".parse().unwrap(),
        msn: Msn(msn),
        part: PartNo(part),
        end: MediaTime(0),
        closed: false,
    };
    let first = units(&items, Track::Video)[0].stamp.segment.msn.0;
    let run = |mark: &Mark, resume: &Mark, whole_from| -> Result<_> {
        let start = start(ladder.clone(), vec![resume.clone()]);
        let out = run(&given_up(&start, vec![mark.clone()], whole_from), &items, true)?;
        assert_eq!(pts_of(&Rendition::of(&out, "source"))?, presented(&items, Track::Video));
        Ok(Rendition::of(&out, "480p"))
    };

    let mark = left(first, 2);
    let rung = run(&mark, &mark, 1)?;
    assert_eq!((rung.gaps[0].msn, rung.gaps[0].part), (Msn(first), PartNo(3)));
    assert!(rung.gaps.iter().all(|gap| gap.msn < announced.msn && !gap.independent));
    assert_eq!(rung.gaps.last().unwrap().end, announced.start, "two segments are told as missing");
    let shown = &rung.parts[0].0;
    assert_eq!((shown.msn, shown.part, shown.independent), (announced.msn, PartNo(0), true));
    assert_eq!(rung.decoded_frames()?, CLIP.frames() / 2);

    // A worker that comes later goes on in the midst of that, and a router of the build before names no keyframe.
    let later = run(&mark, &left(announced.msn.0, 3), 1)?;
    assert_eq!((later.gaps.len(), later.parts[0].0.part), (0, PartNo(4)));
    let before = run(&mark, &mark, 0)?;
    assert!(before.gaps.iter().all(|gap| gap.msn == Msn(first)));
    assert_eq!(before.parts[0].0.msn, Msn(first + 1));
    Ok(())
}

/// When the first picture is decoded.
fn first_dts(items: &[Item]) -> i64 {
    units(items, Track::Video)[0].dts
}

#[test]
fn a_standby_makes_nothing_before_its_segment_and_all_that_the_writer_was_not_given() -> Result<()>
{
    let items = CLIP.items()?;
    let rungs = vec![video("480p", 854, 480, 30, false)];
    let msn = |unit: &AccessUnit| unit.stamp.segment.msn;
    let begin = units(&items, Track::Video).iter().map(|unit| msn(unit)).nth(100).unwrap();
    let before = |item: &&Item| !matches!(item, Item::Unit(unit) if msn(unit) >= begin);
    let given: Vec<_> = items.iter().filter(before).cloned().collect();
    let mut out = run(&start(ladder(rungs.clone()), vec![]), &given, true)?;

    let ladder = ladder(rungs);
    let marks = nothing_to_do(&ladder);
    let mut standby = Pipeline::new(Software::default(), &start(ladder, marks))?;
    let mut made = Vec::new();
    for item in &items {
        if matches!(item, Item::Unit(unit) if msn(unit) == begin) {
            standby.begin(begin);
        }
        standby.take(item, &mut made)?;
    }
    standby.finish(&mut made)?;
    out.extend(made);
    for (rung, track) in [("source", Track::Video), ("480p", Track::Video), ("audio", Track::Audio)]
    {
        let rendition = Rendition::of(&out, rung);
        assert_contiguous(&rendition);
        assert_eq!(pts_of(&rendition)?, presented(&items, track), "{rung}");
        let frames = rendition.decoded_frames()?;
        assert!(track == Track::Audio || frames == CLIP.frames(), "{rung}");
    }
    Ok(())
}

#[test]
fn a_halved_rung_shows_every_other_frame() -> Result<()> {
    let items = Clip { fps: 60, seconds: 4, ..clip::SMALL }.items()?;
    let out = run(&start(ladder(vec![video("360p", 640, 360, 30, true)]), vec![]), &items, true)?;
    let rendition = Rendition::of(&out, "360p");
    let kept: Vec<_> = presented(&items, Track::Video).into_iter().step_by(2).collect();
    assert_eq!(pts_of(&rendition)?, kept);
    assert_eq!(rendition.decoded_frames()?, 120);
    Ok(())
}

#[test]
fn a_publisher_that_returns_with_another_picture_size_leaves_no_hole_and_no_long_frame()
-> Result<()> {
    let clip = Clip { seconds: 3, ..clip::SMALL };
    let mut timeline = clip::timeline();
    clip.publish(&mut timeline)?;
    let utc = clip::UTC + Duration::from_secs(20);
    timeline.handle(Mono::default(), Input::PublisherBack { utc })?;
    Clip { width: 960, height: 540, ..clip }.publish(&mut timeline)?;
    let items: Vec<_> = std::iter::from_fn(|| timeline.poll()).collect();
    let out = run(&start(ladder(vec![video("360p", 640, 360, 30, false)]), vec![]), &items, true)?;
    let rendition = Rendition::of(&out, "360p");
    assert_eq!((rendition.inits.len(), Rendition::of(&out, "source").inits.len()), (1, 2));
    assert_eq!(pts_of(&rendition)?, presented(&items, Track::Video));
    assert_eq!(rendition.decoded_frames()?, 2 * clip.frames());
    let ends: Vec<_> = rendition.parts.iter().filter(|(record, _)| record.last).collect();
    assert!(ends.iter().all(|(record, _)| record.end - record.start <= 90_000 / 2));
    let numbers: Vec<_> = ends.iter().map(|(record, _)| record.discontinuity).collect();
    assert_eq!(numbers, [0, 0, 1, 1]);
    Ok(())
}

#[test]
fn when_only_the_pictures_stop_their_segment_is_closed_on_every_rung_before_they_come_again()
-> Result<()> {
    let clip = Clip { seconds: 10, x264: "bframes=0", ..clip::SMALL };
    let mut timeline = clip::timeline();
    clip.publish_without_pictures(&mut timeline, 3_300..8_000)?;
    let items: Vec<_> = std::iter::from_fn(|| timeline.poll()).collect();
    let back_at = presented(&items, Track::Video)[0] + 7 * 90_000;
    let is_back = |item: &Item| match item {
        Item::Unit(unit) => unit.track == Track::Video && unit.pts > back_at,
        _ => false,
    };
    let before = &items[..items.iter().position(is_back).unwrap()];
    let start = start(ladder(vec![video("360p", 640, 360, 30, false)]), vec![]);
    for rung in ["source", "360p"] {
        let closed = Rendition::of(&run(&start, before, false)?, rung);
        let last = &closed.parts.last().unwrap().0;
        assert!(last.last && last.end - last.segment_start < 2 * 90_000, "{last:?}");
        assert_eq!(pts_of(&closed)?, presented(before, Track::Video));
        let mut next = last.msn.next();
        for gap in &closed.gaps {
            assert!(gap.msn == next && gap.last && gap.part.0 == 0, "{gap:?} after {last:?}");
            assert!(gap.start == gap.segment_start && gap.end - gap.start <= 24 * 9_000, "{gap:?}");
            next = gap.msn.next();
        }
        assert!(!closed.gaps.is_empty(), "said before the pictures are back");
        let all = Rendition::of(&run(&start, &items, true)?, rung);
        assert_eq!(pts_of(&all)?, presented(&items, Track::Video), "{rung}");
        let back = &all.parts[closed.parts.len()].0;
        // Where sound has opened a segment shortly before, the pictures open one of their own.
        let is_next = back.msn == next || back.msn == next.next();
        assert!(back.part.0 == 0 && is_next && back.independent, "{back:?}");
        assert!(back.end - back.start <= 334 * 90, "{back:?}");
    }
    Ok(())
}

#[test]
fn a_publisher_that_stalls_before_it_leaves_has_all_published_and_its_segment_closed() -> Result<()>
{
    for (x264, seconds) in [("bframes=0", 3), ("bframes=3:b-pyramid=normal", 3)] {
        let clip = Clip { seconds, x264, ..clip::SMALL };
        let mut timeline = clip::timeline();
        clip.publish_and_stall(&mut timeline)?;
        let gone: Vec<_> = std::iter::from_fn(|| timeline.poll()).collect();
        let utc = clip::UTC + Duration::from_secs(20);
        timeline.handle(Mono::default(), Input::PublisherBack { utc })?;
        Clip { width: 960, height: 540, ..clip }.publish(&mut timeline)?;
        let back: Vec<_> = std::iter::from_fn(|| timeline.poll()).collect();

        let start = start(ladder(vec![video("360p", 640, 360, 30, false)]), vec![]);
        let (mut pipeline, mut out) = (Pipeline::new(Software::default(), &start)?, Vec::new());
        gone.iter().try_for_each(|item| pipeline.take(item, &mut out))?;
        pipeline.stalled(&mut out)?;
        for (rung, track) in
            [("source", Track::Video), ("360p", Track::Video), ("audio", Track::Audio)]
        {
            let rendition = Rendition::of(&out, rung);
            assert!(rendition.parts.last().unwrap().0.last, "{x264}: {rung} is left open");
            assert_eq!(pts_of(&rendition)?, presented(&gone, track), "{x264}: {rung}");
        }

        back.iter().try_for_each(|item| pipeline.take(item, &mut out))?;
        pipeline.finish(&mut out)?;
        for rung in ["source", "360p", "audio"] {
            let parts = Rendition::of(&out, rung).parts;
            let segments = parts.iter().filter(|(record, _)| record.last);
            let told: Vec<_> = segments.map(|(it, _)| (it.discontinuity, it.init)).collect();
            let numbers: Vec<_> = told.iter().map(|(discontinuity, _)| *discontinuity).collect();
            assert_eq!(numbers, [0, 0, 1, 1], "{x264}: {rung}");
            assert_eq!(told[0].1, told[1].1, "{x264}: {rung} ends under another description");
        }
    }
    Ok(())
}

#[test]
fn of_a_slow_source_every_picture_comes_although_it_is_silent_between_any_two() -> Result<()> {
    for x264 in ["bframes=0", "bframes=3:b-pyramid=normal"] {
        let clip = Clip { seconds: 14, fps: 1, gop_seconds: 250.0, x264, ..clip::SMALL };
        let items = clip.items()?;
        let start = start(ladder(vec![video("360p", 640, 360, 30, false)]), vec![]);
        let (mut pipeline, mut out) = (Pipeline::new(Software::default(), &start)?, Vec::new());
        for item in &items {
            pipeline.take(item, &mut out)?;
            pipeline.idle(&mut out)?;
        }
        pipeline.finish(&mut out)?;
        for rung in ["source", "360p"] {
            let rendition = Rendition::of(&out, rung);
            assert_eq!(pts_of(&rendition)?, presented(&items, Track::Video), "{x264}: {rung}");
            assert_eq!(rendition.decoded_frames()?, 14, "{x264}: {rung}");
        }
    }
    Ok(())
}

#[test]
fn the_frame_before_is_shown_again_in_place_of_one_that_cannot_be_decoded() -> Result<()> {
    let mut items = Clip { seconds: 3, ..clip::SMALL }.items()?;
    let mut pictures = 0;
    for item in &mut items {
        if let Item::Unit(unit) = item
            && unit.track == Track::Video
        {
            pictures += 1;
            if matches!(pictures, 20 | 21 | 50) {
                unit.bytes = vec![0; 64].into();
            }
        }
    }
    let out = run(&start(ladder(vec![video("360p", 640, 360, 30, false)]), vec![]), &items, true)?;
    let rendition = Rendition::of(&out, "360p");
    assert_contiguous(&rendition);
    assert_eq!(pts_of(&rendition)?, presented(&items, Track::Video));
    Ok(())
}

/// What each rung published when the first `count` parts of everything were safe.
fn marks(parts: &[(String, Mark)], count: usize) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for (_, mark) in &parts[..count] {
        marks.retain(|other| other.rung != mark.rung);
        marks.push(mark.clone());
    }
    marks
}

#[test]
fn a_successor_adds_exactly_what_is_missing_wherever_the_first_one_died() -> Result<()> {
    let items = CLIP.items()?;
    let rungs = vec![video("360p", 640, 360, 30, false), video("180p", 320, 180, 30, false)];
    let ladder = ladder(rungs);
    let first = run(&start(ladder.clone(), vec![]), &items, false)?;
    let published: Vec<_> = first
        .iter()
        .filter_map(|message| match message {
            Message::Part(part) => Some((
                part.record.rung.to_string(),
                Mark {
                    rung: part.record.rung.clone(),
                    msn: part.record.msn,
                    part: part.record.part,
                    end: part.record.end,
                    closed: part.record.last,
                },
            )),
            _ => None,
        })
        .collect();
    for count in [3, 25, 38, 49, 60] {
        let resume = marks(&published, count);
        let least = resume.iter().map(|mark| mark.end.0).min().unwrap_or_default();
        let covering = units(&items, Track::Video)
            .iter()
            .filter(|unit| unit.idr && unit.pts <= least && resume.len() == 4)
            .map(|unit| unit.seq)
            .max()
            .unwrap_or(2);
        let replay: Vec<_> = items
            .iter()
            .filter(|item| matches!(item, Item::Config(_)) || item.seq() >= covering)
            .cloned()
            .collect();
        let second = run(&start(ladder.clone(), resume), &replay, true)?;
        let mut seen = 0;
        let safe: Vec<_> = first
            .iter()
            .filter(|message| {
                seen += usize::from(matches!(message, Message::Part(_)));
                seen <= count || matches!(message, Message::Init(_))
            })
            .cloned()
            .collect();
        for rung in ["source", "360p", "180p", "audio"] {
            let track = if rung == "audio" { Track::Audio } else { Track::Video };
            let mut spliced = Rendition::of(&safe, rung);
            let resumed = Rendition::of(&second, rung);
            assert_eq!(resumed.inits.first(), Rendition::of(&first, rung).inits.first(), "{rung}");
            assert!(rung == "source" || resumed.parts[0].0.independent, "{rung} at {count}");
            spliced.parts.extend(resumed.parts);
            assert_contiguous(&spliced);
            assert_eq!(pts_of(&spliced)?, presented(&items, track), "{rung} at {count}");
            spliced.decoded_frames()?;
        }
    }
    Ok(())
}
