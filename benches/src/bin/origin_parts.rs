//! What does it cost the origin to serve a part of 100 KB, beside nginx with sendfile and open_file_cache?
//!
//! Watches "the origin's CPU per 100 KB part over nginx" in docs/SPECIFICATION.md. Both serve the same bytes to the
//! same client, which runs in a process of its own on kept connections; only the server's CPU time counts. nginx has one
//! worker, so the origin that is compared has one thread; one with a thread per core is measured beside them.
//!
//! What the neighbours on a machine cost changes from one second to the next: rounds are short, take turns in who
//! begins, and are compared one by one. The server that is asked stays on a core that the client leaves to it, so that it
//! makes no difference whose thread wakes up beside whose.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use millrace_benches::{
    Common, Connection, Feed, Nginx, Origin, Report, Row, Series, Usage, last_core, own_program,
    stay_off,
};
use serde::{Deserialize, Serialize};

const PART_BYTES: usize = 100_000;
/// What a live playlist names: three segments.
const PARTS: usize = 18;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Parts served per round and server.
    #[arg(long, default_value_t = 2_000)]
    parts: usize,
    /// Connections that ask one after the other.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Only what has a bound: no origin with a thread per core.
    #[arg(long)]
    bound_only: bool,
    /// The load, when this process is the client.
    #[arg(long, hide = true)]
    client: Option<String>,
}

/// What a client is to fetch.
#[derive(Debug, Serialize, Deserialize)]
struct Load {
    address: SocketAddr,
    paths: Vec<String>,
    parts: usize,
    connections: usize,
    /// The server's.
    core: Option<usize>,
}

/// A server, what is asked of it, and what that cost it in each round.
struct Server {
    usage: Usage,
    load: Load,
    cost_us: Series,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(load) = &arguments.client {
        fetch_all(&serde_json::from_str(load)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    compare(&arguments)
}

fn compare(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let nginx = Nginx::start("origin.conf", &[])?;
    let one = Origin::start(Some(1))?;
    let many = (!arguments.bound_only).then(|| Origin::start(None)).transpose()?;
    let paths = fill(&nginx, [Some(&one), many.as_ref()].into_iter().flatten())?;
    let core = last_core()?;
    let server = |pid, address| {
        let load = Load {
            address,
            paths: paths.clone(),
            parts: arguments.parts,
            connections: arguments.connections,
            core,
        };
        Server { usage: Usage::of(pid), load, cost_us: Series::new() }
    };
    let mut servers = vec![server(one.pid(), one.playback), server(nginx.pid(), nginx.address)];
    servers.extend(many.as_ref().map(|many| server(many.pid(), many.playback)));
    if let Some(core) = core {
        servers[..2].iter().try_for_each(|it| it.usage.stay_on(core))?;
    }
    // Not counted: whoever is asked first finds nothing in the caches.
    servers.iter().try_for_each(|it| it.serve().map(drop))?;
    for round in 0..arguments.common.rounds {
        let mut turn: Vec<_> = servers.iter_mut().collect();
        if round % 2 == 1 {
            turn.reverse();
        }
        for server in turn {
            let cost_us = server.serve()?;
            server.cost_us.push(cost_us);
        }
    }
    report(&servers).say(arguments.common.json)
}

/// Gives all of them the same parts; the paths to ask for.
fn fill<'a>(
    nginx: &Nginx,
    origins: impl Iterator<Item = &'a Origin>,
) -> anyhow::Result<Vec<String>> {
    let mut feeds = origins.map(|it| Feed::open(it.intake)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut paths = Vec::new();
    for number in 0..PARTS {
        let bytes: Vec<u8> = (0..PART_BYTES).map(|at| (at * 31 + number) as u8).collect();
        let mut path = String::new();
        for feed in &mut feeds {
            path = feed.push(&bytes)?;
        }
        let file = nginx.www().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a part lies in a folder")?)?;
        fs::write(file, &bytes)?;
        paths.push(path);
    }
    Ok(paths)
}

fn report(servers: &[Server]) -> Report {
    let mut report = Report::new(
        "What does a part of 100 KB cost the origin, beside nginx?",
        "the origin's CPU per 100 KB part over nginx with sendfile and open_file_cache",
    );
    let unit = "µs of CPU per part";
    let [one, nginx, many @ ..] = servers else { return report };
    report.row(Row::new("origin with one thread", unit, &one.cost_us));
    report.row(Row::new("nginx with one worker", unit, &nginx.cost_us));
    let ratio = one.cost_us.over(&nginx.cost_us);
    report.row(Row::new("one thread over nginx", "", &ratio).at_most(1.0).aiming_at(0.83));
    for many in many {
        report.row(Row::new("origin with a thread per core", unit, &many.cost_us));
        let ratio = many.cost_us.over(&nginx.cost_us);
        report.row(Row::new("a thread per core over nginx", "", &ratio));
    }
    report
}

impl Server {
    /// CPU time of the server per part, in microseconds.
    fn serve(&self) -> anyhow::Result<f64> {
        let before = self.usage.threads_cpu_seconds()?;
        let mut client = Command::new(own_program()?);
        let status = client.arg("--client").arg(serde_json::to_string(&self.load)?).status()?;
        ensure!(status.success(), "the client failed");
        Ok((self.usage.threads_cpu_seconds()? - before) * 1e6 / self.load.parts as f64)
    }
}

fn fetch_all(load: &Load) -> anyhow::Result<()> {
    load.core.map_or(Ok(()), stay_off)?;
    std::thread::scope(|scope| {
        let fetchers: Vec<_> = (0..load.connections)
            .map(|first| scope.spawn(move || fetch_some(load, first)))
            .collect();
        fetchers.into_iter().try_for_each(|it| it.join().expect("invariant: no fetcher panics"))
    })
}

fn fetch_some(load: &Load, first: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(load.address)?;
    for number in (first..load.parts).step_by(load.connections) {
        let path = &load.paths[number % load.paths.len()];
        let answer = connection.fetch(path)?;
        let (status, length) = (answer.status, answer.length);
        ensure!((status, length) == (200, PART_BYTES), "{path}: {status}, {length} bytes");
    }
    Ok(())
}
