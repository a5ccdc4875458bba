//! `millrace standalone` as a process, through its command line, its ready file and its API: the promises that need no
//! look at pictures. What players get is tested in `tests/`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod exit_codes;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use millrace_publisher::{Clip, Playout, PublishError, Publisher};
use millrace_testkit::{HttpClient, Scratch, until, until_some};
use nix::{
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Child};

const START: Duration = Duration::from_secs(30);
const WITHIN: Duration = Duration::from_secs(5);
const LISTENERS: [&str; 11] = [
    "rtmp",
    "rtmps",
    "playback",
    "playback-tls",
    "api",
    "link",
    "intake",
    "router-admin",
    "node-admin",
    "origin-admin",
    "api-admin",
];
/// Enough for a ladder, whatever the host measures.
const CONFIG: &str = "[node.capacity]\ndecode_pixels_per_second = 500000000\n\
    encode_pixels_per_second = 500000000\nworkers = 8\nmemory_bytes = 4294967296\n\
    [[ladder.rung]]\nname = '144p'\nshort_side = 144\nbitrate_kbps = 200\n";

fn millrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.stdin(Stdio::null());
    command
}

/// The command that starts a farm of its own.
fn standalone(scratch: &Scratch) -> Command {
    let config = scratch.path().join("standalone.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut command = millrace();
    command.arg("standalone").arg("--config").arg(config);
    command.arg("--state-dir").arg(scratch.path().join("state"));
    command.arg("--ready-json").arg(ready_file(scratch));
    for name in LISTENERS {
        command.arg(format!("--listen-{name}")).arg("127.0.0.1:0");
    }
    command
}

fn ready_file(scratch: &Scratch) -> PathBuf {
    scratch.path().join("ready.json")
}

struct Farm {
    process: Child,
    ready: Value,
    http: HttpClient,
}

impl Farm {
    async fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let mut command = standalone(scratch);
        command.args(arguments);
        Self::start_by(scratch, command).await
    }

    async fn start_by(scratch: &Scratch, command: Command) -> Self {
        let log = fs::File::create(scratch.path().join("farm.log")).unwrap();
        Self::start_logging(scratch, command, log.into()).await
    }

    async fn start_logging(scratch: &Scratch, mut command: Command, log: Stdio) -> Self {
        command.stdout(Stdio::null()).stderr(log);
        let process = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let ready = until_some("the ready file", START, async || {
            serde_json::from_str(&fs::read_to_string(ready_file(scratch)).ok()?).ok()
        });
        let ready = ready.await.unwrap_or_else(|error| {
            let log = fs::read_to_string(scratch.path().join("farm.log"));
            panic!("{error}\n{}", log.unwrap_or_default())
        });
        Self { process, ready, http: HttpClient::default() }
    }

    fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    async fn api(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.ready["api"].as_str().unwrap());
        let body = body.to_string().into();
        let answer = self.http.send(method.parse().unwrap(), &url, body, WITHIN).await.unwrap();
        (answer.status.as_u16(), serde_json::from_str(&answer.text()).unwrap())
    }

    async fn publish(&self, key: &Value) -> Result<Publisher, PublishError> {
        Publisher::connect(self.ready["rtmp"].as_str().unwrap(), key.as_str().unwrap()).await
    }

    /// Waits until the stream has a worker, and gives the API's report.
    async fn live(&self, stream: &str) -> Value {
        let live = until_some("a live stream", WITHIN * 2, async || {
            let (_, report) = self.api("GET", &format!("/v1/streams/{stream}"), Value::Null).await;
            (report["state"] == "live" && report["worker"]["pid"].is_u64()).then_some(report)
        });
        live.await.unwrap()
    }

    /// Kills it, with nothing left to do first, and starts it again.
    async fn killed_and_started(mut self, scratch: &Scratch) -> Self {
        self.process.kill().await.unwrap();
        fs::remove_file(ready_file(scratch)).unwrap();
        Self::start(scratch, &[]).await
    }

    async fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).unwrap();
        tokio::time::timeout(WITHIN, self.process.wait()).await.unwrap().unwrap().code()
    }
}

/// Processes whose program begins with `millrace-worker`, by pid, with their parent.
fn workers() -> BTreeMap<u32, u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?);
        (name.starts_with("millrace-worker") && state != "Z").then_some((pid, parent.parse().ok()?))
    })
    .collect()
}

fn workers_of(farm: u32) -> Vec<u32> {
    workers().into_iter().filter(|(_, parent)| *parent == farm).map(|(pid, _)| pid).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test]
