//! Takes routers' connections: one stream each. Answers `Hello` with `Admitted` or `Refused`; the rest is the assignment's.

use std::{io, time::Duration};

use millrace_hls::{Refusal, StreamOpen};
use millrace_telemetry::{Clock, DecisionLog, Hurry, RelayThreads, SystemClock};
use millrace_tls::{FarmListener, FarmStream, FarmWriter, Peer};
use millrace_types::{
    Decision, DecisionKind, Mark, MediaTime, Msn, PartNo, RefusalReason, Rung, Versions,
};
use millrace_wire::{Admitted, End, Hello, Message, MessageReader, MessageWriter, Refused, Start};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, debug, info, info_span, warn};

use crate::{
    adoption::{Orphan, Unfit},
    assignment::{Assignment, Link},
    gate::{Claim, Gate},
    host::{Granted, Host, demand_of},
    metrics::NodeMetrics,
    origin_client::OriginClient,
    origins::Origins,
    output::{Heard, Output},
    spares::Spares,
    stopping::Stopping,
    worker_process::{WorkerKind, WorkerProcess},
};

/// How long a router may take to say what it wants.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a worker may take to be at hand when no spare is.
const WORKER_PATIENCE: Duration = Duration::from_secs(3);
/// How long an adopted worker waits for its router, which first tries other nodes if this one was away for long.
const ROUTER_PATIENCE: Duration = Duration::from_secs(5);
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
    /// Said when the node goes down.
    pub stopping: Stopping,
    /// Every connection there is, from its first byte to the end of its assignment.
    pub connections: TaskTracker,
    /// Where they run.
    pub threads: RelayThreads,
    /// What this node speaks.
    pub speaks: Versions,
}

/// Why a stream was not taken.
struct No {
    reason: RefusalReason,
    text: String,
}

/// Takes connections until the node goes down.
pub async fn serve(mut listener: FarmListener, desk: Desk) {
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = desk.stopping.said() => return,
        };
        let (runtime, hurry) = desk.threads.next();
        // What runs once holds no memory for as long as the stream lives.
        let taken = Box::pin(taken(stream, peer, desk.clone(), hurry));
        let connection = async move {
            if let Some((assignment, span)) = taken.await {
                assignment.run().instrument(span).await;
            }
        };
        desk.connections.spawn_on(connection, &runtime);
    }
}

/// The stream that a router has asked for, and the span of what is said about it; `None`: not taken, or not asked for.
async fn taken(
    mut stream: FarmStream,
    peer: Peer,
    desk: Desk,
    hurry: Hurry,
) -> Option<(Box<Assignment>, Span)> {
    let peer = peer.address;
    if let Err(error) = stream.move_here() {
        warn!(%peer, %error, "connection not taken");
        return None;
    }
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (MessageReader::new(reader), MessageWriter::new(writer));
    let first = tokio::select! {
        first = timeout(HELLO_TIMEOUT, reader.next()) => first,
        () = desk.stopping.said() => return None,
    };
    match first {
        Ok(Ok(Some(Message::Hello(hello)))) => {
            let span = info_span!("stream", stream = %hello.stream, epoch = %hello.epoch);
            let link = Link { reader: reader.into_relay(), writer };
            let assignment = take(hello, link, desk, hurry).instrument(span.clone()).await?;
            return Some((assignment, span));
        }
        Ok(Ok(None)) => {}
        Ok(Ok(Some(_))) => warn!(%peer, "router did not begin with hello"),
        Ok(Err(error)) => {
            warn!(%peer, %error, "router does not speak our protocol");
            let text = format!("not understood: {error}; this node speaks {}", desk.speaks);
            let _ = refuse(&mut writer, RefusalReason::Version, text).await;
        }
        Err(_) => warn!(%peer, "router said nothing"),
    }
    None
}

async fn take(hello: Hello, mut link: Link, desk: Desk, hurry: Hurry) -> Option<Box<Assignment>> {
    let start = desk.clock.mono();
    let decision = |kind| Decision::of(kind).stream(&hello.stream).epoch(hello.epoch);
    match prepare(&hello, &desk).await {
        Ok((prepared, resume)) => {
            let worker_pid = prepared.staff.worker.pid();
            let after_ms = desk.clock.mono().since(start).as_millis();
            let (rungs, next_seq) = (hello.ladder.rungs.len(), prepared.staff.next_seq);
            let version = prepared.version;
            info!(worker_pid, rungs, next_seq, version, after_ms, "stream taken");
            let admitted = decision(DecisionKind::Admitted).worker(worker_pid);
            let worker = match next_seq {
                Some(_) => "with its own worker",
                None if hello.standby => "as a standby",
                None => "with a spare",
            };
            let safe = resume.len();
            let text =
                format!("{rungs} rungs, {safe} go on from a mark, {worker}; after {after_ms} ms");
            desk.decisions.record(admitted.saying(text));
            let (standby, beside) = (hello.standby, hello.beside.is_some());
            let admitted = Admitted { resume, worker_pid, next_seq, standby, beside, version };
            link.writer.push(&Message::Admitted(admitted));
            drop(hurry);
            Some(prepared.assignment(Some(link), None))
        }
        Err(No { reason, text }) => {
            debug!(reason = reason.as_str(), text, "stream refused");
            desk.metrics.refusals.with_label_values(&[reason.as_str()]).inc();
            let refused = decision(DecisionKind::Refused).because(reason);
            desk.decisions.record(refused.saying(text.as_str()));
            if let Err(error) = refuse(&mut link.writer, reason, text).await {
                debug!(%error, "refusal not delivered");
            }
            None
        }
    }
}

