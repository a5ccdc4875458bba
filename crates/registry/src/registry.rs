//! The handle by which programs read, write and watch records.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use millrace_telemetry::prometheus::IntCounter;
use tokio::sync::watch;

use crate::{
    Kept, Record, RegistryConfig, SettingsError,
    etcd::{EtcdStore, Outcome, Which},
    memory::{Disk, MemoryStore},
    rewrite::rewritten,
    store::{ROOT, Store, Unwritten},
    view::{Changed, Entry},
};

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A value that is not the JSON of its type.
    #[error("record {key}: {why}")]
    Json {
        /// Whose.
        key: String,
        /// What serde found.
        why: serde_json::Error,
    },
    /// The store did not answer in time. The write did not take place, or took place once.
    #[error("record {key}: the registry does not answer: {reason}")]
    Unavailable {
        /// Whose.
        key: String,
        /// What was last seen of the store.
        reason: String,
    },
    /// The disk does not take the change. Nothing has changed.
    #[error("record {key}: could not be stored, and is as it was: {reason}")]
    NotStored {
        /// Whose.
        key: String,
        /// What the disk said, with the path.
        reason: io::Error,
    },
}

/// The farm's memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) store: Store,
    /// Counts writes that were not answered.
    pub(crate) failed_writes: IntCounter,
    /// Records that could not be read, by key, with the revision that was logged.
    unreadable: Arc<Mutex<BTreeMap<String, i64>>>,
}

impl Registry {
    /// An empty registry that dies with the process.
    pub fn in_memory() -> Self {
        Self::of(Store::Memory(Arc::new(MemoryStore::new())))
    }

