//! What one stream has published from this host: the window of everything its workers made, and the way to the origin.
//!
//! One task owns it; assignments speak to it through [`Output`], a bounded queue (policy `Block`). It outlives
//! assignments: a successor claims it under a higher epoch and continues from its marks.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use millrace_hls::{Refusal, StreamOpen, Window, intake};
use millrace_types::{Epoch, Mark, RungId, StreamId};
use millrace_wire::{Init, Part};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    metrics::NodeMetrics,
    origin_client::{OriginClient, OriginError},
    pusher::{self, Push, Pushed, PusherContext},
};

/// Commands that wait for the output's task.
const QUEUE: usize = 64;
/// How long the origin may take to say what it has, before the node's own window is believed.
const FENCE_PATIENCE: Duration = Duration::from_millis(700);
/// How long the origin may take to have everything, once the stream has ended.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// What an assignment asks of an output.
#[derive(Debug)]
pub enum Command {
    /// A new assignment begins: fence older ones, say what is safe.
    Claim {
        /// Its announcement.
        open: StreamOpen,
        /// Where to say what was published, and when a newer writer has taken over.
        heard: mpsc::Sender<Heard>,
        /// What is safe, per rung.
        reply: oneshot::Sender<Result<Vec<Mark>, Refusal>>,
    },
    /// The worker of `Epoch` made an init section.
    Init(Epoch, Init),
    /// The worker of `Epoch` made a part.
    Part(Epoch, Part),
    /// How the source does, as JSON for the origin's status.
    Health(String),
    /// The stream is over: push what is left, say so to the origin, answer.
    End(intake::End, oneshot::Sender<()>),
}

/// What an assignment hears of its output.
#[derive(Clone, Debug)]
pub enum Heard {
    /// This is on the origin.
    Published(Mark),
    /// A newer writer has taken over.
    Fenced,
}

/// A handle on an output's task, which ends when every handle is dropped.
#[derive(Clone, Debug)]
pub struct Output {
    /// Commands go here; await room, or reserve it.
    pub commands: mpsc::Sender<Command>,
}

impl Output {
    /// Starts the task of a stream that nothing is known of.
    pub fn start(stream: StreamId, origin: OriginClient, metrics: NodeMetrics) -> Self {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let span = info_span!("output", %stream);
        let (said, hearing) = mpsc::channel(QUEUE);
        let task = Task { stream, origin, metrics, said, current: None };
        tokio::spawn(task.run(inbox, hearing).instrument(span));
        Self { commands }
    }
}

struct Task {
    stream: StreamId,
    origin: OriginClient,
    metrics: NodeMetrics,
    said: mpsc::Sender<Pushed>,
    current: Option<Current>,
}

/// The state since the first claim.
struct Current {
    window: Window,
    open: watch::Sender<StreamOpen>,
    heard: mpsc::Sender<Heard>,
    rungs: BTreeMap<RungId, Rung>,
}

