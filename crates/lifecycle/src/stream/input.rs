//! What a stream's machine is told.

use millrace_types::{EndReason, NodeId, RefusalReason};

/// What an assignment died of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The connection to the node.
    Link,
    /// The worker, on that node.
    Worker(EndReason, NodeId),
    /// The connection to a node whose daemon had announced it: no failure, and its worker waits.
    Restart,
    /// The worker, which was told to end: another picture needs another ladder. No failure.
    Reshaped,
}

/// What the driver observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamInput {
    /// A publisher sends.
    PublisherJoined,
    /// It does not any more.
    PublisherLeft,
    /// What the publisher sends cannot be taken, for that reason: it is turned away.
    SourceRefused(RefusalReason),
    /// The stream's channel was deleted: nobody can come back to it.
    ChannelGone,
    /// The tracks are known, so that a ladder can be built.
    SourceKnown,
    /// A node took the placement.
    Admitted,
    /// No node did.
    Refused(RefusalReason),
    /// The placement is gone.
    Lost(Lost),
    /// Another router owns the stream's session now.
    TakenOver,
    /// There may be room for all rungs, for which there was none.
    RoomCameBack,
    /// Something new was published.
    Progressed,
    /// The node has flushed everything after [`StreamOutput::Finish`].
    Finished,
    /// Time has passed.
    Tick,
}
