//! A farm that fills up: who comes first has its ladder, who comes next is passed through, and who finds no room even for that is told
//! so. Those who are live notice nothing of the others.

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, Report, check, until_some};
use millrace_tests::{Channel, Farm, FarmOptions};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// Three sessions, and pixels for the encoded rung of one; memory, network and host CPU are what the node finds.
const ROOM: &str = "[node.capacity]\nworkers = 3\n\
    decode_pixels_per_second = 200_000_000\nencode_pixels_per_second = 1_500_000";

/// An encoder and its viewer.
struct Stream {
    channel: Channel,
    publisher: Publisher,
    player: Player,
}

impl Stream {
    /// Publishes, and waits for the first part of each rung that there is then.
    async fn begin(farm: &Farm, name: &str, clip: &ClipSpec) -> Self {
        let channel = farm.new_channel(name).await.unwrap();
        let publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
        let player = Player::start(&channel.playback_url, PlayerOptions::default());
        player.media(0.3, PATIENCE).await.unwrap();
        Self { channel, publisher, player }
    }

    /// Waits for the end of the clip; every frame is there on every rung.
    async fn end(mut self, clip: &ClipSpec) -> Report {
        let status = self.publisher.wait(PATIENCE).await.unwrap();
        assert!(status.success(), "{}: {}", self.channel.stream, self.publisher.log());
        self.player.media(f64::from(clip.seconds) - 0.2, PATIENCE).await.unwrap();
        let last = clip.frames().last().unwrap() - 2;
        let recording = self.player.stop().await.unwrap();
        let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
        println!("{report}");
        report.assert_lossless();
        report
    }
}

async fn ask(farm: &Farm, path: &str) -> Value {
    farm.api(Method::GET, path, String::new()).await.unwrap()
}

/// Why a stream is not encoded, as the list of streams says once it is live.
async fn unencoded_because(farm: &Farm, stream: &str) -> Value {
    let live = until_some("the stream is listed as live", PATIENCE, async || {
        let streams = ask(farm, "/v1/streams").await;
        let one = streams["streams"].as_array()?.iter().find(|it| it["stream"] == stream)?.clone();
        (one["state"] == "live").then(|| one["unencoded_because"].clone())
    });
    live.await.unwrap()
}

#[tokio::test]
async fn a_farm_that_fills_up_encodes_then_passes_through_then_refuses_and_the_living_lose_nothing()
{
    let rungs = vec![("144p", 144, 200)];
    let options = FarmOptions { rungs, toml: ROOM.to_owned(), ..FarmOptions::default() };
    let farm = Farm::start(options).await.unwrap();
    let clip = ClipSpec {
        width: 320,
        height: 180,
        kbps: 250,
        seconds: 12,
        gop: Some(30),
        ..ClipSpec::default()
    };
    let (mut live, mut why) = (Vec::new(), Vec::new());
    for name in ["first", "second", "third"] {
        live.push(Stream::begin(&farm, name, &clip).await);
        why.push(unencoded_because(&farm, name).await);
    }
    assert_eq!(why, [Value::Null, "no_capacity".into(), "no_capacity".into()]);

    let fourth = farm.new_channel("fourth").await.unwrap();
    let mut refused = Publisher::start(&clip.file().unwrap(), &fourth.rtmp_url).unwrap();
    assert!(!refused.wait(PATIENCE).await.unwrap().success(), "{}", refused.log());
    let told = "no_capacity: the farm is full: try again in a few minutes";
    assert!(refused.log().contains(told), "{}", refused.log());
    let (log, lacks) = (farm.log(), "workers needs 1 but 0 of 3 are free");
    let is_warned = |line: &str| line.contains("WARN") && line.contains("fourth");
    let lines: Vec<_> = log.lines().filter(|line| is_warned(line)).collect();
    assert!(lines.iter().any(|line| line.contains("no_capacity") && line.contains(lacks)), "{log}");
    let said = ask(&farm, "/v1/decisions?stream=fourth&kind=publisher_refused").await;
    assert_eq!(said["decisions"][0]["reason"], "no_capacity", "{said}");

    let mut rungs = Vec::new();
    for stream in live {
        rungs.push(stream.end(&clip).await.renditions.len());
    }
    assert_eq!(rungs, [3, 2, 2], "source, encoded rung and sound; source and sound");
}