struct Rung {
    queue: mpsc::Sender<Push>,
    pusher: JoinHandle<()>,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        mut hearing: mpsc::Receiver<Pushed>,
    ) {
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Claim { open, heard, reply }) => {
                        let _ = reply.send(self.claim(open, heard).await);
                    }
                    Some(Command::Init(epoch, init)) => self.init(epoch, init, &mut hearing).await,
                    Some(Command::Part(epoch, part)) => self.part(epoch, part, &mut hearing).await,
                    Some(Command::Health(json)) => self.health(json),
                    Some(Command::End(end, done)) => {
                        self.end(end, &mut hearing).await;
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(pushed) = hearing.recv() => self.tell(pushed),
            }
        }
    }

    async fn claim(
        &mut self,
        open: StreamOpen,
        heard: mpsc::Sender<Heard>,
    ) -> Result<Vec<Mark>, Refusal> {
        let own = match &mut self.current {
            Some(current) => {
                let own = current.window.reopen(open.clone())?;
                current.open.send_replace(open.clone());
                current.heard = heard;
                own
            }
            None => {
                self.current = Some(Current {
                    window: Window::open(open.clone()),
                    open: watch::Sender::new(open.clone()),
                    heard,
                    rungs: BTreeMap::new(),
                });
                Vec::new()
            }
        };
        let asked = self.origin.open(&self.stream, &open);
        match tokio::time::timeout(FENCE_PATIENCE, asked).await {
            Ok(Ok(theirs)) => Ok(furthest(own, theirs)),
            Ok(Err(OriginError::Fenced(_))) => {
                Err(Refusal::Fenced { epoch: open.epoch, fence: open.epoch })
            }
            Ok(Err(error)) => {
                warn!(%error, "origin does not say what it has: continuing from the node's own window");
                Ok(own)
            }
            Err(_) => {
                warn!("origin is silent: continuing from the node's own window");
                Ok(own)
            }
        }
    }

    async fn init(&mut self, epoch: Epoch, init: Init, hearing: &mut mpsc::Receiver<Pushed>) {
        let Some(current) = &mut self.current else { return };
        match current.window.add_init(epoch, init.record.clone(), init.bytes.clone()) {
            Ok(_) => {
                let rung = init.record.rung.clone();
                self.push(rung, Push::Init(init), hearing).await;
            }
            Err(refusal) => self.left("init section", &refusal),
        }
    }

    async fn part(&mut self, epoch: Epoch, part: Part, hearing: &mut mpsc::Receiver<Pushed>) {
        let Some(current) = &mut self.current else { return };
        self.metrics.parts.inc();
        match current.window.add_part(epoch, part.record.clone(), part.bytes.clone()) {
            Ok(_) => {
                let rung = part.record.rung.clone();
                self.push(rung, Push::Part(part), hearing).await;
            }
            Err(refusal) => self.left("part", &refusal),
        }
    }

    /// Says what was not taken: what an old worker still says is usual, anything else is a worker that errs.
    fn left(&self, what: &str, refusal: &Refusal) {
        let reason = refusal.reason();
        match refusal {
            Refusal::Fenced { .. } | Refusal::TooOld { .. } => info!(what, reason, "not taken"),
            _ => warn!(what, reason, %refusal, "not taken"),
        }
    }

    /// Not waited for, and not tried again: the next report is a second away.
    fn health(&self, json: String) {
        let (origin, stream) = (self.origin.clone(), self.stream.clone());
        tokio::spawn(async move {
            if let Err(error) = origin.health(&stream, json).await {
                debug!(%error, "health not delivered");
            }
        });
    }

    /// Puts into a rung's queue; while that is full, hears the pushers, so that neither waits for the other.
    async fn push(&mut self, rung: RungId, push: Push, hearing: &mut mpsc::Receiver<Pushed>) {
        let queue = self.queue(rung);
        let permit = queue.reserve();
        tokio::pin!(permit);
        loop {
            tokio::select! {
                permit = &mut permit => {
                    if let Ok(permit) = permit {
                        permit.send(push);
                    }
                    return;
                }
                Some(pushed) = hearing.recv() => self.tell(pushed),
            }
        }
    }

    fn queue(&mut self, rung: RungId) -> mpsc::Sender<Push> {
        let current = self.current.as_mut().expect("invariant: pushing follows a claim");
        if let Some(rung) = current.rungs.get(&rung) {
            return rung.queue.clone();
        }
        let (queue, pushes) = mpsc::channel(pusher::QUEUE_PARTS);
        let context = PusherContext {
            stream: self.stream.clone(),
            origin: self.origin.clone(),
            open: current.open.subscribe(),
            said: self.said.clone(),
            metrics: self.metrics.clone(),
        };
        let span = info_span!("pusher", %rung);
        let pusher = tokio::spawn(pusher::run(context, pushes).instrument(span));
        current.rungs.insert(rung, Rung { queue: queue.clone(), pusher });
        queue
    }

    /// Passes on what came of a push. The assignment's queue never fills: it holds a window's worth, and losing a mark
    /// only makes the router keep input for longer, until the next mark.
    fn tell(&self, pushed: Pushed) {
        let Some(current) = &self.current else { return };
        let heard = match pushed {
            Pushed::Safe(mark) => Heard::Published(mark),
            Pushed::Fenced(epoch) if epoch == current.open.borrow().epoch => Heard::Fenced,
            Pushed::Fenced(_) => return,
        };
        let _ = current.heard.try_send(heard);
    }

    async fn end(&mut self, end: intake::End, hearing: &mut mpsc::Receiver<Pushed>) {
        let Some(current) = &mut self.current else { return };
        // A pusher ends once its queue is closed and empty.
        let pushers = std::mem::take(&mut current.rungs).into_values().map(|rung| rung.pusher);
        let emptied = join_all(pushers);
        tokio::pin!(emptied);
        let deadline = tokio::time::sleep(END_PATIENCE);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                _ = &mut emptied => break,
                Some(pushed) = hearing.recv() => self.tell(pushed),
                () = &mut deadline => {
                    warn!("origin did not take everything before the end");
                    break;
                }
            }
        }
        while let Ok(pushed) = hearing.try_recv() {
            self.tell(pushed);
        }
        if let Err(error) = self.origin.end(&self.stream, end).await {
            warn!(%error, "origin was not told of the end");
        }
        if !end.continues {
            self.current = None;
        }
    }
}

/// The further of two marks for each rung.
fn furthest(own: Vec<Mark>, theirs: Vec<Mark>) -> Vec<Mark> {
    let mut best = BTreeMap::new();
    for mark in own.into_iter().chain(theirs) {
        let further = best
            .get(&mark.rung)
            .is_none_or(|best: &Mark| (mark.msn, mark.part) > (best.msn, best.part));
        if further {
            best.insert(mark.rung.clone(), mark);
        }
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests {
    use millrace_types::{MediaTime, Msn, PartNo};

    use super::*;

    #[test]
    fn a_successor_continues_from_the_further_of_both_windows() {
        let mark = |rung: &str, msn, part| Mark {
            rung: rung.parse().unwrap(),
            msn: Msn(msn),
            part: PartNo(part),
            end: MediaTime(0),
            closed: false,
        };
        let own = vec![mark("source", 7, 3), mark("audio", 7, 1)];
        let theirs = vec![mark("source", 7, 2), mark("audio", 8, 0), mark("360p", 6, 6)];
        assert_eq!(
            furthest(own, theirs),
            [mark("360p", 6, 6), mark("audio", 8, 0), mark("source", 7, 3)]
        );
    }
}
