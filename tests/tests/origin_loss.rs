//! The origin that owns a stream may die or freeze at any moment: another one goes on with the same playlist, and no frame is
//! lost, repeated or moved. Any origin shows the stream at any time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper::Method;
use millrace_testkit::{
    ClipSpec, Front, HttpClient, Player, PlayerOptions, Publisher, Recording, RenditionRecording,
    check, until_some,
};
use millrace_tests::{ManyFarm, ManyOptions, discontinuities};
use nix::sys::signal::Signal;
use serde_json::Value;

/// How long anything may take that is only waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// A stream under way in a farm of two origins: one owns it, players come through a front that tries that one first, and
/// others go to the other one.
struct Live {
    farm: ManyFarm,
    clip: ClipSpec,
    publisher: Publisher,
    owner: String,
    other: String,
    at_front: Player,
    at_other: Player,
    _front: Front,
}

impl Live {
    async fn begin(seconds: u32, nodes: usize) -> Self {
        let options = ManyOptions { nodes, origins: 2, tls: true, ..ManyOptions::default() };
        let farm = ManyFarm::start(options).await.unwrap();
        let router = farm.address("router-1", "rtmp").unwrap();
        let channel = farm.new_channel("live", router).await.unwrap();
        let clip = ClipSpec { seconds, ..ClipSpec::default() };
        let publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
        let owner = owned_by(&farm, None).await;
        let other = if owner == "origin-1" { "origin-2" } else { "origin-1" }.to_owned();
        let playback = |name: &str| farm.address(name, "playback").unwrap();
        let front = Front::start(vec![playback(&owner), playback(&other)]).await.unwrap();
        let (at_front, at_other) = (watch(front.address()), watch(playback(&other)));
        for player in [&at_front, &at_other] {
            player.media(0.3, PATIENCE).await.unwrap();
        }
        Self { farm, clip, publisher, owner, other, at_front, at_other, _front: front }
    }

    /// Waits for the end of the clip; whoever `watches` has all of it, in one piece.
    async fn end(
        mut publisher: Publisher,
        clip: &ClipSpec,
        watches: Vec<Player>,
    ) -> Vec<Recording> {
        let status = publisher.wait(Duration::from_secs(60)).await.unwrap();
        assert!(status.success(), "the publisher was cut off: {}", publisher.log());
        let last = clip.frames().last().unwrap() - 2;
        let mut recordings = Vec::new();
        for player in watches {
            let came = player.media(f64::from(clip.seconds) - 0.2, PATIENCE).await;
            let recording = player.stop().await.unwrap();
            let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
            println!("{report}");
            report.assert_lossless();
            came.unwrap();
            for (rung, count) in discontinuities(&recording) {
                assert_eq!(count, 0, "discontinuities of {rung}");
            }
            recordings.push(recording);
        }
        recordings
    }
}

/// The origin that owns the stream, once it is another than `old`.
async fn owned_by(farm: &ManyFarm, old: Option<&str>) -> String {
    let owner = until_some("an origin owns the stream", PATIENCE, async || {
        let view =
            farm.stream("router-1", "live").await.ok().filter(|view| view.state == "live")?;
        let owner = view.rest.get("origin")?.as_str()?.to_owned();
        (Some(owner.as_str()) != old).then_some(owner)
    });
    owner.await.unwrap()
}

fn watch(at: SocketAddr) -> Player {
    Player::start(&url(at, "index.m3u8"), PlayerOptions::default())
}

fn url(at: impl std::fmt::Display, file: &str) -> String {
    format!("http://{at}/live/live/{file}")
}

/// The newest part that a playlist lists: segment and number.
fn newest(playlist: &str) -> Option<(u64, u32)> {
    let part = playlist.lines().rev().find(|line| line.starts_with("#EXT-X-PART:"))?;
    let file = part.split("URI=\"").nth(1)?.split(".m4s").next()?;
    let (segment, number) = file.split_once('.')?;
    Some((segment.parse().ok()?, number.parse().ok()?))
}

