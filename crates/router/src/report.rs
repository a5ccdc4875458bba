//! What operators see of a stream: one value, shown as JSON by the admin pages and merged by the API.

use std::{collections::VecDeque, net::SocketAddr};

use millrace_media::Stats;
use millrace_telemetry::Recorded;
use millrace_types::{Ladder, Mark, NodeId, Rung, StreamId, Wall};
use serde::Serialize;

use crate::regain::Lack;

/// Events of one stream that are kept.
const KEPT_EVENTS: usize = 100;
/// Below this a picture worth encoding is unlikely.
const LOW_BITRATE_KBPS: u64 = 500;
/// Below this motion is not smooth.
const LOW_FPS: f64 = 20.0;
/// Said of a publisher whose pictures come without a keyframe.
pub const NO_KEYFRAME: &str = "pictures come without a keyframe, nothing can be shown until one does: set the encoder's keyframe interval to 2 s";
/// Above this something between camera and encoder is broken.
const MANY_DROPPED: u64 = 100;
/// Frames that came too late to be shown or heard in their place; above this they are no accident of the beginning.
const MANY_LATE: u64 = 100;
/// Sound and picture that arrive this far from each other are told of: who comes late is waited for.
const LONG_SKEW_MS: u64 = 1_800;
/// Above this segments must be cut where a passthrough player cannot join.
const LONG_KEYFRAMES_S: f64 = 2.4;

/// The newest decisions about one stream, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Events(VecDeque<Recorded>);

impl Events {
    /// Adds one, forgetting the oldest beyond [`KEPT_EVENTS`]. One that was only said again takes its own place.
    pub fn push(&mut self, event: Recorded) {
        if let Some(last) = self.0.back_mut().filter(|last| last.seq() == event.seq()) {
            *last = event;
            return;
        }
        if self.0.len() == KEPT_EVENTS {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// All that are kept.
    pub fn to_vec(&self) -> Vec<Recorded> {
        self.0.iter().cloned().collect()
    }
}

/// Who publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublisherReport {
    /// From where.
    pub address: SocketAddr,
    /// Whether it still does.
    pub connected: bool,
    /// Whole seconds since it left; `None` while it is there.
    pub away_s: Option<u64>,
}

/// One rung and how far it is published.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RungReport {
    /// What it is.
    #[serde(flatten)]
    pub rung: Rung,
    /// How far it is published.
    pub published: Option<Mark>,
}

/// How the source does, and what its publisher could do better.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HealthReport {
    /// Picture and sound.
    pub bitrate_kbps: u64,
    /// Measured.
    pub fps: f64,
    /// Longest of the recent ones, seconds.
    pub keyframe_interval_s: Option<f64>,
    /// Pictures that could not be used.
    pub dropped_frames: u64,
    /// Nothing can be shown: its pictures have come without a keyframe so far.
    pub waits_for_keyframe: bool,
    /// Sound ahead of the picture, milliseconds.
    pub av_skew_ms: i64,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Whether everything the publisher sent could be kept until it was published, and came in time for its place.
    pub lossless: bool,
    /// For the publisher, in plain words.
    pub advice: Vec<String>,
}

impl HealthReport {
    /// Judges a source.
    pub fn of(stats: &Stats, lossless: bool) -> Self {
        let keyframe_interval_s = stats.keyframe_longest_ms.map(|ms| ms as f64 / 1000.0);
        let mut health = Self {
            bitrate_kbps: stats.bitrate_bps / 1000,
            fps: stats.fps,
            keyframe_interval_s,
            dropped_frames: stats.dropped_frames,
            waits_for_keyframe: stats.waiting_for_idr > MANY_DROPPED,
            av_skew_ms: stats.audio_ahead_ms,
            width: stats.video.as_ref().map(|video| video.width),
            height: stats.video.as_ref().map(|video| video.height),
            lossless: lossless && stats.late_audio_frames.max(stats.moved_frames) <= MANY_LATE,
            advice: Vec::new(),
        };
        health.advice = health.advise(stats);
        health
    }

    /// Whether more is other than what is measured anew all the time.
    pub fn is_news_after(&self, before: &Self) -> bool {
        let judged =
            |it: &Self| (it.width, it.height, it.lossless, it.advice.len(), it.bitrate_kbps > 0);
        judged(self) != judged(before)
    }

