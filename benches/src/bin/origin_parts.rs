//! What does it cost the origin to serve a part of 100 KB, beside nginx with sendfile and open_file_cache?
//!
//! Watches "the origin's CPU per 100 KB part over nginx" in docs/SPECIFICATION.md. Both serve the same bytes to the
//! same client, which runs in a process of its own on kept connections; only the server's CPU time counts. nginx has one
//! worker, so the origin that is compared has one thread; one with a thread per core is measured beside them.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use millrace_benches::{
    Common, Connection, Feed, Nginx, Origin, Report, Row, Series, Usage, own_program,
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
    #[arg(long, default_value_t = 20_000)]
    parts: usize,
    /// Connections that ask one after the other.
    #[arg(long, default_value_t = 8)]
    connections: usize,
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
    let (one, many) = (Origin::start(Some(1))?, Origin::start(None)?);
    let nginx = Nginx::start("origin.conf", &[])?;
    let (mut feed, mut other) = (Feed::open(one.intake)?, Feed::open(many.intake)?);
    let mut paths = Vec::new();
    for number in 0..PARTS {
        let bytes: Vec<u8> = (0..PART_BYTES).map(|at| (at * 31 + number) as u8).collect();
        let path = feed.push(&bytes)?;
        other.push(&bytes)?;
        let file = nginx.www().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a part lies in a folder")?)?;
        fs::write(file, &bytes)?;
        paths.push(path);
    }
    let load = |address| Load {
        address,
        paths: paths.clone(),
        parts: arguments.parts,
        connections: arguments.connections,
    };
    let (one_load, many_load) = (load(one.playback), load(many.playback));
    let nginx_load = load(nginx.address);
    let mut report = Report::new(
        "What does a part of 100 KB cost the origin, beside nginx?",
        "the origin's CPU per 100 KB part over nginx with sendfile and open_file_cache",
    );
    let [mut one_us, mut nginx_us, mut many_us] = [const { Series::new() }; 3];
    for _ in 0..arguments.common.rounds {
        one_us.push(cost_us(one.pid(), &one_load)?);
        nginx_us.push(cost_us(nginx.pid(), &nginx_load)?);
        many_us.push(cost_us(many.pid(), &many_load)?);
    }
    let unit = "µs of CPU per part";
    report.row(Row::new("origin with one thread", unit, &one_us));
    report.row(Row::new("nginx with one worker", unit, &nginx_us));
    report.row(Row::new("origin with a thread per core", unit, &many_us));
    let ratio = one_us.over(&nginx_us);
    report.row(Row::new("one thread over nginx", "", &ratio).at_most(1.0).aiming_at(0.83));
    report.row(Row::new("a thread per core over nginx", "", &many_us.over(&nginx_us)));
    report.say(arguments.common.json)
}

/// CPU time of the server `pid` per part, in microseconds.
fn cost_us(pid: u32, load: &Load) -> anyhow::Result<f64> {
    let usage = Usage::of(pid);
    let before = usage.cpu_seconds()?;
    let mut client = Command::new(own_program()?);
    let status = client.arg("--client").arg(serde_json::to_string(load)?).status()?;
    ensure!(status.success(), "the client failed");
    Ok((usage.cpu_seconds()? - before) * 1e6 / load.parts as f64)
}

fn fetch_all(load: &Load) -> anyhow::Result<()> {
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
