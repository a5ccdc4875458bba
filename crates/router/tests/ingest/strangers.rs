//! Strangers meet the limits, and a live stream on the same ingest does not notice.

use std::time::Duration;

use millrace_publisher::{Clip, Playout, Publisher, TagKind};
use millrace_router::ingest::{IngestConfig, IngestEnd, Limits, Publication};
use millrace_types::RefusalReason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::farm::{Farm, PATIENCE, tally};

/// Waits until the ingest has closed the connection.
async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is as good an end as a close.
    drop(timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("closed in time"));
}

async fn stranger(farm: &Farm) -> TcpStream {
    TcpStream::connect(farm.address).await.expect("the ingest listens")
}

#[tokio::test]
async fn a_slow_handshake_ends_at_its_deadline() {
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let farm = Farm::with_limits(limits).await;
    let begun = Instant::now();
    let mut socket = stranger(&farm).await;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while socket.write_all(&[3]).await.is_ok() && begun.elapsed() < PATIENCE {
        tick.tick().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    farm.counted(RefusalReason::Timeout, 1).await;
}

#[tokio::test]
async fn garbage_is_refused_at_its_first_byte() {
    let farm = Farm::start().await;
    let mut socket = stranger(&farm).await;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    closed(&mut socket).await;
    farm.counted(RefusalReason::Protocol, 1).await;
}

#[tokio::test]
async fn a_flood_of_connections_is_cut_at_the_limit_per_address() {
    let farm = Farm::with_limits(Limits { connections_per_address: 4, ..Limits::default() }).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(stranger(&farm).await);
    }
    farm.counted(RefusalReason::ConnectionLimit, 6).await;
    drop(sockets);
}

#[tokio::test]
async fn a_proxy_is_believed_about_the_address_and_must_tell_it() {
    let config = IngestConfig {
        proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..IngestConfig::default()
    };
    let farm = Farm::with(config, None).await;
    let mut socket = stranger(&farm).await;
    socket.write_all(&[3; 100]).await.expect("sent");
    closed(&mut socket).await;
    farm.counted(RefusalReason::Protocol, 1).await;
}

/// A session up to publishing, in bytes, as our own encoder would send it.
async fn publishing_socket(farm: &mut Farm) -> (TcpStream, Publication) {
    let mut socket = stranger(farm).await;
    let mut hello = vec![3];
    hello.resize(1 + 2 * 1_536, 0);
    socket.write_all(&hello).await.expect("sent");
    let key = farm.key.reveal();
    let mut connect =
        b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live".to_vec();
    connect.extend([0, 0, 9]);
    let mut publish = b"\x02\x00\x07publish\x00\x40\0\0\0\0\0\0\0\x05\x02\x00".to_vec();
    publish.push(key.len() as u8);
    publish.extend(key.as_bytes());
    for body in [connect, publish] {
        let mut chunk = vec![3, 0, 0, 0, 0, 0, body.len() as u8, 20, 0, 0, 0, 0];
        chunk.extend(body);
        socket.write_all(&chunk).await.expect("sent");
    }
    let publication = farm.publication().await;
    (socket, publication)
}

#[tokio::test]
async fn a_live_stream_loses_nothing_while_strangers_try_everything() {
    let limits = Limits { connections_per_address: 20, ..Limits::default() };
    let mut farm = Farm::with_limits(limits).await;
    let url = format!("rtmp://{}/live", farm.address);
    let mut publisher = Publisher::connect(&url, &farm.key.reveal()).await.expect("let in");
    let live = farm.publication().await;
    let sent: Vec<_> = Playout::rounds(&Clip::demo(), 1)
        .take_while(|due| due.after < Duration::from_secs(3))
        .collect();
    let play = async {
        let begun = Instant::now();
        for due in &sent {
            tokio::time::sleep_until(begun + due.after).await;
            publisher.send(&due.tag).await.expect("the live stream goes on");
        }
        publisher.finish().await.expect("finished");
    };
    let attack = async {
        let (mut huge, _publication) = publishing_socket(&mut farm).await;
        huge.write_all(&[6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0]).await.expect("sent");
        // The ingest may hang up before all of it is sent; that is the point.
        drop(huge.write_all(&vec![0; 16 << 20]).await);
        closed(&mut huge).await;
        let mut garbage = stranger(&farm).await;
        garbage.write_all(&[0xA5; 4_000]).await.expect("sent");
        closed(&mut garbage).await;
        let mut flood = Vec::new();
        for _ in 0..100 {
            flood.push(stranger(&farm).await);
        }
        farm.counted(RefusalReason::ConnectionLimit, 80).await;
        farm.counted(RefusalReason::Protocol, 2).await;
        // The rest of the flood are slow handshakes.
        flood
    };
    let ((), _flood, tally) = tokio::join!(play, attack, tally(live));
    let frames = sent.iter().filter(|due| due.tag.kind == TagKind::Video).count();
    assert_eq!((tally.video, tally.end), (frames, Some(IngestEnd::Unpublished)));
    assert_eq!(farm.stats.panicked(), 0);
}

#[tokio::test]
async fn an_authenticated_publisher_cannot_announce_sixteen_megabytes() {
    let mut farm = Farm::start().await;
    let (mut socket, publication) = publishing_socket(&mut farm).await;
    socket.write_all(&[6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0]).await.expect("sent");
    let mut said = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut said)).await.expect("in time").expect("read");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("protocol: the connection broke the rules of RTMP"), "{said}");
    let end = tally(publication).await.end;
    assert!(matches!(end, Some(IngestEnd::Refused(_))), "{end:?}");
}