    fn advise(&self, stats: &Stats) -> Vec<String> {
        // Nothing is measured in the first second.
        let measured = stats.bitrate_bps > 0 && stats.video.is_some();
        let mut advice = Vec::new();
        if measured && self.bitrate_kbps < LOW_BITRATE_KBPS {
            advice
                .push(format!("bitrate is {} kbit/s: at least 500 is advised", self.bitrate_kbps));
        }
        if measured && self.fps > 0.0 && self.fps < LOW_FPS {
            advice.push(format!("{:.1} frames per second: at least 20 is advised", self.fps));
        }
        if self.dropped_frames > MANY_DROPPED {
            advice.push(format!("{} frames could not be used", self.dropped_frames));
        }
        if self.waits_for_keyframe {
            advice.push(NO_KEYFRAME.to_owned());
        }
        if self.av_skew_ms.unsigned_abs() > LONG_SKEW_MS {
            let seconds = self.av_skew_ms.unsigned_abs() as f64 / 1000.0;
            let (late, other) =
                if self.av_skew_ms < 0 { ("sound", "picture") } else { ("picture", "sound") };
            let done = match stats.audio_delayed_ms {
                0 => "both are played as they are stamped, and viewers wait for it",
                _ => "too long to wait, so both are played as they arrive",
            };
            advice.push(format!(
                "{late} arrives {seconds:.1} s after the {other} of its time: {done}"
            ));
        }
        if stats.late_audio_frames > MANY_LATE {
            let count = stats.late_audio_frames;
            advice.push(format!("{count} frames of sound came too late and are left out"));
        }
        if stats.moved_frames > MANY_LATE {
            let count = stats.moved_frames;
            advice
                .push(format!("{count} pictures came too late and are shown later than they say"));
        }
        if let Some(seconds) = self.keyframe_interval_s.filter(|&s| s > LONG_KEYFRAMES_S) {
            advice.push(format!(
                "keyframes are {seconds:.1} s apart: set the encoder's keyframe interval to 2 s"
            ));
        }
        advice
    }
}

/// The second encoder of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecondReport {
    /// Where it is.
    pub node: NodeId,
    /// Its process.
    pub worker_pid: u32,
    /// What it writes under, as text.
    pub epoch: String,
    /// Since when it is there, RFC 3339.
    pub since: String,
    /// Whether it alone would do by now.
    pub paired: bool,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamReport {
    /// Which.
    pub stream: StreamId,
    /// `waiting`, `placing`, `live` or `finishing`.
    pub state: &'static str,
    /// Who publishes, or did last.
    pub publisher: Option<PublisherReport>,
    /// Which origin owns its window.
    pub origin: Option<NodeId>,
    /// Where it is made.
    pub node: Option<NodeId>,
    /// The process that makes it.
    pub worker_pid: Option<u32>,
    /// What that process writes under, as text; before there is one, the newest epoch.
    pub epoch: String,
    /// Since when the session is, RFC 3339.
    pub session_since: String,
    /// Whether it is on its way to another node.
    pub moving: bool,
    /// Why it could not be moved, when it last should be; `None` once it was, or never had to.
    pub stays: Option<String>,
    /// Why it is to have two encoders, if it is: `pinned`, or `hot` and how many watch it.
    pub two_because: Option<String>,
    /// The second encoder of a stream that is to have two.
    pub second: Option<SecondReport>,
    /// Why it has one encoder, if it is to have two.
    pub single_because: Option<String>,
    /// Why nothing is encoded, if so: `no_capacity`, or `poison` for what kills its encoders.
    pub unencoded_because: Option<String>,
    /// What it would need for its ladder, if it goes on without for want of room; for this router alone.
    #[serde(skip)]
    pub lack: Option<Lack>,
    /// Workers lost so far.
    pub restarts: u64,
    /// The ladder and how far it is published.
    pub rungs: Vec<RungReport>,
    /// The source.
    pub health: HealthReport,
    /// What was decided about it, oldest first.
    pub events: Vec<Recorded>,
}

