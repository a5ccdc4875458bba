//! A publisher that drops and returns, or is taken over by another, goes on in the same playlist behind a discontinuity.

use std::{net::SocketAddr, time::Duration};

use hyper::Method;
use millrace_testkit::{ClipSpec, HttpClient, Player, PlayerOptions, Publisher, Recording, check};
use millrace_tests::{Farm, FarmOptions, discontinuities};
use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
};

/// Stamps of the second clip begin here.
const SECOND_FRAME: u32 = 10_000;

fn clips() -> (ClipSpec, ClipSpec) {
    let first = ClipSpec { seconds: 30, ..ClipSpec::default() };
    let second = ClipSpec { seconds: 8, first_frame: SECOND_FRAME, ..ClipSpec::default() };
    (first, second)
}

/// Both clips are there in order, nothing is missing inside either, and one discontinuity lies between them on every rung.
/// Of the first clip the same frames are there on every rung: all up to where its connection ended.
fn assert_continued(recording: &Recording, first: &ClipSpec, second: &ClipSpec) {
    let mut expected = first.expected().then(second).at_least(0..=60);
    let report = check(recording, &expected).unwrap();
    let missing: Vec<_> =
        report.renditions.iter().filter_map(|found| found.video.as_ref()).collect();
    let cut = *missing[0].missing.first().expect("the first clip is cut off");
    println!("the first clip ends before frame {cut}\n{report}");
    expected.clips[0] = 0..=cut - 1;
    check(recording, &expected).unwrap().assert_lossless();
    for (rung, count) in discontinuities(recording) {
        assert_eq!(count, 1, "discontinuities of {rung}");
    }
    assert!(cut > 5 * 30, "the first clip was published for more than five seconds");
}

/// A URL through which one publishes to `url` from 127.0.0.2.
async fn from_another_address(url: &str) -> String {
    let (host, path) = url.strip_prefix("rtmp://").unwrap().split_once('/').unwrap();
    let router: SocketAddr = host.parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut publisher, _) = listener.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut router = socket.connect(router).await.unwrap();
        let _ = copy_bidirectional(&mut publisher, &mut router).await;
    });
    format!("rtmp://{here}/{path}")
}