async fn the_demo_goes_live_with_a_ladder_and_sigterm_leaves_no_worker_behind() {
    let scratch = Scratch::new("standalone-demo").unwrap();
    let farm = Farm::start(&scratch, &["--demo"]).await;
    let report = farm.live("demo").await;
    let rungs: Vec<_> =
        report["rungs"].as_array().unwrap().iter().map(|rung| rung["id"].clone()).collect();
    assert_eq!(json!(rungs), json!(["source", "144p", "audio"]));
    assert_eq!(report["worker"]["sandbox"]["seccomp"], "applied", "{report}");
    let playlist = farm.ready["playback"].as_str().unwrap();
    until_some("a playlist with the rung", WITHIN * 2, async || {
        let answer = farm.http.get(playlist, WITHIN).await.ok()?;
        (answer.status.is_success() && answer.text().contains("144p/")).then_some(())
    })
    .await
    .unwrap();
    for (program, url) in farm.ready["metrics"].as_object().unwrap() {
        let metrics = farm.http.get(url.as_str().unwrap(), WITHIN).await.unwrap().text();
        assert!(metrics.contains(&format!("millrace_{program}_")), "{program}: {metrics}");
    }
    let workers_then = workers_of(farm.pid());
    assert!(workers_then.len() >= 2, "one that works and spares: {workers_then:?}");
    assert_eq!(farm.stop().await, Some(0));
    until("no worker is left", WITHIN, || workers().keys().all(|pid| !workers_then.contains(pid)))
        .await
        .unwrap();
}

#[test]
fn who_closes_the_pipe_ends_no_command() {
    for arguments in [["config", "show"], ["config", "check"], ["doctor", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = millrace();
        let status = command.args(arguments).stdout(writer.try_clone().unwrap()).stderr(writer);
        assert!(matches!(status.status().unwrap().code(), Some(0..=2)), "{arguments:?}");
    }
}

#[test]
fn a_token_that_went_nowhere_is_no_success() {
    let scratch = Scratch::new("standalone-token").unwrap();
    let file = scratch.path().join("tokens");
    let mut command = millrace();
    command.args(["tokens", "add", "--role", "read"]).arg(&file).arg("ann");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is lost: make another"), "{said}");
}

#[tokio::test]
async fn every_route_of_the_description_answers_as_it_says() {
    let scratch = Scratch::new("standalone-openapi").unwrap();
    let farm = Farm::start(&scratch, &["--demo"]).await;
    farm.live("demo").await;
    let (_, description) = farm.api("GET", "/v1/openapi.json", Value::Null).await;
    farm.api("POST", "/v1/channels", json!({ "channel": "news" })).await;
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    // Deleting comes last: the others need the channel.
    operations.sort_by_key(|(_, method, _)| method == "DELETE");
    for (path, method, operation) in operations {
        let path = path.replace("{id}", "demo").replace("{channel}", "news");
        let path = path.replace("{node}", "node-1");
        let body = match path.as_str() {
            "/v1/restore" => farm.api("GET", "/v1/backup", Value::Null).await.1,
            _ if method == "PATCH" => json!({ "dual": true }),
            "/v1/channels" => json!({ "channel": "weather" }),
            _ => Value::Null,
        };
        let (status, answer) = farm.api(&method, &path, body).await;
        let promised = operation["responses"].as_object().unwrap();
        assert!(
            status < 300 && promised.contains_key(&status.to_string()),
            "{method} {path} {answer}"
        );
        let schema = &promised[&status.to_string()]["content"]["application/json"]["schema"];
        for (name, _) in schema["properties"].as_object().into_iter().flatten() {
            assert!(answer.get(name).is_some(), "{method} {path}: no {name} in {answer}");
        }
    }
    assert_eq!(farm.stop().await, Some(0));
}

#[tokio::test]
async fn a_key_that_was_rotated_with_an_overlap_ends_when_that_is_over() {
    let scratch = Scratch::new("overlap").unwrap();
    let farm = Farm::start(&scratch, &[]).await;
    let api = farm.ready["api"].as_str().unwrap().to_owned();
    let key_of = |arguments: &[&str]| {
        let output = millrace().args(arguments).args(["--json", "--api", &api]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["stream_key"].clone()
    };
    let old = key_of(&["channels", "create", "news", "--priority", "partner"]);
    let mut publisher = farm.publish(&old).await.unwrap();
    let playing =
        tokio::spawn(async move { publisher.play(Playout::endless(&Clip::demo())).await });
    farm.live("news").await;
    let new = key_of(&["channels", "rotate", "news", "--overlap", "2"]);
    let rotated = std::time::Instant::now();
    let refused = tokio::time::timeout(WITHIN, playing).await.unwrap().unwrap().unwrap_err();
    let after = rotated.elapsed();
    assert!((2.0..4.0).contains(&after.as_secs_f64()), "{after:?}: {refused}");
    assert!(farm.publish(&old).await.is_err(), "the old key has ended");
    assert!(farm.publish(&new).await.is_ok(), "the new one goes on");
    let explained = millrace().args(["explain", "news", "--api", &api]).output().unwrap();
    let said = text(&explained);
    assert!(said.contains("key_rotated") && said.contains("bad_key"), "{said}");
    farm.stop().await;
}

#[tokio::test]
async fn a_key_from_the_api_publishes_until_it_is_revoked() {
    let scratch = Scratch::new("standalone-keys").unwrap();
    let farm = Farm::start(&scratch, &[]).await;
    let (_, made) = farm.api("POST", "/v1/channels", json!({ "channel": "news" })).await;
    let key = &made["stream_key"];
    let mut publisher = farm.publish(key).await.unwrap();
    let play = tokio::spawn(async move {
        let played = publisher.play(Playout::endless(&Clip::demo())).await;
        drop(publisher);
        played
    });
    farm.live("news").await;
    play.abort();
    let (_, again) = farm.api("POST", "/v1/channels/news/rotate", Value::Null).await;
    let refused = farm.publish(key).await.err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|text| text.contains("bad_key")), "{refused:?}");
    assert!(farm.publish(&again["stream_key"]).await.is_ok());
    farm.api("POST", "/v1/channels/news/revoke", Value::Null).await;
    assert!(farm.publish(&again["stream_key"]).await.is_err());
    assert_eq!(farm.stop().await, Some(0));
}

