//! The handle by which programs read, write and watch records.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Record, memory::MemoryStore};

/// Before every key.
const ROOT: &str = "/millrace/v1";

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A value that is not the JSON of its type.
    #[error("record {key}: {source}")]
    Json {
        /// Whose.
        key: String,
        /// What serde found.
        source: serde_json::Error,
    },
}

/// The farm's memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<MemoryStore>,
}

impl Registry {
    /// An empty registry that dies with the process.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(MemoryStore::new()) }
    }

    /// The record of that key.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be read.
    pub async fn get<T: Record>(&self, key: &str) -> Result<Option<T>, RegistryError> {
        let key = path::<T>(key);
        self.store.get(&key).map(|text| read(&key, &text)).transpose()
    }

    /// Every record of a type, in the order of their keys.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be read.
    pub async fn list<T: Record>(&self) -> Result<Vec<T>, RegistryError> {
        let prefix = path::<T>("");
        self.store.list(&prefix).iter().map(|text| read(&prefix, text)).collect()
    }

    /// Writes a record, whatever was there.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be written as JSON.
    pub async fn put<T: Record>(&self, record: &T) -> Result<(), RegistryError> {
        self.update(&record.key(), |_: Option<T>| Some(record.clone())).await.map(drop)
    }

    /// Forgets a record.
    ///
    /// # Errors
    /// None with the in-memory store.
    pub async fn delete<T: Record>(&self, key: &str) -> Result<(), RegistryError> {
        self.update(key, |_: Option<T>| None).await.map(drop)
    }

    /// Replaces a record by what `change` makes of it (`None`: forget it), as one step that nobody comes between;
    /// `change` may be called more than once. Hands the new record back.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be read or written.
    pub async fn update<T: Record>(
        &self,
        key: &str,
        change: impl Fn(Option<T>) -> Option<T> + Send,
    ) -> Result<Option<T>, RegistryError> {
        let key = path::<T>(key);
        loop {
            let old = self.store.get(&key);
            let new = change(old.as_deref().map(|text| read(&key, text)).transpose()?);
            let text = new.as_ref().map(serde_json::to_string).transpose();
            let text = text.map_err(|source| RegistryError::Json { key: key.clone(), source })?;
            if self.store.compare_and_swap(&key, old.as_deref(), text) {
                return Ok(new);
            }
        }
    }

    /// Changes whenever any record does. Read again after each change; changes in quick succession count as one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }
}

fn path<T: Record>(key: &str) -> String {
    format!("{ROOT}/{}/{key}", T::PREFIX)
}

fn read<T: Record>(key: &str, text: &str) -> Result<T, RegistryError> {
    serde_json::from_str(text).map_err(|source| RegistryError::Json { key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelRecord;

    fn channel(name: &str) -> ChannelRecord {
        ChannelRecord {
            channel: name.parse().unwrap(),
            key_hashes: Vec::new(),
            priority: Default::default(),
            low_latency: false,
        }
    }

    #[tokio::test]
    async fn records_are_listed_by_type_and_forgotten() {
        let registry = Registry::in_memory();
        let mut changes = registry.changes();
        registry.put(&channel("b")).await.unwrap();
        registry.put(&channel("a")).await.unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(registry.list::<ChannelRecord>().await.unwrap(), [channel("a"), channel("b")]);
        registry.delete::<ChannelRecord>("a").await.unwrap();
        assert_eq!(registry.get::<ChannelRecord>("a").await.unwrap(), None);
        assert_eq!(registry.list::<crate::NodeRecord>().await.unwrap(), []);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrent_updates_of_one_record_are_all_seen() {
        let registry = Registry::in_memory();
        let add = |registry: Registry| async move {
            for _ in 0..100 {
                let more = |old: Option<ChannelRecord>| {
                    let mut record = old.unwrap_or_else(|| channel("x"));
                    record.key_hashes.push("h".to_owned());
                    Some(record)
                };
                registry.update("x", more).await.unwrap();
            }
        };
        let both = [tokio::spawn(add(registry.clone())), tokio::spawn(add(registry.clone()))];
        for task in both {
            task.await.unwrap();
        }
        let record: ChannelRecord = registry.get("x").await.unwrap().unwrap();
        assert_eq!(record.key_hashes.len(), 200);
    }
}
