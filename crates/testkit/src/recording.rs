//! What a player downloaded, when each piece came, and what the playlists did that they must not. Values only; see `player` for how.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_types::{Msn, PartNo};

/// All renditions of one stream, as one player saw them.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The multivariant playlist's text.
    pub multivariant: String,
    /// In the order of the multivariant playlist, variants first.
    pub renditions: Vec<RenditionRecording>,
}

/// One rendition: its init sections and its media in playlist order.
#[derive(Clone, Debug, Default)]
pub struct RenditionRecording {
    /// From the playlist's URI, such as `720p`.
    pub name: String,
    /// `FRAME-RATE` of its variant.
    pub frame_rate: Option<f64>,
    /// The media playlist's text, as last loaded.
    pub playlist: String,
    /// `EXT-X-PART-INF:PART-TARGET` in seconds.
    pub part_target_s: Option<f64>,
    /// Init sections in order of appearance.
    pub inits: Vec<Init>,
    /// Parts, or whole segments where no parts were listed.
    pub chunks: Vec<Chunk>,
    /// What the server did against RFC 8216bis, in words.
    pub violations: Vec<String>,
    /// Reloads that did not give a playlist (connection refused, 503, …); allowed while an origin recovers.
    pub failed_reloads: u32,
    /// The playlist ended with `EXT-X-ENDLIST`.
    pub ended: bool,
}

/// An init section.
#[derive(Clone, Debug)]
pub struct Init {
    /// Absolute URL.
    pub url: String,
    /// Its content; `None` when it could not be had.
    pub bytes: Option<Bytes>,
}

/// A part or a whole segment.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Segment it belongs to.
    pub msn: Msn,
    /// Which part; `None` for a whole segment.
    pub part: Option<PartNo>,
    /// Absolute URL.
    pub url: String,
    /// `DURATION` or `EXTINF`, in seconds.
    pub declared_s: f64,
    /// `INDEPENDENT=YES`, or a whole segment.
    pub independent: bool,
    /// `EXT-X-GAP` or `GAP=YES`: nothing was to be fetched.
    pub gap: bool,
    /// `EXT-X-DISCONTINUITY` stands before its segment.
    pub discontinuity: bool,
    /// The segment was complete after it.
    pub ends_segment: bool,
    /// Index in [`RenditionRecording::inits`]; `None` when no `EXT-X-MAP` was in force.
    pub init: Option<usize>,
    /// It stood in the first playlist loaded: its arrival does not tell when it was made.
    pub backlog: bool,
    /// When the last byte came.
    pub arrived: Instant,
    /// Its content; `None` for a gap, and when it could not be had.
    pub bytes: Option<Bytes>,
}

impl Recording {
    /// The rendition called `name`.
    pub fn rendition(&self, name: &str) -> Option<&RenditionRecording> {
        self.renditions.iter().find(|rendition| rendition.name == name)
    }
}

impl RenditionRecording {
    /// How long after `moment` the next part came: the delay a fault injected at `moment` caused at most.
    pub fn next_arrival_after(&self, moment: Instant) -> Option<Duration> {
        let arrival = self.chunks.iter().map(|chunk| chunk.arrived).find(|at| *at > moment)?;
        Some(arrival - moment)
    }

    /// The longest time between two arrivals in a row.
    pub fn longest_gap(&self) -> Duration {
        let arrivals = self.chunks.windows(2).map(|pair| pair[1].arrived - pair[0].arrived);
        arrivals.max().unwrap_or_default()
    }

    /// The longest wait for a part between two moments: how long it lasted, and how long players had to wait after the first
    /// moment (the part before may have come earlier).
    pub fn longest_wait(&self, from: Instant, to: Instant) -> Option<(Duration, Duration)> {
        let pairs = self.chunks.windows(2).map(|pair| (pair[0].arrived, pair[1].arrived));
        let within = pairs.filter(|(before, after)| *after > from && *before < to);
        let (before, after) = within.max_by_key(|(before, after)| *after - (*before).max(from))?;
        Some((after - before, after - before.max(from)))
    }

    /// Seconds of media listed so far.
    pub fn media_s(&self) -> f64 {
        self.chunks.iter().map(|chunk| chunk.declared_s).sum()
    }
}

/// Parts of one second that arrived so many milliseconds after the first.
#[cfg(test)]
pub(crate) fn arrivals(at_ms: &[u64]) -> RenditionRecording {
    let start = Instant::now();
    let chunk = |ms: &u64| Chunk {
        msn: Msn(0),
        part: None,
        url: String::new(),
        declared_s: 1.0,
        independent: true,
        gap: false,
        discontinuity: false,
        ends_segment: true,
        init: None,
        backlog: false,
        arrived: start + Duration::from_millis(*ms),
        bytes: None,
    };
    RenditionRecording { chunks: at_ms.iter().map(chunk).collect(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_began_before_the_fault_counts_from_the_fault_on() {
        let parts = arrivals(&[0, 1_000, 4_000, 5_000, 9_000]);
        let at = |ms| parts.chunks[0].arrived + Duration::from_millis(ms);
        let ms = Duration::from_millis;
        assert_eq!(parts.longest_wait(at(2_500), at(5_500)), Some((ms(4_000), ms(4_000))));
        assert_eq!(parts.longest_wait(at(2_500), at(4_500)), Some((ms(3_000), ms(1_500))));
        assert_eq!(parts.longest_wait(at(9_000), at(9_500)), None);
    }

    #[test]
    fn the_next_arrival_is_measured_from_the_fault() {
        let parts = arrivals(&[0, 1_000, 2_500]);
        let fault = parts.chunks[1].arrived + Duration::from_millis(100);
        assert_eq!(parts.next_arrival_after(fault), Some(Duration::from_millis(1_400)));
        assert_eq!(parts.next_arrival_after(parts.chunks[2].arrived), None);
    }
}
