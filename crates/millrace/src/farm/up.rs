//! `millrace farm up`: a small farm of all programs and an etcd of three members on one machine, to try it out and to kill things.
//!
//! It starts what [`super::plan`] says where [`super::place`] says, makes a channel, says what to try, and starts what dies again, until Ctrl-C. Programs
//! are in process groups of their own, so that Ctrl-C stops them in order.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures_util::future::select_all;
use millrace_api::{Ask, HttpClient};
use millrace_telemetry::{Signals, write_whole};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    folder::{self, Folder},
    place::{self, Place},
    plan::{FarmSize, Ground, Planned, plan},
};
use crate::{
    arguments::FarmUpArguments,
    doctor::{Holder, holder},
    prerequisite::Prerequisite,
    ready_file,
};

/// How long a program may take until it can work; a node measures the host first.
const START: Duration = Duration::from_secs(60);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);
/// How long a program may take to end.
const STOP: Duration = Duration::from_secs(6);
/// What died is started again after this, so that what happens meanwhile can be watched.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// The channel that is made.
pub(super) const CHANNEL: &str = "demo";

/// A program.
pub(super) struct Running {
    pub(super) planned: Planned,
    pub(super) child: Child,
    /// Since when it is dead.
    died: Option<Instant>,
}

/// All of it.
pub(super) struct Farm {
    pub(super) folder: Folder,
    pub(super) place: Place,
    etcd: PathBuf,
    pub(super) programs: Vec<Running>,
    ready_json: Option<PathBuf>,
    /// The channel's key, once there is one.
    key: Value,
}

/// Runs the farm until Ctrl-C.
///
/// # Errors
/// A program is missing, an address is taken, or something does not start; the text says what to do.
pub async fn run(arguments: &FarmUpArguments) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::new()?;
    let (mut farm, plan) = prepare(arguments)?;
    let done = tokio::select! {
        up = farm.up(plan) => match up {
            Ok(()) => tokio::select! {
                failed = farm.watch() => failed,
                _ = stop.next() => Ok(()),
            },
            failed => failed,
        },
        // Also when its terminal is closed: nobody could end it any more.
        _ = stop.next() => Ok(()),
    };
    crate::output::say(format_args!("stopping"));
    farm.down().await;
    if let Some(file) = &arguments.ready_json {
        let _ = fs::remove_file(file);
    }
    if done.is_err() && folder::keep_logs(farm.folder.path()) {
        crate::output::note(format_args!("the logs are in {}", farm.folder.path().display()));
    } else {
        let _ = fs::remove_dir_all(farm.folder.path());
    }
    done.map(|()| ExitCode::SUCCESS)
}

/// Finds all that is needed and makes the farm's hosts and folder. Starts none of its programs.
fn prepare(arguments: &FarmUpArguments) -> anyhow::Result<(Farm, Vec<Planned>)> {
    let FarmUpArguments { routers, nodes, origins, .. } = *arguments;
    let (size, parent) = (FarmSize { routers, nodes, origins }, env::temp_dir());
    let etcd = etcd(arguments.etcd.as_deref())?;
    if let Some(path) = &arguments.ready_json {
        ready_file::prepare(path)?;
    }
    for killed in folder::clear_killed(&parent) {
        let killed = killed.display();
        crate::output::say(format_args!(
            "removed what a farm that was killed has left in {killed}"
        ));
    }
    let place = Place::find(arguments, &size.names())?;
    let ground = match place.network() {
        Some(network) => Ground::network(size, network)?,
        None => Ground::loopback(size, arguments.subnet.unwrap_or_default()),
    };
    let dir = folder::free(&parent);
    let plan = plan(size, &ground, &dir);
    if place.network().is_none() {
        plan.iter().try_for_each(check_free)?;
    }
    plan.iter()
        .filter(|it| it.program != "etcd")
        .try_for_each(|it| beside(it.program).map(drop))?;
    let folder = Folder::make(&dir).map_err(|error| {
        Prerequisite(format!("{}: {error}; name another folder with TMPDIR", dir.display()))
    })?;
    let ready_json = arguments.ready_json.clone();
    let (programs, key) = (Vec::new(), Value::Null);
    Ok((Farm { folder, place, etcd, programs, ready_json, key }, plan))
}