/// The longest time from the fault to the next part of any rung, or between two parts.
fn longest_recovery(recording: &Recording, struck: Instant) -> Duration {
    let next = |rung: &RenditionRecording| rung.next_arrival_after(struck).unwrap_or(Duration::MAX);
    let rungs = || recording.renditions.iter();
    rungs().map(next).chain(rungs().map(RenditionRecording::longest_gap)).max().unwrap()
}

/// What an origin says of one rung now.
async fn playlist_at(http: &HttpClient, farm: &ManyFarm, origin: &str) -> anyhow::Result<String> {
    let at = url(farm.address(origin, "playback")?, "source/index.m3u8");
    let body = http.get_ok(&at, Duration::from_secs(5)).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Empties the stream's node by a drain, and waits until another makes it; which was left.
async fn drained(farm: &ManyFarm) -> String {
    let (from, _) = farm.made_by("router-1", "live", None).await.unwrap();
    let path = format!("/v1/nodes/{from}/drain");
    farm.api(Method::POST, &path, String::new()).await.unwrap();
    made_elsewhere(farm, &from).await;
    from
}

async fn made_elsewhere(farm: &ManyFarm, from: &str) {
    let moved = until_some("the stream is made elsewhere", PATIENCE, async || {
        let view = farm.stream("router-1", "live").await.ok()?;
        (view.state == "live" && view.rest.get("node")?.as_str()? != from).then_some(())
    });
    moved.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")));
}

/// Kills the origin that owns the stream, and starts it again once another does.
async fn strike(farm: &mut ManyFarm) -> Instant {
    let owner = owned_by(farm, None).await;
    farm.kill_in_place(&owner).unwrap();
    let struck = Instant::now();
    owned_by(farm, Some(&owner)).await;
    farm.start_again(&owner).await.unwrap();
    struck
}

/// Waits until the stream's node has fetched what another published before it.
async fn past_fetched(farm: &ManyFarm) {
    let fetched = until_some("the past is fetched", PATIENCE, async || {
        let (node, _) = farm.made_by("router-1", "live", None).await.ok()?;
        let whole = farm.metric(&node, "millrace_node_pasts_total{result=\"whole\"}").await;
        (whole.ok()? >= 1.0).then_some(())
    });
    fetched.await.unwrap();
}

#[tokio::test]
async fn a_killed_origins_streams_go_on_at_another_and_it_shows_them_when_it_is_back() {
    let Live { mut farm, clip, publisher, owner, other, at_front, at_other, _front } =
        Live::begin(25, 2).await;
    at_front.media(5.1, PATIENCE).await.unwrap();
    farm.kill_in_place(&owner).unwrap();
    let struck = Instant::now();
    assert_eq!(owned_by(&farm, Some(&owner)).await, other);
    at_front.media(8.0, PATIENCE).await.unwrap();
    farm.start_again(&owner).await.unwrap();
    at_front.media(10.7, PATIENCE).await.unwrap();
    // The node that made all of it is left, and the origin dies before the new one can have fetched that.
    let left = drained(&farm).await;
    let struck_moved = strike(&mut farm).await;
    let path = format!("/v1/nodes/{left}/uncordon");
    farm.api(Method::POST, &path, String::new()).await.unwrap();
    at_front.media(17.0, PATIENCE).await.unwrap();
    // Nobody has what a dead node has made but the origin, and the node that goes on.
    let (dies, _) = farm.made_by("router-1", "live", None).await.unwrap();
    farm.kill(&dies).unwrap();
    made_elsewhere(&farm, &dies).await;
    past_fetched(&farm).await;
    let struck_alone = strike(&mut farm).await;
    // It sees everything from the beginning: the whole window has moved, each time.
    let late = watch(farm.address(&owner, "playback").unwrap());
    let recordings = Live::end(publisher, &clip, vec![at_front, at_other, late]).await;
    let recordings = &recordings[..2];
    for (when, struck) in [
        ("", struck),
        (", its streams just moved", struck_moved),
        (", its streams' node just dead", struck_alone),
    ] {
        let next = recordings.iter().flat_map(|recording| &recording.renditions);
        let next = next.filter_map(|rung| rung.next_arrival_after(struck)).max();
        println!("next part after an origin's death{when}: {:?} at most", next.unwrap());
    }
    let longest = recordings.iter().map(|recording| longest_recovery(recording, struck)).max();
    println!("longest time between two parts: {:?}", longest.unwrap());
}

/// Both encoders of the stream, once either alone would do: node and process of each.
async fn encoders(farm: &ManyFarm) -> [(Value, Value); 2] {
    let paired = until_some("two encoders", PATIENCE, async || {
        let view = farm.stream("router-1", "live").await.ok()?;
        let second = view.rest.get("second").filter(|second| second["paired"] == true)?;
        let first = (view.rest.get("node")?.clone(), Value::from(view.worker_pid?));
        Some([first, (second["node"].clone(), second["worker_pid"].clone())])
    });
    paired.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")))
}

#[tokio::test]
async fn a_killed_origin_costs_a_dual_stream_no_encoder_and_the_second_goes_on_alone_at_the_next() {
    let Live { mut farm, clip, publisher, owner: _, other: _, at_front, at_other, _front } =
        Live::begin(20, 2).await;
    farm.pin("live", true).await.unwrap();
    let before = encoders(&farm).await;
    at_front.media(4.0, PATIENCE).await.unwrap();
    let struck = strike(&mut farm).await;
    // The second restores a second after the first.
    at_other.media(11.0, PATIENCE).await.unwrap();
    assert_eq!(encoders(&farm).await, before, "the same processes");
    // The first, which made more of it than the second, is left; and the origin dies.
    assert_eq!(drained(&farm).await, before[0].0);
    let struck_drained = strike(&mut farm).await;
    let late = watch(farm.address(&owned_by(&farm, None).await, "playback").unwrap());
    let path = "/v1/decisions?stream=live";
    let recordings = Live::end(publisher, &clip, vec![at_front, at_other, late]).await;
    let decided = farm.api(Method::GET, path, String::new()).await.unwrap();
    let decided = decided["decisions"].as_array().unwrap();
    let count = |kind| decided.iter().filter(|it| it["kind"] == kind).count();
    assert_eq!(["placed", "paired", "promoted", "unpaired"].map(count), [1, 1, 1, 0]);
    for (what, at) in [("", struck), (", its first node just left", struck_drained)] {
        let rungs = recordings[..2].iter().flat_map(|recording| &recording.renditions);
        let next = rungs.filter_map(|rung| rung.next_arrival_after(at)).max();
        println!("next part of a dual stream after its origin's death{what}: {next:?}");
    }
}

/// Freezes the owner until the stream is elsewhere and `media` seconds of it have come; from then on it shows nothing that
/// is older than what others have seen.
async fn freeze(farm: &ManyFarm, owner: &str, at_other: &Player, media: f64) -> String {
    let http = HttpClient::default();
    farm.signal(owner, Signal::SIGSTOP).unwrap();
    let next = owned_by(farm, Some(owner)).await;
    at_other.media(media, PATIENCE).await.unwrap();
    // These are asked before it thaws, and answered after.
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let (http, at) = (http.clone(), farm.address(owner, "playback").unwrap());
            let at = url(at, "source/index.m3u8");
            tokio::spawn(async move { http.get(&at, PATIENCE).await })
        })
        .collect();
    let seen = newest(&playlist_at(&http, farm, &next).await.unwrap()).unwrap();
    farm.signal(owner, Signal::SIGCONT).unwrap();
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        assert!(answer.status == 200 && newest(&answer.text()).unwrap() >= seen, "{answer:?}");
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let shown = newest(&playlist_at(&http, farm, owner).await.unwrap()).unwrap();
        assert!(shown >= seen, "{owner} shows {shown:?} after {seen:?} was seen at {next}");
    }
    next
}

