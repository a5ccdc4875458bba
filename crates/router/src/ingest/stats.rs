//! What the ingest has counted; exported as metrics elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use millrace_types::RefusalReason;

/// Counters since start. Reading them costs nothing and is not a consistent snapshot.
#[derive(Debug, Default)]
pub struct IngestStats {
    pub(super) connections: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    refused: [AtomicU64; RefusalReason::ALL.len()],
}

impl IngestStats {
    /// Connections accepted, refused ones included.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Publishers that were let in.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Connections lost to a bug of ours.
    pub fn panicked(&self) -> u64 {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Bytes received from publishers, after TLS.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Connections ended for that reason.
    pub fn refused(&self, reason: RefusalReason) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_refusal(&self, reason: RefusalReason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
