//! How an assignment ends: why its loop did, what a dead worker left, who is told, and who goes on.

use std::time::Duration;

use millrace_hls::intake;
use millrace_types::{DecisionKind, EndReason, RefusalReason};
use millrace_wire::{End, Ended, Message, Published, Relayed, Restarting};
use tokio::{sync::oneshot, time::timeout};
use tracing::{info, warn};

use super::{Assignment, Loop, silence::LINK_SILENCE};
use crate::{
    host::demand_of,
    output::{Command, Heard},
};

/// How long a router should wait for the next daemon before it asks other nodes: a program's restart, with room.
const GRACE: Duration = Duration::from_secs(2);
/// How long a node that was left hears of another origin; its router closes the Link sooner.
const STAYS: Duration = Duration::from_secs(10);
/// How long the rest of a dead worker's socket may take.
const REMAINS_PATIENCE: Duration = Duration::from_millis(500);

/// What a router is told beside why, of a worker that was killed and is still there.
const SURVIVES: &str = ", and SIGKILL does not end it";

/// Why the loop ended.
pub(super) enum Outcome {
    /// The worker is gone.
    WorkerEnded(EndReason),
    /// It was killed, and is not.
    Unkillable(EndReason),
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
        let (reason, is_gone) = match outcome {
            Outcome::WorkerEnded(reason) => (reason, true),
            Outcome::Unkillable(reason) => (reason, false),
            Outcome::NodeStops if self.it.stopping.workers_stay() && self.it.gate.is_open() => {
                return self.hand_over().await;
            }
            Outcome::Superseded | Outcome::NodeStops => {
                return self.leave(matches!(outcome, Outcome::NodeStops)).await;
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
                let text = if is_gone { "" } else { "SIGKILL does not end it" };
                self.note(DecisionKind::WorkerEnded, reason, text);
                false
            }
        };
        // The books first: the router's next placement must find the capacity free.
        if !is_gone {
            self.withhold().await;
        }
        let over = ended && matches!(self.ending, Ending::Told(End { continues: false }));
        self.it.host.left(stream, epoch, Some(reason), over).await;
        while let Ok(Heard::Published(mark)) = self.it.heard.try_recv() {
            self.tell_router(&Message::Published(Published { mark }));
        }
        let and = if is_gone { "" } else { SURVIVES };
        let text = format!("worker {}: {}{and}", self.it.worker.pid(), reason.as_str());
        let last = Message::Ended(Ended { reason, text });
        if ended && !over {
            return self.stay(last).await;
        }
        self.last_words(&last).await;
        if !is_gone {
            self.leave_unkillable();
        }
    }

    /// What the worker has of the host stays promised although its stream leaves it.
    async fn withhold(&self) {
        let pid = self.it.worker.pid();
        tracing::error!(pid, "worker does not die of SIGKILL: its capacity stays promised");
        self.it.host.withhold(pid, demand_of(&self.it.hello)).await;
    }

    /// Its death is waited for without the stream, for ever if need be.
    fn leave_unkillable(self) {
        let Assignment { mut worker, host, .. } = *self.it;
        tokio::spawn(async move {
            worker.died().await;
            info!(pid = worker.pid(), "worker is gone at last: its capacity is free");
            host.give_back(worker.pid()).await;
        });
    }

    /// Another assignment makes the stream, or none here: the node stops.
    async fn leave(mut self, stops: bool) {
        info!(stops, "stream left to another assignment");
        let reason = if stops { RefusalReason::ShuttingDown } else { RefusalReason::Fenced };
        self.note(DecisionKind::LetGo, reason, "left to another assignment");
        let is_gone = self.it.worker.end().await;
        if stops && self.it.stopping.workers_stay() {
            // A standby goes with its daemon, which comes back: nothing to hold against the node.
            self.say_restarting().await;
        }
        if !is_gone {
            self.withhold().await;
        }
        self.it.host.left(self.it.stream.clone(), self.it.epoch, None, false).await;
        if !is_gone {
            self.leave_unkillable();
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
