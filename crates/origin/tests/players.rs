//! What players get from an origin, over real connections.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod farm;

use std::io::Read as _;

use farm::{DEADLINE, FIRST, Farm, PARTS, epoch, free_ports, media, part, request};
use millrace_hls::{Hash, intake, intake::End};
use tokio::time::timeout;

#[tokio::test]
async fn a_player_finds_everything_that_the_playlists_name() {
    let farm = Farm::opened().await;
    farm.fill(2, 2).await;
    let multivariant = farm.get("index.m3u8").await;
    assert_eq!(multivariant.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert!(
        multivariant.text().contains("video/index.m3u8")
            && multivariant.text().contains("1280x720")
    );
    let playlist = farm.get("video/index.m3u8").await;
    assert_eq!(playlist.header("access-control-allow-origin"), Some("*"));
    assert_eq!(playlist.header("cache-control"), Some("public, max-age=1"));
    let text = playlist.text();
    let named = text.lines().filter(|line| !line.starts_with("#EXT-X-PRELOAD")).flat_map(|line| {
        let uri = line.split("URI=\"").nth(1).and_then(|rest| rest.split('"').next());
        uri.or_else(|| (!line.starts_with('#')).then_some(line))
    });
    let mut count = 0;
    for uri in named.filter(|uri| !uri.starts_with("..")) {
        let file = farm.get(&format!("video/{uri}")).await;
        assert_eq!(file.status, 200, "{uri}");
        assert_eq!(file.header("content-type"), Some("video/mp4"));
        assert!(file.header("cache-control").unwrap().contains("immutable"));
        count += 1;
    }
    assert_eq!(count, 1 + 2 + 2 * PARTS + 2, "init section, segments, parts");
}

#[tokio::test]
async fn a_segment_is_its_parts_one_after_the_other() {
    let farm = Farm::opened().await;
    farm.fill(1, 1).await;
    let whole: Vec<u8> = (0..PARTS).flat_map(|number| media("video", FIRST, number)).collect();
    let segment = farm.get(&format!("video/{FIRST}.m4s")).await;
    assert_eq!(segment.header("content-length"), Some(whole.len().to_string().as_str()));
    assert_eq!(segment.body, whole);
    let init = farm.get(&format!("video/init-{}.mp4", Hash::of(b"video"))).await;
    assert_eq!(init.body, b"video");
    let open = farm.get(&format!("video/{}.m4s", FIRST + 1)).await;
    assert_eq!(open.status, 404, "a segment that is still open");
}

#[tokio::test]
async fn a_blocking_reload_is_answered_when_its_part_arrives() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let next = format!("_HLS_msn={}&_HLS_part=2", FIRST + 1);
    let waiting = farm.get_parked(&format!("video/index.m3u8?{next}")).await;
    farm.push(&part("audio", 1, 2)).await;
    assert!(!waiting.is_finished(), "another rung's part does not answer it");
    farm.push(&part("video", 1, 2)).await;
    let playlist = timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(
        (playlist.status, playlist.header("cache-control")),
        (200, Some("public, max-age=12"))
    );
    assert!(playlist.text().contains(&format!("{}.2.m4s\"", FIRST + 1)));
    assert!(
        playlist.text().contains(&format!("PRELOAD-HINT:TYPE=PART,URI=\"{}.3.m4s\"", FIRST + 1))
    );
}

#[tokio::test]
async fn a_hinted_part_is_answered_when_it_arrives_or_when_its_segment_closes_without_it() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let hinted = farm.get_parked(&format!("video/{}.2.m4s", FIRST + 1)).await;
    let mut last = part("video", 1, 2);
    last.last = true;
    farm.push(&last).await;
    assert_eq!(hinted.await.unwrap().body, media("video", FIRST + 1, 2));
    assert_eq!(farm.get(&format!("video/{}.3.m4s", FIRST + 1)).await.status, 404);

    let never = farm.get_parked(&format!("audio/{}.2.m4s", FIRST + 1)).await;
    let end = End { epoch: farm.epoch, continues: false };
    farm.node_json("POST", &intake::end_path(&farm.stream), &end).await;
    assert_eq!(never.await.unwrap().status, 404);
}

#[tokio::test]
async fn what_breaks_the_rules_is_400_and_what_is_not_there_404() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    for query in ["_HLS_part=1", "_HLS_msn=x", "_HLS_skip=1", "_HLS_msn=99999999999"] {
        assert_eq!(farm.get(&format!("video/index.m3u8?{query}")).await.status, 400, "{query}");
    }
    for file in ["nope/index.m3u8", "video/1.m4s", "video/1.0.m4s", "video/init-00.mp4", "x"] {
        assert_eq!(farm.get(file).await.status, 404, "{file}");
    }
    let playback = farm.origin.addresses.playback;
    assert_eq!(request(playback, "GET", "/live/other/index.m3u8", &[], b"").await.status, 404);
    assert_eq!(request(playback, "POST", "/", &[], b"").await.status, 405);
    assert_eq!(request(playback, "OPTIONS", "/live/demo/index.m3u8", &[], b"").await.status, 204);
}

