//! The text of a media playlist: a pure function of the window (RFC 8216bis 4.4). Says nothing about when to answer.

use std::{collections::BTreeSet, fmt::Write as _};

use millrace_types::{MediaTime, Msn, RungId};

use crate::{
    RenditionKind, TARGET_DURATION, Window,
    rung::RungWindow,
    segment::{Part, Segment},
};

/// Lowest version with `EXT-X-SKIP`.
const VERSION: u32 = 9;
/// `CAN-SKIP-UNTIL`, in target durations: the least that RFC 8216bis 4.4.3.8 allows.
const SKIP_TARGETS: u64 = 6;
/// Parts are listed this many target durations back from the end (RFC 8216bis 6.2.2).
const PARTS_TARGETS: u64 = 3;
/// `HOLD-BACK` of players without low latency, in target durations.
const HOLD_BACK_TARGETS: u64 = 3;
/// More discontinuities than this between two neighbours are a writer's fault and not written out.
const MAX_DISCONTINUITY_TAGS: u64 = 8;

const TARGET_SECONDS: u64 = TARGET_DURATION.as_secs();

impl Window {
    /// The media playlist of `rung`, or a delta update of it when `skip`; `None` without the rung or before its first part.
    pub fn media_playlist(&self, rung: &RungId, skip: bool) -> Option<String> {
        let window = self.rung(rung)?;
        let first = window.listed().next()?;
        let end = window.end()?;
        let mut text = String::with_capacity(8 * 1024);
        let breaks = self.breaks();
        self.write_head(&mut text, window, (first, discontinuities(first, &breaks)));
        let skipped = if skip { skippable(window, end) } else { 0 };
        if skipped > 0 {
            line(&mut text, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        }
        let mut before: Option<&Segment> = None;
        for (index, segment) in window.listed().enumerate() {
            if index >= skipped {
                let number = discontinuities(segment, &breaks);
                let known = before.map_or(number, |before| discontinuities(before, &breaks));
                write_discontinuities(&mut text, number.saturating_sub(known));
                write_segment(&mut text, segment, before, end);
            }
            before = Some(segment);
        }
        self.write_tail(&mut text, rung, window);
        Some(text)
    }

    fn write_head(
        &self,
        text: &mut String,
        window: &RungWindow,
        (first, discontinuities): (&Segment, u64),
    ) {
        let open = self.announced();
        line(text, format_args!("#EXTM3U\n#EXT-X-VERSION:{VERSION}"));
        line(text, format_args!("#EXT-X-TARGETDURATION:{TARGET_SECONDS}"));
        line(
            text,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={:.1},HOLD-BACK={:.1},PART-HOLD-BACK={:.3}",
                (SKIP_TARGETS * TARGET_SECONDS) as f64,
                (HOLD_BACK_TARGETS * TARGET_SECONDS) as f64,
                f64::from(open.hold_back_ms) / 1000.0,
            ),
        );
        let part_target = f64::from(open.part_target_ms) / 1000.0;
        line(text, format_args!("#EXT-X-PART-INF:PART-TARGET={part_target:.3}"));
        line(text, format_args!("#EXT-X-MEDIA-SEQUENCE:{}", first.msn));
        line(text, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"));
        let kind = window.current_init().map(|init| init.kind);
        if !matches!(kind, None | Some(RenditionKind::Video { transcoded: false, .. })) {
            line(text, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
        }
    }

    fn write_tail(&self, text: &mut String, rung: &RungId, window: &RungWindow) {
        if self.is_ended() {
            line(text, format_args!("#EXT-X-ENDLIST"));
            return;
        }
        if let Some((msn, part)) = window.next() {
            line(text, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{msn}.{part}.m4s\""));
        }
        for other in self.announced().rungs.iter().filter(|other| *other != rung) {
            if let Some((msn, part)) = self.rung(other).and_then(RungWindow::last) {
                line(
                    text,
                    format_args!(
                        "#EXT-X-RENDITION-REPORT:URI=\"../{other}/index.m3u8\",LAST-MSN={msn},LAST-PART={part}"
                    ),
                );
            }
        }
    }
}

/// How many lie before the segment in the stream's life: those that its stamp says, and `breaks`.
fn discontinuities(segment: &Segment, breaks: &BTreeSet<Msn>) -> u64 {
    segment.discontinuity.saturating_add(breaks.range(..=segment.msn).count() as u64)
}

fn write_discontinuities(text: &mut String, passed: u64) {
    for _ in 0..passed.min(MAX_DISCONTINUITY_TAGS) {
        line(text, format_args!("#EXT-X-DISCONTINUITY"));
    }
}

/// How many of the listed segments lie before the skip boundary.
fn skippable(window: &RungWindow, end: MediaTime) -> usize {
    let old = |segment: &&Segment| {
        seconds_between(segment.end, end) > (SKIP_TARGETS * TARGET_SECONDS) as f64
    };
    window.listed().take_while(old).count()
}

fn seconds_between(from: MediaTime, to: MediaTime) -> f64 {
    MediaTime(to - from).seconds()
}

fn write_segment(text: &mut String, segment: &Segment, before: Option<&Segment>, end: MediaTime) {
    if before.is_none_or(|before| before.init != segment.init) {
        line(text, format_args!("#EXT-X-MAP:URI=\"init-{}.mp4\"", segment.init));
    }
    line(text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", segment.start.to_wall()));
    if seconds_between(segment.end, end) < (PARTS_TARGETS * TARGET_SECONDS) as f64 {
        let parts = segment.parts.iter().filter(|_| !segment.is_gap());
        parts.for_each(|part| write_part(text, part));
    }
    if segment.is_gap() {
        line(text, format_args!("#EXT-X-GAP"));
    }
    if segment.closed {
        line(text, format_args!("#EXTINF:{:.5},\n{}.m4s", segment.seconds(), segment.msn));
    }
}

fn write_part(text: &mut String, Part { record, bytes }: &Part) {
    let independent = if record.independent { ",INDEPENDENT=YES" } else { "" };
    let gap = if bytes.is_empty() { ",GAP=YES" } else { "" };
    line(
        text,
        format_args!(
            "#EXT-X-PART:DURATION={:.5},URI=\"{}.{}.m4s\"{independent}{gap}",
            record.duration_seconds(),
            record.msn,
            record.part
        ),
    );
}

/// Writing to a `String` cannot fail.
fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(line);
    text.push('\n');
}
