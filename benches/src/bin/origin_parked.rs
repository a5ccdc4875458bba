//! What does a parked blocking reload cost the origin's memory, and how fast do a thousand wake?
//!
//! Watches "memory of a parked blocking reload" and "1,000 parked reloads woken, 99th percentile" in
//! docs/SPECIFICATION.md. Each parked reload has a connection of its own; the clients live in another process. The
//! slope of the origin's resident memory between 1,000 and 10,000 of them counts, so that what it needs anyway does not.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use millrace_benches::{
    Common, Feed, Origin, RUNG, Report, Row, STREAM, Series, Usage, own_program,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};

const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// Connections from one source address.
const PER_ADDRESS: usize = 5_000;
/// Parked requests are answered with 503 after six seconds: all must be parked and measured before.
const PARKED_WITHIN: Duration = Duration::from_secs(5);
static PART: [u8; 20_000] = [3; 20_000];

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Where the reloads go, when this process is the client.
    #[arg(long, hide = true)]
    client: Option<SocketAddr>,
}

/// What the client is told, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Have so many connections.
    Connect(usize),
    /// Send this request on each.
    Send(String),
    /// A part was pushed at this time: collect the answers.
    Collect,
}

/// What the client says, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Done,
    /// When each answer was complete, nanoseconds since 1970.
    Answers(Vec<u64>),
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.client {
        be_client(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new(
        "What does a parked blocking reload cost, and how fast do a thousand wake?",
        "memory of a parked blocking reload; 1,000 parked reloads woken",
    );
    let (mut slope, mut p50, mut p99, mut push) =
        (Series::default(), Series::default(), Series::default(), Series::default());
    for _ in 0..arguments.common.rounds {
        let origin = Origin::start(None)?;
        let mut feed = Feed::open(origin.intake)?;
        for _ in 0..20 {
            feed.push(&PART)?;
        }
        let mut client = Client::start(origin.playback)?;
        let (rss_few, woken) = park_and_wake(&origin, &mut feed, &mut client, FEW)?;
        p50.push(woken.after.quantile(0.5));
        p99.push(woken.after.quantile(0.99));
        push.push(woken.push_ms);
        let (rss_many, _) = park_and_wake(&origin, &mut feed, &mut client, MANY)?;
        slope.push((rss_many - rss_few) / (MANY - FEW) as f64);
    }
    report.row(Row::new("parked reload, slope 1,000 to 10,000", "KiB", &slope).at_most(8.0));
    report.row(Row::new("1,000 woken: half have the playlist after", "ms", &p50));
    report.row(Row::new("1,000 woken: 99 % have it after", "ms", &p99).at_most(50.0));
    report.row(Row::new("of that, the node waits for its answer", "ms", &push));
    report.note("Time runs from the moment the node begins to send the part.");
    report.say(arguments.common.json)
}

struct Woken {
    /// Milliseconds from the push to each answer.
    after: Series,
    push_ms: f64,
}

/// Parks `count` reloads, reads the origin's resident memory, wakes them.
fn park_and_wake(
    origin: &Origin,
    feed: &mut Feed,
    client: &mut Client,
    count: usize,
) -> anyhow::Result<(f64, Woken)> {
    client.order(&Order::Connect(count))?;
    let (msn, part) = feed.next();
    let path = format!("/live/{STREAM}/{RUNG}/index.m3u8?_HLS_msn={}&_HLS_part={}", msn.0, part.0);
    let sent = Instant::now();
    client.order(&Order::Send(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n")))?;
    while origin.metric("millrace_origin_parked_requests")? < count as f64 {
        ensure!(sent.elapsed() < PARKED_WITHIN, "{count} reloads were not parked in time");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let rss = Usage::of(origin.pid()).rss_kib()?;
    client.tell(&Order::Collect)?;
    let (begun, wall) = (Instant::now(), nanoseconds_now());
    feed.push(&PART)?;
    let push_ms = begun.elapsed().as_secs_f64() * 1e3;
    let Said::Answers(answers) = client.hear()? else {
        anyhow::bail!("the client has no answers");
    };
    ensure!(answers.len() == count, "{} of {count} answers", answers.len());
    let after = answers.into_iter().map(|at| at.saturating_sub(wall) as f64 / 1e6).collect();
    Ok((rss, Woken { after, push_ms }))
}

fn nanoseconds_now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The process that holds the connections.
struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let mut command = Command::new(own_program()?);
        command.args(["--client", &address.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().context("the client's standard input")?;
        let from = BufReader::new(child.stdout.take().context("the client's standard output")?);
        Ok(Self { child, to, from })
    }

    fn order(&mut self, order: &Order) -> anyhow::Result<Said> {
        self.tell(order)?;
        self.hear()
    }

    fn tell(&mut self, order: &Order) -> anyhow::Result<()> {
        Ok(writeln!(self.to, "{}", serde_json::to_string(order)?)?)
    }

    fn hear(&mut self) -> anyhow::Result<Said> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        serde_json::from_str(&line).context("the client says nothing")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The connections of the client, driven by one thread.
struct Connections {
    address: SocketAddr,
    requests: Vec<mpsc::UnboundedSender<String>>,
    answers: mpsc::UnboundedReceiver<anyhow::Result<u64>>,
    answered: mpsc::UnboundedSender<anyhow::Result<u64>>,
    sent: Arc<AtomicUsize>,
}

fn be_client(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (answered, answers) = mpsc::unbounded_channel();
    let (requests, sent) = (Vec::new(), Arc::default());
    let mut connections = Connections { address, requests, answers, answered, sent };
    for line in std::io::stdin().lock().lines() {
        let said = runtime.block_on(connections.follow(serde_json::from_str(&line?)?))?;
        println!("{}", serde_json::to_string(&said)?);
    }
    Ok(())
}

impl Connections {
    async fn follow(&mut self, order: Order) -> anyhow::Result<Said> {
        let open = self.requests.len();
        match order {
            Order::Connect(count) => {
                for number in open..count {
                    let tcp = connect(self.address, number).await?;
                    let (to, requests) = mpsc::unbounded_channel();
                    tokio::spawn(ask(tcp, requests, self.answered.clone(), self.sent.clone()));
                    self.requests.push(to);
                }
                Ok(Said::Done)
            }
            Order::Send(request) => {
                self.sent.store(0, Ordering::Relaxed);
                self.requests.iter().try_for_each(|to| to.send(request.clone()))?;
                while self.sent.load(Ordering::Relaxed) < open {
                    tokio::task::yield_now().await;
                }
                Ok(Said::Done)
            }
            Order::Collect => {
                let mut times = Vec::with_capacity(open);
                while times.len() < open {
                    times.push(self.answers.recv().await.context("no connection is left")??);
                }
                Ok(Said::Answers(times))
            }
        }
    }
}

async fn connect(address: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let host = u8::try_from(number / PER_ADDRESS + 2)?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0))?;
    Ok(socket.connect(address).await?)
}

/// Sends each request and says when its answer was complete.
async fn ask(
    mut tcp: TcpStream,
    mut requests: mpsc::UnboundedReceiver<String>,
    answers: mpsc::UnboundedSender<anyhow::Result<u64>>,
    sent: Arc<AtomicUsize>,
) {
    while let Some(request) = requests.recv().await {
        let answer = exchange(&mut tcp, &request, &sent).await;
        if answers.send(answer).is_err() {
            return;
        }
    }
}

async fn exchange(tcp: &mut TcpStream, request: &str, sent: &AtomicUsize) -> anyhow::Result<u64> {
    let written = tcp.write_all(request.as_bytes()).await;
    sent.fetch_add(1, Ordering::Relaxed);
    written?;
    tcp.readable().await?;
    let (mut received, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let count = tcp.read(&mut buffer).await?;
        ensure!(count > 0, "the origin closed a connection");
        received.extend_from_slice(&buffer[..count]);
        let text = std::str::from_utf8(&received)?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.context("no length")?.parse()? {
            return Ok(nanoseconds_now());
        }
    }
}
