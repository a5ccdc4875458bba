//! A node that flushes a stream, before a router that the test plays: of a real one's streams the flush is over too soon to tell.

use std::time::Duration;

use millrace_media::{Input, Item, SourceLimits, Timeline, TimelineStart};
use millrace_publisher::{Clip, TagKind};
use millrace_tests::{ManyFarm, ManyOptions};
use millrace_types::{EndReason, Epoch, Ladder, Mono, Msn, Rung, RungKind, Versions, Wall};
use millrace_wire::{Begin, End, Hello, Message, MessageReader, MessageWriter};
use tokio::{net::TcpStream, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);
/// More than a few parts, less than what a node may hold of a worker's.
const MEDIA_MS: u32 = 4_000;

/// Some seconds of a clip as a router sends them, and the number of their first segment.
fn records() -> (Msn, Vec<Item>) {
    let (utc, limits) = (Wall(1_795_000_000_000_000_000), SourceLimits::default());
    let start = TimelineStart { utc, resume: None, low_latency: false, limits };
    let (mut timeline, mut items) = (Timeline::new(start), Vec::new());
    let tags = Clip::demo().tags.into_iter();
    for tag in tags.take_while(|tag| tag.timestamp_ms < MEDIA_MS) {
        let (timestamp_ms, body) = (tag.timestamp_ms, tag.body);
        let input = match tag.kind {
            TagKind::Video => Input::Video { timestamp_ms, body },
            TagKind::Audio => Input::Audio { timestamp_ms, body },
            _ => continue,
        };
        timeline.handle(Mono(Duration::from_millis(timestamp_ms.into())), input).unwrap();
        items.extend(std::iter::from_fn(|| timeline.poll()));
    }
    let msn = |item: &Item| match item {
        Item::Unit(unit) => Some(unit.stamp.segment.msn),
        _ => None,
    };
    (items.iter().find_map(msn).expect("a picture"), items)
}

fn hello() -> Hello {
    let rung = |id: &str, kind| Rung { id: id.parse().unwrap(), kind };
    Hello {
        stream: "flushed".parse().unwrap(),
        epoch: Epoch { generation: 1, placement: 1 },
        ladder: Ladder {
            rungs: vec![rung("source", RungKind::Source), rung("audio", RungKind::Audio)],
        },
        part_target_ms: 334,
        hold_back_ms: 1_500,
        source_pixels_per_second: 0,
        origin_intake: None,
        replay_from: None,
        standby: true,
        beside: None,
        announced: Default::default(),
        speaks: Versions::OURS,
        given_up: Vec::new(),
        whole_from: 0,
    }
}

/// The flush is that of a standby: what it has made waits to be published, so that it lasts for as long as the node lets it.
#[tokio::test]
async fn a_node_that_flushes_a_stream_takes_its_router_to_which_it_does_not_listen_for_no_silent_one()
 {
    let options = ManyOptions { nodes: 1, rungs: Vec::new(), ..ManyOptions::default() };
    let farm = ManyFarm::start(options).await.unwrap();
    let link = TcpStream::connect(farm.address("node-1", "link").unwrap()).await.unwrap();
    let (reader, writer) = link.into_split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    let (msn, items) = records();
    writer.push(&Message::Hello(hello()));
    writer.push(&Message::Begin(Begin { msn }));
    items.into_iter().for_each(|item| writer.push(&Message::Item(item)));
    writer.push(&Message::End(End { continues: true }));
    writer.flush().await.unwrap();
    let last_word = timeout(PATIENCE, async {
        loop {
            match reader.next().await.unwrap() {
                Some(Message::Admitted(_) | Message::Heartbeat(_)) => {}
                other => return other,
            }
        }
    });
    let last_word = last_word.await.expect("a last word");
    let Some(Message::Ended(ended)) = last_word else {
        panic!("{last_word:?}\n{}", farm.log("node-1"));
    };
    assert_eq!(
        ended.reason,
        EndReason::DrainTimeout,
        "it flushed for as long as it may: {}",
        ended.text
    );
}