    /// An in-memory registry that begins with `records`, and whose records of their type outlive it: `store` has all of them on
    /// the disk before a change of one takes place. It may block; when it fails, the change is refused.
    pub fn in_memory_stored<T: Record>(
        records: &[T],
        store: impl Fn(&[T]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let memory = MemoryStore::new();
        let folder = format!("{ROOT}/{}/", T::PREFIX);
        for record in records {
            let key = format!("{folder}{}", record.key());
            memory.swap(&key, Some((text(record), 0)), |_| true);
        }
        let store_all = move |texts: &[String]| {
            let records = texts.iter().map(|text| serde_json::from_str(text));
            store(&records.collect::<Result<Vec<T>, _>>()?)
        };
        let disk = Disk::new(folder, Box::new(store_all));
        Self::of(Store::Memory(Arc::new(memory.with_disk(disk))))
    }

    /// A registry in etcd. Does not wait for it: connects, and connects again, in the background for as long as a clone
    /// or a [`Kept`] lives. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`SettingsError`] for settings that can never work.
    pub fn connect(config: &RegistryConfig) -> Result<Self, SettingsError> {
        Ok(Self::of(Store::Etcd(Arc::new(EtcdStore::connect(config)?))))
    }

    fn of(store: Store) -> Self {
        let failed_writes = crate::metrics::failed_writes();
        Self { store, failed_writes, unreadable: Arc::default() }
    }

    /// Whether the view has come once; waits for that, `patience` at most. Before, the registry looks empty.
    pub async fn synced(&self, patience: Duration) -> bool {
        self.store.synced(patience).await
    }

    /// Says what to make of a store that does not answer, and nothing while it does: for `/readyz`.
    pub fn silence(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let registry = self.clone();
        move || {
            let silent = registry.store.ages().0.as_secs();
            (!registry.is_reachable()).then(|| {
                format!("the registry (etcd) has not answered for {silent} s: the program works on with what it knew")
            })
        }
    }

    /// Whether the store answered within the last lease's time. For metrics and people: a farm works on without it.
    pub fn is_reachable(&self) -> bool {
        self.store.is_reachable()
    }

    /// Reads every record of a type from the store itself, so that the view knows what the store knew when it was asked,
    /// but for records that are gone by now; whether that was done within `patience`. For a process that has slept.
    pub async fn refresh<T: Record>(&self, patience: Duration) -> bool {
        self.store.refresh(&Which::Folder(&path::<T>(&self.store, "")), patience).await
    }

    /// The same of one record: for who is asked for what may be too new for the view.
    pub async fn refresh_record<T: Record>(&self, key: &str, patience: Duration) -> bool {
        self.store.refresh(&Which::Record(&path::<T>(&self.store, key)), patience).await
    }

    /// The record of that key, as last known.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be read.
    pub fn get<T: Record>(&self, key: &str) -> Result<Option<T>, RegistryError> {
        let key = path::<T>(&self.store, key);
        let text = self.store.read(|view| view.get(&key).map(|entry| entry.text.clone()));
        text.map(|text| read(&key, &text)).transpose()
    }

    /// Of the write that made the record what it is, as last known; `None` while it is not there. Costs less than to read it. After
    /// the store was set back the number may be one that was used before.
    pub fn revision<T: Record>(&self, key: &str) -> Option<i64> {
        let key = path::<T>(&self.store, key);
        self.store.read(|view| view.get(&key).map(|entry| entry.revision))
    }

    /// Whether the record was known and has vanished, or gone back to what it was earlier, with what the store remembers (an
    /// emptied or restored etcd), and not because somebody deleted or changed it.
    pub fn is_lost<T: Record>(&self, key: &str) -> bool {
        let key = path::<T>(&self.store, key);
        self.store.read(|view| view.is_lost(&key))
    }

    /// The record; one that has vanished so, as it was. For what goes on while the living write theirs again.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be read.
    pub fn get_or_lost<T: Record>(&self, key: &str) -> Result<Option<T>, RegistryError> {
        let key = path::<T>(&self.store, key);
        let text = self.store.read(|view| {
            view.get(&key).or_else(|| view.lost(&key)).map(|entry| entry.text.clone())
        });
        text.map(|text| read(&key, &text)).transpose()
    }

    /// Every record of a type, as last known, in the order of their keys. One that cannot be read hides no other: it is
    /// left out, and logged once.
    pub fn list<T: Record>(&self) -> Vec<T> {
        let folder = path::<T>(&self.store, "");
        let all = |(key, entry): (&str, &Entry)| (key.to_owned(), entry.clone());
        let entries: Vec<_> = self.store.read(|view| view.list(&folder).map(all).collect());
        let readable = |(key, entry): (String, Entry)| {
            read(&key, &entry.text)
                .map_err(|error| self.complain(&key, entry.revision, &error))
                .ok()
        };
        entries.into_iter().filter_map(readable).collect()
    }

    /// Logs a record that cannot be read, once per change of it.
    fn complain(&self, key: &str, revision: i64, error: &RegistryError) {
        let mut logged = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(key.to_owned(), revision) != Some(revision) {
            tracing::error!(%error, "record not readable");
        }
    }

    /// Writes a record without a lease, whatever was there.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`], [`RegistryError::NotStored`].
    pub async fn put<T: Record>(&self, record: &T) -> Result<(), RegistryError> {
        let key = path::<T>(&self.store, &record.key());
        self.write(&key, None, Some(&text(record))).await.map(drop)
    }

    /// Forgets a record; one that is not there is forgotten already.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`], [`RegistryError::NotStored`].
    pub async fn delete<T: Record>(&self, key: &str) -> Result<(), RegistryError> {
        self.write(&path::<T>(&self.store, key), None, None).await.map(drop)
    }

    /// Replaces a record by what `change` makes of it (`None`: forget it), as one step that nobody comes between;
    /// `change` may be called more than once. Hands the new record back. What a newer build wrote into the record, and this one
    /// has no word for, stays there.
    ///
    /// # Errors
    /// [`RegistryError::Json`] for a value that cannot be read, [`RegistryError::Unavailable`], [`RegistryError::NotStored`].
    pub async fn update<T: Record>(
        &self,
        key: &str,
        change: impl Fn(Option<T>) -> Option<T> + Send,
    ) -> Result<Option<T>, RegistryError> {
        let key = path::<T>(&self.store, key);
        loop {
            let old = self.store.read(|view| view.get(&key).cloned());
            let was = old.as_ref().map(|old| read::<T>(&key, &old.text)).transpose()?;
            let before = was.as_ref().zip(old.as_ref());
            let before = before.map(|(was, old)| (text(was), old.text.clone()));
            let new = change(was);
            let text = new.as_ref().map(|new| match &before {
                Some((was, written)) => rewritten(written, was, &text(new)),
                None => text(new),
            });
            let revision = old.map_or(0, |old| old.revision);
            if self.write(&key, Some(revision), text.as_deref()).await? == Outcome::Done {
                return Ok(new);
            }
        }
    }

    /// Keeps a record in the registry as long as the handle lives, and while this process does. A kept record that is
    /// found to be another process's, started later under the same name, is left to it until it goes.
    pub fn keep<T: Record>(&self, record: &T) -> Kept<T> {
        Kept::new(self.store.clone(), record)
    }

    /// Changes whenever any record does. Read again after each change; changes in quick succession count as one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }

    /// Tells which records of a type change from now on.
    pub fn follow<T: Record>(&self) -> Follower<T> {
        let news = self.store.changes();
        let seen = self.store.read(|view| view.changes());
        Follower { store: self.store.clone(), news, seen, record: PhantomData }
    }

    async fn write(
        &self,
        key: &str,
        revision: Option<i64>,
        text: Option<&str>,
    ) -> Result<Outcome, RegistryError> {
        self.store.write(key, revision, text).await.map_err(|unwritten| {
            self.failed_writes.inc();
            let key = key.to_owned();
            match unwritten {
                Unwritten::NoAnswer(reason) => RegistryError::Unavailable { key, reason },
                Unwritten::NotStored(reason) => RegistryError::NotStored { key, reason },
            }
        })
    }
}

/// Which records have changed, by the last element of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These.
    Keys(BTreeSet<String>),
    /// More than is remembered: look at all.
    Anything,
}

