//! `millrace farm up`: a small farm of all programs and an etcd of three members on one machine, to try it out and to kill things.
//!
//! It starts what [`crate::farm_plan`] says, makes a channel, says what to try, and starts what dies again, until Ctrl-C. Programs
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

use crate::{
    arguments::FarmUpArguments,
    doctor::{Holder, holder},
    farm_plan::{FarmSize, Planned, plan},
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
const PAUSE: Duration = Duration::from_secs(5);
/// The channel that is made.
const CHANNEL: &str = "demo";

struct Running {
    planned: Planned,
    child: Child,
    /// Since when it is dead.
    died: Option<Instant>,
}

struct Farm {
    dir: PathBuf,
    etcd: PathBuf,
    programs: Vec<Running>,
    ready_json: Option<PathBuf>,
    /// The channel's key, once there is one.
    key: Value,
}

/// Runs the farm until Ctrl-C.
///
/// # Errors
/// A program is missing, an address is taken, or something does not start; the text says what to do.
pub async fn run(arguments: &FarmUpArguments) -> anyhow::Result<ExitCode> {
    let size = FarmSize {
        subnet: arguments.subnet,
        routers: arguments.routers,
        nodes: arguments.nodes,
        origins: arguments.origins,
    };
    let etcd = etcd(arguments.etcd.as_deref())?;
    if let Some(path) = &arguments.ready_json {
        ready_file::prepare(path)?;
    }
    let dir = free_dir(&env::temp_dir());
    let plan = plan(&size, &dir);
    plan.iter().try_for_each(check_free)?;
    plan.iter()
        .filter(|it| it.program != "etcd")
        .try_for_each(|it| beside(it.program).map(drop))?;
    let mut stop = Signals::new()?;
    fs::create_dir(&dir).map_err(|error| {
        Prerequisite(format!("{}: {error}; name another folder with TMPDIR", dir.display()))
    })?;
    let ready_json = arguments.ready_json.clone();
    let mut farm = Farm { dir, etcd, programs: Vec::new(), ready_json, key: Value::Null };
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
    if done.is_err() && keep_logs(&farm.dir) {
        crate::output::note(format_args!("the logs are in {}", farm.dir.display()));
    } else {
        let _ = fs::remove_dir_all(&farm.dir);
    }
    done.map(|()| ExitCode::SUCCESS)
}

impl Farm {
    async fn up(&mut self, plan: Vec<Planned>) -> anyhow::Result<()> {
        let (etcd, ours): (Vec<_>, Vec<_>) =
            plan.into_iter().partition(|planned| planned.program == "etcd");
        for planned in etcd.into_iter().chain(ours) {
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
        let settings = planned.file(&self.dir, "toml");
        if !planned.settings.is_empty() && !settings.exists() {
            fs::write(settings, &planned.settings)?;
        }
        let _ = fs::remove_file(planned.file(&self.dir, "ready.json"));
        let log = planned.file(&self.dir, "log");
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&program);
        command.args(&planned.arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| program.display().to_string())
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
                None => planned.file(&self.dir, "ready.json").exists(),
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
        let log = fs::read_to_string(planned.file(&self.dir, "log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!("{name} {why}; its last words:\n{}", tail.join("\n"))
    }

    /// Every program that listens for that: its name, and where.
    fn listeners(&self, listener: &str) -> impl Iterator<Item = (&str, String)> {
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
        let patient = Ask { patience: Duration::from_secs(10), ..new };
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
        let metrics = self.programs.iter().filter_map(|running| {
            let admin = running.planned.address("admin")?;
            Some((running.planned.name.clone(), json!(format!("http://{admin}/metrics"))))
        });
        Ok(json!({
            "rtmp": format!("rtmp://{}/live", self.address("router-1", "rtmp")?),
            "stream_key": self.key,
            "stream": CHANNEL,
            "playback": format!("http://{playback}/live/{CHANNEL}/index.m3u8"),
            "watch": format!("http://{playback}/watch/{CHANNEL}"),
            "api": format!("http://{}", self.address("api-1", "api")?),
            "metrics": metrics.collect::<serde_json::Map<_, _>>(),
            "programs": programs.collect::<serde_json::Map<_, _>>(),
        }))
    }

    fn welcome(&self, ready: &Value) -> String {
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let (api, rtmp, key) = (text("api"), text("rtmp"), text("stream_key"));
        let others = |listener, first: &'static str| {
            let found = self.listeners(listener).filter(move |(name, _)| *name != first);
            found.map(|(name, at)| (name.to_owned(), at)).collect::<Vec<_>>()
        };
        let routers = others("rtmp", "router-1");
        let routers =
            routers.iter().map(|(name, at)| format!("  or to {name}: 'rtmp://{at}/live/{key}'\n"));
        let origins = others("playback", "origin-1");
        let origins: String = origins
            .iter()
            .map(|(name, at)| format!("  or at {name}: http://{at}/watch/{CHANNEL}\n"))
            .collect();
        let origin_step = match origins.is_empty() {
            true => {
                "kill -9 the origin               the picture stands until it is back; it gets the whole window then\n     (with --origins 2 another goes on)"
            }
            false => {
                "kill -9 the origin that explain names  the other goes on within 2 s; reload the page there"
            }
        };
        let pids = self.programs.iter().map(|running| {
            let pid = running.child.id().map_or("-".to_owned(), |pid| pid.to_string());
            format!("  {:<10} {pid}\n", running.planned.name)
        });
        format!(
            "\nThe farm is up. Logs and settings are in {dir}.

  publish  ffmpeg -re -stream_loop -1 -i FILE -c:v libx264 -preset veryfast -g 60 -c:a aac -f flv '{rtmp}/{key}'
{routers}  watch    {watch}
{origins}  console  {api}/

Process ids:
{pids}
A drill, while you watch:
  1. millrace explain {CHANNEL} --api {api}            where the stream is, and its worker
  2. kill -9 WORKER                       the picture goes on; explain shows the death and the successor
  3. kill -9 the node that makes it       another goes on within 3 s; the dead one is back after {pause} s
  4. kill -9 one etcd, or all three       nothing happens to what is live
  5. kill -9 the router                   the encoder has to connect again, to any router
  6. {origin_step}
Other settings: edit {dir}/NAME.toml, then kill that program. It is started again with the file as you left it.
All programs are on one host at {net}: to cut them off from each other needs network namespaces, which this does not make.

Ctrl-C stops everything.",
            dir = self.dir.display(),
            watch = text("watch"),
            routers = routers.collect::<String>(),
            pids = pids.collect::<String>(),
            pause = PAUSE.as_secs(),
            net = "addresses of 127.0.0.0/8",
        )
    }

    /// Says what dies, and starts it again after a while. Ends only when something cannot be started again.
    async fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            let (at, status) = self.next_death_or_birth().await;
            let name = self.programs[at].planned.name.clone();
            match status {
                Some(status) => {
                    let log = self.programs[at].planned.file(&self.dir, "log");
                    crate::output::say(format_args!(
                        "{name} died: {status}; started again in {} s; its words are in {}",
                        PAUSE.as_secs(),
                        log.display(),
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
        let file = planned.file(&self.dir, "toml");
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
            millrace_node::end_left_behind(&self.dir.join(&running.planned.name));
        }
    }
}

/// A folder that is not there yet: an earlier farm of the same process id may have left one, as in a container.
fn free_dir(parent: &Path) -> PathBuf {
    let name = format!("millrace-farm-{}", std::process::id());
    let later = (2..100).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(later).map(|name| parent.join(name));
    names.find(|dir| !dir.exists()).unwrap_or_else(|| parent.join(&name))
}

/// Removes from a farm's folder all that is no log with words in it; whether there is one.
fn keep_logs(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut kept = false;
    for path in entries.map(|entry| entry.path()) {
        let is_log = path.extension().is_some_and(|ending| ending == "log");
        if is_log && fs::metadata(&path).is_ok_and(|log| log.len() > 0) {
            kept = true;
        } else {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    kept
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_is_not_there_and_an_address_that_is_taken_say_what_to_do() {
        let error = etcd(Some(Path::new("/nowhere/etcd"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/etcd"), "{error}");
        let size = FarmSize { subnet: 251, routers: 1, nodes: 1, origins: 1 };
        let all = plan(&size, Path::new("/tmp"));
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

    #[test]
    fn of_a_farm_that_failed_only_logs_with_words_stay() {
        let parent = env::temp_dir().join(format!("millrace-keep-logs-{}", std::process::id()));
        let dir = free_dir(&parent);
        fs::create_dir_all(dir.join("etcd-1")).unwrap();
        let second = free_dir(&parent);
        for (file, text) in [("node-1.log", "why"), ("api-1.log", ""), ("node-1.toml", "x")] {
            fs::write(dir.join(file), text).unwrap();
        }
        let kept = (keep_logs(&dir), fs::read_dir(&dir).unwrap().count());
        fs::remove_file(dir.join("node-1.log")).unwrap();
        let nothing = keep_logs(&dir);
        fs::remove_dir_all(&parent).unwrap();
        assert_eq!((kept, nothing), ((true, 1), false));
        assert!(second != dir && second.parent() == Some(&parent), "{}", second.display());
    }
}
