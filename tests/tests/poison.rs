//! A stream that kills its encoders on one node after the other goes on without them, under the same names.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use millrace_testkit::{
    ClipSpec, Player, PlayerOptions, Publisher, Recording, RenditionRecording, check, until_some,
};
use millrace_tests::{ManyFarm, ManyOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[tokio::test]
async fn a_stream_whose_workers_die_on_two_nodes_goes_on_unencoded_on_every_rung() {
    poisoned(60).await;
}

#[tokio::test]
async fn one_whose_segments_do_not_all_begin_with_a_keyframe_loses_nothing_on_the_source_either() {
    poisoned(120).await;
}

/// Publishes a clip with a keyframe each `gop` frames, kills what encodes it, and looks at what a player is given.
async fn poisoned(gop: u32) {
    let farm = ManyFarm::start(ManyOptions::default()).await.unwrap();
    let router = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("poison", router).await.unwrap();
    let clip = ClipSpec { seconds: 20, gop: Some(gop), ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let begun = Instant::now();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(5.0, Duration::from_secs(20)).await.unwrap();
    // Each worker is killed the moment it appears, until the farm stops encoding.
    let (mut killed, mut nodes) = (None, BTreeSet::new());
    let unencoded = until_some("the farm stops encoding", Duration::from_secs(10), async || {
        let view = farm.stream("router-1", &channel.stream).await.ok()?;
        let encodes = view.rest["rungs"].to_string().contains("bitrate_kbps");
        if let Some(pid) = view.worker_pid.filter(|&pid| encodes && Some(pid) != killed) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            killed = Some(pid);
            nodes.insert(view.rest["node"].to_string());
        }
        (!encodes && view.state == "live").then_some(view.restarts)
    });
    let restarts = unencoded.await.unwrap();
    let quarantined_at = (begun.elapsed().as_secs_f64() * clip.fps.rate()) as u32;
    println!("unencoded after {restarts} workers on {nodes:?}");
    assert_eq!(nodes.len(), 2, "the second node was tried, and no third worker on it");
    assert_eq!(restarts, 3, "two on the node that had published, one on the other");
    assert!(
        publisher.wait(Duration::from_secs(40)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    player.media(f64::from(clip.seconds) - 0.2, Duration::from_secs(8)).await.unwrap();
    let recording = player.stop().await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let expected = clip.expected().at_least(0..=last);
    let only = |wanted: &[&str]| {
        let is_wanted = |rung: &&RenditionRecording| wanted.contains(&rung.name.as_str());
        let renditions = recording.renditions.iter().filter(is_wanted).cloned().collect();
        Recording { renditions, ..recording.clone() }
    };
    check(&only(&["source", "audio"]), &expected).unwrap().assert_lossless();

    // What an encoder made and what passes through do not join inside a GOP: up to the next keyframe it is told to be missing, and
    // nothing else is, nor does anything of it come that does not decode.
    let encoded = check(&only(&["240p", "144p"]), &expected).unwrap();
    println!("{encoded}");
    for rung in &encoded.renditions {
        let video = rung.video.as_ref().unwrap();
        assert_eq!(rung.decode_errors, Vec::<String>::new(), "{}", rung.name);
        let wrong = [&video.repeated, &video.out_of_order, &video.unexpected];
        assert!(wrong.iter().all(|frames| frames.is_empty()), "{}: {wrong:?}", rung.name);
        assert!(video.unreadable_at_s.is_empty(), "{}: {video:?}", rung.name);
        let (first, end) = (video.missing[0], video.missing.last().unwrap() + 1);
        assert_eq!(video.missing, (first..end).collect::<Vec<_>>(), "{}", rung.name);
        let next_keyframe = (quarantined_at / gop + 1) * gop;
        assert!(end % gop == 0 && end <= next_keyframe, "{}: {first} to {end}", rung.name);
        let all_told = |told: &String| told.ends_with("is a gap");
        assert!(rung.missing_parts.iter().all(all_told), "{:?}", rung.missing_parts);
        let media_s = recording.rendition(&rung.name).unwrap().media_s();
        assert!(media_s > f64::from(clip.seconds) - 0.5, "{} lasts {media_s} s", rung.name);
    }
}
