//! Any origin answers for any stream: one owns it, the others ask that one, once for each thing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod farm;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use farm::{DEADLINE, FIRST, Farm, PARTS, epoch, free_ports, media, part, request, rung};
use millrace_hls::{
    Hash, PartRecord, StreamOpen,
    intake::{self, EPOCH_HEADER, RECORD_HEADER},
};
use millrace_origin::Config;
use millrace_registry::{OriginRecord, Registry, StreamRecord};
use millrace_types::{Epoch, Mark, MediaTime, Msn, NodeId, PartNo, Versions, Wall};
use tokio::time::timeout;

/// Origins `a` and `b` of one farm.
struct Two {
    registry: Registry,
    a: Farm,
    b: Farm,
}

fn name(text: &str) -> NodeId {
    text.parse().unwrap()
}

async fn origin(registry: &Registry, origin: &str) -> Farm {
    let config = Config { name: name(origin), ..free_ports() };
    let farm = Farm::start_in(config, registry.clone()).await;
    let at = farm.origin.addresses;
    let (intake, playback, admin) = (at.intake, at.playback, at.admin);
    let (speaks, viewers) = (Versions::OURS, Default::default());
    let record = OriginRecord { origin: name(origin), intake, playback, admin, viewers, speaks };
    registry.put(&record).await.unwrap();
    farm
}

impl Two {
    /// `a` owns the stream, and has its first two segments and a part.
    async fn start() -> Self {
        let registry = Registry::in_memory();
        let (a, b) = (origin(&registry, "a").await, origin(&registry, "b").await);
        let two = Self { registry, a, b };
        two.record("a", epoch(1, 0)).await;
        two.a.open(epoch(1, 0)).await;
        for name in ["video", "audio"] {
            two.a.push_init(name).await;
        }
        two.a.fill(2, 1).await;
        two
    }

    async fn record(&self, origin: &str, epoch: Epoch) {
        let record = StreamRecord {
            stream: self.a.stream.clone(),
            router: name("router-1"),
            epoch,
            node: Some(name("node-1")),
            origin: Some(name(origin)),
            ladder: Default::default(),
            since: Wall(0),
            takeovers: Default::default(),
            source_pixels_per_second: 0,
            hot: false,
        };
        self.registry.put(&record).await.unwrap();
    }
}

/// Announces the stream at an origin, as a node that restores what it keeps.
async fn open_restoring(at: &mut Farm, epoch: Epoch, up_to: (u64, u32)) {
    announce(at, epoch, up_to, None, false).await;
}

fn opening(epoch: Epoch, up_to: (u64, u32), beside: Option<Epoch>, followed: bool) -> StreamOpen {
    let mark = |name: &str| Mark {
        rung: rung(name),
        msn: Msn(FIRST + up_to.0),
        part: PartNo(up_to.1),
        end: MediaTime(0),
        closed: false,
    };
    StreamOpen {
        epoch,
        beside,
        rungs: ["video", "audio"].map(rung).to_vec(),
        part_target_ms: 334,
        hold_back_ms: 1500,
        speaks: Default::default(),
        restores: ["video", "audio"].map(mark).to_vec(),
        followed,
    }
}

/// The same for one of two writers.
async fn announce(
    at: &mut Farm,
    epoch: Epoch,
    up_to: (u64, u32),
    beside: Option<Epoch>,
    followed: bool,
) {
    let open = opening(epoch, up_to, beside, followed);
    at.epoch = epoch;
    assert_eq!(at.node_json("PUT", &intake::open_path(&at.stream), &open).await.status, 200);
    for name in ["video", "audio"] {
        assert_eq!(at.push_init(name).await.status, 200);
    }
}

/// Pushes a part that another epoch's writer made, as the writer of the farm's epoch.
async fn push(at: &Farm, record: PartRecord) {
    let (json, epoch) = (serde_json::to_string(&record).unwrap(), at.epoch.to_string());
    let headers = [(RECORD_HEADER, json.as_str()), (EPOCH_HEADER, epoch.as_str())];
    let body = media(record.rung.as_str(), record.msn.0, record.part.0);
    assert_eq!(at.node("PUT", &intake::part_path(&at.stream), &headers, &body).await.status, 200);
}

async fn push_both(at: &Farm, index: u64, number: u32) {
    for name in ["video", "audio"] {
        push(at, part(name, index, number)).await;
    }
}

async fn metric(admin: SocketAddr, line: &str) -> u64 {
    let page = request(admin, "GET", "/metrics", &[], b"").await.text();
    let found = page.lines().find_map(|text| text.strip_prefix(line));
    found.map_or(0, |value| value.trim().parse().unwrap())
}

async fn asked(at: &Farm) -> u64 {
    metric(at.origin.addresses.admin, "millrace_origin_relays_total{result=\"asked\"}").await
}

