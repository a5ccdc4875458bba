//! Strangers who try everything against the ingest: each meets its limit, and the live stream beside them loses no frame.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use millrace_publisher::{PublishError, Publisher as OurPublisher, Tag, TagKind};
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until};
use millrace_tests::{Channel, Farm, FarmOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// The default bound of a handshake, and what a busy host may add.
const HANDSHAKE_ENDS: Duration = Duration::from_secs(5 + 3);
/// The farm's limit of connections per address in this test.
const PER_ADDRESS: usize = 50;
/// A handshake's first byte.
const RTMP_VERSION: u8 = 3;

/// The address of stranger number `host`: all of 127.0.0.0/8 is this host.
fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, host)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address");
    socket.connect(to).await.expect("the ingest listens")
}

/// Whether the other side has hung up by then. What it says before is passed over.
async fn hangs_up(socket: &mut TcpStream, within: Duration) -> bool {
    let mut said = Vec::new();
    // A reset is as good an end as a close.
    timeout(within, socket.read_to_end(&mut said)).await.is_ok()
}

/// 200 strangers from five addresses begin a handshake and send one byte of it every quarter of a second.
async fn slow_handshakes(ingest: SocketAddr) {
    let mut strangers = JoinSet::new();
    for number in 0..200_usize {
        let from = address(1 + (number / 40) as u8);
        strangers.spawn(async move {
            let begun = Instant::now();
            let mut socket = connect(from, ingest).await;
            let mut pace = tokio::time::interval(Duration::from_millis(250));
            while begun.elapsed() < PATIENCE && socket.write_all(&[RTMP_VERSION]).await.is_ok() {
                pace.tick().await;
            }
            begun.elapsed()
        });
    }
    for held in strangers.join_all().await {
        assert!(held < HANDSHAKE_ENDS, "a handshake was waited for {held:?}");
        assert!(held > Duration::from_secs(3), "it was let begin: {held:?}");
    }
}

/// One address opens three times as many connections as it may.
async fn flood(ingest: SocketAddr) {
    let mut open = JoinSet::new();
    for _ in 0..3 * PER_ADDRESS {
        open.spawn(async move {
            let mut socket = connect(address(20), ingest).await;
            let refused = hangs_up(&mut socket, Duration::from_secs(3)).await;
            (refused, socket)
        });
    }
    let open = open.join_all().await;
    let refused = open.iter().filter(|(refused, _)| *refused).count();
    assert_eq!(refused, 2 * PER_ADDRESS, "exactly the limit is let in");
}

/// Nothing that is not RTMP gets beyond its first bytes.
async fn garbage(ingest: SocketAddr) {
    let hello = [&[RTMP_VERSION][..], &[0; 2 * 1_536]].concat();
    let spoken: [Vec<u8>; 4] = [
        b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n".to_vec(),
        noise(70_000),
        [&hello[..], &noise(70_000)].concat(),
        [&hello[..], &[0xFF; 70_000]].concat(),
    ];
    for bytes in spoken {
        let mut socket = connect(address(21), ingest).await;
        // The ingest may hang up before all of it is sent.
        drop(socket.write_all(&bytes).await);
        let begins = &bytes[..16];
        assert!(hangs_up(&mut socket, PATIENCE).await, "still connected after {begins:?}");
    }
}

/// Bytes that mean nothing, and the same ones in every run.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A publisher with a key of its own sends one message of 16 MB.
async fn huge_message(channel: &Channel) {
    let (url, key) = channel.rtmp_url.rsplit_once('/').expect("a key");
    let mut publisher = OurPublisher::connect(url, key).await.expect("let in");
    let body = Bytes::from(vec![0x17; (1 << 24) - 1]);
    let tag = Tag { kind: TagKind::Video, timestamp_ms: 0, body };
    // The router may take the rest off the wire, and throw it away, before the refusal is read: then the next message meets it.
    let small = Tag { body: Bytes::from_static(&[0x17, 1, 0, 0, 0]), ..tag.clone() };
    let mut sent = publisher.send(&tag).await;
    let deadline = Instant::now() + PATIENCE;
    while sent.is_ok() && Instant::now() < deadline {
        sent = publisher.send(&small).await;
        tokio::task::yield_now().await;
    }
    match sent {
        Err(PublishError::Refused { text, .. }) => {
            assert!(text.starts_with("protocol: "), "{text}");
        }
        // Its kernel may tell it of the reset before it reads why.
        Err(PublishError::Io { .. } | PublishError::Closed { .. }) => {}
        other => panic!("taken: {other:?}"),
    }
}

fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_within_limits_and_the_live_stream_loses_no_frame() {
    let toml = format!("[router]\nmax_connections_per_address = {PER_ADDRESS}");
    let options = FarmOptions { rungs: Vec::new(), toml, ..FarmOptions::default() };
    let farm = Farm::start(options).await.expect("a farm");
    let clip = ClipSpec {
        width: 320,
        height: 180,
        kbps: 250,
        seconds: 14,
        gop: Some(30),
        ..ClipSpec::default()
    };
    let (file, channel) = (clip.file().expect("a clip"), farm.channel());
    let mut live = Publisher::start(&file, &channel.rtmp_url).expect("ffmpeg");
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(1.0, PATIENCE).await.expect("live");
    let before_kib = resident_kib(farm.pid());

    let authority = farm.rtmp_url().trim_start_matches("rtmp://").split('/').next();
    let ingest = authority.and_then(|address| address.parse().ok()).expect("an address");
    let intruder = farm.new_channel("intruder").await.expect("a channel");
    tokio::join!(slow_handshakes(ingest), flood(ingest), garbage(ingest), huge_message(&intruder));
    let grown_kib = resident_kib(farm.pid()).saturating_sub(before_kib);
    println!("the farm grew by {grown_kib} KiB under 350 strangers");
    assert!(grown_kib < 64 << 10, "the farm grew by {grown_kib} KiB");
    assert!(live.is_running(), "the attack took no longer than the stream: {}", live.log());

    let ended = live.wait(PATIENCE).await.expect("the publisher ends");
    assert!(ended.success(), "{}", live.log());
    let whole_s = f64::from(*clip.frames().end()) / 30.0;
    player.media(whole_s, PATIENCE).await.expect("all of it");
    let settled = || {
        let quiet = Duration::from_millis(700);
        let last = player.progress().values().filter_map(|one| one.last_arrival).max();
        last.is_some_and(|arrival| arrival.elapsed() > quiet)
    };
    until("the last part", PATIENCE, settled).await.expect("quiet");
    let recording = player.stop().await.expect("media");
    let expected = clip.expected().at_least(clip.frames());
    let report = check(&recording, &expected).expect("decoded");
    println!("{report}");
    report.assert_lossless();
    let log = farm.log();
    for reason in ["timeout", "connection_limit", "protocol"] {
        assert!(log.contains(&format!("\"reason\":\"{reason}\"")), "no line about {reason}");
    }
}
