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

    /// The longest stall of a player that sits `behind` behind the best moment this rendition ever reached.
    ///
    /// Live is where the part that came earliest against its place in the media ended. Parts of the first playlist
    /// were made earlier than they came, so they stall nobody.
    pub fn longest_stall(&self, behind: Duration) -> Duration {
        let Some(first) = self.chunks.first() else { return Duration::ZERO };
        let (mut start_s, mut live_s, mut latest_s) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        for chunk in &self.chunks {
            let arrived_s = (chunk.arrived - first.arrived).as_secs_f64();
            if !chunk.backlog {
                latest_s = f64::max(latest_s, arrived_s - start_s);
            }
            start_s += chunk.declared_s;
            live_s = f64::min(live_s, arrived_s - start_s);
        }
        Duration::from_secs_f64((latest_s - live_s - behind.as_secs_f64()).max(0.0))
    }

    /// Seconds of media listed so far.
    pub fn media_s(&self) -> f64 {
        self.chunks.iter().map(|chunk| chunk.declared_s).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of one second that arrived so many milliseconds after the first.
    fn arrivals(at_ms: &[u64]) -> RenditionRecording {
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

    #[test]
    fn a_player_far_enough_behind_live_does_not_stall() {
        let late = arrivals(&[0, 1_000, 4_500, 4_600, 4_700, 5_000]);
        assert_eq!(late.longest_gap(), Duration::from_millis(3_500));
        assert_eq!(late.longest_stall(Duration::from_millis(1_500)), Duration::from_secs(2));
        assert_eq!(late.longest_stall(Duration::from_millis(3_500)), Duration::ZERO);
    }

    #[test]
    fn what_stood_in_the_first_playlist_stalls_nobody() {
        let mut joined_late = arrivals(&[0, 10, 20, 1_000, 2_000]);
        joined_late.chunks.iter_mut().take(3).for_each(|chunk| chunk.backlog = true);
        assert_eq!(joined_late.longest_stall(Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn the_next_arrival_is_measured_from_the_fault() {
        let parts = arrivals(&[0, 1_000, 2_500]);
        let fault = parts.chunks[1].arrived + Duration::from_millis(100);
        assert_eq!(parts.next_arrival_after(fault), Some(Duration::from_millis(1_400)));
        assert_eq!(parts.next_arrival_after(parts.chunks[2].arrived), None);
    }
}
