//! A stream's window fed with records in any order, of any writer or two, with any numbers, moved to another origin and copied to
//! another node: every playlist stays well-formed, and who feeds a window in order is never waited for in vain.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millrace_hls::{
    Backlog, BlockUntil, Hash, InitRecord, PartLookup, PartRecord, Reload, RenditionKind,
    StreamOpen, Window,
};
use millrace_types::{Epoch, FrameRate, Mark, MediaTime, Mono, Msn, PartNo, RungId};

const RUNGS: [&str; 3] = ["source", "720p", "audio"];
const FIRST: u64 = 1_795_222_923;
const SECOND: i64 = 90_000;

#[derive(Arbitrary, Debug)]
enum Step {
    Init {
        rung: u8,
        epoch: u8,
        which: u8,
        codecs: Option<String>,
        bandwidth_bps: u64,
        kind: Kind,
    },
    Part(PartStep),
    /// Whole segments as a good encoder writes them, of so many parts.
    Segments {
        rung: u8,
        epoch: u8,
        first: u8,
        count: u8,
        parts: u8,
    },
    Fence {
        epoch: u8,
    },
    Reopen {
        epoch: u8,
        rungs: u8,
        part_target_ms: u32,
        hold_back_ms: u32,
        restores: Option<(u8, u8, u8)>,
    },
    End {
        epoch: u8,
    },
    Release,
    Claim {
        epoch: u8,
    },
    Wait {
        ms: u16,
    },
    ForgetBeyond {
        bytes: u16,
    },
    /// Its writer goes on at another origin, which it feeds with what it has.
    Move,
    /// Another node copies the past in portions of so many bytes, but keeps of its own what fits into so many.
    Copy {
        portion: u8,
        own_bytes: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Video { width: u32, height: u32, rate: (u32, u32), transcoded: bool },
    Audio { channels: u8 },
}

/// A part close to where it should be, except for what is given outright.
#[derive(Arbitrary, Debug)]
struct PartStep {
    rung: u8,
    epoch: u8,
    msn: u8,
    part: u8,
    length_ms: i16,
    discontinuity: u8,
    last: bool,
    independent: bool,
    short: bool,
    is_empty: bool,
    init: u8,
    hash: u8,
    outright: Option<Outright>,
}

#[derive(Arbitrary, Debug)]
struct Outright {
    msn: u64,
    part: u32,
    segment_start: i64,
    discontinuity: u64,
    start: i64,
    end: i64,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut window = Window::open(announcement(0, 7, 334, 1_002));
    let mut now = Mono::default();
    for step in steps {
        apply(&mut window, &mut now, step);
        check(&window);
    }
});

fn apply(window: &mut Window, now: &mut Mono, step: Step) {
    match step {
        Step::Init { rung, epoch, which, codecs, bandwidth_bps, kind } => {
            let codecs = codecs.unwrap_or_else(|| "avc1.64001f".to_owned());
            let kind = match kind {
                Kind::Video { width, height, rate: (num, den), transcoded } => {
                    let frame_rate = FrameRate { num: num.max(1), den: den.max(1) };
                    RenditionKind::Video { width, height, frame_rate, transcoded }
                }
                Kind::Audio { channels } => RenditionKind::Audio { channels },
            };
            // Even numbers are also what a publisher says.
            let announced_bps = bandwidth_bps.is_multiple_of(2).then_some(bandwidth_bps);
            let init = InitRecord {
                rung: rung_id(rung),
                hash: hash(which),
                codecs,
                bandwidth_bps,
                announced_bps,
                kind,
            };
            let _ = window.add_init(epoch_of(epoch), init, Bytes::from_static(b"init"));
        }
        Step::Part(step) => {
            let mut record = part(step.rung, step.epoch, step.msn.into(), step.part.into());
            record.end = record.start + i64::from(step.length_ms) * 90;
            record.discontinuity = step.discontinuity.into();
            (record.last, record.independent) = (step.last, step.independent);
            record.short = step.short;
            (record.init, record.hash) = (hash(step.init), hash(step.hash));
            if let Some(outright) = step.outright {
                (record.msn, record.part) = (Msn(outright.msn), PartNo(outright.part));
                record.segment_start = MediaTime(outright.segment_start);
                record.discontinuity = outright.discontinuity;
                record.start = MediaTime(outright.start);
                record.end = MediaTime(outright.end);
            }
            let bytes: &[u8] = if step.is_empty { b"" } else { b"part" };
            let _ = window.add_part(*now, record.epoch, record, Bytes::from_static(bytes));
        }
        Step::Segments { rung, epoch, first, count, parts } => {
            let parts = u32::from(parts % 7) + 1;
            for msn in 0..u64::from(count % 40) {
                for number in 0..parts {
                    let mut record = part(rung, epoch, u64::from(first) + msn, number);
                    record.last = number + 1 == parts;
                    let bytes = Bytes::from_static(b"part");
                    let _ = window.add_part(*now, record.epoch, record, bytes);
                }
            }
        }
        Step::Fence { epoch } => drop(window.fence(epoch_of(epoch))),
        Step::Reopen { epoch, rungs, part_target_ms, hold_back_ms, restores } => {
            let mut open = announcement(epoch, rungs, part_target_ms, hold_back_ms);
            open.restores.extend(restores.map(|(rung, msn, part)| Mark {
                rung: rung_id(rung),
                msn: Msn(FIRST + u64::from(msn)),
                part: PartNo(part.into()),
                end: MediaTime(0),
                closed: false,
            }));
            drop(window.reopen(open));
        }
        Step::End { epoch } => drop(window.end(epoch_of(epoch))),
        Step::Release => window.release(),
        Step::Claim { epoch } => drop(window.claim(epoch_of(epoch))),
        Step::Wait { ms } => {
            *now = *now + Duration::from_millis(ms.into());
            window.tick(*now);
            assert!(window.deadline().is_none_or(|deadline| deadline > *now), "nothing is due");
        }
        Step::ForgetBeyond { bytes } => window.forget_beyond(bytes.into()),
        Step::Move => moved(window, *now),
        Step::Copy { portion, own_bytes } => copied(window, portion.into(), own_bytes.into()),
    }
}

