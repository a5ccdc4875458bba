//! What the worker says: parts on their way to the output, beats, its last word. How it does goes into the node's books.

use std::io;

use millrace_lifecycle::WorkerInput;
use millrace_wire::Message;
use tracing::warn;

use super::{Loop, ending::Ending};
use crate::{
    host::{Lag, StreamStatus},
    output::Command,
};

impl Loop {
    pub(super) fn worker_said(&mut self, message: io::Result<Option<Message>>) {
        match message {
            Ok(Some(message)) => {
                self.input(WorkerInput::Beat);
                self.take(message);
            }
            Ok(None) => {
                self.worker_speaks = false;
                self.cut_off();
            }
            Err(error) => {
                warn!(%error, "worker's socket");
                self.worker_speaks = false;
                self.cut_off();
            }
        }
    }

    /// The worker's socket is closed: its death follows. One that was told to end closes it just before it exits, and a kill
    /// in between would make a failure of its end.
    pub(super) fn cut_off(&self) {
        if self.ending == Ending::No {
            self.it.worker.kill();
        }
    }

    pub(super) fn take(&mut self, message: Message) {
        let epoch = self.it.epoch;
        match message {
            Message::Init(init) => self.pending.push_back(Command::Init(epoch, init.into())),
            Message::Part(mut part) => {
                part.record.short = part.record.last && self.is_beside && self.ending != Ending::No;
                self.unpublished.add(&part);
                self.pending.push_back(Command::Part(epoch, part.into()));
            }
            Message::Ended(ended) => self.last_word = Some(ended.reason),
            Message::Heartbeat(beat) => {
                self.worker_seq = beat.seq;
                self.report(beat.lag_ms);
            }
            _ => {}
        }
    }

    /// Notes how the worker does; the first time, in the node's books.
    fn report(&mut self, lag_ms: u32) {
        if let Some(lag) = &self.lag {
            return lag.set(lag_ms);
        }
        let lag = self.lag.insert(Lag::default());
        lag.set(lag_ms);
        let status = StreamStatus {
            stream: self.it.stream.clone(),
            epoch: self.it.epoch,
            worker_pid: self.it.worker.pid(),
            lag_ms: lag.clone(),
            sandbox: self.it.worker.ready.sandbox.clone(),
        };
        let host = self.it.host.clone();
        tokio::spawn(async move { host.report(status).await });
    }
}
