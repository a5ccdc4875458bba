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
use millrace_types::{EndReason, Epoch, Ladder, Rung, RungKind, Versions, WorkerExit};
use millrace_wire::{End, Hello, Message, PartAck, Start, Work};
use node::Node;
use rendition::Rendition;

const CLIP: Clip = clip::SMALL;

fn hello() -> Hello {
    let rung = |id: &str, kind| Rung { id: id.parse().unwrap(), kind };
    Hello {
        stream: "test".parse().unwrap(),
        epoch: Epoch { generation: 1, placement: 1 },
        ladder: Ladder {
            rungs: vec![rung("source", RungKind::Source), rung("audio", RungKind::Audio)],
        },
        part_target_ms: 334,
        hold_back_ms: 1_500,
        source_pixels_per_second: 6_912_000,
        origin_intake: Some(([127, 0, 0, 1], 7002).into()),
        replay_from: Some(0),
        standby: false,
        announced: Default::default(),
        beside: None,
        speaks: Versions::OURS,
        given_up: Vec::new(),
        whole_from: 0,
    }
}

fn start() -> Message {
    let Hello { stream, epoch, ladder, .. } = hello();
    Message::Start(Start {
        stream,
        epoch,
        ladder,
        resume: vec![],
        hello: Some(hello()),
        version: 2,
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
    let Message::Ready(ready) = node.hear()? else { panic!("a worker says Ready first") };
    assert_eq!((ready.speaks, ready.work), (Versions::OURS, None));
    node.say(&start())?;
    for item in before {
        node.say(&Message::Item(item.clone()))?;
    }
    let lost = node.parts_until_beat()?;
    let Some(Message::Part(first)) = lost.iter().find(|it| matches!(it, Message::Part(_))) else {
        panic!("no part was made")
    };
    let ack =
        PartAck { rung: first.record.rung.clone(), msn: first.record.msn, part: first.record.part };
    node.say(&Message::PartAck(ack.clone()))?;
    node.parts_until_beat()?;
    node.reconnect()?;
    let Message::Ready(ready) = node.hear()? else { panic!("a worker says Ready first") };
    let next_seq = before.last().map_or(0, |item| item.seq() + 1);
    assert_eq!(ready.work, Some(Work { hello: hello(), next_seq, acked: vec![ack], ended: None }));
    let later = Hello { epoch: Epoch { generation: 1, placement: 2 }, ..hello() };
    let Hello { stream, epoch, ladder, .. } = later.clone();
    let again =
        Start { stream, epoch, ladder, resume: vec![], hello: Some(later.clone()), version: 2 };
    node.say(&Message::Start(again))?;
    let repeated = node.parts_until_beat()?;
    node.reconnect()?;
    let Message::Ready(ready) = node.hear()? else { panic!("a worker says Ready first") };
    assert_eq!(ready.work.map(|work| work.hello), Some(later), "what holds now, not what began");
    for item in after {
        node.say(&Message::Item(item.clone()))?;
    }
    node.say(&Message::End(End { continues: false }))?;
    let said = [repeated, node.said_to_the_end(WorkerExit::Ended)?].concat();
    let its_end = said.iter().find_map(|message| match message {
        Message::Ended(ended) => Some(ended.reason),
        _ => None,
    });
    assert_eq!(its_end, Some(EndReason::Stopped), "how it dies, only its parent could learn else");
    let first = Message::Part(first.clone());
    assert!(!said.contains(&first), "what was acknowledged is not said again");
    let mut source = Rendition::of(&said, "source");
    assert!(!source.inits.is_empty());
    if matches!(&first, Message::Part(part) if part.record.rung.as_str() == "source") {
        source.parts.splice(0..0, Rendition::of(&[first], "source").parts);
    }
    assert_eq!(source.decoded_frames()?, 180);
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