impl Changes {
    /// Whether the record of that key is to be looked at again.
    pub fn concerns(&self, key: &str) -> bool {
        match self {
            Self::Keys(keys) => keys.contains(key),
            Self::Anything => true,
        }
    }
}

/// Follows the records of one type.
#[derive(Debug)]
pub struct Follower<T: Record> {
    store: Store,
    news: watch::Receiver<u64>,
    seen: u64,
    record: PhantomData<fn(T)>,
}

impl<T: Record> Follower<T> {
    /// Waits until records of this type have changed; what other records do wakes nobody. Cancel-safe. Ends with the
    /// registry: then it never does.
    pub async fn changed(&mut self) -> Changes {
        let folder = path::<T>(&self.store, "");
        loop {
            if self.news.changed().await.is_err() {
                return std::future::pending().await;
            }
            let (changed, now) =
                self.store.read(|view| (view.changed_since(self.seen), view.changes()));
            self.seen = now;
            let Changed::Keys(keys) = changed else { return Changes::Anything };
            let own = keys.iter().filter_map(|key| key.strip_prefix(&folder).map(str::to_owned));
            let own: BTreeSet<String> = own.collect();
            if !own.is_empty() {
                return Changes::Keys(own);
            }
        }
    }
}

pub(crate) fn path<T: Record>(store: &Store, key: &str) -> String {
    format!("{}/{}/{key}", store.prefix(), T::PREFIX)
}

pub(crate) fn text<T: Record>(record: &T) -> String {
    serde_json::to_string(record).expect("invariant: a record is plain data")
}