#[tokio::test]
async fn an_origin_answers_for_anothers_stream_as_that_one_does() {
    let two = Two::start().await;
    let init = format!("video/init-{}.mp4", Hash::of(b"video"));
    let (segment, piece) = (format!("video/{FIRST}.m4s"), format!("audio/{}.0.m4s", FIRST + 2));
    let reload = format!("video/index.m3u8?_HLS_msn={}&_HLS_part=0", FIRST + 2);
    let files = ["index.m3u8", "audio/index.m3u8", &reload, &init, &segment, &piece];
    for file in files {
        let (owner, other) = (two.a.get(file).await, two.b.get(file).await);
        assert_eq!((owner.status, other.status), (200, 200), "{file}");
        assert_eq!(owner.body, other.body, "{file}");
        for header in ["content-type", "cache-control", "access-control-allow-origin", "vary"] {
            assert_eq!(owner.header(header), other.header(header), "{header} of {file}");
        }
    }
    let status = two.b.get("status.json").await;
    assert_eq!(status.json()["stream"], "demo");
    assert_eq!(status.header("cache-control"), Some("no-store"));
    let gzip = two.b.get_with("video/index.m3u8", &[("accept-encoding", "gzip")]).await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let list = request(two.b.origin.addresses.playback, "GET", "/", &[], b"").await;
    assert!(list.text().contains("/watch/demo"), "{}", list.text());
}

#[tokio::test]
async fn however_many_players_wait_the_owner_is_asked_once() {
    let two = Two::start().await;
    let (before, next) = (asked(&two.b).await, format!("_HLS_msn={}&_HLS_part=1", FIRST + 2));
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(two.b.get_parked(&format!("video/index.m3u8?{next}")).await);
    }
    assert_eq!(asked(&two.b).await, before + 1);
    let owner = two.a.origin.addresses.admin;
    let parked = async {
        while metric(owner, "millrace_origin_parked_requests ").await != 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, parked).await.expect("the owner is waited for");
    two.a.push(&part("video", 2, 1)).await;
    for player in waiting {
        let answer = timeout(DEADLINE, player).await.unwrap().unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(&format!("{}.1.m4s", FIRST + 2)));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=12"));
    }
    let file = format!("video/{}.1.m4s", FIRST + 2);
    for _ in 0..5 {
        assert_eq!(two.b.get(&file).await.body, media("video", FIRST + 2, 1));
    }
    assert_eq!(asked(&two.b).await, before + 2, "a part is fetched once");
}