#[tokio::test]
async fn a_publisher_that_is_gone_is_said_to_be_away_and_the_farms_own_ports_are_in_order() {
    let scratch = Scratch::new("standalone-away").unwrap();
    let farm = Farm::start(&scratch, &[]).await;
    let (_, made) = farm.api("POST", "/v1/channels", json!({ "channel": "news" })).await;
    let mut publisher = farm.publish(&made["stream_key"]).await.unwrap();
    let play = tokio::spawn(async move {
        let played = publisher.play(Playout::endless(&Clip::demo())).await;
        drop(publisher);
        played
    });
    farm.live("news").await;
    let api = farm.ready["api"].as_str().unwrap();
    let streams = || text(&millrace().args(["streams", "--api", api]).output().unwrap());
    assert!(!streams().contains("away"), "{}", streams());
    play.abort();
    until("the publisher is away", WITHIN, || streams().contains("live, publisher away "))
        .await
        .unwrap();
    let (_, report) = farm.api("GET", "/v1/streams/news", Value::Null).await;
    assert_eq!(report["state"], "live", "the word of the API stays");

    let config = scratch.path().join("doctor.toml");
    let port = api.rsplit(':').next().unwrap();
    fs::write(&config, format!("[api]\nlisten_api = '127.0.0.1:{port}'\n")).unwrap();
    let said = text(&millrace().args(["doctor", "--config"]).arg(&config).output().unwrap());
    let ours = format!("{port} by millrace ({})", farm.pid());
    assert!(said.lines().any(|line| line.contains(" ok ") && line.contains(&ours)), "{said}");
    assert_eq!(farm.stop().await, Some(0));
}

