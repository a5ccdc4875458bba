//! `millrace farm up`: what a newcomer starts with one command is a real farm, on hosts of its own where this machine allows it,
//! and is gone when it is told to, and when it is killed.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hyper::Method;
use millrace_hosts::Network;
use millrace_testkit::{
    ClipSpec, HttpClient, Player, PlayerOptions, Publisher, Scratch, check, until, until_some,
};
use millrace_tests::program;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// The etcd of the system and a measurement of this host take their time, beside other tests.
const START: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);

/// A farm; told to stop when a test fails, so that nothing of it is left.
struct Up {
    child: Child,
    ready_file: PathBuf,
    said: PathBuf,
    _scratch: Scratch,
}

impl Up {
    fn start(arguments: &[&str], folders: Option<&Path>) -> Self {
        let scratch = Scratch::new("farm-up").unwrap();
        let (ready_file, said) = (scratch.path().join("ready.json"), scratch.path().join("said"));
        let output = fs::File::create(&said).unwrap();
        let mut command = Command::new(program("millrace").unwrap());
        command.args(["farm", "up", "--ready-json"]).arg(&ready_file).args(arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        command.envs(folders.map(|folders| ("TMPDIR", folders)));
        Self { child: command.spawn().unwrap(), ready_file, said, _scratch: scratch }
    }

    fn said(&self) -> String {
        read(&self.said)
    }

    /// What it tells tools, once it works.
    async fn ready(&self) -> Value {
        let ready = until_some("the farm is up", START, async || {
            serde_json::from_str::<Value>(&read(&self.ready_file)).ok()
        });
        ready.await.unwrap_or_else(|error| panic!("{error}\n{}", self.said()))
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal);
    }

    fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.stop();
        }
    }
}

/// Where farms make their folders, none but those of this test. Sockets have short names only.
struct Folders(PathBuf);

