//! A whole farm is upgraded program by program under live streams, in the order of `docs/operations/upgrade.md`: nothing is lost but
//! what sits in a router's dead sockets when its publishers connect again. Where the build before is really another one
//! (`MILLRACE_PREVIOUS_BUILD`), the farm is taken back to it as well; else both are this build, and the older one is held at the version
//! of the protocol that the build before speaks.

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, Expected, Front, Player, PlayerOptions, check, until_some};
use millrace_tests::{
    Build, Channel, Live, LiveClip, ManyFarm, ManyOptions, discontinuities, unix_ms,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(40);
/// Stamps of each clip begin so far behind those of the one before.
const CLIP_FRAMES: u32 = 10_000;
/// Frames that may be lost when a router ends: a third of a second.
const MAX_LOST: u32 = 10;

/// The farm, and a stream whose publisher connects again whenever its router ends.
struct Bench {
    farm: ManyFarm,
    /// The build before is really another one.
    is_another: bool,
    routers: Front,
    origins: Front,
    channel: Channel,
    player: Player,
    /// What was published, what is, and when each but the last was cut off, milliseconds of Unix time.
    clips: Vec<ClipSpec>,
    live: Vec<LiveClip>,
    cut_ms: Vec<f64>,
}

impl Bench {
    async fn start() -> Self {
        let options = ManyOptions {
            nodes: 3,
            routers: 2,
            origins: 2,
            build: Build::Previous,
            ..ManyOptions::default()
        };
        let farm = ManyFarm::start(options).await.unwrap();
        let at = |names: [&str; 2], listener| names.map(|it| farm.address(it, listener).unwrap());
        let routers = at(["router-1", "router-2"], "rtmp").to_vec();
        let origins = at(["origin-1", "origin-2"], "playback").to_vec();
        let (routers, origins) = (Front::start(routers).await, Front::start(origins).await);
        let (routers, origins) = (routers.unwrap(), origins.unwrap());
        let channel = channel(&farm, "one", &routers, &origins).await;
        let clip = clip(0, 90);
        let live = LiveClip::publish(&clip, &channel.rtmp_url).await.unwrap();
        let player = Player::start(&channel.playback_url, PlayerOptions::default());
        player.media(2.0, PATIENCE).await.unwrap();
        let (clips, live, cut_ms) = (vec![clip], vec![live], Vec::new());
        let is_another = Build::previous_is_another();
        Self { farm, is_another, routers, origins, channel, player, clips, live, cut_ms }
    }

    /// Waits until so many more seconds have been published on every rung of the stream.
    async fn goes_on(&self, seconds: f64) {
        let played = self.player.progress();
        let played = played.values().map(|rung| rung.media_s).reduce(f64::min).unwrap_or_default();
        self.player.media(played + seconds, PATIENCE).await.unwrap();
    }

    /// As `systemctl restart` after another build was installed.
    async fn restart(&mut self, name: &str, build: Build) {
        println!("{name}: {build:?}");
        self.farm.next_build(name, build);
        self.farm.restart(name).await.unwrap();
    }

    /// Each in turn: the streams go to another, and the window with them.
    async fn all_origins(&mut self, build: Build) {
        for origin in ["origin-1", "origin-2"] {
            self.restart(origin, build).await;
            self.goes_on(1.5).await;
        }
    }

    /// The node that makes the stream is restarted, and its worker adopted; the others are emptied first.
    async fn all_nodes(&mut self, router: &str, build: Build) {
        let (busy, worker) = self.farm.made_by(router, "one", None).await.unwrap();
        // Version 1 did not say that a standby goes for a restart: its router may take the node for a broken one.
        let is_blamed = self.is_another && self.is_second_on(router, &busy).await;
        self.restart(&busy, build).await;
        let adopted = until_some("adopted", PATIENCE, async || {
            let made = self.farm.made_by(router, "one", None).await.ok()?;
            (is_blamed || made == (busy.clone(), worker)).then_some(())
        });
        adopted.await.unwrap_or_else(|error| panic!("{error}\n{}", self.farm.log(&busy)));
        self.goes_on(1.0).await;
        for node in ["node-1", "node-2", "node-3"].into_iter().filter(|node| *node != busy) {
            self.drain(node).await;
            self.restart(node, build).await;
            let path = format!("/v1/nodes/{node}/uncordon");
            self.farm.api(Method::POST, &path, String::new()).await.unwrap();
        }
    }

    async fn is_second_on(&self, router: &str, node: &str) -> bool {
        let view = self.farm.stream(router, "two").await;
        view.is_ok_and(|view| view.rest.get("second").is_some_and(|it| it["node"] == node))
    }

    async fn drain(&self, node: &str) {
        let path = format!("/v1/nodes/{node}/drain");
        self.farm.api(Method::POST, &path, String::new()).await.unwrap();
        let empty = until_some("the node is empty", PATIENCE, async || {
            let found = self.node(node).await;
            let is_empty = found["streams"].as_array()?.is_empty();
            (is_empty && found["state"] == "draining").then_some(())
        });
        empty.await.unwrap_or_else(|error| panic!("{error}\n{}", self.farm.log("router-1")));
    }

    async fn node(&self, node: &str) -> Value {
        let nodes = self.farm.api(Method::GET, "/v1/nodes", String::new()).await.unwrap();
        let found = nodes["nodes"].as_array().unwrap().iter().find(|found| found["node"] == node);
        found.cloned().unwrap_or_default()
    }

    /// First the router that has no stream, then the one that has: its publisher comes back at the other.
    async fn all_routers(&mut self, has: &str, other: &str, build: Build, next: ClipSpec) {
        let made = next.clone();
        tokio::task::spawn_blocking(move || made.file()).await.unwrap().unwrap();
        self.restart(other, build).await;
        self.cut_ms.push(unix_ms());
        self.farm.next_build(has, build);
        self.farm.stop(has).await.unwrap();
        let live = LiveClip::publish(&next, &self.channel.rtmp_url).await.unwrap();
        self.clips.push(next);
        self.live.push(live);
        // Until then the node of the router before may hand over what it has.
        self.farm.made_by(other, "one", None).await.unwrap();
        self.goes_on(2.0).await;
        self.farm.start_again(has).await.unwrap();
    }

    /// How many frames were lost with each router; none else were.
    async fn finish(self) -> Vec<u32> {
        let recording = self.player.stop().await.unwrap();
        let breaks = self.cut_ms.len();
        for (rung, count) in discontinuities(&recording) {
            assert_eq!(count, breaks, "discontinuities of {rung}");
        }
        let whole = self.clips[1..].iter().fold(self.clips[0].expected(), Expected::then);
        let mut expected = whole.at_least(0..=self.clips[breaks].first_frame + 30);
        let report = check(&recording, &expected).unwrap();
        let mut lost = Vec::new();
        for (index, cut_ms) in self.cut_ms.iter().enumerate() {
            let (begin, end) = expected.clips[index].clone().into_inner();
            let is_in_clip = |missing: &&u32| (begin..=end).contains(*missing);
            let videos = report.renditions.iter().filter_map(|found| found.video.as_ref());
            let cuts = videos.map(|video| *video.missing.iter().find(is_in_clip).unwrap());
            let cut = cuts.min().unwrap();
            expected.clips[index] = begin..=cut - 1;
            let sent_ms = |frame: u32| self.live[index].sent_ms(frame);
            let is_sent = |frame: &u32| sent_ms(*frame).is_some_and(|at| at < *cut_ms);
            let sent = (begin..=end).take_while(is_sent).count() as u32;
            lost.push((begin + sent).saturating_sub(cut));
        }
        check(&recording, &expected).unwrap().assert_lossless();
        lost
    }
}

fn clip(index: u32, seconds: u32) -> ClipSpec {
    ClipSpec { seconds, first_frame: index * CLIP_FRAMES, ..ClipSpec::default() }
}

async fn channel(farm: &ManyFarm, name: &str, routers: &Front, origins: &Front) -> Channel {
    let channel = farm.new_channel(name, routers.address()).await.unwrap();
    let playback_url = format!("http://{}/live/{name}/index.m3u8", origins.address());
    Channel { playback_url, ..channel }
}

/// A stream with two encoders.
async fn paired(bench: &Bench) -> Live {
    let channel = channel(&bench.farm, "two", &bench.routers, &bench.origins).await;
    let live = Live::begin_at(channel, clip(0, 90)).await;
    bench.farm.pin("two", true).await.unwrap();
    let paired = until_some("two encoders", PATIENCE, async || {
        let view = bench.farm.stream("router-1", "two").await.ok()?;
        (view.rest.get("second")?["paired"] == true).then_some(())
    });
    paired.await.unwrap_or_else(|error| panic!("{error}\n{}", bench.farm.log("router-1")));
    live
}

#[tokio::test]
async fn a_farm_is_upgraded_program_by_program_under_live_streams() {
    let mut bench = Bench::start().await;
    let two = paired(&bench).await;
    bench.all_origins(Build::Present).await;
    bench.all_nodes("router-1", Build::Present).await;
    let two = two.stop().await;
    bench.all_routers("router-1", "router-2", Build::Present, clip(1, 90)).await;
    bench.restart("api-1", Build::Present).await;
    for node in ["node-1", "node-2", "node-3"] {
        assert_eq!(bench.node(node).await["speaks"]["newest"], 2, "{node} is upgraded");
    }
    if bench.is_another {
        bench.restart("api-1", Build::Previous).await;
        bench.all_routers("router-2", "router-1", Build::Previous, clip(2, 90)).await;
        bench.all_nodes("router-1", Build::Previous).await;
        bench.all_origins(Build::Previous).await;
    }
    bench.goes_on(1.0).await;
    // While the farm is there, whose words say more.
    two.assert_lossless();
    for (rung, count) in discontinuities(&two.recording) {
        assert_eq!(count, 0, "two, {rung}: nobody noticed");
    }
    let lost = bench.finish().await;
    println!("frames lost with each router: {lost:?}");
    assert!(lost.iter().all(|lost| *lost <= MAX_LOST), "{lost:?}");
}