/// The window as another origin has it, to which its writer pushes it.
fn moved(window: &mut Window, now: Mono) {
    if window.is_ended() {
        return;
    }
    let restores = window.restorable();
    let open = StreamOpen { restores, followed: false, ..window.announced().clone() };
    let writer = open.epoch;
    let mut other = Window::open(open);
    for rung in &window.announced().rungs {
        for record in window.backlog(rung) {
            let _ = match record {
                Backlog::Init(record, bytes) => other.add_init(writer, record, bytes),
                Backlog::Part(record, bytes) => other.add_part(now, writer, record, bytes),
            };
        }
    }
    // Of two writers the other may still fill a hole.
    let is_restored = other.is_restored() || other.is_dual();
    assert!(is_restored, "{:?}, but {:?}", window.restorable(), other.restorable());
    *window = other;
}

/// The window as a node has it that goes on with the stream: what it made itself, behind what it was told of the past.
fn copied(window: &mut Window, portion: usize, own_bytes: u64) {
    let rungs = window.announced().rungs.clone();
    let mut copy = Window::for_copy(&rungs);
    for rung in &rungs {
        loop {
            let past = window.past(rung, copy.last(rung), portion);
            let before = copy.last(rung);
            past.into_iter().for_each(|record| drop(copy.copy(record)));
            if copy.last(rung) == before {
                break;
            }
        }
    }
    check(&copy);
    let mut own = window.clone();
    own.forget_beyond(own_bytes);
    if copy.comes_to(&own) {
        *window = own.after(&copy);
    }
}

fn announcement(epoch: u8, rungs: u8, part_target_ms: u32, hold_back_ms: u32) -> StreamOpen {
    let rungs = (0..3).filter(|rung| rungs >> rung & 1 == 1).map(rung_id).collect();
    // A third of them come beside the writer before.
    let beside = (hold_back_ms % 3 == 0).then(|| epoch_of(epoch.saturating_sub(1)));
    StreamOpen {
        epoch: epoch_of(epoch),
        beside,
        rungs,
        part_target_ms,
        hold_back_ms,
        speaks: Default::default(),
        restores: Vec::new(),
        followed: hold_back_ms % 5 == 1,
    }
}

fn rung_id(index: u8) -> RungId {
    RUNGS[usize::from(index) % RUNGS.len()].parse().expect("a rung name")
}

fn epoch_of(number: u8) -> Epoch {
    Epoch { generation: (number / 4 % 4).into(), placement: (number % 4).into() }
}

fn hash(which: u8) -> Hash {
    Hash([which % 4; 16])
}

