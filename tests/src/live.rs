//! A frame-stamped stream that goes through a farm of separate programs: who sends it and who watches it, and what was seen in the
//! end. Like a test, it fails by panicking.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, Recording, check};

use crate::{Channel, ManyFarm};

/// Longer than anything that is waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream under way at `router-1`.
#[derive(Debug)]
pub struct Live {
    /// What is sent.
    pub clip: ClipSpec,
    /// Who sends it.
    pub publisher: Publisher,
    /// Who watches all rungs of it.
    pub player: Player,
    /// Its name and addresses.
    pub channel: Channel,
}

impl Live {
    /// Makes a channel, publishes `clip` to it, and waits for the first part.
    pub async fn begin(farm: &ManyFarm, name: &str, clip: ClipSpec) -> Self {
        let router = farm.address("router-1", "rtmp").unwrap();
        Self::begin_at(farm.new_channel(name, router).await.unwrap(), clip).await
    }

    /// Publishes `clip` to a channel, watches it, and waits for the first part.
    pub async fn begin_at(channel: Channel, clip: ClipSpec) -> Self {
        // Making it takes seconds, in which the players of other streams go on.
        let made = clip.clone();
        let file = tokio::task::spawn_blocking(move || made.file()).await.unwrap().unwrap();
        let publisher = Publisher::start(&file, &channel.rtmp_url).unwrap();
        let player = Player::start(&channel.playback_url, PlayerOptions::default());
        let live = Self { clip, publisher, player, channel };
        live.play(0.3).await;
        live
    }

    /// Waits until so many seconds have been published on every rung.
    pub async fn play(&self, seconds: f64) {
        self.player.media(seconds, PATIENCE).await.unwrap();
    }

    /// Waits for the end of the clip. Nothing is checked yet: that would take the time of other players.
    pub async fn end(mut self) -> Ended {
        let status = self.publisher.wait(3 * PATIENCE).await.unwrap();
        assert!(status.success(), "the publisher was cut off: {}", self.publisher.log());
        self.play(f64::from(self.clip.seconds) - 0.2).await;
        // A publisher that stops may keep the last two.
        let last = self.clip.frames().last().unwrap() - 2;
        self.stopped(last).await
    }

    /// Stops it in the middle, with what has been published on every rung by now.
    pub async fn stop(self) -> Ended {
        let frames = (self.played_s() * self.clip.fps.rate()) as u32;
        self.publisher.interrupt().unwrap();
        let last = self.clip.frames().start() + frames - 2;
        self.stopped(last).await
    }

    async fn stopped(self, last: u32) -> Ended {
        let recording = self.player.stop().await.unwrap();
        Ended { name: self.channel.stream, clip: self.clip, last, recording }
    }

    /// Seconds published so far on every rung.
    pub fn played_s(&self) -> f64 {
        let progress = self.player.progress();
        progress.values().map(|rung| rung.media_s).reduce(f64::min).unwrap_or_default()
    }
}

/// A stream from its beginning to its end, or to where it was stopped.
#[derive(Debug)]
pub struct Ended {
    /// Its public name.
    pub name: String,
    /// What was sent.
    pub clip: ClipSpec,
    /// The last frame of it that must be there.
    pub last: u32,
    /// What was seen.
    pub recording: Recording,
}

impl Ended {
    /// Proves that no frame is missing, repeated or out of order on any rung.
    pub fn assert_lossless(&self) {
        let first = *self.clip.frames().start();
        let report = check(&self.recording, &self.clip.expected().at_least(first..=self.last));
        let report = report.unwrap();
        println!("{}\n{report}", self.name);
        report.assert_lossless();
    }
}
