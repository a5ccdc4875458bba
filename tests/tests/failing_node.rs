//! A node that takes streams and fails each at once, as one does whose workers may have less memory than a decoder needs: the router
//! asks it later and later, loses nothing by it, and gives it streams again once it works.

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, until_some};
use millrace_tests::{Live, ManyFarm, ManyOptions};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

const PATIENCE: Duration = Duration::from_secs(20);
/// Enough for a worker to begin, and not for the pictures that it decodes, bytes.
const TOO_LITTLE: &str = "worker_memory_bytes = 33554432";
const BAD: &str = "node-1";

async fn ask(farm: &ManyFarm, path: &str) -> Value {
    farm.api(Method::GET, path, String::new()).await.unwrap()
}

/// Waits until the router has said as often that it asks the bad node last, for so many seconds each time; when it asks it like any
/// other again.
async fn failed(farm: &ManyFarm, seconds: &[u64]) -> Instant {
    let said = until_some("the bad node has failed", PATIENCE, async || {
        let said = ask(farm, "/v1/decisions?kind=breaker_opened").await;
        let opened = said["decisions"].as_array()?;
        (opened.len() >= seconds.len()).then(|| opened.clone())
    });
    let said = said.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")));
    assert_eq!(said.len(), seconds.len(), "{said:#?}");
    for (opened, seconds) in said.iter().zip(seconds) {
        let text = format!("asked last for {seconds} s: ");
        let is_so = opened["text"].as_str().is_some_and(|it| it.starts_with(&text));
        assert!(opened["subject"] == BAD && is_so, "{text}{said:#?}");
    }
    Instant::now() + Duration::from_secs(*seconds.last().unwrap())
}

/// How often the bad node has taken a stream.
async fn taken(farm: &ManyFarm) -> usize {
    let said = ask(farm, "/v1/decisions?kind=admitted").await;
    let said = said["decisions"].as_array().unwrap().iter();
    said.filter(|decision| decision["program"] == BAD).count()
}

async fn node_of(farm: &ManyFarm, live: &Live) -> String {
    farm.made_by("router-1", &live.channel.stream, None).await.unwrap().0
}

#[tokio::test]
async fn a_node_that_fails_every_stream_is_asked_later_and_later_and_again_once_it_works() {
    let options =
        ManyOptions { nodes: 3, rungs: vec![("144p", 144, 200)], ..ManyOptions::default() };
    let mut farm = ManyFarm::start(options).await.unwrap();
    farm.next_lines(BAD, TOO_LITTLE);
    farm.restart(BAD).await.unwrap();
    farm.nodes_known(3).await.unwrap();
    let clip = ClipSpec {
        width: 320,
        height: 180,
        kbps: 250,
        seconds: 40,
        gop: Some(30),
        ..ClipSpec::default()
    };

    // As the emptiest it is the first that is asked, unless it has just failed.
    let one = Live::begin(&farm, "one", clip.clone()).await;
    sleep_until(failed(&farm, &[1]).await).await;
    let two = Live::begin(&farm, "two", clip.clone()).await;
    sleep_until(failed(&farm, &[1, 2]).await).await;
    assert_eq!([node_of(&farm, &one).await, node_of(&farm, &two).await], ["node-2", "node-3"]);
    farm.api(Method::POST, "/v1/nodes/node-2/drain", String::new()).await.unwrap();
    let asked_again = failed(&farm, &[1, 2, 4]).await;
    let three = Live::begin(&farm, "three", clip.clone()).await;
    let why = ask(&farm, "/v1/streams/three/explain").await;
    let others = why["why_node"]["alternatives"].as_array().unwrap();
    let is_left = |other: &&Value| other["name"] == BAD && other["reason"] == "not_asked";
    assert!(others.iter().any(|other| is_left(&other)), "{why:#}");
    let moved = until_some("the stream has moved", PATIENCE, async || {
        (node_of(&farm, &one).await == "node-3").then_some(())
    });
    moved.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("router-1")));
    assert_eq!(taken(&farm).await, 3, "each failure is a stream that it took");

    farm.next_lines(BAD, "");
    farm.restart(BAD).await.unwrap();
    farm.nodes_known(3).await.unwrap();
    sleep_until(asked_again).await;
    let four = Live::begin(&farm, "four", clip).await;
    assert_eq!(node_of(&farm, &four).await, BAD);
    let said = ask(&farm, "/v1/decisions?kind=breaker_closed").await;
    assert_eq!(said["decisions"][0]["subject"], json!(BAD), "{said}");
    four.play(2.0).await;
    for live in [one, two, three, four] {
        live.stop().await.assert_lossless();
    }
}
