//! Whether what a worker makes may go to the output yet. A standby's may not: another node writes the stream.
//!
//! ```text
//! Closed --publish--> Claiming --claimed--> Open
//!                         +-- fenced: a newer writer has come --> Shut
//! ```
//! While it is not open, parts wait with the assignment and are not acknowledged: the worker stops at its own bound of
//! unacknowledged bytes.

use millrace_hls::{Refusal, StreamOpen};
use millrace_types::Mark;
use tokio::sync::{mpsc, oneshot};

use crate::{
    origin_client::OriginClient,
    output::{Command, Heard, Output},
    past::Past,
};

type Claimed = oneshot::Receiver<Result<Vec<Mark>, Refusal>>;

/// What the claim of an output needs.
#[derive(Debug)]
pub struct Claim {
    /// The assignment's announcement.
    pub open: StreamOpen,
    /// The stream's origin.
    pub origin: OriginClient,
    /// Where the output says what was published.
    pub heard: mpsc::Sender<Heard>,
    /// What others published before, if it was asked for ahead.
    pub past: Option<Past>,
}

impl Claim {
    /// Asks the output to take the assignment as its writer. `None`: the output is gone.
    pub async fn make(self, output: &Output) -> Option<Claimed> {
        let (reply, claimed) = oneshot::channel();
        let command = Command::Claim(Box::new(self), reply);
        output.commands.send(command).await.ok().map(|()| claimed)
    }
}

/// The way from a worker to its stream's output.
#[derive(Debug)]
pub enum Gate {
    /// A standby's.
    Closed(Box<Claim>),
    /// The output was asked.
    Claiming(Claimed),
    /// A writer's.
    Open,
    /// A newer writer's, for good.
    Shut,
}

impl Gate {
    /// Whether parts may pass.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// The writer before has ended. No news to one that writes already.
    pub async fn publish(&mut self, output: &Output) {
        *self = match std::mem::replace(self, Self::Open) {
            // Without an output there is nowhere to write, and the assignment finds out by itself.
            Self::Closed(claim) => claim.make(output).await.map_or(Self::Open, Self::Claiming),
            other => other,
        };
    }

    /// What a standby that was never told to publish has fetched.
    pub fn past(&mut self) -> Option<Past> {
        match self {
            Self::Closed(claim) => claim.past.take(),
            Self::Claiming(_) | Self::Open | Self::Shut => None,
        }
    }

    /// Whether it is open, once the output has answered if it was asked.
    pub async fn settled(&mut self) -> bool {
        match self {
            Self::Closed(_) | Self::Shut => false,
            Self::Claiming(_) => self.claimed().await,
            Self::Open => true,
        }
    }

    /// Waits until the output has answered; `false` when a newer writer has come. Cancel-safe; never ends unless asked.
    pub async fn claimed(&mut self) -> bool {
        let Self::Claiming(claimed) = self else { return std::future::pending().await };
        let taken = matches!(claimed.await, Ok(Ok(_)));
        *self = if taken { Self::Open } else { Self::Shut };
        taken
    }
}
