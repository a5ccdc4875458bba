//! What nodes can and cannot do to an origin, over real connections.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod farm;

use farm::{FIRST, Farm, epoch, media, part, request};
use millrace_hls::{
    Hash,
    intake::{self, Fence, Marks, Refused},
};
use millrace_types::{Msn, PartNo};

fn reason(response: &farm::Response) -> String {
    serde_json::from_slice::<Refused>(&response.body).unwrap().reason
}

#[tokio::test]
async fn a_repeat_is_taken_and_another_part_in_its_place_refused() {
    let farm = Farm::opened().await;
    let record = part("video", 0, 0);
    assert_eq!(farm.push(&record).await.status, 200);
    assert_eq!(farm.push(&record).await.status, 200);
    let mut other = record.clone();
    (other.hash, other.length) = (Hash::of(b"other"), 5);
    let refused = farm.push_bytes(&other, b"other").await;
    assert_eq!((refused.status, reason(&refused).as_str()), (409, "conflict"));
    assert_eq!(farm.get(&format!("video/{FIRST}.0.m4s")).await.body, media("video", FIRST, 0));
}

#[tokio::test]
async fn bytes_that_do_not_match_their_record_are_refused() {
    let farm = Farm::opened().await;
    let record = part("video", 0, 0);
    let mut bytes = media("video", FIRST, 0);
    assert_eq!(farm.push_bytes(&record, &bytes[1..]).await.status, 422);
    bytes[0] ^= 1;
    let refused = farm.push_bytes(&record, &bytes).await;
    assert_eq!((refused.status, reason(&refused).as_str()), (422, "mismatch"));
    assert_eq!(farm.node("PUT", &intake::part_path(&farm.stream), &[], b"x").await.status, 400);
}

#[tokio::test]
async fn a_fence_stops_the_old_writer_and_tells_the_new_one_where_to_go_on() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let path = intake::fence_path(&farm.stream);
    let answer = farm.node_json("POST", &path, &Fence::at(epoch(1, 1))).await;
    let marks: Marks = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(marks.epoch, epoch(1, 1));
    assert_eq!(marks.marks.len(), 2);
    assert!(marks.marks.iter().all(|mark| (mark.msn, mark.part) == (Msn(FIRST + 1), PartNo(1))));
    let fenced = farm.push(&part("video", 1, 2)).await;
    assert_eq!((fenced.status, reason(&fenced).as_str()), (409, "fenced"));
    let older = farm.node_json("POST", &path, &Fence::at(epoch(1, 0))).await;
    assert_eq!(older.status, 409);
    let mut record = part("video", 1, 2);
    record.epoch = epoch(1, 1);
    assert_eq!(farm.push(&record).await.status, 200);
}

#[tokio::test]
async fn a_claim_waits_for_the_writer_to_hand_over_and_one_of_two_routers_gets_it() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let path = intake::fence_path(&farm.stream);
    let claim = Fence { claims: true, flush_ms: 2_000, ..Fence::at(epoch(2, 0)) };
    let handing_over = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert_eq!(farm.push(&part("video", 1, 2)).await.status, 200);
        let end = intake::End { epoch: epoch(1, 0), continues: true };
        assert_eq!(farm.node_json("POST", &intake::end_path(&farm.stream), &end).await.status, 200);
    };
    let started = std::time::Instant::now();
    let (answer, ()) = tokio::join!(farm.node_json("POST", &path, &claim), handing_over);
    assert!(started.elapsed() < std::time::Duration::from_millis(1_500));
    let marks: Marks = serde_json::from_slice(&answer.body).unwrap();
    let video = marks.marks.iter().find(|mark| mark.rung.as_str() == "video").unwrap();
    assert_eq!((video.msn, video.part, video.closed), (Msn(FIRST + 1), PartNo(2), true));
    let second = farm.node_json("POST", &path, &Fence { flush_ms: 0, ..claim }).await;
    let refused: Refused = serde_json::from_slice(&second.body).unwrap();
    assert_eq!((second.status, refused.fence), (409, Some(epoch(2, 0))));
}

#[tokio::test]
async fn whoever_asks_again_fences_no_writer_of_whom_something_still_comes() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let path = intake::fence_path(&farm.stream);
    let claim = Fence { claims: true, flush_ms: 1_500, asks_again: true, ..Fence::at(epoch(2, 0)) };
    let going_on = async {
        tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
        assert_eq!(farm.push(&part("video", 1, 2)).await.status, 200);
    };
    let (answer, ()) = tokio::join!(farm.node_json("POST", &path, &claim), going_on);
    assert_eq!((answer.status, reason(&answer).as_str()), (503, intake::FLUSHING));
    assert_eq!(farm.push(&part("video", 1, 3)).await.status, 200, "it is not fenced");

    let answer = farm.node_json("POST", &path, &claim).await;
    assert_eq!(answer.status, 200, "nothing has come for longer than a second");
    let marks: Marks = serde_json::from_slice(&answer.body).unwrap();
    assert!(marks.marks.iter().any(|mark| mark.part == PartNo(3)));
    assert_eq!(reason(&farm.push(&part("video", 1, 4)).await), "fenced");
}

#[tokio::test]
async fn a_stream_that_is_not_open_takes_nothing() {
    let farm = Farm::start(farm::free_ports()).await;
    let refused = farm.push(&part("video", 0, 0)).await;
    assert_eq!((refused.status, reason(&refused).as_str()), (404, "unknown_stream"));
    assert_eq!(farm.open(epoch(1, 0)).await.status, 200);
    let refused = farm.push(&part("video", 0, 0)).await;
    assert_eq!((refused.status, reason(&refused).as_str()), (409, "unknown_init"));
}

#[tokio::test]
async fn metrics_and_health_tell_what_happened() {
    let farm = Farm::opened().await;
    farm.fill(0, 1).await;
    let admin = farm.origin.addresses.admin;
    let metrics = request(admin, "GET", "/metrics", &[], b"").await.text();
    assert!(metrics.contains("millrace_origin_records_total{result=\"added\"} 4"), "{metrics}");
    assert_eq!(request(admin, "GET", "/readyz", &[], b"").await.status, 200);
    let playback = farm.origin.addresses.playback;
    farm.origin.stop().await;
    assert!(tokio::net::TcpStream::connect(playback).await.is_err());
}
