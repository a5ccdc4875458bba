//! `millrace-origin` as a process of its own, and a feed that pushes made-up parts into it. An origin never opens
//! media, so the bytes need not be any.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use millrace_hls::{
    Hash, InitRecord, PartRecord, RenditionKind, StreamOpen,
    intake::{RECORD_HEADER, init_path, open_path, part_path},
};
use millrace_testkit::{Etcd, EtcdVersion, Scratch, free_port};
use millrace_types::{Epoch, FrameRate, MediaTime, Msn, PartNo, StreamId};
use serde::Serialize;

use crate::{Connection, Scrape, sibling_program};

/// The stream that is fed.
pub const STREAM: &str = "bench";
/// Its only rung.
pub const RUNG: &str = "source";
/// A day in 2026, a multiple of the segment duration.
const FIRST_SECOND: i64 = 1_795_222_922;
const SEGMENT_TICKS: i64 = 2 * 90_000;
const PART_TICKS: i64 = SEGMENT_TICKS / PARTS_PER_SEGMENT as i64;
const PARTS_PER_SEGMENT: u64 = 6;
const START: Duration = Duration::from_secs(5);

/// A running origin; killed when dropped.
#[derive(Debug)]
pub struct Origin {
    child: Child,
    /// Players.
    pub playback: SocketAddr,
    /// Nodes.
    pub intake: SocketAddr,
    /// Metrics.
    pub admin: SocketAddr,
    _registry: Etcd,
    _scratch: Scratch,
}

impl Origin {
    /// Starts the origin of this build with so many threads, or with one per core; streams that are not fed stay for
    /// an hour.
    ///
    /// # Errors
    /// It is not ready after some seconds.
    pub fn start(threads: Option<usize>) -> anyhow::Result<Self> {
        let here = || anyhow::Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let (playback, intake, admin) = (here()?, here()?, here()?);
        let scratch = Scratch::new("origin")?;
        let config = scratch.path().join("origin.toml");
        let registry = Etcd::start(EtcdVersion::V3_7, 1)?;
        let endpoints = registry.endpoints();
        fs::write(&config, format!("idle_end_s = 3600\n[registry]\nendpoints = {endpoints:?}\n"))?;
        let mut command = Command::new(sibling_program("millrace-origin")?);
        if let Some(threads) = threads {
            command.env("TOKIO_WORKER_THREADS", threads.to_string());
        }
        let child = command
            .arg("--config")
            .arg(&config)
            .args(["--log", "warn", "--listen-playback", &playback.to_string()])
            .args(["--listen-intake", &intake.to_string(), "--listen-admin", &admin.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        let mut origin =
            Self { child, playback, intake, admin, _registry: registry, _scratch: scratch };
        let deadline = Instant::now() + START;
        while !origin.is_ready() {
            if Instant::now() > deadline || origin.child.try_wait()?.is_some() {
                bail!("the origin is not ready");
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(origin)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The value of one of its metrics, by its name with labels.
    ///
    /// # Errors
    /// There is no such metric.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        Scrape::of(self.admin)?.value(name).with_context(|| format!("no metric {name}"))
    }

    fn is_ready(&self) -> bool {
        let asked = Connection::open(self.admin).and_then(|mut admin| admin.fetch("/readyz"));
        asked.is_ok_and(|answer| answer.status == 200)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pushes parts of a third of a second, one after the other.
#[derive(Debug)]
pub struct Feed {
    intake: Connection,
    stream: StreamId,
    epoch: Epoch,
    init: Hash,
    pushed: u64,
}

impl Feed {
    /// Opens the stream [`STREAM`] with the rung [`RUNG`].
    ///
    /// # Errors
    /// The origin does not take it.
    pub fn open(intake: SocketAddr) -> anyhow::Result<Self> {
        let mut intake = Connection::open(intake)?;
        let stream: StreamId = STREAM.parse()?;
        let epoch = Epoch { generation: 1, placement: 1 };
        let open = StreamOpen {
            epoch,
            beside: None,
            rungs: vec![RUNG.parse()?],
            part_target_ms: 334,
            hold_back_ms: 1500,
            speaks: Default::default(),
            restores: Vec::new(),
            followed: false,
        };
        let json = "content-type: application/json".to_owned();
        intake.put(&open_path(&stream), &[json], &serde_json::to_vec(&open)?)?;
        let bytes = [7; 800];
        let record = InitRecord {
            rung: RUNG.parse()?,
            hash: Hash::of(&bytes),
            codecs: "avc1.64001f".to_owned(),
            bandwidth_bps: 3_000_000,
            announced_bps: None,
            kind: RenditionKind::Video {
                width: 1280,
                height: 720,
                frame_rate: FrameRate { num: 30, den: 1 },
                transcoded: true,
            },
        };
        intake.put(&init_path(&stream), &[header(&record)?], &bytes)?;
        Ok(Self { intake, stream, epoch, init: record.hash, pushed: 0 })
    }

    /// Where the next part will stand.
    pub const fn next(&self) -> (Msn, PartNo) {
        let msn = FIRST_SECOND as u64 / 2 + self.pushed / PARTS_PER_SEGMENT;
        (Msn(msn), PartNo((self.pushed % PARTS_PER_SEGMENT) as u32))
    }

    /// Pushes the next part; its path for players.
    ///
    /// # Errors
    /// The origin does not take it.
    pub fn push(&mut self, bytes: &[u8]) -> anyhow::Result<String> {
        ensure!(!bytes.is_empty(), "a part has bytes");
        let (msn, part) = self.next();
        let segment_start = MediaTime(msn.0 as i64 * SEGMENT_TICKS);
        let start = segment_start + i64::from(part.0) * PART_TICKS;
        let record = PartRecord {
            rung: RUNG.parse()?,
            msn,
            part,
            epoch: self.epoch,
            segment_start,
            discontinuity: 0,
            start,
            end: start + PART_TICKS,
            independent: part.0 == 0,
            last: u64::from(part.0) == PARTS_PER_SEGMENT - 1,
            short: false,
            init: self.init,
            hash: Hash::of(bytes),
            length: u32::try_from(bytes.len())?,
        };
        self.intake.put(&part_path(&self.stream), &[header(&record)?], bytes)?;
        self.pushed += 1;
        Ok(format!("/live/{STREAM}/{RUNG}/{}.{}.m4s", msn.0, part.0))
    }
}

fn header(record: &impl Serialize) -> anyhow::Result<String> {
    Ok(format!("{RECORD_HEADER}: {}", serde_json::to_string(record)?))
}