impl Farm {
    async fn up(&mut self, plan: Vec<Planned>) -> anyhow::Result<()> {
        if let Some(network) = self.place.network() {
            let names: Vec<_> = plan.iter().map(|planned| planned.name.clone()).collect();
            place::equip(network, &names, self.folder.path())?;
        }
        for planned in plan {
            let child = self.spawn(&planned)?;
            self.programs.push(Running { planned, child, died: None });
        }
        for at in 0..self.programs.len() {
            self.ready(at).await?;
        }
        self.key = self.new_key().await?;
        crate::output::say(format_args!("{}", self.welcome(&self.facts()?)));
        self.write_ready()
    }

    fn write_ready(&self) -> anyhow::Result<()> {
        let Some(file) = &self.ready_json else { return Ok(()) };
        write_whole(file, &self.facts()?).with_context(|| file.display().to_string())
    }

    fn spawn(&self, planned: &Planned) -> anyhow::Result<Child> {
        let program = match planned.program {
            "etcd" => self.etcd.clone(),
            name => beside(name)?,
        };
        // Once it is there it is the operator's.
        let settings = planned.file(self.folder.path(), "toml");
        if !planned.settings.is_empty() && !settings.exists() {
            fs::write(settings, &planned.settings)?;
        }
        let _ = fs::remove_file(planned.file(self.folder.path(), "ready.json"));
        let log = planned.file(self.folder.path(), "log");
        let log = File::options().create(true).append(true).open(log)?;
        // The kernel ends it should this process be killed before it can.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(network) = self.place.network() {
            command.args(network.enter(&planned.name)?);
        }
        command.arg(&program).args(&planned.arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("setpriv, of util-linux")
    }

