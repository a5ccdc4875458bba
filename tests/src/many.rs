//! A farm of separate programs on loopback: etcd, origins, nodes, routers, an api, each a process that a test can kill, stop
//! and start again. All of them, and their workers, are gone with their owner.

mod daemon;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use millrace_testkit::{Etcd, EtcdVersion, FaultyLink, HttpClient, Scratch, until, until_some};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    Channel, FarmCerts, StreamView,
    farm::{ladder_toml, program},
};

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
    /// Nodes push to `origin-1` only, each through a link of its own: [`ManyFarm::origin_links`].
    pub links_to_origin: bool,
    /// Encoded rungs: name, short side, kbit/s.
    pub rungs: Vec<(&'static str, u32, u32)>,
    /// Whether the programs and etcd know each other by certificates.
    pub tls: bool,
}

impl Default for ManyOptions {
    /// Two nodes, one router, one origin, and two small rungs.
    fn default() -> Self {
        let rungs = vec![("240p", 240, 400), ("144p", 144, 200)];
        Self { links_to_origin: false, nodes: 2, routers: 1, origins: 1, rungs, tls: false }
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
    /// The registry; a test may kill it.
    pub etcd: Etcd,
    certs: Option<FarmCerts>,
    /// What lies between a node and the origin, by the node's name; a test may cut it.
    pub origin_links: BTreeMap<String, FaultyLink>,
    options: ManyOptions,
    http: HttpClient,
    run_dir: PathBuf,
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
        let certs = match options.tls {
            true => Some(certificates(scratch.path(), &names)?),
            false => None,
        };
        let tls = certs.as_ref().map(|certs| certs.etcd_tls("etcd/etcd-1"));
        let etcd = Etcd::start_with(EtcdVersion::V3_7, 1, tls)?;
        if let Some(certs) = &certs {
            certs.grant_rights(&etcd, "operator/ann").await?;
        }
        let http = HttpClient::default();
        let (programs, origin_links) = (BTreeMap::new(), BTreeMap::new());
        let mut farm =
            Self { programs, etcd, certs, origin_links, options, http, run_dir, scratch };
        if farm.options.links_to_origin {
            farm.link_to_origin(&nodes).await?;
        }
        for name in &names {
            if !farm.programs.contains_key(name) {
                farm.spawn(name, None)?;
            }
        }
        for name in &names {
            farm.await_ready(name).await?;
        }
        let nodes = farm.options.nodes;
        farm.nodes_known(nodes).await?;
        Ok(farm)
    }

    /// Starts the origin, and a link to its intake for each node.
    async fn link_to_origin(&mut self, nodes: &[String]) -> anyhow::Result<()> {
        self.start_again("origin-1").await?;
        let intake = self.address("origin-1", "intake")?;
        for node in nodes {
            self.origin_links.insert(node.clone(), FaultyLink::start(intake).await?);
        }
        Ok(())
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
        self.spawn(name, None)?;
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
        self.signal(name, Signal::SIGKILL)?;
        let mut gone = self.programs.remove(name).with_context(|| name.to_owned())?;
        gone.child.wait()?;
        Ok(())
    }

    /// Sends a signal to a program and all its workers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        let running = self.programs.get(name).with_context(|| format!("no {name} runs"))?;
        let pid = i32::try_from(running.child.id())?;
        let workers: BTreeSet<i32> =
            children_of(pid).into_iter().chain(self.workers(name)).collect();
        kill(Pid::from_raw(pid), signal)?;
        for worker in workers {
            // A worker may end by itself in between.
            let _ = kill(Pid::from_raw(worker), signal);
        }
        Ok(())
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
        let url = format!("http://{}/v1/streams/{stream}", self.address(router, "admin")?);
        let answer = self.http.send(Method::GET, &url, Bytes::new(), ASK_PATIENCE).await?;
        ensure!(answer.status.is_success(), "{url}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_str(&answer.text())?)
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
        let url = format!("http://{}/metrics", self.address(name, "admin")?);
        let page = self.http.send(Method::GET, &url, Bytes::new(), ASK_PATIENCE).await?.text();
        let values = page.lines().filter(|line| line.starts_with(metric));
        Ok(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// What a program wrote to standard error so far.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    fn spawn(&mut self, name: &str, farm_tls: Option<&str>) -> anyhow::Result<()> {
        self.spawn_at(name, farm_tls, None)
    }

    /// `link`: where a node listens for routers, a free port of its choice when not given.
    fn spawn_at(
        &mut self,
        name: &str,
        farm_tls: Option<&str>,
        link: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        let (kind, _) = name.rsplit_once('-').context("a name such as node-1")?;
        let file = |ending: &str| self.scratch.path().join(format!("{name}.{ending}"));
        fs::write(file("toml"), self.settings(kind, name, farm_tls))?;
        let listeners: &[&str] = match kind {
            "router" => &["rtmp", "admin"],
            "node" => &["link", "admin"],
            "origin" => &["playback", "intake", "admin"],
            _ => &["api", "admin"],
        };
        let log = File::options().create(true).append(true).open(file("log"))?;
        let mut command = Command::new(program(&format!("millrace-{kind}"))?);
        command.arg("--config").arg(file("toml")).arg("--ready-json").arg(file("json"));
        for listener in listeners {
            let at = link.filter(|_| *listener == "link");
            let at = at.map_or_else(|| "127.0.0.1:0".to_owned(), |at| at.to_string());
            command.arg(format!("--listen-{listener}")).arg(at);
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
        let registry =
            format!("{farm_tls}\n[registry]\nendpoints = {endpoints:?}\nlease_seconds = 3\n");
        let run_dir = self.run_dir.join(name);
        match kind {
            "router" => {
                format!("name = '{name}'\n{registry}{}", ladder_toml(&self.options.rungs))
            }
            "node" => format!(
                "name = '{name}'\nrun_dir = '{}'\ncapacity = {{ decode_pixels_per_second = \
                 400000000, encode_pixels_per_second = 400000000, workers = 8, memory_bytes = \
                 8589934592 }}\n{}{registry}",
                run_dir.display(),
                self.origin_links
                    .get(name)
                    .map(|link| format!("origin_intake = '{}'\n", link.address()))
                    .unwrap_or_default()
            ),
            "origin" => format!("name = '{name}'\n{registry}"),
            _ => registry,
        }
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
                let tail: Vec<_> = log.lines().rev().take(25).collect();
                eprintln!("--- last words of {name} ---");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        let _ = fs::remove_dir_all(&self.run_dir);
    }
}

/// An authority, and a certificate for each program, for etcd and for an operator.
fn certificates(dir: &Path, names: &[String]) -> anyhow::Result<FarmCerts> {
    let certs = FarmCerts::new(&dir.join("certs"))?;
    for name in names {
        let (kind, _) = name.rsplit_once('-').context("a name such as node-1")?;
        certs.issue(&format!("{kind}/{name}"), false)?;
    }
    certs.issue("etcd/etcd-1", false)?;
    certs.issue("operator/ann", false)?;
    Ok(certs)
}

/// The processes whose parent is `pid`, its workers.
fn children_of(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .collect::<Vec<_>>();
    lists.iter().flat_map(|list| list.split_whitespace()).flat_map(str::parse).collect()
}
