//! `millrace-worker-av` as a process: confined, it decodes, scales and encodes a ladder within its memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "../../../worker/tests/pipeline/clip.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod clip;
#[path = "../../../worker/tests/process/node.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod node;
#[path = "../../../worker/tests/pipeline/rendition.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod rendition;

use anyhow::Result;
use clip::Clip;
use millrace_types::{Epoch, FrameRate, Ladder, Rung, RungKind, VideoRung, WorkerExit};
use millrace_wire::{End, Message, Start};
use node::Node;
use rendition::Rendition;

const CLIP: Clip = Clip { width: 1920, height: 1080, ..clip::SMALL };

fn rung(id: &str, kind: RungKind) -> Rung {
    Rung { id: id.parse().unwrap(), kind }
}

fn encoded(id: &str, width: u32, height: u32, bitrate_kbps: u32) -> Rung {
    let frame_rate = FrameRate { num: 30, den: 1 };
    rung(id, RungKind::Video(VideoRung { width, height, frame_rate, halved: false, bitrate_kbps }))
}

#[test]
fn a_ladder_of_three_is_encoded_in_a_confined_process_of_at_most_120_mib() -> Result<()> {
    let items = CLIP.items()?;
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker-av"), true)?;
    let Message::Ready(ready) = node.hear()? else { panic!("a worker says Ready first") };
    assert!(ready.sandbox.contains(&("seccomp".to_owned(), "applied".to_owned())), "{ready:?}");
    node.say(&Message::Start(Start {
        stream: "test".parse().unwrap(),
        epoch: Epoch { generation: 1, placement: 1 },
        ladder: Ladder {
            rungs: vec![
                rung("source", RungKind::Source),
                encoded("720p", 1280, 720, 2_500),
                encoded("480p", 854, 480, 1_200),
                encoded("360p", 640, 360, 700),
                rung("audio", RungKind::Audio),
            ],
        },
        resume: vec![],
        hello: None,
        version: 2,
    }))?;
    for item in items {
        node.say(&Message::Item(item))?;
    }
    let first = node.parts_until_beat()?;
    let pss_kib = node.pss_kib()?;
    let cpu = node.cpu_seconds()? / f64::from(CLIP.seconds);
    println!("worker-av: {pss_kib} KiB, {cpu:.3} CPU seconds per second of the stream");
    assert!(pss_kib <= 120 << 10, "{pss_kib} KiB");
    node.say(&Message::End(End { continues: false }))?;
    let out = [first, node.said_to_the_end(WorkerExit::Ended)?].concat();
    for id in ["source", "720p", "480p", "360p"] {
        assert_eq!(Rendition::of(&out, id).decoded_frames()?, 180, "{id}");
    }
    Ok(())
}

#[test]
fn rubbish_instead_of_pictures_ends_the_worker_as_bad_input() -> Result<()> {
    let mut node = Node::spawn(env!("CARGO_BIN_EXE_millrace-worker-av"), true)?;
    node.hear()?;
    let ladder = Ladder { rungs: vec![encoded("360p", 640, 360, 700)] };
    let epoch = Epoch { generation: 1, placement: 1 };
    let stream = "test".parse().unwrap();
    node.say(&Message::Start(Start {
        stream,
        epoch,
        ladder,
        resume: vec![],
        hello: None,
        version: 2,
    }))?;
    for item in CLIP.items()? {
        let rubbish = match item {
            millrace_media::Item::Unit(mut unit) => {
                unit.bytes = vec![0xa5; unit.bytes.len()].into();
                millrace_media::Item::Unit(unit)
            }
            other => other,
        };
        // It may have seen enough already.
        if node.say(&Message::Item(rubbish)).is_err() {
            break;
        }
    }
    node.said_to_the_end(WorkerExit::BadInput)?;
    Ok(())
}
