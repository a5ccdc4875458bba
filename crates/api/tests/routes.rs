//! The API over real connections: an in-memory registry, and routers and nodes that are gone or answer from a script.
//! With the real ones it is tested in `crates/millrace/tests`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use axum::{Json, Router, routing::get};
use millrace_api::{Addresses, Api, Config, Role, TokenFile, start};
use millrace_registry::{
    ChannelRecord, MoveRecord, NodeRecord, NodeState, Order, OrderRecord, OriginRecord, Registry,
    RouterRecord, StreamRecord,
};
use millrace_telemetry::Metrics;
use millrace_testkit::{HttpClient, free_port, until_some};
use millrace_types::{Epoch, StreamKey, Wall};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const WITHIN: Duration = Duration::from_secs(5);
/// Longer than anything that is waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct Bench {
    registry: Registry,
    api: Api,
    http: HttpClient,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config { listen_api: here, listen_admin: here, ..config };
        let registry = Registry::in_memory();
        let api = start(config, registry.clone(), Metrics::new()).await.unwrap();
        Self { registry, api, http: HttpClient::default() }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let Addresses { api, .. } = self.api.addresses;
        let url = format!("http://{api}{path}");
        let method = method.parse().unwrap();
        let answer = self.http.send(method, &url, body.to_owned().into(), WITHIN).await.unwrap();
        let value = serde_json::from_str(&answer.text());
        (answer.status.as_u16(), value.unwrap_or_else(|_| json!(answer.text())))
    }

    async fn add_router(&self, name: &str, admin: SocketAddr) {
        let record = RouterRecord {
            router: name.parse().unwrap(),
            admin,
            rtmp: admin,
            speaks: Default::default(),
        };
        self.registry.put(&record).await.unwrap();
    }
}

/// A program's admin pages that always say the same.
async fn scripted(pages: &[(&'static str, Value)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pages = pages.iter().cloned().fold(Router::new(), |router, (path, value)| {
        router.route(path, get(move || async move { Json(value) }))
    });
    tokio::spawn(async move { axum::serve(listener, pages).await });
    address
}

fn is_problem(value: &Value) -> bool {
    value["error"].is_string() && value["what_to_do"].is_string()
}

