//! A farm of separate programs: etcd, origins, nodes, routers, an api, each a process that a test can kill, stop and start
//! again, on loopback or on hosts of their own. All of them, and their workers, are gone with their owner.

mod admin;
mod build;
mod census;
mod daemon;
mod heap;
mod hosts;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use millrace_hosts::Network;
use millrace_testkit::{Etcd, EtcdVersion, HttpClient, Scratch, until, until_some};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use admin::Admin;
pub use build::Build;
pub use census::Held;
pub use hosts::Cut;

use crate::{Channel, FarmCerts, StreamView, farm::ladder_toml};

/// How long a program may take until it can work.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long one question may take.
const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// What a farm of many programs consists of.
#[derive(Clone, Debug)]
pub struct ManyOptions {
    /// `node-1` and so on.
    pub nodes: usize,
    /// `router-1` and so on.
    pub routers: usize,
    /// `origin-1` and so on.
    pub origins: usize,
    /// Members of the etcd cluster.
    pub etcd_members: usize,
    /// `node-1` is in zone `a`, `node-2` in `b`, and so on, over so many zones; 0: in none.
    pub zones: u8,
    /// After how long without a sign of life a program's record goes, 2 to 60.
    pub lease_seconds: u64,
    /// Whether each program but the API has a host of its own, where this machine allows it: [`ManyFarm::network`].
    pub hosts: bool,
    /// Encoded rungs: name, short side, kbit/s.
    pub rungs: Vec<(&'static str, u32, u32)>,
    /// Whether the programs and etcd know each other by certificates.
    pub tls: bool,
    /// How long an origin keeps a stream that has ended, seconds.
    pub keep_ended_s: u64,
    /// Whether each program says how much of its heap is in use: [`ManyFarm::heap_bytes`].
    pub heaps: bool,
    /// Viewers that make a stream hot; it cools after a second. `None`: as without settings.
    pub hot_viewers: Option<u64>,
    /// What may leave each node for origins; `None`: it finds that out.
    pub egress_bits_per_second: Option<u64>,
    /// Of which build all programs are at first.
    pub build: Build,
}

impl Default for ManyOptions {
    /// Two nodes, one router, one origin, and two small rungs.
    fn default() -> Self {
        let rungs = vec![("240p", 240, 400), ("144p", 144, 200)];
        Self {
            nodes: 2,
            routers: 1,
            origins: 1,
            etcd_members: 1,
            zones: 0,
            lease_seconds: 3,
            hosts: false,
            rungs,
            tls: false,
            keep_ended_s: 60,
            heaps: false,
            hot_viewers: None,
            egress_bits_per_second: None,
            build: Build::Present,
        }
    }
}

/// A running program.
#[derive(Debug)]
struct Running {
    child: Child,
    ready: Value,
}

/// The running farm.
#[derive(Debug)]
pub struct ManyFarm {
    programs: BTreeMap<String, Running>,
    /// What the ready files of programs said that were stopped and are to start where they were.
    stopped: BTreeMap<String, Value>,
    /// Those that are of another build than the farm was at first.
    builds: BTreeMap<String, Build>,
    /// Further lines of their settings, before all others.
    lines: BTreeMap<String, String>,
    /// The registry; a test may kill it.
    pub etcd: Etcd,
    certs: Option<FarmCerts>,
    network: Option<Network>,
    options: ManyOptions,
    http: HttpClient,
    admin: Admin,
    run_dir: PathBuf,
    /// Says how much of a program's heap is in use.
    heap_library: Option<PathBuf>,
    scratch: Scratch,
}

impl ManyFarm {
    /// Starts all programs and waits until each can work and the routers know the nodes.
    ///
    /// # Errors
    /// When one does not start in time; its log is in the error.
    pub async fn start(options: ManyOptions) -> anyhow::Result<Self> {
        let scratch = Scratch::new("many")?;
        // Sockets have short names only.
        let unique =
            scratch.path().file_name().context("invariant: a scratch folder has a name")?;
        let run_dir = std::env::temp_dir().join(unique);
        fs::create_dir(&run_dir)?;
        let named = |kind: &str, count: usize| {
            (1..=count).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>()
        };
        let nodes = named("node", options.nodes);
        let mut names = named("origin", options.origins);
        names.extend(nodes.iter().cloned());
        names.push("api-1".to_owned());
        names.extend(named("router", options.routers));
        let members = named("etcd", options.etcd_members);
        let network = if options.hosts { hosts::network(&names, &members) } else { None };
        let certs = match options.tls {
            true => Some(hosts::certificates(scratch.path(), &names, &members, network.as_ref())?),
            false => None,
        };
        let tls = certs.as_ref().map(|certs| certs.etcd_tls("etcd/etcd-1"));
        let members = hosts::etcd_hosts(&members, network.as_ref())?;
        let etcd = Etcd::start_with(EtcdVersion::V3_7, members, tls)?;
        if let Some(certs) = &certs {
            certs.grant_rights(&etcd, "operator/ann").await?;
        }
        let heap_library = options.heaps.then(|| heap::compile(scratch.path())).transpose()?;
        let http = HttpClient::default();
        let admin = Admin::new(network.as_ref().and(certs.as_ref()))?;
        let mut farm = Self {
            programs: BTreeMap::new(),
            stopped: BTreeMap::new(),
            builds: BTreeMap::new(),
            lines: BTreeMap::new(),
            etcd,
            certs,
            network,
            options,
            http,
            admin,
            run_dir,
            heap_library,
            scratch,
        };
        for name in &names {
            farm.spawn(name, None)?;
        }
        for name in &names {
            farm.await_ready(name).await?;
        }
        let nodes = farm.options.nodes;
        farm.nodes_known(nodes).await?;
        Ok(farm)
    }