impl StreamReport {
    /// What is known when a session begins.
    pub fn new(stream: StreamId, since: Wall) -> Self {
        Self {
            stream,
            state: "waiting",
            publisher: None,
            origin: None,
            node: None,
            worker_pid: None,
            epoch: String::new(),
            session_since: since.to_string(),
            moving: false,
            stays: None,
            two_because: None,
            second: None,
            single_because: None,
            unencoded_because: None,
            lack: None,
            restarts: 0,
            rungs: Vec::new(),
            health: HealthReport::default(),
            events: Vec::new(),
        }
    }

    /// Puts the rungs in, with what is published of each.
    pub fn set_rungs(&mut self, ladder: &Ladder, published: &[Mark]) {
        let report = |rung: &Rung| RungReport {
            rung: rung.clone(),
            published: published.iter().find(|mark| mark.rung == rung.id).cloned(),
        };
        self.rungs = ladder.rungs.iter().map(report).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_source_gets_advice_in_plain_words_and_a_good_one_none() {
        let video = millrace_media::VideoConfig {
            avcc: Default::default(),
            width: 1280,
            height: 720,
            frame_rate: millrace_types::FrameRate { num: 30, den: 1 },
            codecs: String::new(),
        };
        let good = Stats {
            bitrate_bps: 4_000_000,
            fps: 30.0,
            keyframe_longest_ms: Some(2000),
            video: Some(video),
            ..Stats::default()
        };
        assert!(HealthReport::of(&good, true).advice.is_empty());
        let weak = Stats {
            bitrate_bps: 300_000,
            fps: 12.0,
            keyframe_longest_ms: Some(8300),
            dropped_frames: 101,
            waiting_for_idr: 101,
            ..good
        };
        let advice = HealthReport::of(&weak, true).advice;
        assert_eq!(advice.len(), 5);
        assert!(advice.iter().any(|it| it == NO_KEYFRAME), "{advice:?}");
        assert!(advice[4].contains("8.3 s apart"), "{advice:?}");
    }

    #[test]
    fn tracks_that_arrive_far_apart_are_told_of_and_nothing_late_counts_as_kept() {
        let source = Stats { bitrate_bps: 4_000_000, fps: 30.0, ..Stats::default() };
        let near = Stats { audio_ahead_ms: 1_500, late_audio_frames: 90, ..source.clone() };
        let health = HealthReport::of(&near, true);
        assert!(health.lossless && health.advice.is_empty(), "{:?}", health.advice);
        let late_sound = Stats { audio_ahead_ms: -3_000, late_audio_frames: 140, ..source.clone() };
        let health = HealthReport::of(&late_sound, true);
        assert!(!health.lossless);
        assert!(health.advice[0].starts_with("sound arrives 3.0 s after the picture"));
        assert!(health.advice[1].starts_with("140 frames of sound came too late"));
        let late_pictures = Stats { audio_ahead_ms: 3_000, moved_frames: 400, ..source };
        let health = HealthReport::of(&late_pictures, true);
        assert!(!health.lossless);
        assert!(health.advice[0].starts_with("picture arrives 3.0 s after the sound"));
        assert!(health.advice[0].ends_with("viewers wait for it"));
        assert!(health.advice[1].starts_with("400 pictures came too late"));
        let apart = Stats { audio_ahead_ms: -5_000, audio_delayed_ms: -5_000, ..near };
        let health = HealthReport::of(&apart, true);
        assert!(health.advice[0].ends_with("both are played as they arrive"));
    }

    #[test]
    fn another_bitrate_is_no_news_but_what_is_said_about_the_source_is() {
        let health = |bitrate_bps, lossless| {
            HealthReport::of(&Stats { bitrate_bps, ..Stats::default() }, lossless)
        };
        let told = health(4_000_000, true);
        assert!(!health(3_900_000, true).is_news_after(&told));
        assert!(health(4_000_000, false).is_news_after(&told));
        assert!(told.is_news_after(&health(0, true)), "it was not measured yet");
        let slow =
            Stats { keyframe_longest_ms: Some(8_300), bitrate_bps: 4_000_000, ..Stats::default() };
        assert!(HealthReport::of(&slow, true).is_news_after(&told), "there is advice");
    }
}
