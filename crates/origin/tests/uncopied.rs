//! Media that goes into connections without a copy: each player gets its own bytes, however slowly it reads, whatever others
//! do meanwhile, and also when the origin has long forgotten them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod farm;

use std::{net::SocketAddr, sync::Arc};

use farm::{DEADLINE, FIRST, Farm, PARTS, epoch, free_ports, part, request};
use millrace_hls::{Hash, PartRecord, intake, intake::End};
use millrace_origin::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Duration, Instant, sleep, timeout},
};

/// A part whose bytes are those of no other, with its record.
fn large(index: u64, number: u32, length: usize) -> (PartRecord, Vec<u8>) {
    let mut state = (index * u64::from(PARTS) + u64::from(number) + 1) << 20 | 0x9e37_79b9;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let bytes: Vec<u8> = (0..length).map(|_| next()).collect();
    let mut record = part("video", index, number);
    (record.length, record.hash) = (bytes.len() as u32, Hash::of(&bytes));
    (record, bytes)
}

/// A segment of such parts; its bytes.
async fn push_segment(farm: &Farm, index: u64, length: usize) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for number in 0..PARTS {
        let (mut record, bytes) = large(index, number, length + number as usize * 777);
        record.epoch = farm.epoch;
        assert_eq!(farm.push_bytes(&record, &bytes).await.status, 200);
        parts.push(bytes);
    }
    parts
}

fn path(index: u64, number: u32) -> String {
    format!("/live/demo/video/{}.{number}.m4s", FIRST + index)
}

/// A connection that takes little at once, with requests sent.
async fn ask_slowly(to: SocketAddr, requests: &[(&str, &str)]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut tcp = socket.connect(to).await.unwrap();
    let heads = requests.iter().map(|(method, path)| format!("{method} {path} HTTP/1.1\r\n\r\n"));
    tcp.write_all(heads.collect::<String>().as_bytes()).await.unwrap();
    tcp
}

async fn answer(tcp: &mut TcpStream) -> (String, Vec<u8>) {
    body_of(tcp, false).await
}

/// One answer: its head, and its body of the length that it says unless that is left out.
async fn body_of(tcp: &mut TcpStream, head_only: bool) -> (String, Vec<u8>) {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; if head_only { 0 } else { length.parse().unwrap() }];
        tcp.read_exact(&mut body).await.unwrap();
        (head, body)
    };
    timeout(DEADLINE, reading).await.expect("an answer in time")
}