#[tokio::test]
async fn a_publisher_that_returns_within_thirty_seconds_goes_on_in_the_same_playlist() {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let channel = farm.channel();
    let (first, second) = clips();
    let (first_file, second_file) = (first.file().unwrap(), second.file().unwrap());
    let mut publisher = Publisher::start(&first_file, &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(6.0, Duration::from_secs(20)).await.unwrap();
    publisher.kill().await.unwrap();
    let worker = farm.worker(&channel.stream, None).await.unwrap();
    // The break is part of the test: long enough that the worker has nothing to do.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut publisher = Publisher::start(&second_file, &channel.rtmp_url).unwrap();
    assert!(publisher.wait(Duration::from_secs(20)).await.unwrap().success());
    player.media(13.0, Duration::from_secs(10)).await.unwrap();
    let view = farm.stream(&channel.stream).await.unwrap();
    assert_eq!((view.restarts, view.worker_pid), (0, Some(worker)), "the same worker goes on");
    assert_continued(&player.stop().await.unwrap(), &first, &second);
}

/// What players are told of a rung: its picture, and whether it is encoded.
async fn told(playback: &str, rung: &str) -> (u64, u64, bool) {
    let url = playback.replace("index.m3u8", "status.json");
    let answer = HttpClient::default().get(&url, Duration::from_secs(3)).await.unwrap();
    let status: Value = serde_json::from_str(&answer.text()).unwrap();
    let found = status["rungs"].as_array().unwrap().iter().find(|found| found["rung"] == rung);
    let number = |name: &str| found.unwrap()[name].as_u64().unwrap();
    let encoded = found.unwrap()["transcoded"] == true;
    (number("width"), number("height"), encoded)
}

#[tokio::test]
async fn a_publisher_that_returns_in_another_size_gets_a_ladder_that_follows() {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let channel = farm.channel();
    let first = ClipSpec { seconds: 20, ..ClipSpec::default() };
    let size = ClipSpec { width: 256, height: 192, kbps: 250, ..ClipSpec::default() };
    let second = ClipSpec { seconds: 6, first_frame: SECOND_FRAME, ..size };
    let (first_file, second_file) = (first.file().unwrap(), second.file().unwrap());
    let mut publisher = Publisher::start(&first_file, &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(5.4, Duration::from_secs(20)).await.unwrap();
    publisher.kill().await.unwrap();
    let mut publisher = Publisher::start(&second_file, &channel.rtmp_url).unwrap();
    assert!(publisher.wait(Duration::from_secs(20)).await.unwrap().success());
    player.media(10.8, Duration::from_secs(10)).await.unwrap();
    for (rung, picture) in
        [("source", (256, 192, false)), ("240p", (256, 192, false)), ("144p", (192, 144, true))]
    {
        assert_eq!(told(&channel.playback_url, rung).await, picture, "{rung}");
    }
    assert_eq!(farm.stream(&channel.stream).await.unwrap().restarts, 0, "nothing was lost");
    let recording = player.stop().await.unwrap();
    assert_continued(&recording, &first, &second);
    for rung in recording.renditions.iter().filter(|rung| rung.name != "audio") {
        assert_eq!(rung.inits.len(), 2, "{}: a map for each picture", rung.name);
    }
}

#[tokio::test]
async fn the_newest_publisher_of_a_key_takes_over_and_the_other_is_told() {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let channel = farm.channel();
    let (first, second) = clips();
    let (first_file, second_file) = (first.file().unwrap(), second.file().unwrap());
    let mut loser = Publisher::start(&first_file, &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(6.0, Duration::from_secs(20)).await.unwrap();
    let elsewhere = from_another_address(&channel.rtmp_url).await;
    let mut winner = Publisher::start(&second_file, &elsewhere).unwrap();
    let status = loser.wait(Duration::from_secs(10)).await.unwrap();
    assert!(!status.success() && loser.log().contains("taken_over"), "{}", loser.log());
    // An encoder that reconnects by itself does not throw the other one out in turn.
    let mut again = Publisher::start(&first_file, &channel.rtmp_url).unwrap();
    let status = again.wait(Duration::from_secs(10)).await.unwrap();
    assert!(!status.success() && again.log().contains("taken_over"), "{}", again.log());
    assert!(winner.wait(Duration::from_secs(20)).await.unwrap().success(), "{}", winner.log());
    player.media(13.0, Duration::from_secs(10)).await.unwrap();
    assert_continued(&player.stop().await.unwrap(), &first, &second);
}

#[tokio::test]
async fn a_stream_ends_thirty_seconds_after_its_publisher_and_a_later_one_begins_anew() {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let channel = farm.channel();
    let clip = ClipSpec { seconds: 4, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let patient = PlayerOptions { patience: Duration::from_secs(40), ..PlayerOptions::default() };
    let player = Player::start(&channel.playback_url, patient);
    assert!(publisher.wait(Duration::from_secs(20)).await.unwrap().success());
    player.ended(Duration::from_secs(45)).await.unwrap();
    let report = check(&player.stop().await.unwrap(), &clip.expected()).unwrap();
    report.assert_lossless();
    let again = ClipSpec { seconds: 8, first_frame: SECOND_FRAME, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&again.file().unwrap(), &channel.rtmp_url).unwrap();
    farm.worker(&channel.stream, None).await.unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(6.0, Duration::from_secs(20)).await.unwrap();
    publisher.kill().await.unwrap();
    let expected = again.expected().as_downloaded();
    check(&player.stop().await.unwrap(), &expected).unwrap().assert_lossless();
}

#[tokio::test]
async fn revoking_a_key_turns_its_live_publisher_away() {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let channel = farm.new_channel("guest").await.unwrap();
    let clip = ClipSpec { seconds: 30, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    farm.worker(&channel.stream, None).await.unwrap();
    farm.api(Method::POST, "/v1/channels/guest/revoke", "{}".to_owned()).await.unwrap();
    let status = publisher.wait(Duration::from_secs(5)).await.unwrap();
    assert!(!status.success() && publisher.log().contains("bad_key"), "{}", publisher.log());
}
