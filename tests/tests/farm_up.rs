//! `millrace farm up`: what a newcomer starts with one command is a real farm, and is gone when it is told to.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hyper::Method;
use millrace_testkit::{
    ClipSpec, HttpClient, Player, PlayerOptions, Publisher, Scratch, check, until_some,
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

/// Told to stop when a test fails, so that nothing of it is left.
struct Up(Child);

impl Up {
    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.stop();
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Where the farm says that the program's settings are.
fn settings_of(said: &str, program: &str) -> PathBuf {
    let dir = said.split("Logs and settings are in ").nth(1).unwrap();
    Path::new(dir.lines().next().unwrap().trim_end_matches('.')).join(format!("{program}.toml"))
}

/// Waits until a node has the zone that its settings were given.
async fn zone_known(http: &HttpClient, api: &str) {
    let known = until_some("the node has what was edited", SOON, async || {
        let nodes = format!("{api}/v1/nodes");
        let nodes = http.send(Method::GET, &nodes, Default::default(), SOON).await.ok()?;
        nodes.text().contains("\"zone\":\"edited\"").then_some(())
    });
    known.await.unwrap();
}

fn pid(program: &Value) -> Pid {
    Pid::from_raw(i32::try_from(program["pid"].as_i64().unwrap()).unwrap())
}

#[tokio::test]
async fn a_farm_on_one_machine_survives_the_death_of_a_node_and_is_gone_when_told_to() {
    let scratch = Scratch::new("farm-up").unwrap();
    let (ready_file, said) = (scratch.path().join("ready.json"), scratch.path().join("said"));
    let output = fs::File::create(&said).unwrap();
    let subnet = (std::process::id() % 200 + 20).to_string();
    let mut command = Command::new(program("millrace").unwrap());
    command.args(["farm", "up", "--subnet", &subnet, "--ready-json"]).arg(&ready_file);
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let mut up = Up(command.spawn().unwrap());
    let ready = until_some("the farm is up", START, async || {
        serde_json::from_str::<Value>(&read(&ready_file)).ok()
    });
    let ready = ready.await.unwrap_or_else(|error| panic!("{error}\n{}", read(&said)));
    assert!(read(&said).contains("kill -9 WORKER"), "a drill: {}", read(&said));
    let second = ready["programs"]["router-2"]["rtmp"].as_str().unwrap();
    assert!(read(&said).contains(&format!("or to router-2: 'rtmp://{second}")), "{}", read(&said));
    assert_eq!(fs::metadata(&ready_file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = |name: &str| ready[name].as_str().unwrap();
    let clip = ClipSpec { seconds: 10, ..ClipSpec::default() };
    let url = format!("{}/{}", text("rtmp"), text("stream_key"));
    let mut publisher = Publisher::start(&clip.file().unwrap(), &url).unwrap();
    let player = Player::start(text("playback"), PlayerOptions::default());
    player.media(3.0, SOON).await.unwrap();

    let http = HttpClient::default();
    let stream = format!("{}/v1/streams/{}", text("api"), text("stream"));
    let report = http.send(Method::GET, &stream, Default::default(), SOON).await.unwrap();
    let report: Value = serde_json::from_str(&report.text()).unwrap();
    let node = report["node"].as_str().unwrap().to_owned();
    let settings = settings_of(&read(&said), &node);
    fs::write(&settings, read(&settings) + "[labels]\nzone = 'edited'\n").unwrap();
    kill(pid(&ready["programs"][&node]), Signal::SIGKILL).unwrap();
    let status = publisher.wait(SOON).await.unwrap();
    assert!(status.success(), "the publisher was cut off: {}", publisher.log());
    player.media(f64::from(clip.seconds) - 0.2, SOON).await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let recording = player.stop().await.unwrap();
    check(&recording, &clip.expected().at_least(0..=last)).unwrap().assert_lossless();
    let again = until_some("the node is started again", SOON, async || {
        read(&said).contains(&format!("{node} is started again")).then_some(())
    });
    again.await.unwrap_or_else(|error| panic!("{error}\n{}", read(&said)));
    assert!(read(&said).contains(&format!("{node} died")), "{}", read(&said));
    let edited = format!(", with {} as edited", settings.display());
    assert!(read(&said).contains(&edited), "{}", read(&said));
    zone_known(&http, text("api")).await;
    let old = pid(&ready["programs"][&node]);
    let ready: Value = serde_json::from_str(&read(&ready_file)).unwrap();
    assert_ne!(pid(&ready["programs"][&node]), old);

    // The publisher might return: its stream still has a worker.
    let report = http.send(Method::GET, &stream, Default::default(), SOON).await.unwrap();
    let report: Value = serde_json::from_str(&report.text()).unwrap();
    let worker = PathBuf::from(format!("/proc/{}", report["worker_pid"].as_i64().unwrap()));
    assert!(worker.exists());
    assert_eq!(up.stop(), Some(0), "{}", read(&said));
    assert!(!worker.exists(), "a worker is left");
    let alive = |program: &Value| Path::new(&format!("/proc/{}", pid(program))).exists();
    let left: Vec<_> = ready["programs"].as_object().unwrap().iter().collect();
    let left: Vec<_> = left.iter().filter(|(_, program)| alive(program)).collect();
    assert!(left.is_empty() && !ready_file.exists(), "still there: {left:?}");
}
