//! Registry, origin, node, router and api as processes of their own, with workers of the benchmark's choice.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use millrace_testkit::{Etcd, EtcdVersion, HttpClient, Scratch, until_some};
use serde_json::{Value, json};

use crate::{Usage, sibling_program};

const PATIENCE: Duration = Duration::from_secs(20);

/// The programs in the order in which they are started, and what each listens on.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("origin", &["playback", "intake", "admin"]),
    ("node", &["link", "admin"]),
    ("router", &["rtmp", "admin"]),
    ("api", &["api", "admin"]),
];

/// A small farm that passes streams through; killed when dropped.
#[derive(Debug)]
pub struct RelayFarm {
    programs: Vec<(Child, Value)>,
    http: HttpClient,
    _registry: Etcd,
    scratch: Scratch,
}

impl RelayFarm {
    /// Starts it for so many streams; `worker_dir` holds what the node runs for each. With `tls` the programs know each other by
    /// certificates, as they do beyond one host.
    ///
    /// # Errors
    /// A program is not ready after some seconds; its log is in the error.
    pub async fn start(streams: usize, worker_dir: &Path, tls: bool) -> anyhow::Result<Self> {
        let scratch = Scratch::new("relay")?;
        let registry = Etcd::start(EtcdVersion::V3_7, 1)?;
        let endpoints = registry.endpoints();
        let http = HttpClient::default();
        let mut farm = Self { programs: Vec::new(), http, _registry: registry, scratch };
        for (name, listeners) in PROGRAMS {
            let own = match name {
                "node" => format!(
                    "run_dir = {:?}\nworker_dir = {worker_dir:?}\ncapacity = {{ decode_pixels_per_second \
                     = 1000000000, encode_pixels_per_second = 1000000000, workers = {}, memory_bytes = \
                     68719476736 }}\n",
                    farm.scratch.path().join("run"),
                    2 * streams,
                ),
                "router" => {
                    format!("max_connections_per_address = {}\n[ladder]\nrung = []\n", 2 * streams)
                }
                _ => String::new(),
            };
            let certificate =
                if tls { certificate(name, farm.scratch.path())? } else { String::new() };
            let toml = format!("{certificate}{own}[registry]\nendpoints = {endpoints:?}\n");
            farm.start_program(name, listeners, &toml).await?;
        }
        Ok(farm)
    }

    async fn start_program(
        &mut self,
        name: &str,
        listeners: &[&str],
        toml: &str,
    ) -> anyhow::Result<()> {
        let file = |ending: &str| self.scratch.path().join(format!("{name}.{ending}"));
        fs::write(file("toml"), toml)?;
        let log = fs::File::create(file("log"))?;
        let mut command = Command::new(sibling_program(&format!("millrace-{name}"))?);
        command.arg("--config").arg(file("toml")).arg("--ready-json").arg(file("json"));
        for listener in listeners {
            command.arg(format!("--listen-{listener}")).arg("127.0.0.1:0");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.programs.push((command.spawn()?, Value::Null));
        let ready = until_some("ready", PATIENCE, async || {
            serde_json::from_slice(&fs::read(file("json")).ok()?).ok()
        });
        let log = || fs::read_to_string(file("log")).unwrap_or_default();
        let ready = ready.await.with_context(log)?;
        self.programs.last_mut().context("invariant: it was just pushed")?.1 = ready;
        Ok(())
    }

    /// Makes a channel; its stream key.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn channel(&self, name: &str) -> anyhow::Result<String> {
        let url = format!("http://{}/v1/channels", self.address("api", "api")?);
        let body = Bytes::from(json!({ "channel": name }).to_string());
        let answer = self.http.send(Method::POST, &url, body, PATIENCE).await?;
        ensure!(answer.status.is_success(), "{url}: {} {}", answer.status, answer.text());
        let made: Value = serde_json::from_str(&answer.text())?;
        Ok(made["stream_key"].as_str().context("stream_key")?.to_owned())
    }

    /// Where a program listens.
    ///
    /// # Errors
    /// There is no such program or listener.
    pub fn address(&self, program: &str, listener: &str) -> anyhow::Result<SocketAddr> {
        let address = self.program(program)?.1[listener].as_str().context(listener.to_owned())?;
        Ok(address.parse()?)
    }

    /// What a program has used so far.
    ///
    /// # Errors
    /// There is no such program.
    pub fn usage(&self, program: &str) -> anyhow::Result<Usage> {
        Ok(Usage::of(self.program(program)?.0.id()))
    }

    fn program(&self, name: &str) -> anyhow::Result<&(Child, Value)> {
        let index = PROGRAMS.iter().position(|(known, _)| *known == name);
        index.and_then(|index| self.programs.get(index)).with_context(|| name.to_owned())
    }
}

/// Makes a certificate for a program, and an authority where there is none; the settings that name them.
fn certificate(program: &str, scratch: &Path) -> anyhow::Result<String> {
    let (dir, name) = (scratch.join("certs"), format!("{program}-1"));
    let certs = |arguments: &[&str]| {
        let mut command = Command::new(sibling_program("millrace")?);
        command.arg("certs").args(arguments).arg("--dir").arg(&dir).stdout(Stdio::null());
        ensure!(command.status()?.success(), "millrace certs {arguments:?}");
        Ok(())
    };
    if !dir.exists() {
        certs(&["init"])?;
    }
    certs(&["issue", program, &name, "--address", "127.0.0.1"])?;
    let file = |ending: &str| dir.join(format!("{program}-{name}.{ending}"));
    let (certificate, key, ca) = (file("pem"), file("key"), dir.join("ca.pem"));
    Ok(format!(
        "name = \"{name}\"\nfarm_tls = {{ ca = {ca:?}, certificate = {certificate:?}, key = {key:?} }}\n"
    ))
}

impl Drop for RelayFarm {
    fn drop(&mut self) {
        for (child, _) in &mut self.programs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
