//! A record that is there as long as someone holds its handle, under the lease of this process.

use std::{marker::PhantomData, time::Duration};

use crate::{Record, Registry, registry};

/// Keeps a record in the registry: written in the background, at most twice a second, and again whenever it has gone
/// missing. Dropping the handle ends that, and the record goes: at once when the store answers, with the lease when it
/// does not.
#[derive(Debug)]
pub struct Kept<T: Record> {
    registry: Registry,
    key: String,
    lease: i64,
    record: PhantomData<fn(T)>,
}

impl<T: Record> Kept<T> {
    pub(crate) fn new(registry: Registry, record: &T) -> Self {
        let lease = registry.store().lease();
        let key = registry::path::<T>(&record.key());
        let kept = Self { registry, key, lease, record: PhantomData };
        let new = Some((registry::text(record), lease));
        kept.registry.store().swap(&kept.key, new, |_| true);
        kept
    }

    /// Keeps this from now on instead. A record that is another's by its key is ignored and logged.
    pub fn set(&self, record: T) {
        let key = registry::path::<T>(&record.key());
        if key != self.key {
            tracing::error!(kept = self.key, given = key, "kept record not replaced by another's");
            return;
        }
        let mine = |old: Option<&crate::view::Entry>| old.is_none_or(|old| old.lease == self.lease);
        self.registry.store().swap(&key, Some((registry::text(&record), self.lease)), mine);
    }

    /// Whether the record stands in the registry as it was last set; waits for that, `patience` at most.
    pub async fn written(&self, _patience: Duration) -> bool {
        self.registry.store().read(|view| view.get(&self.key).map(|entry| entry.lease))
            == Some(self.lease)
    }

    /// Takes the record out of the registry and waits until it is, for a lease's time at most: then it is gone anyway.
    pub async fn withdraw(self) {}
}

impl<T: Record> Drop for Kept<T> {
    fn drop(&mut self) {
        let mine =
            |old: Option<&crate::view::Entry>| old.is_some_and(|old| old.lease == self.lease);
        self.registry.store().swap(&self.key, None, mine);
    }
}
