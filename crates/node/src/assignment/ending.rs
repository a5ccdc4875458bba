//! How an assignment ends: why its loop did, what a dead worker left, who is told, and who goes on.

use std::time::Duration;

use millrace_hls::intake;
use millrace_types::{DecisionKind, EndReason, RefusalReason};
use millrace_wire::{End, Ended, Message, Published, Relayed, Restarting};
use tokio::{sync::oneshot, time::timeout};
use tracing::{info, warn};

use super::{Loop, silence::LINK_SILENCE};
use crate::output::{Command, Heard};

/// How long a router should wait for the next daemon before it asks other nodes: a program's restart, with room.
const GRACE: Duration = Duration::from_secs(2);
/// How long a node that was left hears of another origin; its router closes the Link sooner.
const STAYS: Duration = Duration::from_secs(10);
/// How long the rest of a dead worker's socket may take.
const REMAINS_PATIENCE: Duration = Duration::from_millis(500);

/// Why the loop ended.
pub(super) enum Outcome {
    /// The worker is gone.
    WorkerEnded(EndReason),
    /// A newer assignment has taken over, here or elsewhere.
    Superseded,
    /// The node goes down: its successor takes the stream and the worker, or another node the stream alone.
    NodeStops,
}

/// What is going on with the stream's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// The router said so, or is gone (`continues`).
    Told(End),
}

impl Loop {
    /// What a dead worker had sent before it died.
    pub(super) async fn take_remains(&mut self) {
        let remains = async {
            if !self.it.gate.settled().await {
                return;
            }
            loop {
                while let Some(command) = self.pending.pop_front() {
                    let _ = self.it.output.commands.send(command).await;
                }
                match self.it.worker.reader.next().await {
                    Ok(Some(message)) => self.take(message),
                    Ok(None) | Err(_) => return,
                }
            }
        };
        let _ = timeout(REMAINS_PATIENCE, remains).await;
    }

    pub(super) async fn finish(mut self, outcome: Outcome) {
        let (stream, epoch) = (self.it.stream.clone(), self.it.epoch);
        if let Some(past) = self.it.gate.past() {
            let _ = self.it.output.commands.try_send(Command::Past(past));
        }
        let reason = match outcome {
            Outcome::WorkerEnded(reason) => reason,
            Outcome::NodeStops if self.it.stopping.workers_stay() && self.it.gate.is_open() => {
                return self.hand_over().await;
            }
            Outcome::Superseded | Outcome::NodeStops => {
                let stops = matches!(outcome, Outcome::NodeStops);
                info!(stops, "stream left to another assignment");
                let reason =
                    if stops { RefusalReason::ShuttingDown } else { RefusalReason::Fenced };
                self.note(DecisionKind::LetGo, reason, "left to another assignment");
                self.it.worker.kill();
                let _ = self.it.worker.died().await;
                if stops && self.it.stopping.workers_stay() {
                    // A standby goes with its daemon, which comes back: nothing to hold against the node.
                    self.say_restarting().await;
                }
                return self.it.host.left(stream, epoch, None, false).await;
            }
        };
        let ended = match self.ending {
            Ending::Told(end) if reason == EndReason::Stopped && self.it.gate.is_open() => {
                let end = intake::End { epoch, continues: end.continues };
                let (done, settled) = oneshot::channel();
                if self.it.output.commands.send(Command::End(end, done)).await.is_ok() {
                    let _ = settled.await;
                }
                info!("stream ended");
                let text = if end.continues { "flushed for a successor" } else { "flushed" };
                self.note(DecisionKind::WorkerEnded, reason, text);
                true
            }
            _ => {
                warn!(reason = reason.as_str(), pid = self.it.worker.pid(), "worker ended");
                self.note(DecisionKind::WorkerEnded, reason, "");
                false
            }
        };
        // The books first: the router's next placement must find the capacity free.
        let over = ended && matches!(self.ending, Ending::Told(End { continues: false }));
        self.it.host.left(stream, epoch, Some(reason), over).await;
        while let Ok(Heard::Published(mark)) = self.it.heard.try_recv() {
            self.tell_router(&Message::Published(Published { mark }));
        }
        let text = format!("worker {}: {}", self.it.worker.pid(), reason.as_str());
        let last = Message::Ended(Ended { reason, text });
        match ended && !over {
            true => self.stay(last).await,
            false => self.last_words(&last).await,
        }
    }

    /// Another node goes on: what was made here goes to the next origin from here, should the one that has it die before the other
    /// node has fetched it. The router says so on the Link, while it holds that.
    async fn stay(mut self, last: Message) {
        let Some(mut link) = self.it.link.take() else { return };
        let (host, stopping) = (self.it.host.clone(), self.it.stopping.clone());
        let (stream, epoch) = (self.it.stream.clone(), self.it.epoch);
        let superseded = self.it.superseded.clone();
        drop(self);
        let staying = async {
            link.writer.send(&last).await?;
            while let Some(said) = link.reader.next().await? {
                if let Relayed::Message(Message::ChangeOrigin(change)) = said {
                    host.change_origin(stream.clone(), epoch, change).await;
                }
            }
            link.writer.shutdown().await
        };
        tokio::select! {
            _ = timeout(STAYS, staying) => {}
            () = stopping.said() => {}
            () = superseded.cancelled() => {}
        }
    }

    /// Leaves the worker, and what the origin does not have yet with it, to the daemon that comes.
    async fn hand_over(mut self) {
        info!(pid = self.it.worker.pid(), "stream left to the next daemon");
        let reason = RefusalReason::ShuttingDown;
        self.note(DecisionKind::HandedOver, reason, "its worker waits for the next daemon");
        self.say_restarting().await;
    }

    async fn say_restarting(&mut self) {
        let grace_ms = u32::try_from(GRACE.as_millis()).unwrap_or(u32::MAX);
        self.last_words(&Message::Restarting(Restarting { grace_ms })).await;
    }

    async fn last_words(&mut self, message: &Message) {
        let Some(link) = &mut self.it.link else { return };
        let said = async {
            link.writer.send(message).await?;
            link.writer.shutdown().await
        };
        let _ = timeout(LINK_SILENCE, said).await;
    }
}
