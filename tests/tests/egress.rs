//! A node's network is part of its capacity: one whose egress suffices for one stream leaves the second to the next node, and what
//! fits nowhere is refused with words for the person at the encoder.

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, Publisher};
use millrace_tests::{ManyFarm, ManyOptions};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// Bits per second: the ladder of [`ClipSpec::default`] takes about 1.4 million of it, its source and sound alone about 0.7.
const FOR_ONE: u64 = 1_900_000;

/// An encoder that publishes to a channel of its own.
async fn publish(farm: &ManyFarm, name: &str) -> Publisher {
    let channel = farm.new_channel(name, farm.address("router-1", "rtmp").unwrap()).await.unwrap();
    let clip = ClipSpec { seconds: 30, ..ClipSpec::default() };
    Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap()
}

async fn ask(farm: &ManyFarm, path: &str) -> Value {
    farm.api(Method::GET, path, String::new()).await.unwrap()
}

#[tokio::test]
async fn a_node_with_egress_for_one_stream_leaves_the_second_to_the_next_and_a_third_is_refused() {
    let options = ManyOptions { egress_bits_per_second: Some(FOR_ONE), ..ManyOptions::default() };
    let farm = ManyFarm::start(options).await.unwrap();
    let _one = publish(&farm, "one").await;
    let (first, _) = farm.made_by("router-1", "one", None).await.unwrap();
    let _two = publish(&farm, "two").await;
    let (second, _) = farm.made_by("router-1", "two", None).await.unwrap();
    assert_ne!(first, second);
    let view = farm.stream("router-1", "two").await.unwrap();
    assert!(view.rest["unencoded_because"].is_null(), "it has its whole ladder: {view:?}");
    let why = ask(&farm, "/v1/streams/two/explain").await;
    let other = &why["why_node"]["alternatives"][0];
    assert_eq!((&other["name"], &other["reason"]), (&first.clone().into(), &"no_capacity".into()));
    let text = other["text"].as_str().unwrap();
    assert!(text.starts_with("egress needs ") && text.ends_with(" of 1900000 are free"), "{text}");

    let mut third = publish(&farm, "three").await;
    let status = third.wait(PATIENCE).await.unwrap();
    assert!(!status.success(), "{}", third.log());
    assert!(third.log().contains("no_capacity: the farm is full"), "{}", third.log());
    let said = farm.log("router-1").lines().any(|line| line.matches("egress needs").count() == 2);
    assert!(said, "each node's reason: {}", farm.log("router-1"));

    let nodes = ask(&farm, "/v1/nodes").await;
    for node in nodes["nodes"].as_array().unwrap() {
        let reserved = node["allocated"]["egress_bits_per_second"].as_u64().unwrap();
        assert!((FOR_ONE / 2..=FOR_ONE).contains(&reserved), "{node}");
        assert_eq!(node["egress_bits_per_second"], FOR_ONE);
        assert!(node["host_cpu_millicores"].as_u64().unwrap() >= 850, "a core of it: {node}");
        assert!(node["allocated"]["host_cpu_millicores"].as_u64().unwrap() > 0, "{node}");
    }
}