async fn refuse(
    writer: &mut MessageWriter<FarmWriter>,
    reason: RefusalReason,
    text: String,
) -> io::Result<()> {
    writer.send(&Message::Refused(Refused { reason, text })).await?;
    writer.shutdown().await
}

/// An assignment that only lacks its Link.
struct Prepared {
    staff: Staff,
    output: Output,
    superseded: CancellationToken,
    hello: Hello,
    /// What is spoken with its router.
    version: u32,
    desk: Desk,
}

impl Prepared {
    /// Boxed: a future that takes it by value has room for it at each step.
    fn assignment(self, link: Option<Link>, end: Option<End>) -> Box<Assignment> {
        let Staff { worker, gate, heard, next_seq: _ } = self.staff;
        Box::new(Assignment {
            stream: self.hello.stream.clone(),
            epoch: self.hello.epoch,
            hello: self.hello,
            link,
            end,
            worker,
            output: self.output,
            gate,
            heard,
            superseded: self.superseded,
            stopping: self.desk.stopping,
            host: self.desk.host,
            decisions: self.desk.decisions,
            clock: self.desk.clock,
        })
    }
}

/// Reserves, fences, and finds a worker.
async fn prepare(hello: &Hello, desk: &Desk) -> Result<(Prepared, Vec<Mark>), No> {
    let version = desk
        .speaks
        .common(hello.speaks)
        .map_err(|none| No { reason: RefusalReason::Version, text: none.to_string() })?;
    let intake = desk.origins.intake_of(hello).ok_or_else(|| No {
        reason: RefusalReason::NodeUnavailable,
        text: "no origin is known".to_owned(),
    })?;
    let granted =
        desk.host.admit(hello.stream.clone(), hello.epoch, demand_of(hello), intake).await;
    let granted =
        granted.map_err(|denied| No { reason: denied.reason(), text: denied.to_string() })?;
    let Granted { output, origin, superseded, orphan } = granted;
    match staff(hello, &output, &origin, orphan, desk).await {
        Ok((staff, marks)) => {
            let (hello, desk) = (hello.clone(), desk.clone());
            Ok((Prepared { staff, output, superseded, hello, version, desk }, marks))
        }
        Err(no) => {
            desk.host.left(hello.stream.clone(), hello.epoch, None, false).await;
            Err(no)
        }
    }
}

/// Who makes a stream.
struct Staff {
    worker: WorkerProcess,
    gate: Gate,
    heard: mpsc::Receiver<Heard>,
    /// The first record that the worker lacks, if it was there already.
    next_seq: Option<u64>,
}

/// Claims the stream, and finds the worker that it has or another.
async fn staff(
    hello: &Hello,
    output: &Output,
    origin: &OriginClient,
    mut orphan: Option<Orphan>,
    desk: &Desk,
) -> Result<(Staff, Vec<Mark>), No> {
    let kind = match hello.ladder.is_transcoded() {
        true => WorkerKind::Transcode,
        false => WorkerKind::Passthrough,
    };
    if hello.standby {
        not_adopted(orphan.take(), Unfit::OtherSession, desk);
    }
    if let Some(unfit) = orphan.as_mut().and_then(|orphan| orphan.fits(hello).err()) {
        not_adopted(orphan.take(), unfit, desk);
    }
    let spare = async {
        match orphan.is_some() {
            true => None,
            false => spare(kind, desk).await,
        }
    };
    let (claimed, spare) = tokio::join!(settle(hello, output, origin, desk.speaks), spare);
    let (gate, resume, heard) = match claimed {
        Ok(claimed) => claimed,
        Err(no) => {
            not_adopted(orphan, Unfit::OtherSession, desk);
            return Err(no);
        }
    };
    if let Some(unfit) = orphan.as_ref().and_then(|orphan| orphan.follows(&resume).err()) {
        not_adopted(orphan.take(), unfit, desk);
    }
    let (mut worker, next_seq) = match orphan {
        Some(Orphan { worker, work }) => {
            desk.metrics.adoptions.with_label_values(&["adopted"]).inc();
            (worker, Some(work.next_seq))
        }
        None => {
            let spare = match spare {
                Some(spare) => Some(spare),
                None => self::spare(kind, desk).await,
            };
            (spare.ok_or_else(|| internal("no worker could be started"))?, None)
        }
    };
    worker.move_here().map_err(|error| internal(&error.to_string()))?;
    worker.serves.send_replace(Some((hello.stream.clone(), hello.epoch)));
    // One that goes on only keeps it, for the daemon after this one.
    let version = worker.version;
    worker.writer.push(&Message::Start(Start {
        stream: hello.stream.clone(),
        epoch: hello.epoch,
        ladder: hello.ladder.clone(),
        resume: resume.clone(),
        hello: Some(hello.clone()),
        version,
    }));
    Ok((Staff { worker, gate, heard, next_seq }, resume))
}

