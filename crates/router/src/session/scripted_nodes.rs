//! A session whose nodes a test plays, to lose them at a chosen moment. With real nodes moves are tested from outside.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use millrace_publisher::{Clip, Playout, Publisher, TagKind};
use millrace_registry::{ChannelRecord, NodeRecord, NodeState, Registry};
use millrace_telemetry::{Metrics, RelayThreads};
use millrace_types::{StreamKey, Versions};
use millrace_wire::{Admitted, Heartbeat, Hello, Message, MessageReader, MessageWriter};
use tokio::{
    net::{
        TcpListener,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{interval, timeout},
};

use crate::{Config, Router, placement::tests::node};

/// Longer than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// More often than a Link's silence is noticed.
const BEAT: Duration = Duration::from_millis(100);

/// A node that takes whatever stream it is asked for.
struct Node(TcpListener);

/// A stream that it has taken.
struct Taken {
    hello: Hello,
    reader: MessageReader<OwnedReadHalf>,
    writer: MessageWriter<OwnedWriteHalf>,
}

impl Node {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    async fn register(&self, registry: &Registry, name: &str, state: NodeState) {
        let link = self.0.local_addr().unwrap();
        let record = NodeRecord { state, ..node(name, link) };
        registry.put(&record).await.unwrap();
    }

    /// The next stream that it is asked for.
    async fn taken(&self) -> Taken {
        let (socket, _) = timeout(PATIENCE, self.0.accept()).await.expect("it is asked").unwrap();
        let (reader, writer) = socket.into_split();
        let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
        let Some(Message::Hello(hello)) = reader.next().await.unwrap() else {
            panic!("a router says hello first");
        };
        let admitted = Admitted {
            resume: Vec::new(),
            worker_pid: 1,
            next_seq: None,
            standby: hello.standby,
            beside: false,
            version: Versions::OURS.newest,
        };
        writer.send(&Message::Admitted(admitted)).await.unwrap();
        Taken { hello, reader, writer }
    }
}

impl Taken {
    /// Says that it lives, and takes items, until it is told to begin.
    async fn until_begin(mut self) -> Self {
        let (mut beat, mut seq) = (interval(BEAT), 0);
        loop {
            tokio::select! {
                message = self.reader.next() => match message.unwrap().expect("the router goes on") {
                    Message::Item(item) => seq = item.seq(),
                    Message::Begin(_) => return self,
                    _ => {}
                },
                _ = beat.tick() => {
                    let beat = Message::Heartbeat(Heartbeat { seq, lag_ms: 0 });
                    self.writer.send(&beat).await.unwrap();
                }
            }
        }
    }
}

async fn router(registry: &Registry) -> Router {
    let here: SocketAddr = ([127, 0, 0, 1], 0).into();
    let config = Config { listen_rtmp: here, listen_admin: here, ..Config::default() };
    let starting = crate::start(config, registry.clone(), Metrics::new(), RelayThreads::default());
    starting.await.unwrap()
}

#[tokio::test]
async fn nobody_goes_on_with_a_worker_that_was_lost_while_its_stream_was_crossing_to_another_node()
{
    let (registry, key) =
        (Registry::in_memory(), StreamKey::from_random("live".parse().unwrap(), [1; 17]));
    let json = serde_json::json!({ "channel": "live", "key_hashes": [key.hash()] });
    registry.put(&serde_json::from_value::<ChannelRecord>(json).unwrap()).await.unwrap();
    let (writer, standby) = (Node::new().await, Node::new().await);
    writer.register(&registry, "a", NodeState::Ready).await;
    let router = router(&registry).await;
    let url = format!("rtmp://{}/live", router.addresses.rtmp);
    let mut publisher = Publisher::connect(&url, &key.reveal()).await.unwrap();
    let is_mute = Arc::new(AtomicBool::new(false));
    let muted = is_mute.clone();
    let playing = tokio::spawn(async move {
        let heard = |kind| kind != TagKind::Audio || !muted.load(Relaxed);
        publisher.play(Playout::endless(&Clip::demo()).filter(|due| heard(due.tag.kind))).await
    });

    // A worker that has all the router has sent may be gone on with.
    drop(writer.taken().await);
    let again = writer.taken().await;
    assert!(again.hello.replay_from.is_some(), "{:?}", again.hello);
    let again = tokio::spawn(again.until_begin());

    standby.register(&registry, "b", NodeState::Ready).await;
    writer.register(&registry, "a", NodeState::Draining).await;
    let other = standby.taken().await;
    assert!(other.hello.standby, "{:?}", other.hello);
    // Without sound the stream crosses for as long as the router waits for that.
    is_mute.store(true, Relaxed);
    let other = timeout(PATIENCE, other.until_begin()).await.expect("it begins");
    again.abort();
    let next = tokio::select! {
        taken = writer.taken() => taken,
        taken = standby.taken() => taken,
    };
    assert!(!next.hello.standby, "the stream is placed anew: {:?}", next.hello);
    assert_eq!(
        next.hello.replay_from, None,
        "its worker was given sound behind pictures that it lacks"
    );
    drop(other);
    playing.abort();
    router.stop().await;
}
