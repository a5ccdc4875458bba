//! What a stream's machine orders.

use millrace_types::{Epoch, RefusalReason};

/// How much of a ladder is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LadderChoice {
    /// All rungs.
    Full,
    /// Source and audio: nothing is decoded.
    Passthrough,
}

/// What the driver must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOutput {
    /// Place the stream under this epoch; replay what is not published.
    Place {
        /// Higher than any before.
        epoch: Epoch,
        /// What to ask for.
        ladder: LadderChoice,
    },
    /// Turn the publisher away: the stream never went live, or nobody can decode it.
    RefusePublisher(RefusalReason),
    /// Tell the node that the stream is over.
    Finish,
    /// Nothing is left to do; forget the stream.
    Close,
}
