//! A record that is there as long as someone holds its handle, under the lease of this process.

use std::{marker::PhantomData, time::Duration};

use crate::{Record, registry, store::Store};

/// Keeps a record in the registry: written in the background, at most twice a second, and again whenever it has gone
/// missing. Dropping the handle ends that, and the record goes: at once when the store answers, with the lease when it
/// does not.
#[derive(Debug)]
pub struct Kept<T: Record> {
    store: Store,
    key: String,
    token: u64,
    record: PhantomData<fn(T)>,
}

impl<T: Record> Kept<T> {
    pub(crate) fn new(store: Store, record: &T) -> Self {
        let key = registry::path::<T>(&store, &record.key());
        let token = store.keep(&key, registry::text(record));
        Self { store, key, token, record: PhantomData }
    }

    /// Keeps this from now on instead. A record that is another's by its key is ignored and logged.
    pub fn set(&self, record: T) {
        let key = registry::path::<T>(&self.store, &record.key());
        if key != self.key {
            tracing::error!(kept = self.key, given = key, "kept record not replaced by another's");
            return;
        }
        self.store.change(&key, self.token, Some(registry::text(&record)));
    }

    /// Whether the record stands in the registry as it was last set; waits for that, `patience` at most.
    pub async fn written(&self, patience: Duration) -> bool {
        self.store.wish_comes_true(&self.key, self.token, patience).await
    }

    /// Leaves the record to whoever comes next under its name, or to the end of the lease.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// Takes the record out of the registry and waits until it is, for a lease's time at most: then it is gone anyway.
    pub async fn withdraw(self) {
        self.store.change(&self.key, self.token, None);
        self.store.wish_comes_true(&self.key, self.token, self.store.lease()).await;
    }
}

impl<T: Record> Drop for Kept<T> {
    fn drop(&mut self) {
        self.store.change(&self.key, self.token, None);
    }
}
