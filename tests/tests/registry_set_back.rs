//! The registry is set back to an old copy of itself under live streams: nobody who is live notices, epochs do not go back, records
//! are soon those of the living again, and what had ended meanwhile ends again. Keys are those of the copy.

use std::time::Duration;

use hyper::Method;
use millrace_publisher::Publisher;
use millrace_registry::{Registry, RegistryConfig, StreamRecord};
use millrace_testkit::{ClipSpec, until, until_some};
use millrace_tests::{Channel, Live, ManyFarm, ManyOptions};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
/// A record of a stream that nobody makes: 30 s, a look each 5 s, and a busy machine.
const DESERTED: Duration = Duration::from_secs(45);

fn clip() -> ClipSpec {
    let gop = Some(30);
    ClipSpec { width: 320, height: 180, kbps: 250, seconds: 40, gop, ..ClipSpec::default() }
}

/// A registry that nobody writes to.
async fn observer(farm: &ManyFarm) -> Registry {
    let config = RegistryConfig { endpoints: farm.etcd.endpoints(), ..RegistryConfig::default() };
    let registry = Registry::connect(&config).unwrap();
    assert!(registry.synced(PATIENCE).await);
    registry
}

fn record(registry: &Registry, stream: &str) -> Option<StreamRecord> {
    registry.get(stream).unwrap()
}

/// Waits until a stream is recorded as live, or as over.
async fn recorded(registry: &Registry, stream: &str, is_live: bool, within: Duration) {
    let what = format!("{stream} is recorded, live: {is_live}");
    let is_so = || record(registry, stream).is_some_and(|it| it.node.is_some() == is_live);
    until(&what, within, is_so).await.unwrap();
}

/// Stops etcd, copies what it has stored away, or back, and starts it.
fn restart_etcd(farm: &mut ManyFarm, back: bool) {
    farm.etcd.kill_member(0);
    farm.etcd.copy_data(0, "old", back).unwrap();
    farm.etcd.start_member(0).unwrap();
}

/// Gives a channel another key, as soon as the registry answers.
async fn rotate(farm: &ManyFarm, channel: &Channel) -> Channel {
    let path = format!("/v1/channels/{}/rotate", channel.stream);
    let rotated = until_some("another key", PATIENCE, async || {
        farm.api(Method::POST, &path, "{}".to_owned()).await.ok()
    });
    let rotated = rotated.await.unwrap();
    let (address, _) = channel.rtmp_url.rsplit_once('/').unwrap();
    let rtmp_url = format!("{address}/{}", rotated["stream_key"].as_str().unwrap());
    Channel { rtmp_url, ..channel.clone() }
}

/// Whether an encoder would be let in now.
async fn is_let_in(channel: &Channel) -> bool {
    let (url, key) = channel.rtmp_url.rsplit_once('/').unwrap();
    match Publisher::connect(url, key).await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("bad_key"), "{error}");
            false
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_set_back_to_an_old_copy_costs_the_living_nothing() {
    let options = ManyOptions { rungs: vec![("144p", 144, 200)], ..ManyOptions::default() };
    let mut farm = ManyFarm::start(options).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let registry = observer(&farm).await;
    let first_key = farm.new_channel("rotated", router).await.unwrap();
    let ended = Live::begin(&farm, "ended", clip()).await;
    let moved = Live::begin(&farm, "moved", clip()).await;
    let (left, old_worker) = farm.made_by("router-1", "moved", None).await.unwrap();
    for stream in ["ended", "moved"] {
        recorded(&registry, stream, true, PATIENCE).await;
    }
    restart_etcd(&mut farm, false);

    // What the copy does not know: a key, a channel and two streams, an end, a node that was left and is fenced.
    let second_key = rotate(&farm, &first_key).await;
    let rotated = Live::begin_at(second_key.clone(), clip()).await;
    let begun = Live::begin(&farm, "begun", clip()).await;
    let over = ended.channel.clone();
    farm.api(Method::DELETE, "/v1/channels/ended", String::new()).await.unwrap();
    drop(ended);
    recorded(&registry, "ended", false, PATIENCE).await;
    farm.signal(&left, Signal::SIGSTOP).unwrap();
    let (node, _) = farm.made_by("router-1", "moved", Some(old_worker)).await.unwrap();
    assert_ne!(node, left);
    let lives = [&moved, &rotated, &begun];
    let before = record(&registry, "moved").unwrap().epoch;

    restart_etcd(&mut farm, true);
    recorded(&registry, "ended", true, PATIENCE).await;
    farm.signal(&left, Signal::SIGCONT).unwrap();
    farm.nodes_known(2).await.unwrap();
    let set_back = [moved.played_s(), rotated.played_s(), begun.played_s()];
    for (live, seconds) in lives.iter().zip(set_back) {
        live.play(seconds + 4.0).await;
        let view = farm.stream("router-1", &live.channel.stream).await.unwrap();
        let (node, epoch) = (&view.rest["node"], &view.rest["epoch"]);
        until("the record is as the stream", PATIENCE, || {
            record(&registry, &live.channel.stream).is_some_and(|it| {
                *epoch == it.epoch.to_string() && it.node.is_some_and(|it| *node == it.as_str())
            })
        })
        .await
        .unwrap();
    }
    assert!(record(&registry, "moved").unwrap().epoch >= before, "epochs do not go back");
    let is_gone = || !farm.workers(&left).contains(&old_worker);
    until("the fenced worker is let go", PATIENCE, is_gone).await.unwrap();
    for live in [moved, rotated, begun] {
        live.stop().await.assert_lossless();
    }

    // Keys are those of the copy: ended ones count again, later ones do not.
    assert!(is_let_in(&first_key).await && is_let_in(&over).await);
    assert!(!is_let_in(&second_key).await);
    recorded(&registry, "ended", false, DESERTED).await;
}
