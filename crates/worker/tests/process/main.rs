//! `millrace-worker` as a process: confined, fed over its socket, adopted by a second daemon, small, and without C.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "../pipeline/clip.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod clip;
mod node;
#[path = "../pipeline/rendition.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod rendition;

use std::time::Duration;

use anyhow::Result;
use clip::Clip;
use millrace_media::{Item, Track};
use millrace_sandbox::Death;
use millrace_types::{Epoch, Ladder, Rung, RungKind, WorkerExit};
use millrace_wire::{End, Message, Start};
use node::Node;
use rendition::Rendition;

const CLIP: Clip = clip::SMALL;

fn start() -> Message {
    let rung = |id: &str, kind| Rung { id: id.parse().unwrap(), kind };
    Message::Start(Start {
        stream: "test".parse().unwrap(),
        epoch: Epoch { generation: 1, placement: 1 },
        ladder: Ladder {
            rungs: vec![rung("source", RungKind::Source), rung("audio", RungKind::Audio)],
        },
        resume: vec![],
    })
}

#[test]
fn a_stream_goes_through_a_confined_process_that_maps_no_c_library() -> Result<()> {
    let items = CLIP.items()?;
    let is_audio = |item: &&Item| matches!(item, Item::Unit(unit) if unit.track == Track::Audio);
    let audio_frames = items.iter().filter(is_audio).count();
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker"), true)?;
    let Message::Ready(ready) = node.hear()? else { panic!("a worker says Ready first") };
    assert!(ready.sandbox.contains(&("seccomp".to_owned(), "applied".to_owned())), "{ready:?}");
    node.say(&start())?;
    for item in items {
        node.say(&Message::Item(item))?;
    }
    let first = node.parts_until_beat()?;
    for library in node.libraries()? {
        let name = library.rsplit('/').next().unwrap_or_default();
        let system = ["libc.so", "libgcc_s.so", "libm.so", "ld-linux"];
        assert!(system.iter().any(|prefix| name.starts_with(prefix)), "{library}");
    }
    assert!(node.pss_kib()? <= 12 << 10, "{} KiB", node.pss_kib()?);
    node.say(&Message::End(End { continues: false }))?;
    let out = [first, node.said_to_the_end(WorkerExit::Ended)?].concat();
    assert_eq!(Rendition::of(&out, "source").decoded_frames()?, 180);
    assert_eq!(Rendition::of(&out, "audio").packets()?.len(), audio_frames);
    Ok(())
}

#[test]
fn a_worker_survives_its_daemon_and_tells_the_next_what_was_not_acknowledged() -> Result<()> {
    let items = CLIP.items()?;
    let (before, after) = items.split_at(items.len() / 2);
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker"), false)?;
    node.hear()?;
    node.say(&start())?;
    for item in before {
        node.say(&Message::Item(item.clone()))?;
    }
    let lost = node.parts_until_beat()?;
    assert!(lost.iter().any(|message| matches!(message, Message::Part(_))));
    node.reconnect()?;
    assert!(matches!(node.hear()?, Message::Ready(_)));
    for item in after {
        node.say(&Message::Item(item.clone()))?;
    }
    node.say(&Message::End(End { continues: false }))?;
    let out = node.said_to_the_end(WorkerExit::Ended)?;
    let source = Rendition::of(&out, "source");
    assert_eq!((source.inits.len(), source.decoded_frames()?), (1, 180));
    Ok(())
}

#[test]
fn a_worker_without_an_encoder_says_so_by_its_exit_code() -> Result<()> {
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker"), true)?;
    node.hear()?;
    let Message::Start(mut start) = start() else { unreachable!() };
    start.ladder.rungs[0].kind = RungKind::Video(millrace_types::VideoRung {
        width: 640,
        height: 360,
        frame_rate: millrace_types::FrameRate { num: 30, den: 1 },
        halved: false,
        bitrate_kbps: 500,
    });
    node.say(&Message::Start(start))?;
    node.said_to_the_end(WorkerExit::NoEncoder)?;
    Ok(())
}

#[test]
fn a_spare_costs_nothing_while_it_waits_for_work() -> Result<()> {
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker"), true)?;
    node.hear()?;
    let before = node.cpu_seconds()?;
    node.silence(std::time::Duration::from_secs(1))?;
    assert!(node.cpu_seconds()? - before <= 0.05);
    Ok(())
}

#[test]
fn a_worker_that_no_daemon_comes_back_to_ends_itself_after_a_minute() -> Result<()> {
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker"), true)?;
    node.hear()?;
    node.say(&start())?;
    for item in CLIP.items()? {
        node.say(&Message::Item(item))?;
    }
    node.parts_until_beat()?;
    let (stayed, death) = node.leave(Duration::from_secs(75))?;
    assert_eq!(death, Death::Exited(WorkerExit::Ended.code()));
    assert!((55.0..70.0).contains(&stayed.as_secs_f64()), "{stayed:?}");
    Ok(())
}
