//! That the node goes, and whether its workers go with it. One word for everybody in the process; clones share it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Not yet, or one of two ways to stop.
#[derive(Clone, Debug, Default)]
pub struct Stopping {
    token: CancellationToken,
    workers_stay: Arc<AtomicBool>,
}

impl Stopping {
    /// The workers end too.
    pub fn end(&self) {
        self.token.cancel();
    }

    /// The workers stay for the next daemon.
    pub fn hand_over(&self) {
        self.workers_stay.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    /// Waits until one of them was said.
    pub async fn said(&self) {
        self.token.cancelled().await;
    }

    /// Whether the workers stay.
    pub fn workers_stay(&self) -> bool {
        self.workers_stay.load(Ordering::Relaxed)
    }

    /// For those to whom it is all the same.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