#[tokio::test]
async fn half_open_connections_up_to_the_limit_of_open_files_stop_neither_streams_nor_the_api() {
    let scratch = Scratch::new("standalone-files").unwrap();
    let all = standalone(&scratch);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 600 && exec \"$0\" \"$@\""]);
    limited.arg(all.get_program()).args(all.get_args()).stdin(Stdio::null());
    let farm = Farm::start_by(&scratch, limited).await;
    let players: SocketAddr =
        farm.ready["playback"].as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap();
    let mut half_open = Vec::new();
    for _ in 0..691 {
        let mut socket = TcpStream::connect(players).await.unwrap();
        socket.write_all(b"GET / HT").await.unwrap();
        half_open.push(socket);
    }
    let (_, made) = farm.api("POST", "/v1/channels", json!({ "channel": "news" })).await;
    let mut publisher = farm.publish(&made["stream_key"]).await.unwrap();
    let play = tokio::spawn(async move { publisher.play(Playout::endless(&Clip::demo())).await });
    farm.live("news").await;
    let metrics = farm.ready["metrics"]["origin"].as_str().unwrap();
    let metrics = farm.http.get(metrics, WITHIN).await.unwrap().text();
    for wanted in ["connections 296\n", "connections_turned_away_total 395\n"] {
        assert!(metrics.contains(&format!("\nmillrace_origin_{wanted}")), "{wanted}: {metrics}");
    }
    drop(half_open);
    let watch = farm.ready["watch"].as_str().unwrap();
    until_some("a player's turn", WITHIN, async || farm.http.get(watch, WITHIN).await.ok())
        .await
        .unwrap();
    play.abort();
    assert_eq!(farm.stop().await, Some(0));
    let log = fs::read_to_string(scratch.path().join("farm.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains("all connections are taken")).count();
    assert!((1..=20).contains(&lines) && !log.contains("Too many open files"), "{log}");
}

#[tokio::test]
async fn a_farm_that_stops_at_once_leaves_no_socket_and_no_warning() {
    let scratch = Scratch::new("standalone-stop").unwrap();
    let farm = Farm::start(&scratch, &[]).await;
    assert_eq!(farm.stop().await, Some(0));
    let log = fs::read_to_string(scratch.path().join("farm.log")).unwrap();
    let (_, last_words) = log.split_once("standalone stops").unwrap();
    assert!(!last_words.contains("WARN") && !last_words.contains("ERROR"), "{log}");
    let left = fs::read_dir(scratch.path().join("state/run")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_farm_whose_log_nobody_reads_carries_its_stream_on() {
    let scratch = Scratch::new("standalone-log").unwrap();
    let (unread, log) = std::io::pipe().unwrap();
    fcntl(&unread, FcntlArg::F_SETPIPE_SZ(4_096)).unwrap();
    let full = log.try_clone().unwrap();
    let mut command = standalone(&scratch);
    command.args(["--demo", "--log", "debug"]);
    let farm = Farm::start_logging(&scratch, command, log.into()).await;
    farm.live("demo").await;
    let is_full = || {
        let mut room = [PollFd::new(full.as_fd(), PollFlags::POLLOUT)];
        poll(&mut room, PollTimeout::ZERO).unwrap() == 0
    };
    until("the log is full", WITHIN * 2, is_full).await.unwrap();
    let playlist =
        farm.ready["playback"].as_str().unwrap().replace("index.m3u8", "source/index.m3u8");
    let part = async || {
        let text = farm.http.get(&playlist, WITHIN).await.ok()?.text();
        text.lines().rev().find(|line| line.contains("EXT-X-PART")).map(str::to_owned)
    };
    for _ in 0..6 {
        let before = part().await;
        until_some("another part", WITHIN, async || {
            part().await.filter(|now| Some(now) != before.as_ref())
        })
        .await
        .unwrap();
        farm.live("demo").await;
    }
    drop(unread);
    assert_eq!(farm.stop().await, Some(0));
}

#[tokio::test]
async fn keys_outlive_a_kill() {
    let scratch = Scratch::new("standalone-restart").unwrap();
    let farm = Farm::start(&scratch, &[]).await;
    let first = farm.ready["stream_key"].clone();
    let (_, made) = farm.api("POST", "/v1/channels", json!({ "channel": "news" })).await;
    let farm = farm.killed_and_started(&scratch).await;
    assert_eq!(farm.ready["stream_key"], first);
    assert!(farm.publish(&made["stream_key"]).await.is_ok());
    assert_eq!(farm.stop().await, Some(0));
}

#[tokio::test]
async fn a_revocation_that_the_disk_does_not_take_is_refused_and_one_that_it_takes_outlives_a_kill()
{
    let scratch = Scratch::new("standalone-unstored").unwrap();
    let farm = Farm::start(&scratch, &[]).await;
    let (_, made) = farm.api("POST", "/v1/channels", json!({ "channel": "news" })).await;
    let key = &made["stream_key"];
    // Where the file is drafted nothing can be written, even by root.
    let draft = scratch.path().join(format!("state/channels.json.{}", farm.pid()));
    fs::create_dir(&draft).unwrap();
    let (status, said) = farm.api("POST", "/v1/channels/news/revoke", Value::Null).await;
    assert_eq!(status, 507, "{said}");
    let error = said["error"].as_str().unwrap();
    let wanted = ["could not be stored, and is as it was: ", "state/channels.json: "];
    assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
    assert!(farm.publish(key).await.is_ok(), "what was refused does not hold");

    fs::remove_dir(&draft).unwrap();
    let (status, said) = farm.api("POST", "/v1/channels/news/revoke", Value::Null).await;
    assert_eq!(status, 200, "{said}");
    let farm = farm.killed_and_started(&scratch).await;
    assert!(farm.publish(key).await.is_err(), "what was done holds");
    assert_eq!(farm.stop().await, Some(0));
}