    /// Waits until a program can work.
    async fn ready(&mut self, at: usize) -> anyhow::Result<()> {
        let Running { planned, child, .. } = &mut self.programs[at];
        let name = planned.name.clone();
        let deadline = Instant::now() + START;
        let why = loop {
            let is_ready = match planned.address("client") {
                Some(client) => {
                    let (http, url) = (HttpClient::new(), format!("http://{client}/health"));
                    http.get_json(&url).await.is_ok_and(|health| health["health"] == "true")
                }
                None => planned.file(self.folder.path(), "ready.json").exists(),
            };
            if is_ready {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                break format!("ended with {status}");
            }
            if Instant::now() > deadline {
                break format!("is not ready after {} s", START.as_secs());
            }
            sleep(LOOK).await;
        };
        let log = fs::read_to_string(planned.file(self.folder.path(), "log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!("{name} {why}; its last words:\n{}", tail.join("\n"))
    }

    /// Every program that listens for that: its name, and where.
    pub(super) fn listeners(&self, listener: &str) -> impl Iterator<Item = (&str, String)> {
        let planned = self.programs.iter().map(|running| &running.planned);
        planned.filter_map(move |planned| {
            Some((planned.name.as_str(), planned.address(listener)?.to_string()))
        })
    }

    fn address(&self, name: &str, listener: &str) -> anyhow::Result<String> {
        let found = self.listeners(listener).find(|(of, _)| *of == name);
        Ok(found.with_context(|| format!("{listener} of {name}"))?.1)
    }

    /// Makes the channel; its key.
    async fn new_key(&self) -> anyhow::Result<Value> {
        let api = format!("http://{}", self.address("api-1", "api")?);
        let new = Ask::post("/v1/channels", Some(json!({ "channel": CHANNEL })));
        let token =
            self.place.network().map(|_| fs::read_to_string(place::token(self.folder.path())));
        let token = token.transpose()?.map(|token| token.trim().to_owned());
        let patient = Ask { patience: Duration::from_secs(10), token, ..new };
        Ok(HttpClient::new().ask(&api, patient).await?["stream_key"].take())
    }

    /// What tools and people need to know of the farm as it is now.
    fn facts(&self) -> anyhow::Result<Value> {
        let playback = self.address("origin-1", "playback")?;
        let programs = self.programs.iter().map(|running| {
            let of = &running.planned;
            let listeners = of.listeners.iter().map(|(name, at)| ((*name).to_owned(), json!(at)));
            let mut about: serde_json::Map<String, Value> = listeners.collect();
            about.insert("pid".to_owned(), json!(running.child.id()));
            (of.name.clone(), Value::Object(about))
        });
        let scheme = if self.place.network().is_some() { "https" } else { "http" };
        let metrics = self.programs.iter().filter_map(|running| {
            let admin = running.planned.address("admin")?;
            Some((running.planned.name.clone(), json!(format!("{scheme}://{admin}/metrics"))))
        });
        let mut facts = json!({
            "rtmp": format!("rtmp://{}/live", self.address("router-1", "rtmp")?),
            "stream_key": self.key,
            "stream": CHANNEL,
            "playback": format!("http://{playback}/live/{CHANNEL}/index.m3u8"),
            "watch": format!("http://{playback}/watch/{CHANNEL}"),
            "api": format!("http://{}", self.address("api-1", "api")?),
            "metrics": metrics.collect::<serde_json::Map<_, _>>(),
            "programs": programs.collect::<serde_json::Map<_, _>>(),
            "folder": self.folder.path(),
        });
        if let Some(network) = self.place.network() {
            let [ca, certificate, key] = place::monitor(self.folder.path());
            facts["metrics_tls"] = json!({ "ca": ca, "certificate": certificate, "key": key });
            facts["token_file"] = json!(place::token(self.folder.path()));
            facts["network"] = json!({ "subnet": network.subnet(), "interface": network.uplink() });
        }
        Ok(facts)
    }

    /// Says what dies, and starts it again after a while. Ends only when something cannot be started again.
    async fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            let (at, status) = self.next_death_or_birth().await;
            let name = self.programs[at].planned.name.clone();
            match status {
                Some(status) => {
                    let log = self.programs[at].planned.file(self.folder.path(), "log");
                    crate::output::say(format_args!(
                        "{name} died: {status}; started again in {} s; its words are in {}{}",
                        PAUSE.as_secs(),
                        log.display(),
                        last_words(&log),
                    ));
                    self.programs[at].died = Some(Instant::now());
                }
                None => {
                    let child = self.spawn(&self.programs[at].planned)?;
                    let pid = child.id().unwrap_or_default();
                    let running = &mut self.programs[at];
                    (running.child, running.died) = (child, None);
                    if let Err(error) = self.write_ready() {
                        crate::output::note(format_args!("{error:#}: its process ids are old"));
                    }
                    let by =
                        self.edited(at).map(|file| format!(", with {} as edited", file.display()));
                    let by = by.unwrap_or_default();
                    crate::output::say(format_args!("{name} is started again, process {pid}{by}"));
                }
            }
        }
    }

    /// Its settings, where somebody has changed them.
    fn edited(&self, at: usize) -> Option<PathBuf> {
        let planned = &self.programs[at].planned;
        let file = planned.file(self.folder.path(), "toml");
        let now = fs::read_to_string(&file).ok()?;
        (now != planned.settings).then_some(file)
    }

    /// A program that died, with its status, or one whose pause is over.
    async fn next_death_or_birth(&mut self) -> (usize, Option<ExitStatus>) {
        let waits = self.programs.iter_mut().enumerate().map(|(at, running)| {
            Box::pin(async move {
                match running.died {
                    Some(died) => {
                        tokio::time::sleep_until(died + PAUSE).await;
                        (at, None)
                    }
                    None => match running.child.wait().await {
                        Ok(status) => (at, Some(status)),
                        Err(_) => std::future::pending().await,
                    },
                }
            })
        });
        select_all(waits).await.0
    }

