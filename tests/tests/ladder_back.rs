//! A stream that was placed while no node had room for its ladder gets it once one has.

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until_some};
use millrace_tests::{Farm, FarmOptions};

/// Room for the encoded rung of one stream, and for others without.
const ROOM_FOR_ONE: &str = "[node.capacity]\nworkers = 8\nmemory_bytes = 8_000_000_000\n\
    decode_pixels_per_second = 200_000_000\nencode_pixels_per_second = 1_500_000";

/// Waits until so many rungs of a stream are published; their names, and why it is not encoded.
async fn rungs(farm: &Farm, stream: &str, count: usize) -> (String, Option<String>) {
    let path = format!("/v1/streams/{stream}");
    let seen = until_some("the rungs are published", Duration::from_secs(25), async || {
        let view = farm.api(Method::GET, &path, String::new()).await.ok()?;
        let rungs = view["rungs"].as_array()?.iter();
        let published = rungs.filter(|rung| !rung["published"].is_null());
        let names: Vec<_> = published.filter_map(|rung| rung["id"].as_str()).collect();
        let why = view["unencoded_because"].as_str().map(str::to_owned);
        (names.len() == count).then(|| (names.join(" "), why))
    });
    seen.await.unwrap()
}

#[tokio::test]
async fn a_stream_that_was_placed_without_its_ladder_gets_it_once_there_is_room_and_loses_no_frame()
{
    let ladder = vec![("144p", 144, 200)];
    let options =
        FarmOptions { rungs: ladder, toml: ROOM_FOR_ONE.to_owned(), ..FarmOptions::default() };
    let farm = Farm::start(options).await.unwrap();
    let clip = ClipSpec {
        width: 320,
        height: 180,
        kbps: 250,
        seconds: 30,
        gop: Some(30),
        ..ClipSpec::default()
    };
    let file = clip.file().unwrap();
    let (first, second) =
        (farm.new_channel("first").await.unwrap(), farm.new_channel("second").await.unwrap());
    let _first = Publisher::start(&file, &first.rtmp_url).unwrap();
    rungs(&farm, "first", 3).await;
    let mut publisher = Publisher::start(&file, &second.rtmp_url).unwrap();
    let viewer = Player::start(&second.playback_url, PlayerOptions::default());
    let no_capacity = Some("no_capacity".to_owned());
    assert_eq!(rungs(&farm, "second", 2).await, ("source audio".to_owned(), no_capacity));
    let gone = farm.api(Method::DELETE, "/v1/channels/first", String::new()).await;
    assert!(gone.is_ok(), "{gone:?}");
    assert_eq!(rungs(&farm, "second", 3).await, ("source 144p audio".to_owned(), None));
    let newcomer = Player::start(&second.playback_url, PlayerOptions::default());
    assert!(
        publisher.wait(Duration::from_secs(40)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    newcomer.media(4.0, Duration::from_secs(8)).await.unwrap();
    viewer.media(f64::from(clip.seconds) - 0.2, Duration::from_secs(8)).await.unwrap();
    let (viewer, newcomer) = (viewer.stop().await.unwrap(), newcomer.stop().await.unwrap());
    // Who was there has what the playlist named then, without a gap; who comes has all rungs.
    assert_eq!(viewer.renditions.len(), 2);
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&viewer, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
    let gap_ms = report.rendition("source").unwrap().longest_arrival_gap_ms;
    assert!(gap_ms < 1_500, "the next part came after {gap_ms} ms, later than players hold back");
    assert_eq!(newcomer.renditions.len(), 3);
    check(&newcomer, &clip.expected().as_downloaded()).unwrap().assert_lossless();
    let told = farm.api(Method::GET, "/v1/streams/second", String::new()).await.unwrap();
    let events = told["events"].to_string();
    for word in ["\"unencoded\"", "\"encoded\"", "\"room_again\""] {
        assert!(events.contains(word), "no {word} in {events}");
    }
}