fn read<T: Record>(key: &str, text: &str) -> Result<T, RegistryError> {
    serde_json::from_str(text).map_err(|why| RegistryError::Json { key: key.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::ChannelRecord;

    fn channel(name: &str) -> ChannelRecord {
        ChannelRecord {
            channel: name.parse().unwrap(),
            key_hashes: Vec::new(),
            ending_keys: Vec::new(),
            priority: Default::default(),
            low_latency: false,
            dual: false,
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
        assert_eq!(registry.list::<ChannelRecord>(), [channel("a"), channel("b")]);
        registry.delete::<ChannelRecord>("a").await.unwrap();
        assert_eq!(registry.get::<ChannelRecord>("a").unwrap(), None);
        assert_eq!(registry.list::<crate::NodeRecord>(), []);
    }

    #[tokio::test]
    async fn who_follows_channels_hears_which_have_changed_and_of_nothing_else() {
        let registry = Registry::in_memory();
        registry.put(&channel("before")).await.unwrap();
        let mut follower = registry.follow::<ChannelRecord>();
        let origin: crate::OriginRecord = serde_json::from_str(
            r#"{"origin":"o","intake":"127.0.0.1:1","playback":"127.0.0.1:1","admin":"127.0.0.1:1"}"#,
        )
        .unwrap();
        registry.put(&origin).await.unwrap();
        let hears = tokio::time::timeout(Duration::from_millis(50), follower.changed());
        assert!(hears.await.is_err(), "an origin is no channel");
        registry.put(&channel("a")).await.unwrap();
        registry.delete::<ChannelRecord>("before").await.unwrap();
        let keys = ["a", "before"].map(str::to_owned).into();
        assert_eq!(follower.changed().await, Changes::Keys(keys));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_that_the_disk_does_not_take_does_not_take_place() {
        let (disk, is_full) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let store = {
            let (disk, is_full) = (disk.clone(), is_full.clone());
            move |records: &[ChannelRecord]| match is_full.load(Relaxed) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => {
                    *disk.lock().unwrap() = records.to_vec();
                    Ok(())
                }
            }
        };
        let registry = Registry::in_memory_stored(&[channel("b")], store);
        let on_disk = || disk.lock().unwrap().clone();
        assert!(on_disk().is_empty(), "what was stored before is not stored again");
        registry.put(&channel("a")).await.unwrap();
        assert_eq!(on_disk(), [channel("a"), channel("b")]);
        is_full.store(true, Relaxed);
        let refused = registry.delete::<ChannelRecord>("a").await.unwrap_err();
        assert!(matches!(refused, RegistryError::NotStored { .. }), "{refused}");
        assert!(refused.to_string().contains("is as it was: no storage space"), "{refused}");
        assert_eq!(registry.list::<ChannelRecord>(), on_disk());
        registry.put(&channel("b")).await.expect("nothing to store");
        is_full.store(false, Relaxed);
        registry.delete::<ChannelRecord>("a").await.unwrap();
        assert_eq!(on_disk(), [channel("b")]);
    }

    /// A channel as a newer build writes it.
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct NewerChannel {
        channel: millrace_types::ChannelId,
        key_hashes: Vec<String>,
        priority: String,
        region: Vec<u32>,
    }

    impl Record for NewerChannel {
        const PREFIX: &'static str = ChannelRecord::PREFIX;
        fn key(&self) -> String {
            self.channel.to_string()
        }
    }

    #[tokio::test]
    async fn what_a_newer_build_wrote_into_a_record_survives_a_change_by_this_one() {
        let registry = Registry::in_memory();
        let newer = NewerChannel {
            channel: "x".parse().unwrap(),
            key_hashes: vec!["old".to_owned()],
            priority: "urgent".to_owned(),
            region: vec![7],
        };
        registry.put(&newer).await.unwrap();
        let rotate = |old: Option<ChannelRecord>| {
            Some(ChannelRecord { key_hashes: vec!["new".to_owned()], ..old.unwrap() })
        };
        registry.update("x", rotate).await.unwrap();
        let found: ChannelRecord = registry.get("x").unwrap().unwrap();
        assert_eq!((found.key_hashes.len(), found.priority), (1, crate::Priority::Unknown));
        let found: NewerChannel = registry.get("x").unwrap().unwrap();
        assert_eq!(found, NewerChannel { key_hashes: vec!["new".to_owned()], ..newer });
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
        let record: ChannelRecord = registry.get("x").unwrap().unwrap();
        assert_eq!(record.key_hashes.len(), 200);
    }
}
