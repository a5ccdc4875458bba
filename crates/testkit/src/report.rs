//! The checker's verdict as a value: what was counted, and the faults in words. Finds nothing itself: see `check`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the checker found in a whole recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One per rendition, in the recording's order.
    pub renditions: Vec<RenditionFindings>,
    /// Segments that do not start with the same picture on every video rendition, in words.
    pub unequal_starts: Vec<String>,
}

/// What the checker found in one rendition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RenditionFindings {
    /// The rendition's name.
    pub name: String,
    /// Pictures, if it has video.
    pub video: Option<VideoFindings>,
    /// Sound, if it has audio.
    pub audio: Option<AudioFindings>,
    /// Segments seen, whole or in part.
    pub segments: usize,
    /// Parts seen (or whole segments where there were none).
    pub parts: usize,
    /// Media sequence numbers that never came, or came out of order, in words.
    pub msn_holes: Vec<String>,
    /// Parts that never came or were marked as gaps, in words.
    pub missing_parts: Vec<String>,
    /// Parts whose duration breaks the rule, or differs from what the playlist declares, in words.
    pub bad_parts: Vec<String>,
    /// What the server did against RFC 8216bis, in words.
    pub violations: Vec<String>,
    /// What ffmpeg wrote to standard error.
    pub decode_errors: Vec<String>,
    /// The longest time between two arrivals, in milliseconds.
    pub longest_arrival_gap_ms: u64,
}

/// Frames of one rendition, by their stamps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoFindings {
    /// Pictures decoded.
    pub pictures: usize,
    /// Smallest stamp.
    pub first: Option<u32>,
    /// Largest stamp.
    pub last: Option<u32>,
    /// Every how many source frames it shows one: 2 for a halved rate.
    pub step: u32,
    /// Expected and never seen.
    pub missing: Vec<u32>,
    /// Seen again.
    pub repeated: Vec<u32>,
    /// Seen for the first time after a later one.
    pub out_of_order: Vec<u32>,
    /// Seen where the source or the rate has none.
    pub unexpected: Vec<u32>,
    /// Pictures without a readable stamp: their times in seconds.
    pub unreadable_at_s: Vec<f64>,
    /// How unsteadily frames follow the frame clock: the largest minus the smallest (time − clock) between two
    /// discontinuities, in milliseconds.
    pub worst_timing_ms: f64,
    /// The same as allowed.
    pub allowed_timing_ms: f64,
    /// Sound against pictures, for every audio rendition: the click farthest from its frame.
    pub av: Vec<AvOffset>,
}

/// How the clicks of one audio rendition lie against the pictures of a video rendition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AvOffset {
    /// The rendition whose sound it is.
    pub audio: String,
    /// Clicks compared.
    pub clicks: usize,
    /// Clicks the pictures' length makes us expect, at least.
    pub expected_clicks: usize,
    /// The offset farthest from zero, in milliseconds; positive when the sound is late.
    pub worst_ms: f64,
    /// The same as allowed, without sign.
    pub allowed_ms: f64,
}

/// Sound of one rendition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AudioFindings {
    /// Seconds decoded.
    pub seconds: f64,
    /// Clicks heard.
    pub clicks: usize,
    /// Holes and overlaps, in words.
    pub holes: Vec<String>,
}

impl Report {
    /// Every fault in words, each beginning with its rendition; empty when all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for rendition in &self.renditions {
            let found = rendition.faults().into_iter();
            faults.extend(found.map(|fault| format!("{}: {fault}", rendition.name)));
        }
        faults.extend(self.unequal_starts.iter().cloned());
        if self.renditions.is_empty() {
            faults.push("no rendition was downloaded".to_owned());
        }
        faults
    }

    /// Frames that never came, summed over all renditions.
    pub fn missing_frames(&self) -> usize {
        self.renditions.iter().flat_map(|one| &one.video).map(|video| video.missing.len()).sum()
    }

    /// The findings of the rendition called `name`.
    pub fn rendition(&self, name: &str) -> Option<&RenditionFindings> {
        self.renditions.iter().find(|rendition| rendition.name == name)
    }

    /// Insists that there is no fault at all, now and in an earlier try of the test ([`assert_counted`](crate::assert_counted)).
    ///
    /// # Panics
    ///
    /// With the whole report and every fault.
    #[track_caller]
    pub fn assert_lossless(&self) {
        crate::assert_counted(self.faults().len(), || self.to_string());
    }
}