impl Folders {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("mr-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Whether this machine has hosts to give; else, as without root, the farm is at addresses of loopback.
fn has_hosts() -> bool {
    let probe = Network::start(&["probe".to_owned()]);
    probe.inspect_err(|error| println!("cut networks are not enforceable here: {error}")).is_ok()
}

/// `millrace farm ARGUMENTS` on a farm that runs; what it said, and whether it was done.
fn farm(arguments: &[&str], ready: &Value) -> (String, bool) {
    let mut command = Command::new(program("millrace").unwrap());
    command.arg("farm").args(arguments).args(["--farm", ready["folder"].as_str().unwrap()]);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

/// What the API says of the stream.
async fn report(ready: &Value) -> Value {
    let text = |name: &str| ready[name].as_str().unwrap();
    let stream = format!("{}/v1/streams/{}", text("api"), text("stream"));
    let http = HttpClient::default();
    let report = http.send(Method::GET, &stream, Default::default(), SOON).await.unwrap();
    serde_json::from_str(&report.text()).unwrap()
}

fn node_of(report: &Value) -> String {
    report["node"].as_str().unwrap_or_default().to_owned()
}

/// Cuts the node of the stream off from its router, and waits until another has it and both reach each other again.
async fn cut_from_router(ready: &Value) {
    let node = node_of(&report(ready).await);
    let (said, done) = farm(&["cut", &node, "router-1"], ready);
    assert!(done && said.contains("cut off from router-1"), "{said}");
    let elsewhere = until_some("another node makes it", SOON, async || {
        let report = report(ready).await;
        let is_elsewhere = !node_of(&report).is_empty() && node_of(&report) != node;
        (is_elsewhere && report["state"] == "live").then_some(())
    });
    elsewhere.await.unwrap();
    let (said, done) = farm(&["heal"], ready);
    assert!(done, "{said}");
}

/// Waits until a node has the zone that its settings were given.
async fn zone_known(ready: &Value) {
    let nodes = format!("{}/v1/nodes", ready["api"].as_str().unwrap());
    let http = HttpClient::default();
    let known = until_some("the node has what was edited", SOON, async || {
        let nodes = http.send(Method::GET, &nodes, Default::default(), SOON).await.ok()?;
        nodes.text().contains("\"zone\":\"edited\"").then_some(())
    });
    known.await.unwrap();
}

fn pid(program: &Value) -> Pid {
    Pid::from_raw(i32::try_from(program["pid"].as_i64().unwrap()).unwrap())
}

/// Processes that live: those with a farm's folder on their command line.
fn with(folder: &str) -> Vec<PathBuf> {
    let line = |process: &Path| read(&process.join("cmdline"));
    processes().filter(|process| line(process).contains(folder)).collect()
}

/// Processes that live: those in one of the networks, its keeper among them.
fn within(networks: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let is_within = |process: &Path| network(process).is_some_and(|it| networks.contains(&it));
    processes().filter(|process| is_within(process)).collect()
}

fn processes() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path())
}

/// Mounts of this machine that keep a namespace.
fn kept_namespaces() -> usize {
    read(Path::new("/proc/self/mountinfo")).matches(" nsfs ").count()
}

/// The networks of a farm's programs, without this one.
fn networks(ready: &Value) -> BTreeSet<PathBuf> {
    let network = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let all = ready["programs"].as_object().unwrap().values().map(|it| network(pid(it)));
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    all.filter(|it| *it != own).collect()
}

/// What this machine has of a farm: its interface, its routes, its folder.
fn traces(interface: Option<&str>, folder: &str) -> Vec<String> {
    let ours = |line: &&str| interface.is_some_and(|name| line.contains(name));
    let routes = Command::new("ip").args(["route", "show", "table", "all"]).output();
    let routes = routes.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    let (routes, devices) = (routes.unwrap_or_default(), read(Path::new("/proc/net/dev")));
    let mut found: Vec<String> =
        routes.lines().chain(devices.lines()).filter(ours).map(str::to_owned).collect();
    found.extend(Path::new(folder).exists().then(|| folder.to_owned()));
    found
}

#[tokio::test]
async fn a_farm_on_one_machine_survives_a_cut_and_the_death_of_a_node_and_is_gone_when_told_to() {
    let (has_hosts, mounts) = (has_hosts(), kept_namespaces());
    let subnet = (std::process::id() % 200 + 20).to_string();
    let mut up = match has_hosts {
        true => Up::start(&[], None),
        false => Up::start(&["--subnet", &subnet], None),
    };
    let ready = up.ready().await;
    assert!(up.said().contains("kill -9 WORKER"), "a drill: {}", up.said());
    let drill = if has_hosts { "farm cut NODE ROUTER" } else { "Partition drills are off" };
    assert!(up.said().contains(drill), "{}", up.said());
    let second = ready["programs"]["router-2"]["rtmp"].as_str().unwrap();
    assert!(up.said().contains(&format!("or to router-2: 'rtmp://{second}")), "{}", up.said());
    assert_eq!(fs::metadata(&up.ready_file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = |name: &str| ready[name].as_str().unwrap();
    let clip = ClipSpec { seconds: 10, ..ClipSpec::default() };
    let url = format!("{}/{}", text("rtmp"), text("stream_key"));
    let mut publisher = Publisher::start(&clip.file().unwrap(), &url).unwrap();
    let player = Player::start(text("playback"), PlayerOptions::default());
    player.media(3.0, SOON).await.unwrap();
    if has_hosts {
        cut_from_router(&ready).await;
    }

    let node = node_of(&report(&ready).await);
    let settings = Path::new(text("folder")).join(format!("{node}.toml"));
    assert!(up.said().contains(&format!("settings are in {}", text("folder"))), "{}", up.said());
    let edited = read(&settings).replace("[registry]", "labels = { zone = 'edited' }\n[registry]");
    fs::write(&settings, edited).unwrap();
    kill(pid(&ready["programs"][&node]), Signal::SIGKILL).unwrap();
    let status = publisher.wait(SOON).await.unwrap();
    assert!(status.success(), "the publisher was cut off: {}", publisher.log());
    player.media(f64::from(clip.seconds) - 0.2, SOON).await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let recording = player.stop().await.unwrap();
    check(&recording, &clip.expected().at_least(0..=last)).unwrap().assert_lossless();
    let again = until("the node is started again", SOON, || {
        up.said().contains(&format!("{node} is started again"))
    });
    again.await.unwrap_or_else(|error| panic!("{error}\n{}", up.said()));
    assert!(up.said().contains(&format!("{node} died")), "{}", up.said());
    let edited = format!(", with {} as edited", settings.display());
    assert!(up.said().contains(&edited), "{}", up.said());
    zone_known(&ready).await;
    let old = pid(&ready["programs"][&node]);
    let after: Value = serde_json::from_str(&read(&up.ready_file)).unwrap();
    assert_ne!(pid(&after["programs"][&node]), old);

    // The publisher might return: its stream still has a worker.
    let worker = report(&ready).await["worker_pid"].as_i64().unwrap();
    let worker = PathBuf::from(format!("/proc/{worker}"));
    assert!(worker.exists());
    let networks = networks(&after);
    assert_eq!(networks.len(), if has_hosts { 3 + 2 + 2 + 1 + 1 } else { 0 });
    let before = within(&networks);
    assert_eq!(up.stop(), Some(0), "{}", up.said());
    assert!(!worker.exists(), "a worker is left");
    let mut left = with(text("folder"));
    left.extend(before.into_iter().filter(|process| process.exists()));
    assert!(left.is_empty() && !up.ready_file.exists(), "still there: {left:?}");
    assert_eq!(kept_namespaces(), mounts);
    let interface = ready["network"]["interface"].as_str();
    assert_eq!((interface.is_some(), traces(interface, text("folder"))), (has_hosts, vec![]));
}

#[tokio::test]
async fn a_farm_that_is_killed_leaves_nothing_that_lives_and_the_next_removes_its_folder() {
    let folders = Folders::new();
    let has_hosts = has_hosts();
    let subnet = (std::process::id() % 200 + 20).to_string();
    let small = ["--nodes", "1", "--routers", "1", "--subnet", &subnet];
    let mut up = Up::start(&small, Some(&folders.0));
    let ready = up.ready().await;
    let folder = ready["folder"].as_str().unwrap();
    let (said, done) = farm(&["cut", "node-1"], &ready);
    assert!(!done && said.contains("no network to cut"), "{said}");
    up.signal(Signal::SIGKILL);
    up.child.wait().unwrap();
    let gone = until("nothing lives", SOON, || with(folder).is_empty()).await;
    gone.unwrap_or_else(|error| panic!("{error}: {:?}", with(folder)));
    if !has_hosts {
        return;
    }

    // On hosts of its own, killed while it waits for an etcd that never comes.
    let etcd = folders.0.join("etcd");
    fs::write(&etcd, "#!/bin/sh\nexec sleep infinity\n").unwrap();
    fs::set_permissions(&etcd, fs::Permissions::from_mode(0o755)).unwrap();
    let etcd = etcd.to_str().unwrap();
    let mut next = Up::start(&["--etcd", etcd, "--nodes", "1"], Some(&folders.0));
    let written = until_some("a network", SOON, async || {
        let mut dirs = fs::read_dir(&folders.0).unwrap().flatten().map(|entry| entry.path());
        let dir =
            dirs.find(|dir| dir.join("network.json").exists() && dir.join("api-1.log").exists())?;
        let network = serde_json::from_str::<Value>(&read(&dir.join("network.json"))).ok()?;
        Some((network["uplink"].as_str()?.to_owned(), dir.to_str()?.to_owned()))
    });
    let (uplink, dir) = written.await.unwrap_or_else(|error| panic!("{error}: {}", next.said()));
    assert!(next.said().contains(&format!("left in {folder}")), "{}", next.said());
    assert!(!Path::new(folder).exists() && !traces(Some(&uplink), &dir).is_empty());
    next.signal(Signal::SIGKILL);
    next.child.wait().unwrap();
    let gone = until("nothing lives", SOON, || with(&dir).is_empty()).await;
    gone.unwrap_or_else(|error| panic!("{error}: {:?}", with(&dir)));
    let interface =
        until("no interface", SOON, || !Path::new("/sys/class/net").join(&uplink).exists());
    interface.await.unwrap();
}
