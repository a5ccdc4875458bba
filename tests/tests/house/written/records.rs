//! Records of the registry, as JSON.

use millrace_lifecycle::Takeovers;
use millrace_registry::{
    Allocated, ChannelRecord, EndingKey, MoveRecord, NodeRecord, NodeState, Order, OrderRecord,
    OriginRecord, Priority, RouterRecord, StreamRecord,
};
use millrace_types::Wall;

use super::{
    Form, Samples,
    json::{self, Json},
    samples::{EPOCH, ladder, speaks},
};

pub const FORM: Form<Json> =
    Form { file: "records", samples: records, write: json::write, read: json::read };

const NOW: Wall = Wall(1_795_222_923_000_000);

#[expect(clippy::too_many_lines, reason = "a list")]
fn records(version: u32) -> Samples<Json> {
    let at = |port| ([192, 0, 2, 1], port).into();
    let speaks = speaks(version);
    let node = NodeRecord {
        node: "node-1".parse().unwrap(),
        link: at(7_001),
        admin: at(9_102),
        state: NodeState::Draining,
        decode_pixels_per_second: 400_000_000,
        encode_pixels_per_second: 300_000_000,
        workers: 8,
        memory_bytes: 1 << 33,
        host_cpu_millicores: None,
        egress_bits_per_second: None,
        allocated: Allocated {
            decode_pixels_per_second: 62_208_000,
            encode_pixels_per_second: 27_648_000,
            workers: 1,
            memory_bytes: 1 << 30,
            ..Allocated::default()
        },
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        started: NOW,
        version: "0.1.0".to_owned(),
        speaks,
    };
    let mut takeovers = Takeovers::default();
    takeovers.asked(NOW, [192, 0, 2, 7].into());
    takeovers.asked(NOW, [192, 0, 2, 8].into());
    let stream = StreamRecord {
        stream: "live".parse().unwrap(),
        router: "router-1".parse().unwrap(),
        epoch: EPOCH,
        node: Some("node-1".parse().unwrap()),
        origin: Some("origin-1".parse().unwrap()),
        ladder: ladder(),
        since: NOW,
        takeovers,
        source_pixels_per_second: if version > 1 { 62_208_000 } else { 0 },
        hot: version > 1,
    };
    let channel = ChannelRecord {
        channel: "live".parse().unwrap(),
        key_hashes: vec!["a".repeat(64)],
        ending_keys: vec![EndingKey { hash: "b".repeat(64), until: NOW }],
        priority: Priority::Partner,
        low_latency: true,
        dual: true,
    };
    let plain = ChannelRecord {
        ending_keys: Vec::new(),
        priority: Priority::Standard,
        low_latency: false,
        dual: false,
        ..channel.clone()
    };
    let order = OrderRecord {
        node: "node-1".parse().unwrap(),
        order: Order::Drain,
        since: NOW,
        only_run: Some(NOW),
    };
    let router = RouterRecord {
        router: "router-1".parse().unwrap(),
        admin: at(9_101),
        rtmp: at(1_935),
        speaks,
    };
    let origin = OriginRecord {
        origin: "origin-1".parse().unwrap(),
        intake: at(7_002),
        playback: at(8_080),
        admin: at(9_103),
        speaks,
        viewers: (version > 1).then(|| ("live".parse().unwrap(), 1_200)).into_iter().collect(),
    };
    let counting = NodeRecord {
        host_cpu_millicores: Some(3_400),
        egress_bits_per_second: Some(850_000_000),
        allocated: Allocated {
            host_cpu_millicores: 11,
            egress_bits_per_second: 13_825_000,
            ..node.allocated
        },
        ..node.clone()
    };
    let move_order = MoveRecord {
        stream: "live".parse().unwrap(),
        generation: 3,
        from: "node-1".parse().unwrap(),
        to: Some("node-2".parse().unwrap()),
        since: NOW,
    };
    let since_version_2 = [
        ("node_counting_host_cpu_and_egress", Json::of(counting)),
        ("move", Json::of(move_order.clone())),
        ("move_anywhere", Json::of(MoveRecord { to: None, ..move_order })),
    ];
    let since_version_2 = since_version_2.into_iter().filter(|_| version > 1);
    let all = vec![
        ("node", Json::of(node)),
        ("router", Json::of(router)),
        ("origin", Json::of(origin)),
        ("stream", Json::of(stream)),
        ("channel", Json::of(channel)),
        ("channel_plain", Json::of(plain)),
        ("order", Json::of(order.clone())),
        ("order_cordon", Json::of(OrderRecord { order: Order::Cordon, only_run: None, ..order })),
    ];
    all.into_iter().chain(since_version_2).collect()
}