#[tokio::test]
async fn a_reload_that_nothing_comes_for_ends_in_503() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let started = std::time::Instant::now();
    let late = farm.get(&format!("video/index.m3u8?_HLS_msn={}&_HLS_part=2", FIRST + 1)).await;
    assert_eq!(late.status, 503);
    assert!((6.0..7.0).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn gzip_holds_the_same_text_and_media_is_never_compressed() {
    let farm = Farm::opened().await;
    farm.fill(14, 2).await;
    let plain = farm.get("video/index.m3u8").await;
    let gzip = farm.get_with("video/index.m3u8", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(
        (plain.header("content-encoding"), gzip.header("content-encoding")),
        (None, Some("gzip"))
    );
    assert_eq!(gzip.header("vary"), Some("accept-encoding"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&gzip.body[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text());
    assert!(gzip.body.len() * 3 < plain.body.len());
    let segment =
        farm.get_with(&format!("video/{FIRST}.m4s"), &[("accept-encoding", "gzip")]).await;
    assert_eq!(segment.header("content-encoding"), None);
}

#[tokio::test]
async fn a_delta_update_is_shorter_and_ends_alike() {
    let farm = Farm::opened().await;
    farm.fill(14, 2).await;
    let (full, delta) = (
        farm.get("video/index.m3u8").await.text(),
        farm.get("video/index.m3u8?_HLS_skip=YES").await.text(),
    );
    let rest = delta.split_once("#EXT-X-SKIP:SKIPPED-SEGMENTS=8\n").unwrap().1;
    assert!(full.ends_with(rest) && delta.len() < full.len());
}

#[tokio::test]
async fn head_says_what_get_would_send() {
    let farm = Farm::opened().await;
    farm.fill(1, 1).await;
    let path = format!("/live/demo/video/{FIRST}.m4s");
    let head = request(farm.origin.addresses.playback, "HEAD", &path, &[], b"").await;
    let get = request(farm.origin.addresses.playback, "GET", &path, &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.header("content-length"));
}

#[tokio::test]
async fn an_ended_stream_says_so_and_is_gone_after_a_while() {
    let farm = Farm::start(millrace_origin::Config { keep_ended_s: 1, ..free_ports() }).await;
    farm.open(farm.epoch).await;
    for name in ["video", "audio"] {
        farm.push_init(name).await;
    }
    farm.fill(1, 2).await;
    let end = End { epoch: epoch(1, 0), continues: false };
    assert_eq!(farm.node_json("POST", &intake::end_path(&farm.stream), &end).await.status, 200);
    assert!(farm.get("video/index.m3u8").await.text().ends_with("#EXT-X-ENDLIST\n"));
    let gone = async {
        while farm.get("video/index.m3u8").await.status != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
    assert_eq!(farm.get("index.m3u8").await.status, 404);
    // Its fence is remembered.
    assert_eq!(farm.open(epoch(0, 9)).await.status, 409);
    assert_eq!(farm.open(epoch(2, 0)).await.status, 200);
    assert_eq!(farm.push_init("video").await.status, 409, "the old writer stays fenced");
}

#[tokio::test]
async fn pages_and_status_show_the_live_stream() {
    let farm = Farm::opened().await;
    farm.fill(1, 2).await;
    let health = serde_json::json!({"advice": ["set the keyframe interval to 2 s"]});
    farm.node_json("PUT", &intake::health_path(&farm.stream), &health).await;
    let status = farm.get("status.json").await.json();
    assert_eq!(status["live"], true);
    assert_eq!(status["rungs"][0]["msn"], FIRST + 1);
    assert_eq!(status["rungs"][0]["part"], 1);
    assert!(status["rungs"][0]["bitrate_bps"].as_u64().unwrap() > 0);
    assert_eq!(status["health"], health);
    let playback = farm.origin.addresses.playback;
    let list = request(playback, "GET", "/", &[], b"").await.text();
    assert!(list.contains("href=\"/watch/demo\""));
    let page = request(playback, "GET", "/watch/demo", &[], b"").await.text();
    for word in ["http://", "https://"] {
        assert!(!page.contains(word) && !list.contains(word), "a request to elsewhere");
    }
    let script = request(playback, "GET", "/assets/hls.min.js", &[], b"").await;
    assert!(
        script.body.len() > 100_000
            && script.header("content-type").unwrap().contains("javascript")
    );
}