impl RenditionFindings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let lists = [
            ("msn", &self.msn_holes),
            ("missing part", &self.missing_parts),
            ("part duration", &self.bad_parts),
            ("violation", &self.violations),
            ("ffmpeg", &self.decode_errors),
        ];
        for (what, list) in lists {
            faults.extend(shortened(list, what));
        }
        if let Some(video) = &self.video {
            faults.extend(video.faults());
        }
        if let Some(audio) = &self.audio {
            faults.extend(shortened(&audio.holes, "sound"));
        }
        if self.video.is_none() && self.audio.is_none() {
            faults.push("neither video nor audio".to_owned());
        }
        faults
    }
}

impl VideoFindings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let lists = [
            ("missing", &self.missing),
            ("repeated", &self.repeated),
            ("out of order", &self.out_of_order),
            ("unexpected", &self.unexpected),
        ];
        for (what, frames) in lists.into_iter().filter(|(_, frames)| !frames.is_empty()) {
            faults.push(format!("{} frames {what}: {}", frames.len(), ranges(frames)));
        }
        if !self.unreadable_at_s.is_empty() {
            let at: Vec<_> =
                self.unreadable_at_s.iter().map(|at| format!("at {at:.3} s")).collect();
            faults.extend(shortened(&at, "unreadable frame"));
        }
        if self.pictures == 0 {
            faults.push("no picture was decoded".to_owned());
        }
        if self.worst_timing_ms > self.allowed_timing_ms {
            let (worst, allowed) = (self.worst_timing_ms, self.allowed_timing_ms);
            faults.push(format!(
                "frames follow their clock within {worst:.1} ms, allowed {allowed:.1} ms"
            ));
        }
        for av in &self.av {
            if av.clicks < av.expected_clicks {
                let AvOffset { audio, clicks, expected_clicks, .. } = av;
                faults.push(format!(
                    "{clicks} clicks in {audio}, expected {expected_clicks} at least"
                ));
            }
            if av.worst_ms.abs() > av.allowed_ms {
                let AvOffset { audio, worst_ms, allowed_ms, .. } = av;
                faults.push(format!(
                    "sound of {audio} is {worst_ms:+.1} ms off the pictures, allowed ±{allowed_ms} ms"
                ));
            }
        }
        faults
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rendition in &self.renditions {
            writeln!(f, "{rendition}")?;
        }
        for fault in self.faults() {
            writeln!(f, "  FAULT {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RenditionFindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, segments, parts, longest_arrival_gap_ms: gap, .. } = self;
        write!(f, "{name:>8}  {segments:>3} segments {parts:>4} parts, longest gap {gap} ms")?;
        if let Some(video) = &self.video {
            write!(f, ", {} pictures", video.pictures)?;
            if let (Some(first), Some(last)) = (video.first, video.last) {
                write!(f, " {first}..={last} step {}", video.step)?;
            }
            for av in &video.av {
                write!(f, ", A/V {:+.1} ms ({} clicks in {})", av.worst_ms, av.clicks, av.audio)?;
            }
            write!(f, ", timing within {:.1} ms", video.worst_timing_ms)?;
        }
        if let Some(audio) = &self.audio {
            write!(f, ", {:.1} s of sound, {} clicks", audio.seconds, audio.clicks)?;
        }
        Ok(())
    }
}

/// The first few of a list, each after `what`, and how many more there are.
fn shortened(list: &[String], what: &str) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut short: Vec<_> = list.iter().take(SHOWN).map(|item| format!("{what}: {item}")).collect();
    if list.len() > SHOWN {
        short.push(format!("{what}: and {} more", list.len() - SHOWN));
    }
    short
}

/// Frame numbers as ranges: `3, 7-9`.
fn ranges(frames: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for frame in frames {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *frame => *end = *frame,
            _ => ranges.push((*frame, *frame)),
        }
    }
    let text = |(start, end): &(u32, u32)| {
        if start == end { start.to_string() } else { format!("{start}-{end}") }
    };
    let mut shown: Vec<_> = ranges.iter().take(10).map(text).collect();
    if ranges.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_listed_as_ranges() {
        assert_eq!(ranges(&[3, 7, 8, 9, 12]), "3, 7-9, 12");
    }

    #[test]
    fn a_report_about_nothing_is_a_fault() {
        assert_eq!(Report::default().faults(), ["no rendition was downloaded"]);
    }
}
