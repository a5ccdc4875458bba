//! A stream of any length, watched in turns: each viewer comes before the one before it goes, and what one has downloaded is
//! judged and forgotten while the next one watches. Only the arrival times of all parts are kept.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use millrace_testkit::{Chunk, Player, PlayerOptions, Recording, Report, check_aside};
use millrace_tests::Live;
use tokio::task::JoinHandle;

use crate::farm_faults::bench::PATIENCE;

/// How long one viewer watches at most.
const TURN: Duration = Duration::from_secs(90);
/// How long two watch together, seconds of media.
const TOGETHER_S: f64 = 2.0;

/// A stream under way, and what was seen of it.
pub struct Turns {
    /// Its player is the viewer whose turn it is.
    pub live: Live,
    /// When each part came to the first who had it, without its content.
    arrivals: Recording,
    /// The last turn, in front of the judge.
    judge: Option<JoinHandle<Report>>,
    /// The last frame of each rung that was judged.
    last: BTreeMap<String, u32>,
}

impl Turns {
    /// Of a stream that has just begun.
    pub fn of(live: Live) -> Self {
        Self { live, arrivals: Recording::default(), judge: None, last: BTreeMap::new() }
    }

    /// Watches until then.
    pub async fn watch_until(&mut self, moment: Instant) {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let turn = left.min(TURN);
            let to_s = self.live.played_s() + turn.as_secs_f64();
            self.live.player.media(to_s, turn + PATIENCE).await.unwrap();
            self.next_viewer().await;
        }
    }

    /// Ends the stream. When each part came, once every frame from the first up to this one was seen on every rung.
    pub async fn stop(mut self, up_to: u32) -> Recording {
        self.next_viewer().await;
        self.judged().await;
        self.live.publisher.interrupt().unwrap();
        for (rung, last) in &self.last {
            assert!(*last >= up_to, "{rung} ends with {last}, before {up_to}");
        }
        self.arrivals
    }

    async fn next_viewer(&mut self) {
        let next = Player::start(&self.live.channel.playback_url, PlayerOptions::default());
        next.media(0.3, PATIENCE).await.unwrap();
        self.live.play(self.live.played_s() + TOGETHER_S).await;
        let before = std::mem::replace(&mut self.live.player, next);
        let recording = before.stop().await.unwrap();
        self.keep_arrivals(&recording);
        self.judged().await;
        let expected = self.live.clip.expected().as_downloaded();
        let judge = move || check_aside(&recording, &expected).unwrap();
        self.judge = Some(tokio::task::spawn_blocking(judge));
    }

    fn keep_arrivals(&mut self, recording: &Recording) {
        for rung in &recording.renditions {
            let mut known = self.arrivals.renditions.iter_mut();
            let Some(known) = known.find(|known| known.name == rung.name) else {
                let mut new = rung.clone();
                new.chunks.iter_mut().for_each(|chunk| chunk.bytes = None);
                self.arrivals.renditions.push(new);
                continue;
            };
            let place = |chunk: &Chunk| (chunk.msn, chunk.part);
            let had = known.chunks.last().map(place);
            for chunk in rung.chunks.iter().filter(|chunk| Some(place(chunk)) > had) {
                assert!(!chunk.backlog, "nobody saw segment {} of {} come", chunk.msn, rung.name);
                known.chunks.push(Chunk { bytes: None, ..chunk.clone() });
            }
        }
    }

    /// Every frame once in the last turn, and none between it and the turn before.
    async fn judged(&mut self) {
        let Some(judge) = self.judge.take() else { return };
        let report = judge.await.unwrap();
        print!("{report}");
        report.assert_lossless();
        for rung in &report.renditions {
            let Some(video) = &rung.video else { continue };
            let (first, last) = (video.first.unwrap(), video.last.unwrap());
            let before = self.last.insert(rung.name.clone(), last);
            let awaited = before.map_or(0, |before| before + 1);
            assert!(first <= awaited, "{}: {first} comes first after {before:?}", rung.name);
        }
    }
}
