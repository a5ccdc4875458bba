//! The in-memory store: keys to JSON text, one lock held for a few map operations and never across an await.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// A map of keys to values and a number that grows with every change.
#[derive(Debug)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<String, String>>,
    revision: watch::Sender<u64>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self { values: Mutex::default(), revision: watch::Sender::new(0) }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub fn get(&self, key: &str) -> Option<String> {
        self.lock().get(key).cloned()
    }

    pub fn list(&self, prefix: &str) -> Vec<String> {
        let values = self.lock();
        let from = values.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// Replaces the value when it still is `expected`; whether it did.
    pub fn compare_and_swap(&self, key: &str, expected: Option<&str>, new: Option<String>) -> bool {
        let mut values = self.lock();
        if values.get(key).map(String::as_str) != expected {
            return false;
        }
        match new {
            Some(new) => drop(values.insert(key.to_owned(), new)),
            None => drop(values.remove(key)),
        }
        drop(values);
        self.revision.send_modify(|revision| *revision += 1);
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
