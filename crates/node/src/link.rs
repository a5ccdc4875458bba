//! Takes routers' connections: one stream each. Answers `Hello` with `Admitted` or `Refused`; the rest is the assignment's.

use std::{io, net::SocketAddr, time::Duration};

use millrace_hls::{Refusal, StreamOpen};
use millrace_sched::cost;
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{Mark, MediaTime, Msn, PartNo, RefusalReason, Rung};
use millrace_wire::{Admitted, Hello, Message, MessageReader, MessageWriter, Refused, Start};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    assignment::{Assignment, Link},
    gate::{Claim, Gate},
    host::{Granted, Host},
    metrics::NodeMetrics,
    origins::Origins,
    output::Heard,
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
    match prepare(&hello, &desk).await {
        Ok((prepared, resume)) => {
            let worker_pid = prepared.worker.pid();
            let after_ms = desk.clock.mono().since(start).as_millis();
            let (rungs, standby) = (hello.ladder.rungs.len(), hello.standby);
            info!(worker_pid, rungs, standby, after_ms, "stream taken");
            link.writer.push(&Message::Admitted(Admitted { resume, worker_pid, standby }));
            prepared.with_link(link).run().await;
        }
        Err(No { reason, text }) => {
            debug!(reason = reason.as_str(), text, "stream refused");
            desk.metrics.refusals.with_label_values(&[reason.as_str()]).inc();
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
    gate: Gate,
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
            gate: self.gate,
            heard: self.heard,
            superseded: self.granted.superseded,
            stopping: self.desk.stopping,
            host: self.desk.host,
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
        Ok(Staffed { worker, gate, heard, resume }) => {
            let (hello, desk) = (hello.clone(), desk.clone());
            Ok((Prepared { worker, granted, gate, heard, hello, desk }, resume))
        }
        Err(no) => {
            desk.host.left(hello.stream.clone(), hello.epoch, None, false).await;
            Err(no)
        }
    }
}

/// A worker with its work, and the way from it to the output.
struct Staffed {
    worker: WorkerProcess,
    gate: Gate,
    heard: mpsc::Receiver<Heard>,
    resume: Vec<Mark>,
}

async fn staff(hello: &Hello, granted: &Granted, desk: &Desk) -> Result<Staffed, No> {
    let internal = |text: &str| No { reason: RefusalReason::Internal, text: text.to_owned() };
    let open = StreamOpen {
        epoch: hello.epoch,
        rungs: hello.ladder.rungs.iter().map(|rung| rung.id.clone()).collect(),
        part_target_ms: hello.part_target_ms,
        hold_back_ms: hello.hold_back_ms,
    };
    let (heard_by, heard) = mpsc::channel(HEARD);
    let claim = Claim { open, heard: heard_by };
    let settle = async {
        match hello.standby {
            true => Ok((Gate::Closed(claim), nothing_to_make(hello))),
            false => Ok((Gate::Open, claimed(claim, granted).await?)),
        }
    };
    let kind = match hello.ladder.is_transcoded() {
        true => WorkerKind::Transcode,
        false => WorkerKind::Passthrough,
    };
    let (settled, worker) = tokio::join!(settle, timeout(WORKER_PATIENCE, desk.spares.take(kind)));
    let (gate, resume) = settled?;
    let mut worker = worker.ok().flatten().ok_or_else(|| internal("no worker could be started"))?;
    worker.serves.send_replace(Some((hello.stream.clone(), hello.epoch)));
    worker.writer.push(&Message::Start(Start {
        stream: hello.stream.clone(),
        epoch: hello.epoch,
        ladder: hello.ladder.clone(),
        resume: resume.clone(),
    }));
    Ok(Staffed { worker, gate, heard, resume })
}

/// Fences older writers, and says what is safe.
async fn claimed(claim: Claim, granted: &Granted) -> Result<Vec<Mark>, No> {
    let gone = || No { reason: RefusalReason::Internal, text: "output is gone".to_owned() };
    let claimed = claim.make(&granted.output).await.ok_or_else(gone)?;
    let fenced = |refusal: Refusal| No { reason: RefusalReason::Fenced, text: refusal.to_string() };
    claimed.await.map_err(|_| gone())?.map_err(fenced)
}

/// The marks of a worker that is told later where to begin: everything is made already.
fn nothing_to_make(hello: &Hello) -> Vec<Mark> {
    let all = |rung: &Rung| Mark {
        rung: rung.id.clone(),
        msn: Msn(u64::MAX),
        part: PartNo(u32::MAX),
        end: MediaTime(0),
        closed: true,
    };
    hello.ladder.rungs.iter().map(all).collect()
}
