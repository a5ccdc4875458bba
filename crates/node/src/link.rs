//! Takes routers' connections: one stream each. Answers `Hello` with `Admitted` or `Refused`; the rest is the assignment's.

use std::{io, net::SocketAddr, time::Duration};

use millrace_hls::StreamOpen;
use millrace_sched::cost;
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_types::{Decision, DecisionKind, Mark, RefusalReason};
use millrace_wire::{Admitted, Hello, Message, MessageReader, MessageWriter, Refused, Start};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    assignment::{Assignment, Link},
    host::{Granted, Host},
    metrics::NodeMetrics,
    origins::Origins,
    output::{Command, Heard},
    spares::Spares,
    worker_process::{WorkerKind, WorkerProcess},
};

/// How long a router may take to say what it wants.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a worker may take to be at hand when no spare is.
const WORKER_PATIENCE: Duration = Duration::from_secs(3);
/// Marks that wait for the Link: more than a window of parts of a full ladder.
const HEARD: usize = 1024;

/// What every connection works with.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The node's books.
    pub host: Host,
    /// Where each stream's media goes.
    pub origins: Origins,
    /// Workers that wait.
    pub spares: Spares,
    /// What is counted.
    pub metrics: NodeMetrics,
    /// Where this node's decisions are kept.
    pub decisions: DecisionLog,
    /// Real time.
    pub clock: SystemClock,
    /// Cancelled when the node goes down.
    pub stopping: CancellationToken,
}

/// Why a stream was not taken.
struct No {
    reason: RefusalReason,
    text: String,
}

/// Takes connections until the node goes down.
pub async fn serve(listener: TcpListener, desk: Desk) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = desk.stopping.cancelled() => return,
        };
        match accepted {
            Ok((socket, peer)) => drop(tokio::spawn(connection(socket, peer, desk.clone()))),
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, peer: SocketAddr, desk: Desk) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "no TCP_NODELAY");
    }
    let (reader, writer) = socket.into_split();
    let mut link = Link { reader: MessageReader::new(reader), writer: MessageWriter::new(writer) };
    match timeout(HELLO_TIMEOUT, link.reader.next()).await {
        Ok(Ok(Some(Message::Hello(hello)))) => {
            let span = info_span!("stream", stream = %hello.stream, epoch = %hello.epoch);
            take(hello, link, desk).instrument(span).await;
        }
        Ok(Ok(None)) => {}
        Ok(Ok(Some(_))) => warn!(%peer, "router did not begin with hello"),
        Ok(Err(error)) => warn!(%peer, %error, "router does not speak our protocol"),
        Err(_) => warn!(%peer, "router said nothing"),
    }
}

async fn take(hello: Hello, mut link: Link, desk: Desk) {
    let start = desk.clock.mono();
    let decision = |kind| Decision::of(kind).stream(&hello.stream).epoch(hello.epoch);
    match prepare(&hello, &desk).await {
        Ok((prepared, resume)) => {
            let worker_pid = prepared.worker.pid();
            let after_ms = desk.clock.mono().since(start).as_millis();
            info!(worker_pid, rungs = hello.ladder.rungs.len(), after_ms, "stream taken");
            let admitted = decision(DecisionKind::Admitted).worker(worker_pid);
            let (rungs, safe) = (hello.ladder.rungs.len(), resume.len());
            let text = format!("{rungs} rungs, {safe} go on from a mark; after {after_ms} ms");
            desk.decisions.record(admitted.saying(text));
            link.writer.push(&Message::Admitted(Admitted { resume, worker_pid }));
            prepared.with_link(link).run().await;
        }
        Err(No { reason, text }) => {
            debug!(reason = reason.as_str(), text, "stream refused");
            desk.metrics.refusals.with_label_values(&[reason.as_str()]).inc();
            let refused = decision(DecisionKind::Refused).because(reason);
            desk.decisions.record(refused.saying(text.as_str()));
            if let Err(error) = refuse(&mut link, reason, text).await {
                debug!(%error, "refusal not delivered");
            }
        }
    }
}

async fn refuse(link: &mut Link, reason: RefusalReason, text: String) -> io::Result<()> {
    link.writer.send(&Message::Refused(Refused { reason, text })).await?;
    link.writer.shutdown().await
}

/// An assignment that only lacks its Link.
struct Prepared {
    worker: WorkerProcess,
    granted: Granted,
    heard: mpsc::Receiver<Heard>,
    hello: Hello,
    desk: Desk,
}

impl Prepared {
    fn with_link(self, link: Link) -> Assignment {
        Assignment {
            stream: self.hello.stream,
            epoch: self.hello.epoch,
            link,
            worker: self.worker,
            output: self.granted.output,
            heard: self.heard,
            superseded: self.granted.superseded,
            stopping: self.desk.stopping,
            host: self.desk.host,
            decisions: self.desk.decisions,
            clock: self.desk.clock,
        }
    }
}

/// Reserves, fences, and finds a worker.
async fn prepare(hello: &Hello, desk: &Desk) -> Result<(Prepared, Vec<Mark>), No> {
    let demand = cost(hello.source_pixels_per_second, &hello.ladder);
    let intake = desk.origins.intake_of(hello).ok_or_else(|| No {
        reason: RefusalReason::NodeUnavailable,
        text: "no origin is known".to_owned(),
    })?;
    let granted = desk.host.admit(hello.stream.clone(), hello.epoch, demand, intake).await;
    let granted =
        granted.map_err(|denied| No { reason: denied.reason(), text: denied.to_string() })?;
    match staff(hello, &granted, desk).await {
        Ok((worker, heard, marks)) => {
            let (hello, desk) = (hello.clone(), desk.clone());
            Ok((Prepared { worker, granted, heard, hello, desk }, marks))
        }
        Err(no) => {
            desk.host.left(hello.stream.clone(), hello.epoch, None, false).await;
            Err(no)
        }
    }
}

async fn staff(
    hello: &Hello,
    granted: &Granted,
    desk: &Desk,
) -> Result<(WorkerProcess, mpsc::Receiver<Heard>, Vec<Mark>), No> {
    let internal = |text: &str| No { reason: RefusalReason::Internal, text: text.to_owned() };
    let open = StreamOpen {
        epoch: hello.epoch,
        rungs: hello.ladder.rungs.iter().map(|rung| rung.id.clone()).collect(),
        part_target_ms: hello.part_target_ms,
        hold_back_ms: hello.hold_back_ms,
    };
    let (heard_by, heard) = mpsc::channel(HEARD);
    let (reply, claimed) = oneshot::channel();
    let claim = Command::Claim { open, heard: heard_by, reply };
    granted.output.commands.send(claim).await.map_err(|_| internal("output is gone"))?;
    let kind = match hello.ladder.is_transcoded() {
        true => WorkerKind::Transcode,
        false => WorkerKind::Passthrough,
    };
    let (claimed, worker) = tokio::join!(claimed, timeout(WORKER_PATIENCE, desk.spares.take(kind)));
    let resume = match claimed {
        Ok(Ok(resume)) => resume,
        Ok(Err(refusal)) => {
            return Err(No { reason: RefusalReason::Fenced, text: refusal.to_string() });
        }
        Err(_) => return Err(internal("output is gone")),
    };
    let mut worker = worker.ok().flatten().ok_or_else(|| internal("no worker could be started"))?;
    worker.serves.send_replace(Some((hello.stream.clone(), hello.epoch)));
    worker.writer.push(&Message::Start(Start {
        stream: hello.stream.clone(),
        epoch: hello.epoch,
        ladder: hello.ladder.clone(),
        resume: resume.clone(),
    }));
    Ok((worker, heard, resume))
}