/// Where a part of a third of a second lies in segments of two seconds.
fn part(rung: u8, epoch: u8, msn: u64, number: u32) -> PartRecord {
    let segment_start = MediaTime((FIRST + msn) as i64 * 2 * SECOND);
    let start = segment_start + i64::from(number) * SECOND / 3;
    PartRecord {
        rung: rung_id(rung),
        msn: Msn(FIRST + msn),
        part: PartNo(number),
        epoch: epoch_of(epoch),
        segment_start,
        discontinuity: 0,
        start,
        end: start + SECOND / 3,
        independent: number == 0,
        last: false,
        short: false,
        init: hash(0),
        hash: hash(0),
        length: 4,
    }
}

fn check(window: &Window) {
    for rung in (0..3).map(rung_id) {
        for skip in [false, true] {
            if let Some(playlist) = window.media_playlist(&rung, skip) {
                assert_eq!(playlist.contains("#EXT-X-ENDLIST"), window.is_ended());
                media_playlist(window, &rung, &playlist);
            }
        }
        for part in [None, Some(PartNo(0)), Some(PartNo(u32::MAX))] {
            for msn in [FIRST, FIRST + 3, u64::MAX] {
                let reload = window.reload(&rung, Some(BlockUntil { msn: Msn(msn), part }));
                assert_eq!(reload == Reload::NoRung, window.reload(&rung, None) == Reload::NoRung);
            }
        }
    }
    window.status().iter().for_each(|status| assert!(window.has_rung(&status.rung)));
    let Some(playlist) = window.multivariant_playlist() else { return };
    lines(&playlist, |uri| uri.ends_with("/index.m3u8"));
    // Of a stream that has ended, those that have a segment.
    let has_segment = |rung: &RungId| {
        let playlist = window.media_playlist(rung, false);
        playlist.is_some_and(|playlist| playlist.contains("#EXTINF:"))
    };
    let rungs = window.announced().rungs.iter();
    let named = rungs.filter(|rung| !window.is_ended() || has_segment(rung)).count();
    assert_eq!(playlist.matches("#EXT-X-STREAM-INF:").count(), named);
}

/// Every line is a tag or a URI, and no attribute leaves its quotes.
fn lines(playlist: &str, is_uri: impl Fn(&str) -> bool) {
    assert!(playlist.starts_with("#EXTM3U\n#EXT-X-VERSION:9\n") && playlist.ends_with('\n'));
    for line in playlist.lines() {
        assert!(line.starts_with("#EXT") || is_uri(line), "{line:?}");
        assert!(line.matches('"').count() % 2 == 0 && !line.contains(char::is_control), "{line:?}");
    }
}

/// Segments are numbered without a hole, have positive lengths, and what is named can be fetched.
fn media_playlist(window: &Window, rung: &RungId, playlist: &str) {
    lines(playlist, |uri| uri.ends_with(".m4s"));
    let number = |tag: &str| playlist.lines().find_map(|line| line.strip_prefix(tag)?.parse().ok());
    let first: u64 = number("#EXT-X-MEDIA-SEQUENCE:").expect("a first number");
    let skipped: u64 = number("#EXT-X-SKIP:SKIPPED-SEGMENTS=").unwrap_or(0);
    let mut next = first + skipped;
    let (mut is_gap, mut length) = (false, None);
    for line in playlist.lines() {
        if let Some(text) = line.strip_prefix("#EXTINF:") {
            length = text.trim_end_matches(',').parse::<f64>().ok();
        } else if line == "#EXT-X-GAP" {
            is_gap = true;
        } else if let Some(name) = line.strip_suffix(".m4s").filter(|line| !line.starts_with('#')) {
            assert_eq!(name, next.to_string());
            assert!(length.take().is_some_and(|length| length >= 0.0), "{playlist}");
            assert_eq!(window.segment(rung, Msn(next)).is_none(), is_gap);
            (next, is_gap) = (next + 1, false);
        } else if let Some(rest) = line.strip_prefix("#EXT-X-PART:DURATION=") {
            let (duration, rest) = rest.split_once(",URI=\"").expect("a URI");
            assert!(duration.parse::<f64>().is_ok_and(|duration| duration >= 0.0), "{playlist}");
            let (msn, part) =
                rest.split_once(".m4s").and_then(|(name, _)| name.split_once('.')).expect("a name");
            let (msn, part) =
                (Msn(msn.parse().expect("a number")), PartNo(part.parse().expect("a number")));
            let is_here = matches!(window.part(rung, msn, part), PartLookup::Here(_));
            assert_eq!(is_here, !rest.ends_with(",GAP=YES"), "{line}");
        }
    }
}
