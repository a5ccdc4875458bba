//! The in-memory store: one lock, held for a few map operations and never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::view::{Entry, Mark, View};

/// All records, and a number that grows with every change.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    view: View,
    revision: i64,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn read<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.lock().view)
    }

    /// Replaces the record (`None`: forgets it) when `allowed` agrees to what is there; whether it did.
    pub fn swap(
        &self,
        key: &str,
        new: Option<(String, i64)>,
        allowed: impl FnOnce(Option<&Entry>) -> bool,
    ) -> bool {
        let mut state = self.lock();
        if !allowed(state.view.get(key)) {
            return false;
        }
        state.revision += 1;
        let revision = state.revision;
        let entry = new.map(|(text, lease)| Entry { text, revision, lease });
        state.view.tell(Mark { key: key.to_owned(), revision, entry });
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