#[tokio::test]
async fn a_frozen_origins_streams_go_on_at_another_and_it_shows_nothing_old_when_it_thaws() {
    let Live { farm, clip, publisher, owner, other, at_front, at_other, _front } =
        Live::begin(20, 1).await;
    drop(at_front);
    at_other.media(3.1, PATIENCE).await.unwrap();
    let struck = Instant::now();
    // Longer than its lease in the registry, then for only as long as it takes to move the stream.
    assert_eq!(freeze(&farm, &owner, &at_other, 9.0).await, other);
    let watcher = watch(farm.address(&owner, "playback").unwrap());
    watcher.media(11.0, PATIENCE).await.unwrap();
    let struck_again = Instant::now();
    assert_eq!(freeze(&farm, &other, &watcher, 11.0).await, owner);
    let recordings = Live::end(publisher, &clip, vec![at_other, watcher]).await;
    let recoveries = [(&recordings[0], struck), (&recordings[1], struck_again)];
    let recoveries = recoveries.map(|(recording, struck)| longest_recovery(recording, struck));
    println!("next part after an origin froze: {recoveries:?}");
}

#[tokio::test]
async fn the_only_origin_is_given_the_whole_window_when_it_comes_back() {
    let mut farm =
        ManyFarm::start(ManyOptions { nodes: 1, ..ManyOptions::default() }).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("live", router).await.unwrap();
    let clip = ClipSpec { seconds: 12, ..ClipSpec::default() };
    let publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let before = watch(farm.address("origin-1", "playback").unwrap());
    before.media(5.1, PATIENCE).await.unwrap();
    farm.kill("origin-1").unwrap();
    let seen = farm.operator_json(&["nodes"]).unwrap();
    let said = seen["faults"][0]["text"].as_str().unwrap_or_default();
    assert!(said.starts_with("origin origin-1 does not answer"), "{seen}");
    farm.start_again("origin-1").await.unwrap();
    let late = watch(farm.address("origin-1", "playback").unwrap());
    Live::end(publisher, &clip, vec![late]).await;
}

