//! The registry may go at any moment: what is live stays so, failover included, new streams are placed from what was last
//! known, and an empty registry is filled again by the living, and by an operator's backup. What happened can be explained.

use std::time::Duration;

use hyper::Method;
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, Scratch, check, until_some};
use millrace_tests::{ManyFarm, ManyOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// The time line of a stream holds these in this order: what, who, why.
fn assert_in_order(timeline: &Value, expected: &[(&str, &str, &str)]) {
    let mut left = expected.iter();
    let mut next = left.next();
    for decision in timeline.as_array().unwrap() {
        let word = |name: &str| decision[name].as_str().unwrap_or_default().to_owned();
        let said = (word("kind"), word("subject"), word("reason"));
        if next.is_some_and(|(kind, who, why)| {
            said == (kind.to_string(), who.to_string(), why.to_string())
        }) {
            next = left.next();
        }
    }
    assert_eq!(next, None, "the time line lacks this, or has it too early: {timeline:#}");
}

/// `millrace explain` says where the stream is, why, and what happened, after its worker and then its node were killed.
fn assert_explained(farm: &ManyFarm, stream: &str, killed: &str, next: &str) {
    let why = farm.operator_json(&["explain", stream]).unwrap();
    assert_eq!((&why["node"], &why["why_node"]["subject"]), (&json!(next), &json!(next)));
    assert_eq!(why["why_node"]["reason"], "next_best");
    let other = &why["why_node"]["alternatives"][0];
    assert_eq!((&other["name"], &other["reason"]), (&json!(killed), &json!("node_unavailable")));
    assert_in_order(
        &why["timeline"],
        &[
            ("origin_chosen", "origin-1", "by_name"),
            ("claimed", "", "begins"),
            ("placed", killed, "most_free"),
            ("placement_lost", killed, "killed_signal"),
            ("placed", killed, "was_here"),
            ("placement_lost", killed, "link_broke"),
            ("placed", next, "next_best"),
        ],
    );
    let kinds = |program: &str| -> Vec<&str> {
        let timeline = why["timeline"].as_array().unwrap().iter();
        let of_program = timeline.filter(|decision| decision["program"] == program);
        of_program.map(|decision| decision["kind"].as_str().unwrap()).collect()
    };
    assert!(kinds(next).contains(&"admitted"), "{why:#}");
    let opened = kinds("origin-1").iter().filter(|kind| **kind == "opened").count();
    assert_eq!(opened, 3, "each worker that wrote: {why:#}");
    assert!(kinds("api-1").contains(&"channel_created"), "{why:#}");
    assert_eq!(why["missing"][0]["name"], killed, "{why:#}");
    let text = farm.operator(&["explain", stream]).unwrap();
    println!("{text}");
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in:\n{text}"));
    assert!(at("most_free") < at("killed_signal") && at("killed_signal") < at("link_broke"));
    assert!(at("not ") < at("AT (UTC)") && at("no answer from") > at("link_broke"));
}

/// Waits until the farm is seen through the registry as it is: both nodes, and the stream at its node.
async fn reconciled(farm: &ManyFarm, stream: &str, node: &str) {
    farm.nodes_known(2).await.unwrap();
    let seen = until_some("the stream is known again", Duration::from_secs(15), async || {
        let path = format!("/v1/streams/{stream}");
        let view = farm.api(Method::GET, &path, String::new()).await.ok()?;
        (view["node"] == node).then_some(())
    });
    seen.await.unwrap();
}

/// An operator who looks at the nodes is told that etcd is gone.
async fn etcds_loss_is_said(farm: &ManyFarm) {
    let seen = until_some("etcd's loss is seen", Duration::from_secs(15), async || {
        let nodes = farm.operator_json(&["nodes"]).ok()?;
        (nodes["faults"][0]["what"] == "registry").then_some(())
    });
    seen.await.unwrap();
}

/// What needs the registry does so again: channels come back from the backup, a dry run first.
async fn restored_from(farm: &ManyFarm, backup: &str) {
    let channels = || farm.operator_json(&["channels", "list"]).unwrap()["channels"].clone();
    let gone = until_some("channels are gone with etcd", Duration::from_secs(15), async || {
        (channels() == json!([])).then_some(())
    });
    gone.await.unwrap();
    let dry = farm.operator(&["restore", backup, "--dry-run"]).unwrap();
    assert!(dry.contains("would be: 2 added") && channels() == json!([]), "{dry}");
    let restored = farm.operator(&["restore", backup]).unwrap();
    assert!(
        restored.contains("channels/late  added") && restored.contains("2 added"),
        "{restored}"
    );
    let again = farm.operator(&["restore", backup]).unwrap();
    assert!(again.contains("0 added, 0 replaced, 2 unchanged"), "{again}");
}

#[tokio::test]
async fn with_the_registry_gone_streams_live_on_move_and_begin_and_an_empty_one_is_filled_again() {
    let mut farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("live", router).await.unwrap();
    let late = farm.new_channel("late", router).await.unwrap();
    let clip = ClipSpec { seconds: 26, ..ClipSpec::default() };
    let short = ClipSpec { seconds: 6, ..ClipSpec::default() };
    let (file, short_file) = (clip.file().unwrap(), short.file().unwrap());
    let mut publisher = Publisher::start(&file, &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(2.0, Duration::from_secs(20)).await.unwrap();

    let scratch = Scratch::new("backup").unwrap();
    let backup = scratch.path().join("farm.json");
    let backup = backup.to_str().unwrap();
    farm.operator(&["backup", backup]).unwrap();
    assert_eq!(farm.operator_json(&["streams"]).unwrap()["faults"], json!([]));

    farm.etcd.kill_member(0);
    player.media(5.0, Duration::from_secs(20)).await.unwrap();
    etcds_loss_is_said(&farm).await;
    let (node, worker) = farm.made_by("router-1", &channel.stream, None).await.unwrap();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let (_, worker) = farm.made_by("router-1", &channel.stream, Some(worker)).await.unwrap();
    player.media(9.0, Duration::from_secs(20)).await.unwrap();
    farm.kill(&node).unwrap();
    let (next, _) = farm.made_by("router-1", &channel.stream, Some(worker)).await.unwrap();
    assert_ne!(next, node);
    assert_explained(&farm, &channel.stream, &node, &next);

    let mut newcomer = Publisher::start(&short_file, &late.rtmp_url).unwrap();
    let watcher = Player::start(&late.playback_url, PlayerOptions::default());
    assert!(newcomer.wait(Duration::from_secs(30)).await.unwrap().success(), "{}", newcomer.log());
    watcher.media(5.8, Duration::from_secs(15)).await.unwrap();
    let report = check(&watcher.stop().await.unwrap(), &short.expected().at_least(0..=170));
    report.unwrap().assert_lossless();

    farm.etcd.wipe_member(0).unwrap();
    farm.etcd.start_member(0).unwrap();
    farm.start_again(&node).await.unwrap();
    reconciled(&farm, &channel.stream, &next).await;
    restored_from(&farm, backup).await;
    let mut newcomer = Publisher::start(&short_file, &late.rtmp_url).unwrap();
    assert!(newcomer.wait(Duration::from_secs(30)).await.unwrap().success(), "{}", newcomer.log());
    assert!(
        publisher.wait(Duration::from_secs(60)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    player.media(25.8, Duration::from_secs(15)).await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let recording = player.stop().await.unwrap();
    check(&recording, &clip.expected().at_least(0..=last)).unwrap().assert_lossless();
}
