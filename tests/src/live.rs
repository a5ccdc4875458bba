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
        let channel = farm.new_channel(name, router).await.unwrap();
        let publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
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
        let recording = self.player.stop().await.unwrap();
        Ended { name: self.channel.stream, clip: self.clip, recording }
    }
}

/// A stream from its beginning to its end.
#[derive(Debug)]
pub struct Ended {
    /// Its public name.
    pub name: String,
    /// What was sent.
    pub clip: ClipSpec,
    /// What was seen.
    pub recording: Recording,
}

impl Ended {
    /// Proves that no frame is missing, repeated or out of order on any rung; a publisher that stops may keep the last two.
    pub fn assert_lossless(&self) {
        let last = self.clip.frames().last().unwrap() - 2;
        let report = check(&self.recording, &self.clip.expected().at_least(0..=last)).unwrap();
        println!("{}\n{report}", self.name);
        report.assert_lossless();
    }
}