/// Waits until a node makes the stream beside the first, or is about to; which.
async fn second(farm: &ManyFarm, paired: bool) -> String {
    let asked = until_some("a second encoder", PATIENCE, async || {
        let view = farm.stream("router-1", "live").await.ok()?;
        let second = view.rest.get("second")?;
        second["node"].as_str().filter(|_| second["paired"] == paired).map(str::to_owned)
    });
    asked.await.unwrap()
}

/// The second comes to the empty origin with nothing but what is new, and must not begin there before the first has given it the rest.
/// Nor is the first left because that origin answers the router a moment before it is given anything.
#[tokio::test]
async fn the_only_origin_dies_while_a_second_encoder_joins_and_is_given_the_whole_window_all_the_same()
 {
    let mut farm =
        ManyFarm::start(ManyOptions { nodes: 3, ..ManyOptions::default() }).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("live", router).await.unwrap();
    let clip = ClipSpec { seconds: 24, ..ClipSpec::default() };
    let publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let before = watch(farm.address("origin-1", "playback").unwrap());
    before.media(5.1, PATIENCE).await.unwrap();
    let (first, _) = farm.made_by("router-1", "live", None).await.unwrap();
    farm.pin("live", true).await.unwrap();
    second(&farm, true).await;
    // Who goes on alone was announced as the second.
    farm.kill(&first).unwrap();
    let joining = second(&farm, false).await;
    let made_by = farm.made_by("router-1", "live", None).await.unwrap();
    farm.kill_in_place("origin-1").unwrap();
    let publishes = until_some("the second has something to publish", PATIENCE, async || {
        farm.log(&joining).contains("standby publishes").then_some(())
    });
    publishes.await.unwrap();
    farm.start_again("origin-1").await.unwrap();
    let late = watch(farm.address("origin-1", "playback").unwrap());
    Live::end(publisher, &clip, vec![late]).await;
    assert_eq!(farm.made_by("router-1", "live", None).await.unwrap(), made_by);
}
