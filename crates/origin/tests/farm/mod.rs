//! An origin on free ports, a node that pushes made-up parts to it, and a plain HTTP/1.1 client that hides nothing.
#![allow(dead_code, reason = "each test file uses its share")]

use std::{net::SocketAddr, time::Duration};

use millrace_hls::{
    Hash, InitRecord, PartRecord, RenditionKind, StreamOpen,
    intake::{self, EPOCH_HEADER, RECORD_HEADER},
};
use millrace_origin::{Config, Running, start};
use millrace_registry::Registry;
use millrace_telemetry::Metrics;
use millrace_types::{Epoch, FrameRate, MediaTime, Msn, PartNo, RungId, StreamId, Wall};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub const FIRST: u64 = 1_795_222_923;
pub const PARTS: u32 = 6;
const PART_TICKS: i64 = 30_000;
/// Longer than anything here may take; a parked request is answered after 6 s.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// What came back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends one request on a connection of its own.
pub async fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let exchange = async {
        let mut tcp = TcpStream::connect(to).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: origin\r\nconnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        tcp.write_all(head.as_bytes()).await.unwrap();
        tcp.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(DEADLINE, exchange).await.expect("an answer in time");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head, body: answer[end + 4..].to_vec() }
}

/// An origin and the node that feeds it.
pub struct Farm {
    pub origin: Running,
    pub stream: StreamId,
    pub epoch: Epoch,
}

pub fn free_ports() -> Config {
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config {
        listen_playback: free,
        listen_playback_tls: free,
        listen_intake: free,
        listen_admin: free,
        ..Config::default()
    }
}

pub fn epoch(generation: u64, placement: u64) -> Epoch {
    Epoch { generation, placement }
}

pub fn rung(name: &str) -> RungId {
    name.parse().unwrap()
}

/// Media nobody can compress or mistake.
pub fn media(name: &str, msn: u64, part: u32) -> Vec<u8> {
    format!("{name} {msn}.{part};").repeat(200).into_bytes()
}

pub fn part(name: &str, index: u64, number: u32) -> PartRecord {
    let msn = FIRST + index;
    let segment_start = MediaTime::from_wall(Wall(FIRST * 1_000_000))
        + index as i64 * i64::from(PARTS) * PART_TICKS;
    let start = segment_start + i64::from(number) * PART_TICKS;
    let bytes = media(name, msn, number);
    PartRecord {
        rung: rung(name),
        msn: Msn(msn),
        part: PartNo(number),
        epoch: epoch(1, 0),
        segment_start,
        discontinuity: 0,
        start,
        end: start + PART_TICKS,
        independent: number == 0,
        last: number + 1 == PARTS,
        short: false,
        init: Hash::of(name.as_bytes()),
        hash: Hash::of(&bytes),
        length: bytes.len() as u32,
    }
}

impl Farm {
    /// An origin with nothing in it.
    pub async fn start(config: Config) -> Self {
        Self::start_in(config, Registry::in_memory()).await
    }

    /// The same, of a farm with other origins.
    pub async fn start_in(config: Config, registry: Registry) -> Self {
        let origin = start(config, registry, Metrics::new()).await.unwrap();
        Self { origin, stream: "demo".parse().unwrap(), epoch: epoch(1, 0) }
    }

    /// An origin with an opened stream and the init sections of `video` and `audio`.
    pub async fn opened() -> Self {
        let farm = Self::start(free_ports()).await;
        assert_eq!(farm.open(farm.epoch).await.status, 200);
        for name in ["video", "audio"] {
            assert_eq!(farm.push_init(name).await.status, 200);
        }
        farm
    }

    pub async fn node(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        request(self.origin.addresses.intake, method, path, headers, body).await
    }

    pub async fn node_json(
        &self,
        method: &str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Response {
        let json = serde_json::to_vec(body).unwrap();
        self.node(method, path, &[("content-type", "application/json")], &json).await
    }

    pub async fn open(&self, epoch: Epoch) -> Response {
        let rungs = ["video", "audio"].map(rung).to_vec();
        let open = StreamOpen {
            epoch,
            beside: None,
            rungs,
            part_target_ms: 334,
            hold_back_ms: 1500,
            speaks: Default::default(),
            restores: Vec::new(),
            followed: false,
        };
        self.node_json("PUT", &intake::open_path(&self.stream), &open).await
    }

    pub async fn push_init(&self, name: &str) -> Response {
        let kind = match name {
            "audio" => RenditionKind::Audio { channels: 2 },
            _ => RenditionKind::Video {
                width: 1280,
                height: 720,
                frame_rate: FrameRate { num: 30, den: 1 },
                transcoded: true,
            },
        };
        let codecs = if name == "audio" { "mp4a.40.2" } else { "avc1.64001f" }.to_owned();
        let hash = Hash::of(name.as_bytes());
        let record = InitRecord {
            rung: rung(name),
            hash,
            codecs,
            bandwidth_bps: 1_000_000,
            announced_bps: None,
            kind,
        };
        let record = serde_json::to_string(&record).unwrap();
        let headers = [(RECORD_HEADER, record.as_str()), (EPOCH_HEADER, &self.epoch.to_string())];
        self.node("PUT", &intake::init_path(&self.stream), &headers, name.as_bytes()).await
    }

    pub async fn push(&self, record: &PartRecord) -> Response {
        let body = media(record.rung.as_str(), record.msn.0, record.part.0);
        self.push_bytes(record, &body).await
    }

    pub async fn push_bytes(&self, record: &PartRecord, body: &[u8]) -> Response {
        let json = serde_json::to_string(record).unwrap();
        let path = intake::part_path(&self.stream);
        self.node("PUT", &path, &[(RECORD_HEADER, &json)], body).await
    }

    /// Pushes the parts of both rungs up to, not including, part `parts` of segment `segments`.
    pub async fn fill(&self, segments: u64, parts: u32) {
        for index in 0..=segments {
            for number in 0..if index < segments { PARTS } else { parts } {
                for name in ["video", "audio"] {
                    assert_eq!(self.push(&part(name, index, number)).await.status, 200);
                }
            }
        }
    }

    /// What a player gets for a path below `/live/demo/`.
    pub async fn get(&self, file: &str) -> Response {
        self.get_with(file, &[]).await
    }

    pub async fn get_with(&self, file: &str, headers: &[(&str, &str)]) -> Response {
        let path = format!("/live/{}/{file}", self.stream);
        request(self.origin.addresses.playback, "GET", &path, headers, b"").await
    }

    /// The same, begun in the background: returns once the request is parked.
    pub async fn get_parked(&self, file: &str) -> tokio::task::JoinHandle<Response> {
        let before = self.parked().await;
        let (to, path) = (self.origin.addresses.playback, format!("/live/{}/{file}", self.stream));
        let waiting = tokio::spawn(async move { request(to, "GET", &path, &[], b"").await });
        let parked = async {
            while self.parked().await <= before {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, parked).await.expect("the request is parked in time");
        waiting
    }

    async fn parked(&self) -> u64 {
        let metrics =
            request(self.origin.addresses.admin, "GET", "/metrics", &[], b"").await.text();
        let line =
            metrics.lines().find(|line| line.starts_with("millrace_origin_parked_requests "));
        line.and_then(|line| line.rsplit_once(' ')).unwrap().1.parse().unwrap()
    }
}