async fn metric(farm: &Farm, name: &str) -> u64 {
    let page = request(farm.origin.addresses.admin, "GET", "/metrics", &[], b"").await.text();
    let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_reads_slowly_gets_a_parts_bytes_when_the_origin_has_long_forgotten_it() {
    let mut farm = Farm::start(Config { keep_ended_s: 0, ..free_ports() }).await;
    assert_eq!(farm.open(farm.epoch).await.status, 200);
    assert_eq!(farm.push_init("video").await.status, 200);
    let to = farm.origin.addresses.playback;
    let (of_socket, small) = large(0, 0, 100_000);
    let (waits, big) = large(0, 1, 8 << 20);
    for (record, bytes) in [(&of_socket, &small), (&waits, &big)] {
        assert_eq!(farm.push_bytes(record, bytes).await.status, 200);
    }
    let mut handed_on = ask_slowly(to, &[("GET", &path(0, 0))]).await;
    let mut under_way = ask_slowly(to, &[("GET", &path(0, 1))]).await;
    for tcp in [&handed_on, &under_way] {
        tcp.readable().await.unwrap();
    }
    let end = End { epoch: farm.epoch, continues: false };
    farm.node_json("POST", &intake::end_path(&farm.stream), &end).await;
    until("the stream is forgotten", async || farm.get("video/index.m3u8").await.status == 404)
        .await;
    // What the kernel has all of is nobody's here any more; of the other, the rest waits for its connection.
    let pages = |bytes: &[u8]| bytes.len().next_multiple_of(4096) as u64;
    until("memory is given back", async || {
        metric(&farm, "millrace_origin_media_bytes").await == pages(&big)
    })
    .await;
    // Others come to lie wherever there is room.
    farm.epoch = epoch(2, 0);
    assert_eq!(farm.open(farm.epoch).await.status, 200);
    assert_eq!(farm.push_init("video").await.status, 200);
    let mut others = 0;
    for index in 1..7 {
        let parts = push_segment(&farm, index, 300_000).await;
        others += parts.iter().map(|it| pages(it)).sum::<u64>();
    }
    assert!(answer(&mut handed_on).await.1 == small);
    assert!(answer(&mut under_way).await.1 == big);
    until("all is given back", async || {
        metric(&farm, "millrace_origin_media_bytes").await == others
    })
    .await;
    assert_eq!(
        metric(&farm, "millrace_origin_sent_uncopied_bytes_total").await,
        (small.len() + big.len()) as u64
    );
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order_to_a_slow_reader() {
    let farm = Farm::opened().await;
    let parts = push_segment(&farm, 0, 120_000).await;
    let (segment, playlist) =
        (format!("/live/demo/video/{FIRST}.m4s"), "/live/demo/video/index.m3u8");
    let (first, last) = (path(0, 0), path(0, PARTS - 1));
    let asked = [
        ("GET", &*first),
        ("HEAD", &*last),
        ("GET", &*segment),
        ("GET", playlist),
        ("GET", &*last),
    ];
    let mut tcp = ask_slowly(farm.origin.addresses.playback, &asked).await;
    assert!(answer(&mut tcp).await.1 == parts[0]);
    let (head, _) = body_of(&mut tcp, true).await;
    assert!(head.contains(&format!("content-length: {}\r\n", parts[PARTS as usize - 1].len())));
    assert!(answer(&mut tcp).await.1 == parts.concat());
    assert!(answer(&mut tcp).await.1.starts_with(b"#EXTM3U"));
    assert!(answer(&mut tcp).await.1 == parts[PARTS as usize - 1]);
}

/// The test's runtime has one thread, so all connections share a pipe.
#[tokio::test]
async fn nothing_of_one_connection_comes_out_of_another_also_when_some_break_off() {
    let farm = Farm::opened().await;
    let mut segments = Vec::new();
    for index in 0..2 {
        segments.push(push_segment(&farm, index, 700_000).await.concat());
    }
    let (to, segments) = (farm.origin.addresses.playback, Arc::new(segments));
    let paths = [0, 1].map(|index| format!("/live/demo/video/{}.m4s", FIRST + index));
    let mut players = Vec::new();
    for number in 0..12 {
        let order = [number % 2, (number + 1) % 2];
        players.push((order, ask_slowly(to, &order.map(|it| ("GET", &*paths[it]))).await));
    }
    for (_, tcp) in &players {
        tcp.readable().await.unwrap();
    }
    // In the midst of an answer; what was not read makes it a reset.
    let mut at = 0;
    players.retain(|_| {
        at += 1;
        at % 3 != 0
    });
    let readers = players.into_iter().map(|(order, mut tcp)| {
        let segments = segments.clone();
        tokio::spawn(async move {
            for index in order {
                assert!(answer(&mut tcp).await.1 == segments[index], "segment {index}");
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    let sent = metric(&farm, "millrace_origin_sent_uncopied_bytes_total").await;
    assert!(sent >= 8 * (segments[0].len() + segments[1].len()) as u64, "{sent}");
}

#[tokio::test]
async fn a_part_that_is_waited_for_and_one_too_small_to_refer_to_are_the_same_to_players() {
    let farm = Farm::opened().await;
    let (record, small) = large(0, 0, 5_000);
    assert_eq!(farm.push_bytes(&record, &small).await.status, 200);
    assert!(farm.get(&format!("video/{FIRST}.0.m4s")).await.body == small);
    let waiting = farm.get_parked(&format!("video/{FIRST}.1.m4s")).await;
    let (record, bytes) = large(0, 1, 200_000);
    assert_eq!(farm.push_bytes(&record, &bytes).await.status, 200);
    assert!(waiting.await.unwrap().body == bytes);
    let sent = metric(&farm, "millrace_origin_sent_uncopied_bytes_total").await;
    assert_eq!(sent, bytes.len() as u64);
}