#[tokio::test]
async fn a_key_is_shown_once_and_the_registry_holds_its_hash_only() {
    let bench = Bench::new().await;
    let (status, made) = bench.ask("POST", "/v1/channels", r#"{"channel": "news"}"#).await;
    assert_eq!(status, 201, "{made}");
    let key: StreamKey = made["stream_key"].as_str().unwrap().parse().unwrap();
    let record: ChannelRecord = bench.registry.get("news").unwrap().unwrap();
    assert_eq!(record.key_hashes, [key.hash()]);
    let (_, shown) = bench.ask("GET", "/v1/channels/news", "").await;
    let (_, all) = bench.ask("GET", "/v1/channels", "").await;
    assert_eq!(all["channels"], json!([shown]));
    assert!(shown.get("stream_key").is_none() && !all.to_string().contains(&key.reveal()));
    let (status, again) = bench.ask("POST", "/v1/channels", r#"{"channel": "news"}"#).await;
    assert!(status == 409 && is_problem(&again), "{again}");
}

#[tokio::test]
async fn rotation_ends_the_old_key_unless_it_is_kept_and_revocation_ends_all() {
    let bench = Bench::new().await;
    bench.ask("POST", "/v1/channels", r#"{"channel": "news", "priority": "partner"}"#).await;
    let hashes = async || {
        let record: Option<ChannelRecord> = bench.registry.get("news").unwrap();
        record.unwrap().key_hashes
    };
    let first = hashes().await;
    let (_, rotated) = bench.ask("POST", "/v1/channels/news/rotate", "").await;
    let key: StreamKey = rotated["stream_key"].as_str().unwrap().parse().unwrap();
    assert_eq!(hashes().await, [key.hash()]);
    assert_ne!(hashes().await, first);
    bench.ask("POST", "/v1/channels/news/rotate?keep_old=true", "").await;
    assert_eq!(hashes().await.len(), 2);
    let one = &hashes().await[1][..12];
    assert_eq!(bench.ask("POST", "/v1/channels/news/revoke?key=0123456789ab", "").await.0, 404);
    let (status, left) =
        bench.ask("POST", &format!("/v1/channels/news/revoke?key={one}"), "").await;
    assert_eq!((status, left["keys"].as_array().unwrap().len()), (200, 1), "{left}");
    let (_, rotated) = bench.ask("POST", "/v1/channels/news/rotate?overlap_s=60", "").await;
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 1, "{rotated}");
    assert_eq!(rotated["ending_keys"].as_array().unwrap().len(), 1, "{rotated}");
    let both = "/v1/channels/news/rotate?overlap_s=60&keep_old=true";
    assert_eq!(bench.ask("POST", both, "").await.0, 400);
    let mut ended = bench.registry.get::<ChannelRecord>("news").unwrap().unwrap();
    ended.ending_keys[0].until = Wall(1);
    bench.registry.put(&ended).await.unwrap();
    let (_, shown) = bench.ask("GET", "/v1/channels/news", "").await;
    assert_eq!(shown["ending_keys"], json!([]), "a key that has ended is not shown");
    let (status, revoked) = bench.ask("POST", "/v1/channels/news/revoke", "").await;
    assert_eq!(revoked["ending_keys"], json!([]), "{revoked}");
    assert_eq!(
        (status, &revoked["keys"], &revoked["priority"]),
        (200, &json!([]), &json!("partner"))
    );
    assert_eq!(bench.ask("DELETE", "/v1/channels/news", "").await.0, 200);
    assert_eq!(bench.ask("POST", "/v1/channels/news/rotate", "").await.0, 404);
}

#[tokio::test]
async fn a_channel_is_changed_in_what_is_named_and_only_there() {
    let bench = Bench::new().await;
    bench.ask("POST", "/v1/channels", r#"{"channel": "news", "dual": true}"#).await;
    let (status, changed) = bench
        .ask("PATCH", "/v1/channels/news", r#"{"low_latency": true, "priority": "partner"}"#)
        .await;
    let of = |name: &str| changed[name].clone();
    assert_eq!((status, of("low_latency"), of("dual")), (200, json!(true), json!(true)));
    assert_eq!(of("priority"), "partner");
    let (_, log) = bench.ask("GET", "/v1/decisions?kind=channel_changed", "").await;
    let said = log["decisions"][0]["text"].as_str().unwrap();
    assert_eq!(said, "low latency, from its next stream on; priority partner");
    for body in ["{}", r#"{"priority": "urgent"}"#, r#"{"keys": []}"#, r#"{"dual": "yes"}"#] {
        let (status, answer) = bench.ask("PATCH", "/v1/channels/news", body).await;
        assert!(status == 400 && is_problem(&answer), "{body}: {answer}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_text_is_a_problem_like_any_other() {
    let bench = Bench::new().await;
    for path in ["/v1/streams/%ff", "/v1/streams/%ff/explain", "/v1/channels/%c3%28"] {
        let (status, answer) = bench.ask("GET", path, "").await;
        assert!(status == 400 && is_problem(&answer), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_backup_restores_a_wiped_registry_and_says_what_it_changes() {
    let (before, after) = (Bench::new().await, Bench::new().await);
    before.ask("POST", "/v1/channels", r#"{"channel": "news"}"#).await;
    let order: OrderRecord =
        serde_json::from_value(json!({ "node": "node-7", "order": "cordon", "since": 1 })).unwrap();
    before.registry.put(&order).await.unwrap();
    let (status, backup) = before.ask("GET", "/v1/backup", "").await;
    assert_eq!((status, &backup["millrace_backup"]), (200, &json!(1)));
    after.ask("POST", "/v1/channels", r#"{"channel": "later"}"#).await;
    let (status, said) = after.ask("POST", "/v1/restore", &backup.to_string()).await;
    assert_eq!(status, 200, "{said}");
    let added = |record: &str| json!({ "record": record, "change": "added" });
    assert_eq!(said["changes"], json!([added("channels/news"), added("orders/node-7")]));
    assert_eq!(after.registry.list::<OrderRecord>(), [order]);
    assert_eq!(said["not_in_backup"], json!(["channels/later"]));
    let channel = |bench: &Bench| bench.registry.get::<ChannelRecord>("news").unwrap();
    assert_eq!(channel(&after), channel(&before));
    let (status, refused) = after.ask("POST", "/v1/restore", r#"{"millrace_backup": 2}"#).await;
    assert!(status == 400 && is_problem(&refused), "{refused}");
}

/// The status of an answer to a request that comes from elsewhere: a proxy says so.
async fn status_from_elsewhere(bench: &Bench, method: &str, path: &str, token: &str) -> u16 {
    let mut socket = tokio::net::TcpStream::connect(bench.api.addresses.api).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-forwarded-for: 192.0.2.1\r\n\
         authorization: Bearer {token}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_reads_by_a_token_cannot_change_anything_nor_see_the_backup() {
    let file = std::env::temp_dir().join(format!("millrace-api-tokens-{}", std::process::id()));
    let (read_line, read) = TokenFile::new_token(Role::Read, "wall");
    let (write_line, write) = TokenFile::new_token(Role::Write, "ci");
    std::fs::write(&file, format!("{read_line}\n{write_line}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let tokens = Some(TokenFile::at(&file));
    let needs_token = Config { tokens, read_needs_token: true, ..Config::default() };
    let (status, _) = Bench::with(needs_token.clone()).await.ask("GET", "/v1/channels", "").await;
    assert_eq!(status, 401, "once there are tokens this host needs one too");
    let bench = Bench::with(Config { trust_this_host: Some(true), ..needs_token }).await;
    bench.ask("POST", "/v1/channels", r#"{"channel": "news"}"#).await;
    let mut seen = Vec::new();
    for token in ["nonsense", &read, &write] {
        for (method, path) in
            [("GET", "/v1/channels"), ("GET", "/v1/backup"), ("POST", "/v1/channels/news/revoke")]
        {
            seen.push(status_from_elsewhere(&bench, method, path, token).await);
        }
    }
    std::fs::write(&file, format!("{read_line}\nwrite nonsense\n")).unwrap();
    let slipped = status_from_elsewhere(&bench, "GET", "/v1/channels", &write).await;
    let metrics = format!("http://{}/metrics", bench.api.addresses.admin);
    let metrics = bench.http.get(&metrics, WITHIN).await.unwrap().text();
    std::fs::write(&file, read_line).unwrap();
    let taken_out = status_from_elsewhere(&bench, "GET", "/v1/channels", &write).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(seen, [401, 401, 401, 200, 403, 403, 200, 200, 200]);
    assert_eq!((slipped, taken_out), (200, 401));
    assert!(metrics.contains("\nmillrace_api_tokens_stale 1\n"), "{metrics}");
}

#[tokio::test]
async fn every_mistake_says_what_is_wrong_and_what_to_do() {
    let bench = Bench::new().await;
    let huge = " ".repeat(3_000_000);
    for (method, path, body, expected) in [
        ("GET", "/v1/nothing", "", 404),
        ("POST", "/v1/channels", huge.as_str(), 413),
        ("PUT", "/v1/channels", "", 405),
        ("POST", "/v1/channels", "{", 400),
        ("POST", "/v1/channels", r#"{"channel": "A/B"}"#, 400),
        ("POST", "/v1/channels", r#"{"channel": "a", "chanel": "b"}"#, 400),
        ("GET", "/v1/channels/none", "", 404),
        ("GET", "/v1/streams/none", "", 404),
        ("GET", "/v1/streams/A%2FB", "", 400),
        ("GET", "/v1/events?limit=x", "", 400),
        // What stands in the query is not read from a body, nor is it left out for one.
        ("POST", "/v1/channels/none/revoke", r#"{"key": "a"}"#, 400),
        ("POST", "/v1/channels/none/rotate", r#"{"overlap_s": 9}"#, 400),
        ("POST", "/v1/streams/none/move", r#"{"to": "node-2"}"#, 400),
        ("POST", "/v1/nodes/none/drain", r#"{"only_run": true}"#, 400),
        ("POST", "/v1/channels/none/revoke", "{}", 404),
    ] {
        let (status, answer) = bench.ask(method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(is_problem(&answer), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn reports_of_all_routers_are_merged_and_a_silent_router_is_named() {
    let bench = Bench::new().await;
    let event = |at: &str| json!({ "at": at, "stream": "b", "kind": "placed", "text": "" });
    let (b, a) = (json!({ "stream": "b", "node": "node-1" }), json!({ "stream": "a" }));
    let one = [
        ("/v1/streams", json!([b])),
        ("/v1/streams/b", b.clone()),
        ("/v1/events", json!([event("2026-01-01T00:00:02Z")])),
    ];
    let two = [("/v1/streams", json!([a])), ("/v1/events", json!([event("2026-01-01T00:00:01Z")]))];
    bench.add_router("router-1", scripted(&one).await).await;
    bench.add_router("router-2", scripted(&two).await).await;
    let gone = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    bench.add_router("router-3", gone).await;

    let (_, streams) = bench.ask("GET", "/v1/streams", "").await;
    assert_eq!(streams["streams"], json!([a, b]));
    assert_eq!(streams["missing"][0]["name"], "router-3");
    let (_, events) = bench.ask("GET", "/v1/events", "").await;
    assert_eq!(events["events"][1]["at"], "2026-01-01T00:00:02Z");
    let (_, newest) = bench.ask("GET", "/v1/events?limit=1", "").await;
    assert_eq!(newest["events"], json!([events["events"][1]]));
    let (status, unknown) = bench.ask("GET", "/v1/streams/c", "").await;
    assert!(status == 502 && is_problem(&unknown), "a silent router may have it: {unknown}");
}

#[tokio::test]
async fn of_two_routers_that_report_a_stream_the_one_with_the_newest_right_to_it_counts() {
    let bench = Bench::new().await;
    for (name, epoch) in [("router-1", "2.9"), ("router-2", "2.10"), ("router-3", "1.11")] {
        let report = json!({ "stream": "b", "epoch": epoch, "node": name });
        bench.add_router(name, scripted(&[("/v1/streams/b", report)]).await).await;
    }
    let (_, stream) = bench.ask("GET", "/v1/streams/b", "").await;
    assert_eq!(stream["epoch"], "2.10");
}

#[tokio::test]
async fn decisions_of_all_programs_are_merged_by_time_and_who_is_gone_is_named() {
    let bench = Bench::new().await;
    let at = |second: u32| format!("2026-01-01T00:00:{second:02}.000000Z");
    let decision = |program: &str, second: u32, kind: &str, subject: &str| {
        json!({ "at": at(second), "program": program, "seq": second, "kind": kind, "stream": "b",
            "epoch": "1.1", "subject": subject, "text": "" })
    };
    let page = |program: &str, decisions: &[Value]| {
        let page = json!({ "program": program, "since": at(0), "decisions": decisions });
        [("/v1/decisions", page)]
    };
    let router =
        [decision("router-1", 1, "placed", "node-0"), decision("router-1", 3, "placed", "node-1")];
    bench.add_router("router-1", scripted(&page("router-1", &router)).await).await;
    let origin = page("origin-1", &[decision("origin-1", 2, "fenced", "origin-1")]);
    let origin = scripted(&origin).await;
    let record = OriginRecord {
        origin: "origin-1".parse().unwrap(),
        intake: origin,
        playback: origin,
        admin: origin,
        viewers: Default::default(),
        speaks: Default::default(),
    };
    bench.registry.put(&record).await.unwrap();
    let gone = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    bench.add_router("router-2", gone).await;

    let (status, all) = bench.ask("GET", "/v1/decisions?stream=b", "").await;
    let order = |answer: &Value, list: &str| -> Vec<String> {
        answer[list].as_array().unwrap().iter().map(|it| it["at"].to_string()).collect()
    };
    assert_eq!(status, 200, "{all}");
    assert_eq!(order(&all, "decisions"), [1, 2, 3].map(|second| json!(at(second)).to_string()));
    assert_eq!(all["missing"][0]["name"], "router-2");
    let (_, newest) = bench.ask("GET", "/v1/decisions?stream=b&limit=1", "").await;
    assert_eq!(newest["decisions"], json!([all["decisions"][2]]));
    let (_, why) = bench.ask("GET", "/v1/streams/b/explain", "").await;
    assert_eq!((&why["state"], order(&why, "timeline").len()), (&Value::Null, 3));
    let missing = why["missing"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    assert_eq!(missing.collect::<Vec<_>>(), ["router-2", "node-0", "node-1"]);
    for path in ["/v1/decisions?kind=nonsense", "/v1/decisions?since=1%262", "/v1/decisions?a=1"] {
        let (status, answer) = bench.ask("GET", path, "").await;
        assert!(status == 400 && is_problem(&answer), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_stream_shows_its_workers_sandbox_and_a_node_that_is_gone_does_not_hide_the_stream() {
    let bench = Bench::new().await;
    let report = json!({ "stream": "b", "node": "node-1", "worker_pid": 7 });
    bench.add_router("router-1", scripted(&[("/v1/streams/b", report)]).await).await;
    let line = json!([{ "stream": "b", "epoch": { "generation": 1, "placement": 2 }, "worker_pid": 7,
        "lag_ms": 40, "sandbox": [["seccomp", "applied"]] }]);
    let admin = scripted(&[("/v1/streams", line)]).await;
    let mut node = node("node-1", NodeState::Ready);
    (node.link, node.admin) = (admin, admin);
    bench.registry.put(&node).await.unwrap();
    let (_, stream) = bench.ask("GET", "/v1/streams/b", "").await;
    let worker =
        json!({ "pid": 7, "epoch": "1.2", "lag_ms": 40, "sandbox": { "seccomp": "applied" } });
    assert_eq!(stream["worker"], worker);

    node.admin = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    bench.registry.put(&node).await.unwrap();
    let (status, stream) = bench.ask("GET", "/v1/streams/b", "").await;
    assert_eq!((status, &stream["worker_pid"]), (200, &json!(7)));
    assert!(stream["worker"]["unknown"].is_string(), "{stream}");
    let (_, nodes) = bench.ask("GET", "/v1/nodes", "").await;
    assert_eq!(nodes["nodes"][0]["reachable"], false);
}

/// A node at whose address nobody answers.
fn node(name: &str, state: NodeState) -> NodeRecord {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    NodeRecord {
        node: name.parse().unwrap(),
        link: admin,
        admin,
        state,
        decode_pixels_per_second: 1,
        encode_pixels_per_second: 1,
        workers: 1,
        memory_bytes: 1,
        host_cpu_millicores: None,
        egress_bits_per_second: None,
        allocated: Default::default(),
        labels: Default::default(),
        started: Wall(7),
        version: "0".to_owned(),
        speaks: Default::default(),
    }
}

#[tokio::test]
async fn orders_stand_in_the_registry_until_they_are_taken_back() {
    let bench = Bench::new().await;
    bench.registry.put(&node("node-1", NodeState::Ready)).await.unwrap();
    let held = || bench.registry.get::<OrderRecord>("node-1").unwrap();
    let (status, answer) = bench.ask("POST", "/v1/nodes/node-1/drain", "").await;
    assert_eq!((status, &answer["order"]), (200, &json!("drain")));
    assert_eq!(held().map(|order| order.state(Wall(8))), Some(NodeState::Draining));
    bench.ask("POST", "/v1/nodes/node-1/cordon?only_run=true", "").await;
    let order = held().unwrap();
    assert_eq!(
        (order.state(Wall(7)), order.state(Wall(8))),
        (NodeState::Cordoned, NodeState::Ready)
    );
    assert_eq!(bench.ask("POST", "/v1/nodes/node-1/uncordon", "").await.0, 200);
    assert_eq!(held(), None);
    for path in ["/v1/nodes/none/drain", "/v1/nodes/none/uncordon"] {
        let (status, answer) = bench.ask("POST", path, "").await;
        assert!(status == 404 && is_problem(&answer), "{answer}");
    }
    assert_eq!(bench.ask("POST", "/v1/nodes/A/drain", "").await.0, 400);
    let waits = || bench.registry.get::<OrderRecord>("node-9").unwrap().map(|it| it.order);
    assert_eq!(
        bench.ask("POST", "/v1/nodes/node-9/cordon?away=true&only_run=true", "").await.0,
        400
    );
    assert_eq!(waits(), None);
    assert_eq!(bench.ask("POST", "/v1/nodes/node-9/cordon?away=true", "").await.0, 200);
    assert_eq!(waits(), Some(Order::Cordon));
    assert_eq!(bench.ask("POST", "/v1/nodes/node-1/drain?sure=1", "").await.0, 400);
}

#[tokio::test]
async fn a_stream_is_told_to_move_to_a_node_that_takes_it_and_the_order_goes_once_it_is_done() {
    let bench = Bench::new().await;
    for (name, state) in [
        ("node-1", NodeState::Ready),
        ("node-2", NodeState::Ready),
        ("node-3", NodeState::Cordoned),
    ] {
        bench.registry.put(&node(name, state)).await.unwrap();
    }
    let stream = StreamRecord {
        stream: "news".parse().unwrap(),
        router: "router-1".parse().unwrap(),
        epoch: Epoch { generation: 3, placement: 5 },
        node: Some("node-1".parse().unwrap()),
        origin: None,
        ladder: Default::default(),
        since: Wall(1),
        takeovers: Default::default(),
        source_pixels_per_second: 0,
        hot: false,
    };
    bench.registry.put(&stream).await.unwrap();
    let held = || bench.registry.get::<MoveRecord>("news").unwrap();
    for (path, status) in [
        ("/v1/streams/other/move", 404),
        ("/v1/streams/news/move?to=node-9", 404),
        ("/v1/streams/news/move?to=node-1", 409),
        ("/v1/streams/news/move?to=node-3", 409),
        ("/v1/streams/news/move?to=", 400),
        ("/v1/streams/news/move?at=node-2", 400),
    ] {
        let (said, answer) = bench.ask("POST", path, "").await;
        assert!(said == status && is_problem(&answer), "{path}: {said} {answer}");
        assert_eq!(held(), None, "{path}");
    }
    let (status, answer) = bench.ask("POST", "/v1/streams/news/move", "").await;
    assert_eq!((status, &answer["from"], &answer["to"]), (200, &json!("node-1"), &json!(null)));
    bench.ask("POST", "/v1/streams/news/move?to=node-2", "").await;
    assert_eq!(held().unwrap().to.unwrap().as_str(), "node-2");
    let (status, answer) = bench.ask("DELETE", "/v1/streams/news/move", "").await;
    assert_eq!((status, &answer["move"], held()), (200, &json!(null), None));

    bench.ask("POST", "/v1/streams/news/move", "").await;
    let moved = StreamRecord { node: Some("node-2".parse().unwrap()), ..stream };
    bench.registry.put(&moved).await.unwrap();
    let gone = until_some("the order is done", PATIENCE, async || held().is_none().then_some(()));
    gone.await.unwrap();
}

#[tokio::test]
async fn health_pages_answer_until_the_api_stops() {
    let bench = Bench::new().await;
    bench.ask("GET", "/v1/streams", "").await;
    let admin = bench.api.addresses.admin;
    let page = async |path: &str| bench.http.get(&format!("http://{admin}{path}"), WITHIN).await;
    assert_eq!(page("/readyz").await.unwrap().text(), "ready\n");
    let metrics = page("/metrics").await.unwrap().text();
    assert!(metrics.contains("millrace_api_requests_total{result=\"ok\"} 1"), "{metrics}");
    let Bench { api, .. } = bench;
    api.stop().await;
    assert!(HttpClient::default().get(&format!("http://{admin}/readyz"), WITHIN).await.is_err());
}

#[tokio::test]
async fn a_router_that_is_silent_and_a_stream_whose_router_is_gone_are_faults() {
    let bench = Bench::new().await;
    let live = scripted(&[
        ("/v1/streams", json!([{ "stream": "here", "epoch": "1.1" }])),
        ("/v1/decisions", json!({ "decisions": [] })),
    ])
    .await;
    bench.add_router("router-1", live).await;
    // Its kernel takes connections, as that of a process that is stopped does.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench.add_router("router-2", frozen.local_addr().unwrap()).await;
    for (stream, router, node) in [
        ("here", "router-1", Some("node-1")),
        ("left", "router-3", Some("node-1")),
        ("over", "router-3", None),
    ] {
        let record = json!({
            "stream": stream, "router": router, "node": node, "ladder": { "rungs": [] },
            "epoch": { "generation": 1, "placement": 1 }, "since": 1,
        });
        let record: StreamRecord = serde_json::from_value(record).unwrap();
        bench.registry.put(&record).await.unwrap();
    }
    for path in ["/v1/streams", "/v1/nodes"] {
        let (_, said) = bench.ask("GET", path, "").await;
        let faults = said["faults"].as_array().unwrap();
        let of = |what: &str| -> Vec<&str> {
            let those = faults.iter().filter(|fault| fault["what"] == what);
            those.map(|fault| fault["text"].as_str().unwrap()).collect()
        };
        let [silent] = of("router")[..] else { panic!("{said}") };
        assert!(silent.starts_with("router router-2 does not answer"), "{silent}");
        let [gone] = of("stream")[..] else { panic!("{said}") };
        assert!(gone.starts_with("stream left was live at router router-3"), "{gone}");
    }
}