    /// Ends what runs, in order: publishers are told, streams flushed, etcd last.
    async fn down(&mut self) {
        for kind in ["router", "node", "origin", "api", "etcd"] {
            let of_kind = |running: &&mut Running| running.planned.name.starts_with(kind);
            for running in self.programs.iter_mut().filter(of_kind) {
                let Some(pid) = running.child.id().and_then(|pid| i32::try_from(pid).ok()) else {
                    continue;
                };
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                if timeout(STOP, running.child.wait()).await.is_err() {
                    let _ = running.child.kill().await;
                }
            }
        }
        // A node's daemon that is told to stop leaves its workers to the next one, which does not come.
        for running in &self.programs {
            millrace_node::end_left_behind(&self.folder.path().join(&running.planned.name));
        }
    }
}

/// The etcd to run: the one given, or the first on the path.
fn etcd(given: Option<&Path>) -> Result<PathBuf, Prerequisite> {
    let on_path = || {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| file.is_file())
    };
    let found = given.map(Path::to_path_buf).filter(|file| file.is_file());
    if let (Some(given), None) = (given, &found) {
        return Err(Prerequisite(format!("{}: no such program", given.display())));
    }
    found.or_else(on_path).ok_or_else(|| {
        let what_to_do = "apt install etcd-server, or give one with --etcd FILE";
        Prerequisite(format!("etcd is not on this host's PATH: {what_to_do}"))
    })
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?.with_file_name(name);
    if program.is_file() {
        return Ok(program);
    }
    let what_to_do = "build it with `cargo build --release --workspace --bins`";
    Err(Prerequisite(format!("{} is missing: {what_to_do}", program.display())).into())
}

fn check_free(planned: &Planned) -> Result<(), Prerequisite> {
    for (listener, address) in &planned.listeners {
        let Err(error) = TcpListener::bind(address) else { continue };
        let why = match holder(*address) {
            Some(Holder { pid, name, everywhere: true }) => format!(
                "{name} ({pid}) listens on that port of all addresses, and no --subnet helps: stop it, or start it with addresses of \
                 its own (millrace standalone --listen-rtmp 127.0.0.1:1935 --listen-playback 127.0.0.1:8080)"
            ),
            Some(Holder { pid, name, .. }) => format!(
                "{name} ({pid}) listens there; stop it, or take other addresses with --subnet N"
            ),
            None => {
                format!("{error}; stop what listens there, or take other addresses with --subnet N")
            }
        };
        let name = &planned.name;
        return Err(Prerequisite(format!("{name} cannot have {address} ({listener}): {why}")));
    }
    Ok(())
}

/// What a program says that cannot start is no line of its log.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.filter(|line| !line.starts_with('{'));
    last.map(|words| format!(":\n  {words}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_is_not_there_and_an_address_that_is_taken_say_what_to_do() {
        let error = etcd(Some(Path::new("/nowhere/etcd"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/etcd"), "{error}");
        let size = FarmSize { routers: 1, nodes: 1, origins: 1 };
        let all = plan(size, &Ground::loopback(size, 251), Path::new("/tmp"));
        let taken = TcpListener::bind("127.251.3.1:7001").unwrap();
        let error = all.iter().find_map(|planned| check_free(planned).err()).unwrap().to_string();
        let holder = format!("({}) listens there", std::process::id());
        let wanted = ["node-1", "--subnet N", &holder];
        assert!(wanted.iter().all(|wanted| error.contains(wanted)), "{error}");
        drop(taken);
        // As standalone has the ports of publishers and players.
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let mut origin = all.into_iter().find(|it| it.name == "origin-1").unwrap();
        origin.listeners[0].1.set_port(port);
        let error = check_free(&origin).unwrap_err().to_string();
        assert!(
            error.contains("no --subnet helps") && error.contains("--listen-playback"),
            "{error}"
        );
    }
}