#[tokio::test]
async fn what_is_not_there_is_refused_as_the_owner_refuses_it() {
    let two = Two::start().await;
    let too_far = format!("video/index.m3u8?_HLS_msn={}", FIRST + 9);
    let files = [
        "none/index.m3u8",
        "video/1.m4s",
        "video/1.0.m4s",
        &too_far,
        "video/index.m3u8?_HLS_part=1",
    ];
    for file in files {
        let (owner, other) = (two.a.get(file).await.status, two.b.get(file).await.status);
        assert_eq!(owner, other, "{file}");
        assert!(matches!(owner, 400 | 404), "{file}: {owner}");
    }
    let at = two.b.origin.addresses.playback;
    let unknown = request(at, "GET", "/live/nobody/index.m3u8", &[], b"").await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn an_origin_that_does_not_own_a_stream_asks_nobody_else_on_behalf_of_another() {
    let two = Two::start().await;
    let path = "/relay/v1/live/demo/video/index.m3u8";
    let owner = request(two.a.origin.addresses.intake, "GET", path, &[], b"").await;
    let other = request(two.b.origin.addresses.intake, "GET", path, &[], b"").await;
    assert_eq!((owner.status, other.status), (200, 421));
    assert_eq!(asked(&two.b).await, 0);
    let outside = request(two.a.origin.addresses.intake, "GET", "/relay/v1/", &[], b"").await;
    assert_ne!(outside.status, 200);
}

#[tokio::test]
async fn an_owner_that_is_gone_is_waited_for_and_then_players_are_told() {
    let two = Two::start().await;
    two.a.origin.stop().await;
    assert_eq!(two.b.get("video/index.m3u8").await.status, 503);
}

#[tokio::test]
async fn an_owner_that_has_left_the_registry_is_followed_by_the_next_and_players_wait_for_it() {
    let mut two = Two::start().await;
    two.registry.delete::<OriginRecord>("a").await.unwrap();
    assert_eq!(two.b.get("video/index.m3u8").await.status, 503);
    let player = two.b.get_parked("video/index.m3u8").await;
    two.record("b", epoch(1, 1)).await;
    open_restoring(&mut two.b, epoch(1, 1), (0, PARTS - 1)).await;
    for number in 0..PARTS {
        push_both(&two.b, 0, number).await;
    }
    assert_eq!(timeout(DEADLINE, player).await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_stream_that_moves_takes_its_players_along() {
    let mut two = Two::start().await;
    let next = format!("video/index.m3u8?_HLS_msn={}&_HLS_part=1", FIRST + 2);
    let at_owner = two.a.get_parked(&next).await;
    let at_other = two.b.get_parked(&next).await;
    // Its node comes to `b`, which tells its players nothing before it has what they have seen.
    two.record("b", epoch(1, 1)).await;
    open_restoring(&mut two.b, epoch(1, 1), (2, 0)).await;
    for index in 0..2 {
        for number in 0..PARTS {
            push_both(&two.b, index, number).await;
        }
    }
    let halfway = two.b.get_parked("video/index.m3u8").await;
    push_both(&two.b, 2, 0).await;
    let restored = timeout(DEADLINE, halfway).await.unwrap().unwrap();
    assert!(restored.text().contains(&format!("{}.0.m4s", FIRST + 2)), "{}", restored.text());
    push_both(&two.b, 2, 1).await;
    for player in [at_owner, at_other] {
        let answer = timeout(DEADLINE, player).await.unwrap().unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(&format!("{}.1.m4s", FIRST + 2)), "{}", answer.text());
    }
    // What the old owner is still sent, nobody sees.
    let late = PartRecord { hash: Hash::of(b"late"), length: 4, ..part("video", 2, 1) };
    two.a.push_bytes(&late, b"late").await;
    let (old, new) = (two.a.get("video/index.m3u8").await, two.b.get("video/index.m3u8").await);
    assert_eq!(old.text(), new.text());
}

#[tokio::test]
async fn news_from_before_a_stream_came_here_sends_nobody_away() {
    let two = Two::start().await;
    two.a.open(epoch(1, 2)).await;
    two.record("b", epoch(1, 1)).await;
    assert_eq!(two.a.get("video/index.m3u8").await.status, 200);
    assert_eq!(asked(&two.a).await, 0);
}

#[tokio::test]
async fn what_either_of_two_writers_had_shown_is_waited_for_until_both_have_brought_it() {
    let mut two = Two::start().await;
    two.record("b", epoch(1, 1)).await;
    // At `a` players were shown two whole segments by the second, of which the first has made one and a part.
    announce(&mut two.b, epoch(1, 1), (1, 0), None, true).await;
    for number in 0..PARTS {
        push_both(&two.b, 0, number).await;
    }
    push_both(&two.b, 1, 0).await;
    let (segment, part) = (FIRST + 1, PARTS - 1);
    let last = format!("{segment}.{part}.m4s");
    let files =
        [format!("video/{last}"), format!("video/{segment}.m4s"), "video/index.m3u8".to_owned()];
    let mut waiting = Vec::new();
    for file in &files {
        waiting.push(two.b.get_parked(file).await);
    }
    announce(&mut two.b, epoch(1, 2), (1, part), Some(epoch(1, 1)), false).await;
    for number in 1..PARTS {
        push_both(&two.b, 1, number).await;
    }
    for (file, player) in files.iter().zip(waiting) {
        let answer = timeout(DEADLINE, player).await.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{file}");
        assert!(!file.ends_with("m3u8") || answer.text().contains(&last), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_writer_that_was_to_follow_and_does_not_is_waited_for_a_second_and_a_half() {
    let mut two = Two::start().await;
    two.record("b", epoch(1, 1)).await;
    announce(&mut two.b, epoch(1, 1), (0, PARTS - 1), None, true).await;
    let announced = tokio::time::Instant::now();
    for number in 0..PARTS {
        push_both(&two.b, 0, number).await;
    }
    assert_eq!(two.b.get("video/index.m3u8").await.status, 200);
    assert!(announced.elapsed().as_millis() >= 1_400, "{:?}", announced.elapsed());
    let again = tokio::time::Instant::now();
    assert_eq!(two.b.get(&format!("video/{FIRST}.0.m4s")).await.status, 200);
    assert!(again.elapsed().as_millis() < 1_000, "{:?}", again.elapsed());
}

#[tokio::test]
async fn the_second_of_two_writers_leaves_an_origin_that_has_forgotten_the_stream_to_the_first() {
    let mut farm = Farm::start(free_ports()).await;
    let (first, second) = (epoch(1, 1), epoch(1, 2));
    let open = opening(second, (2, 0), Some(first), false);
    let path = intake::open_path(&farm.stream);
    let second_asks = async |at: &Farm| at.node_json("PUT", &path, &open).await.status;
    assert_eq!(second_asks(&farm).await, 503, "the first comes first");
    open_restoring(&mut farm, first, (0, PARTS - 1)).await;
    assert_eq!(second_asks(&farm).await, 503, "the first has given nothing yet");
    for number in 0..PARTS {
        push_both(&farm, 0, number).await;
    }
    assert_eq!(second_asks(&farm).await, 200);

    let alone = Farm::start(free_ports()).await;
    let since = Instant::now();
    while second_asks(&alone).await != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let waited = since.elapsed();
    let range = Duration::from_millis(1_500)..Duration::from_secs(5);
    assert!(range.contains(&waited), "a first that is gone never comes: {waited:?}");
}