    /// Waits until the registry names so many nodes.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn nodes_known(&self, count: usize) -> anyhow::Result<()> {
        let known = until_some("all nodes are known", START_PATIENCE, async || {
            let nodes = self.api(Method::GET, "/v1/nodes", String::new()).await.ok()?;
            (nodes["nodes"].as_array()?.len() == count).then_some(())
        });
        Ok(known.await?)
    }

    /// Starts a program that is not there, or not any more, and waits until it can work.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_again(&mut self, name: &str) -> anyhow::Result<()> {
        let before = self.stopped.remove(name).unwrap_or_default();
        self.spawn_at(name, None, &before)?;
        self.await_ready(name).await
    }

    /// Starts a further program with that `farm_tls` line, and does not wait: it may never be ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_stranger(&mut self, name: &str, farm_tls: &str) -> anyhow::Result<()> {
        self.spawn(name, Some(farm_tls))
    }

    /// The certificates of a farm that has them.
    ///
    /// # Errors
    /// When it has none.
    pub fn certs(&self) -> anyhow::Result<&FarmCerts> {
        self.certs.as_ref().context("a farm without certificates")
    }

    /// Has every program read its settings and certificates again (SIGHUP), and waits until all have, `times` in all.
    ///
    /// # Errors
    /// When one does not in time; its log is in the error.
    pub async fn reload(&self, times: usize) -> anyhow::Result<()> {
        for running in self.programs.values() {
            kill(Pid::from_raw(i32::try_from(running.child.id())?), Signal::SIGHUP)?;
        }
        for name in self.programs.keys() {
            let read = || self.log(name).matches("settings reloaded").count() >= times;
            let what = format!("{name} has reloaded");
            until(&what, ASK_PATIENCE, read).await.with_context(|| self.log(name))?;
        }
        Ok(())
    }

    /// SIGKILLs a program and all its workers, and waits for its end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.kill_in_place(name)?;
        self.stopped.remove(name);
        Ok(())
    }

    /// The same to one that is to start again where it was.
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub fn kill_in_place(&mut self, name: &str) -> anyhow::Result<()> {
        self.signal(name, Signal::SIGKILL)?;
        let mut gone = self.programs.remove(name).with_context(|| name.to_owned())?;
        self.stopped.insert(name.to_owned(), gone.ready);
        gone.child.wait()?;
        Ok(())
    }

    /// Sends a signal to a program and all its workers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid(name)?)?;
        let workers: BTreeSet<i32> =
            children_of(pid).into_iter().chain(self.workers(name)).collect();
        kill(Pid::from_raw(pid), signal)?;
        for worker in workers {
            // A worker may end by itself in between.
            let _ = kill(Pid::from_raw(worker), signal);
        }
        Ok(())
    }

    /// A program's process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let running = self.programs.get(name).with_context(|| format!("no {name} runs"))?;
        Ok(running.child.id())
    }

    /// Where a program listens, by the name of the listener in its ready file.
    ///
    /// # Errors
    /// When it does not run or has no such listener.
    pub fn address(&self, name: &str, listener: &str) -> anyhow::Result<SocketAddr> {
        let ready = &self.programs.get(name).with_context(|| format!("no {name} runs"))?.ready;
        let text = ready[listener].as_str().with_context(|| format!("{listener} of {name}"))?;
        Ok(text.parse()?)
    }

    /// Makes a channel, to be published at `router`.
    ///
    /// # Errors
    /// When the API refuses it.
    pub async fn new_channel(&self, name: &str, router: SocketAddr) -> anyhow::Result<Channel> {
        let body = json!({ "channel": name }).to_string();
        let made = self.api(Method::POST, "/v1/channels", body).await?;
        let key = made["stream_key"].as_str().with_context(|| format!("no key in {made}"))?;
        let playback = self.address("origin-1", "playback")?;
        Ok(Channel {
            rtmp_url: format!("rtmp://{router}/live/{key}"),
            playback_url: format!("http://{playback}/live/{name}/index.m3u8"),
            stream: name.to_owned(),
        })
    }

    /// Pins a channel's stream to two encoders, or frees it.
    ///
    /// # Errors
    /// When the API refuses it.
    pub async fn pin(&self, channel: &str, dual: bool) -> anyhow::Result<()> {
        let (path, body) = (format!("/v1/channels/{channel}"), json!({ "dual": dual }));
        self.api(Method::PATCH, &path, body.to_string()).await.map(drop)
    }

    /// Asks the API.
    ///
    /// # Errors
    /// When it does not answer in time, or not with success and JSON.
    pub async fn api(&self, method: Method, path: &str, body: String) -> anyhow::Result<Value> {
        let url = format!("http://{}{path}", self.address("api-1", "api")?);
        let answer = self.http.send(method, &url, Bytes::from(body), ASK_PATIENCE).await?;
        ensure!(answer.status.is_success(), "{url}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_str(&answer.text())?)
    }

    /// What a router says of a stream; it needs neither API nor registry.
    ///
    /// # Errors
    /// When it does not answer, or does not have the stream.
    pub async fn stream(&self, router: &str, stream: &str) -> anyhow::Result<StreamView> {
        let page = self.admin_page(router, &format!("/v1/streams/{stream}")).await?;
        Ok(serde_json::from_str(&page)?)
    }

    /// The node that makes a stream and its worker, once there is one that is not the worker `old`.
    ///
    /// # Errors
    /// When there is none in time; the routers' logs are in the error.
    pub async fn made_by(
        &self,
        router: &str,
        stream: &str,
        old: Option<i32>,
    ) -> anyhow::Result<(String, i32)> {
        let asked = until_some("a worker", Duration::from_secs(15), async || {
            let view = self.stream(router, stream).await.ok()?;
            let worker = view.worker_pid.filter(|pid| view.state == "live" && Some(*pid) != old)?;
            Some((view.rest.get("node")?.as_str()?.to_owned(), worker))
        });
        asked.await.with_context(|| self.log(router))
    }

    /// The value of a counter on a program's metrics page, summed over the lines that begin with `metric`.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn metric(&self, name: &str, metric: &str) -> anyhow::Result<f64> {
        let page = self.admin_page(name, "/metrics").await?;
        let values = page.lines().filter(|line| line.starts_with(metric));
        Ok(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// A page of a program's admin port.
    async fn admin_page(&self, name: &str, path: &str) -> anyhow::Result<String> {
        let (kind, _) = name.rsplit_once('-').context("a name such as node-1")?;
        self.admin.page(kind, self.address(name, "admin")?, path).await
    }

    /// What a program wrote to standard error so far.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    fn spawn(&mut self, name: &str, farm_tls: Option<&str>) -> anyhow::Result<()> {
        self.spawn_at(name, farm_tls, &Value::Null)
    }

    /// `at`: where it listens, as in a ready file; on free ports of its choice where that says nothing.
    fn spawn_at(&mut self, name: &str, farm_tls: Option<&str>, at: &Value) -> anyhow::Result<()> {
        let (kind, _) = name.rsplit_once('-').context("a name such as node-1")?;
        let file = |ending: &str| self.scratch.path().join(format!("{name}.{ending}"));
        fs::write(file("toml"), self.settings(kind, name, farm_tls))?;
        let log = File::options().create(true).append(true).open(file("log"))?;
        let mut command =
            self.command_on(name, &self.build_of(name).program(&format!("millrace-{kind}"))?)?;
        command.arg("--config").arg(file("toml")).arg("--ready-json").arg(file("json"));
        for (listener, port) in hosts::listeners(kind) {
            let at = at[listener].as_str().and_then(|at| at.parse().ok());
            let at = at.map_or_else(|| self.listens_at(name, *port), Ok)?;
            command.arg(format!("--listen-{listener}")).arg(at.to_string());
        }
        if let Some(library) = &self.heap_library {
            heap::watch(&mut command, library, &self.heap_file(name));
        }
        let _ = fs::remove_file(file("json"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| name.to_owned())?;
        self.programs.insert(name.to_owned(), Running { child, ready: Value::Null });
        Ok(())
    }

    fn settings(&self, kind: &str, name: &str, farm_tls: Option<&str>) -> String {
        let endpoints = self.etcd.endpoints();
        let of_farm = |certs: &FarmCerts| certs.farm_tls(&format!("{kind}/{name}"));
        let farm_tls = farm_tls.map(str::to_owned).or_else(|| self.certs.as_ref().map(of_farm));
        let farm_tls = farm_tls.unwrap_or_default();
        let lease = self.options.lease_seconds;
        let registry =
            format!("{farm_tls}\n[registry]\nendpoints = {endpoints:?}\nlease_seconds = {lease}\n");
        let run_dir = self.run_dir.join(name);
        let held = self.build_of(name).settings(kind);
        let own = match kind {
            "router" => {
                let hot = self.options.hot_viewers.map_or_else(String::new, |viewers| {
                    format!("[hot]\nviewers = {viewers}\nshare_percent = 10\ncool_s = 1\n")
                });
                format!("name = '{name}'\n{registry}{hot}{}", ladder_toml(&self.options.rungs))
            }
            "node" => {
                let egress = self.options.egress_bits_per_second;
                let egress = egress
                    .map_or_else(String::new, |it| format!(", egress_bits_per_second = {it}"));
                format!(
                    "name = '{name}'\nrun_dir = '{}'\ncapacity = {{ decode_pixels_per_second = \
                     400000000, encode_pixels_per_second = 400000000, workers = 8, memory_bytes = \
                     8589934592{egress} }}\n{}{registry}",
                    run_dir.display(),
                    self.labels(name),
                )
            }
            "origin" => {
                let keep = self.options.keep_ended_s;
                let from = self.options.hot_viewers.map_or_else(String::new, |viewers| {
                    format!("tell_viewers_from = {}\n", viewers / 2)
                });
                format!("name = '{name}'\nkeep_ended_s = {keep}\n{from}{registry}")
            }
            _ => registry,
        };
        let lines = self.lines.get(name).map_or("", String::as_str);
        format!("{held}{lines}\n{own}")
    }

    async fn await_ready(&mut self, name: &str) -> anyhow::Result<()> {
        let path = self.scratch.path().join(format!("{name}.json"));
        let what = format!("{name} is ready");
        let ready = until_some(&what, START_PATIENCE, async || {
            serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()
        });
        let ready: Value = ready.await.with_context(|| self.log(name))?;
        self.programs.get_mut(name).with_context(|| name.to_owned())?.ready = ready;
        Ok(())
    }
}

impl Drop for ManyFarm {
    fn drop(&mut self) {
        for name in self.programs.keys() {
            let _ = self.signal(name, Signal::SIGKILL);
        }
        for running in self.programs.values_mut() {
            let _ = running.child.wait();
        }
        // Workers whose daemon is gone wait for another.
        for node in 1..=self.options.nodes {
            for worker in self.workers(&format!("node-{node}")) {
                let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
            }
        }
        if std::thread::panicking() {
            let mut names: Vec<_> = self.programs.keys().collect();
            names.sort_by_key(|name| name.starts_with("router"));
            for name in names {
                let log = self.log(name);
                // An outage of etcd says the same again and again.
                let tells = log.lines().filter(|line| !line.contains("registry session ended"));
                let tail: Vec<_> = tells.rev().take(25).collect();
                eprintln!("--- last words of {name} ---");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        let _ = fs::remove_dir_all(&self.run_dir);
    }
}

/// The processes whose parent is `pid`, its workers.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .collect::<Vec<_>>();
    lists.iter().flat_map(|list| list.split_whitespace()).flat_map(str::parse).collect()
}