/// The way to the output: a writer claims it at once, a standby once it is told to.
async fn settle(
    hello: &Hello,
    output: &Output,
    origin: &OriginClient,
    speaks: Versions,
) -> Result<(Gate, Vec<Mark>, mpsc::Receiver<Heard>), No> {
    let (mut claim, heard) = claim_of(hello, origin, speaks);
    match hello.standby {
        true => {
            claim.past = Some(output.past(hello.stream.clone(), &claim.open, origin.clone()));
            Ok((Gate::Closed(Box::new(claim)), nothing_to_make(hello), heard))
        }
        false => Ok((Gate::Open, claimed(claim, output).await?, heard)),
    }
}

fn claim_of(
    hello: &Hello,
    origin: &OriginClient,
    speaks: Versions,
) -> (Claim, mpsc::Receiver<Heard>) {
    let open = StreamOpen {
        epoch: hello.epoch,
        beside: hello.beside,
        speaks,
        rungs: hello.ladder.rungs.iter().map(|rung| rung.id.clone()).collect(),
        part_target_ms: hello.part_target_ms,
        hold_back_ms: hello.hold_back_ms,
        restores: Vec::new(),
        followed: false,
    };
    let (heard_by, heard) = mpsc::channel(HEARD);
    (Claim { open, origin: origin.clone(), heard: heard_by, past: None }, heard)
}

/// Fences older writers, and says what is safe.
async fn claimed(claim: Claim, output: &Output) -> Result<Vec<Mark>, No> {
    let gone = || internal("output is gone");
    let claimed = claim.make(output).await.ok_or_else(gone)?;
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

async fn spare(kind: WorkerKind, desk: &Desk) -> Option<WorkerProcess> {
    timeout(WORKER_PATIENCE, desk.spares.take(kind)).await.ok().flatten()
}

fn internal(text: &str) -> No {
    No { reason: RefusalReason::Internal, text: text.to_owned() }
}

fn not_adopted(orphan: Option<Orphan>, unfit: Unfit, desk: &Desk) {
    if let Some(orphan) = orphan {
        desk.metrics.adoptions.with_label_values(&[unfit.as_str()]).inc();
        desk.decisions.record(orphan.ended(unfit));
        orphan.end(unfit);
    }
}

/// Waits a while for the router of an orphan. One that does not come is dead, or has placed the stream elsewhere: what the
/// worker still holds is pushed, which the origin takes only in the first case, and it ends.
pub async fn without_router(hello: Hello, desk: Desk) {
    tokio::select! {
        () = tokio::time::sleep(ROUTER_PATIENCE) => {}
        () = desk.stopping.said() => return,
    }
    let Some(intake) = desk.origins.intake_of(&hello) else { return };
    let Some(granted) = desk.host.abandoned(hello.stream.clone(), intake).await else { return };
    let Granted { output, origin, superseded, orphan: Some(orphan) } = granted else { return };
    let (claim, heard) = claim_of(&hello, &origin, desk.speaks);
    match claimed(claim, &output).await {
        Ok(_) => {
            desk.metrics.adoptions.with_label_values(&["abandoned"]).inc();
            let Orphan { worker, work } = orphan;
            let end = work.ended.unwrap_or(End { continues: true });
            let desk = desk.clone();
            let version = Versions::UNSAID.newest;
            let staff = Staff { worker, gate: Gate::Open, heard, next_seq: None };
            let prepared = Prepared { staff, output, superseded, hello, version, desk };
            prepared.assignment(None, Some(end)).run().await;
        }
        Err(no) => {
            not_adopted(Some(orphan), Unfit::OtherSession, &desk);
            desk.host.left(hello.stream, hello.epoch, None, false).await;
            debug!(reason = no.reason.as_str(), no.text, "orphan's stream is made elsewhere");
        }
    }
}
