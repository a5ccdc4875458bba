//! The API over real connections: an in-memory registry, and routers and nodes that are gone or answer from a script.
//! With the real ones it is tested in `crates/millrace/tests`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, routing::get};
use millrace_api::{Addresses, Api, Config, start};
use millrace_registry::{
    ChannelRecord, NodeRecord, NodeState, OrderRecord, Registry, RouterRecord,
};
use millrace_telemetry::Metrics;
use millrace_testkit::{HttpClient, free_port};
use millrace_types::{StreamKey, Wall};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const WITHIN: Duration = Duration::from_secs(5);

struct Bench {
    registry: Registry,
    api: Api,
    http: HttpClient,
}

impl Bench {
    async fn new() -> Self {
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config { listen_api: here, listen_admin: here, token: None };
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
        let record = RouterRecord { router: name.parse().unwrap(), admin, rtmp: admin };
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
    let (status, revoked) = bench.ask("POST", "/v1/channels/news/revoke", "").await;
    assert_eq!(
        (status, &revoked["keys"], &revoked["priority"]),
        (200, &json!([]), &json!("partner"))
    );
    assert_eq!(bench.ask("DELETE", "/v1/channels/news", "").await.0, 200);
    assert_eq!(bench.ask("POST", "/v1/channels/news/rotate", "").await.0, 404);
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
async fn a_stream_shows_its_workers_sandbox_and_a_node_that_is_gone_does_not_hide_the_stream() {
    let bench = Bench::new().await;
    let report = json!({ "stream": "b", "node": "node-1", "worker_pid": 7 });
    bench.add_router("router-1", scripted(&[("/v1/streams/b", report)]).await).await;
    let line = json!([{ "stream": "b", "epoch": { "generation": 1, "placement": 2 }, "worker_pid": 7,
        "lag_ms": 40, "sandbox": [["seccomp", "applied"]] }]);
    let admin = scripted(&[("/v1/streams", line)]).await;
    let mut node = NodeRecord {
        node: "node-1".parse().unwrap(),
        link: admin,
        admin,
        state: NodeState::Ready,
        decode_pixels_per_second: 1,
        encode_pixels_per_second: 1,
        workers: 1,
        memory_bytes: 1,
        allocated: Default::default(),
        labels: Default::default(),
        started: Default::default(),
        version: "0".to_owned(),
    };
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

#[tokio::test]
async fn orders_stand_in_the_registry_until_they_are_taken_back() {
    let bench = Bench::new().await;
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let node = NodeRecord {
        node: "node-1".parse().unwrap(),
        link: admin,
        admin,
        state: NodeState::Ready,
        decode_pixels_per_second: 1,
        encode_pixels_per_second: 1,
        workers: 1,
        memory_bytes: 1,
        allocated: Default::default(),
        labels: Default::default(),
        started: Wall(7),
        version: "0".to_owned(),
    };
    bench.registry.put(&node).await.unwrap();
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
    assert_eq!(bench.ask("POST", "/v1/nodes/node-1/drain?sure=1", "").await.0, 400);
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
