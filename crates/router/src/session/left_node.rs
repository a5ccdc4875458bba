//! The node that the stream was moved off. It keeps what it made and its Link for a moment: should the origin die before the new
//! node has fetched all of that from it, the node that was left gives it to the next origin.

use std::time::Duration;

use millrace_wire::{ChangeOrigin, Message};
use tokio::{sync::mpsc, time::sleep};

use crate::placement::Link;

/// How long. A new node has what was published before it much sooner, as a rule.
const HELD: Duration = Duration::from_secs(5);

/// A node that makes nothing of the stream any more; dropped, its Link is closed.
pub(super) struct LeftNode {
    changes: mpsc::Sender<ChangeOrigin>,
}

impl LeftNode {
    /// Holds the Link of a node that has said its last word.
    pub(super) fn hold(link: Link) -> Self {
        let (changes, told) = mpsc::channel(1);
        tokio::spawn(hold(link, told));
        Self { changes }
    }

    /// Tells it of another origin; `false`: it is not there any more.
    pub(super) fn tell(&self, change: ChangeOrigin) -> bool {
        self.changes.try_send(change).is_ok()
    }

    /// Whether it is there.
    pub(super) fn is_there(&self) -> bool {
        !self.changes.is_closed()
    }
}

async fn hold(mut link: Link, mut told: mpsc::Receiver<ChangeOrigin>) {
    let until = sleep(HELD);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return,
            change = told.recv() => match change {
                Some(change) => {
                    if link.writer.send(&Message::ChangeOrigin(change)).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
            said = link.reader.next() => match said {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
        }
    }
}
