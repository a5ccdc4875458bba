//! The in-memory store: one lock, held for a few map operations and never across an await.
//!
//! One folder may be of records that must outlive the process: a [`Disk`] takes a change of it first, and what the disk
//! does not take does not take place.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, task::spawn_blocking};

use crate::view::{Entry, Mark, View};

/// All records, and a number that grows with every change.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    disk: Option<Disk>,
}

/// Stores all of a folder, as JSON.
type StoreAll = Box<dyn Fn(&[String]) -> io::Result<()> + Send + Sync>;

/// Where the records of one folder are before they are in memory.
pub struct Disk {
    folder: String,
    store_all: StoreAll,
    /// Whose turn it is to change the folder: its records stay as they are while they are stored.
    turn: Mutex<()>,
}

impl Disk {
    pub fn new(folder: String, store_all: StoreAll) -> Self {
        Self { folder, store_all, turn: Mutex::default() }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    view: View,
    revision: i64,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0), disk: None }
    }

    /// The same, with records that are stored before they are written; those there now are stored already.
    pub fn with_disk(self, disk: Disk) -> Self {
        Self { disk: Some(disk), ..self }
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
        match entry {
            Some(_) => state.view.tell(Mark { key: key.to_owned(), revision, entry }),
            // Nobody's lease runs out here.
            None => state.view.delete(key, revision),
        };
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        true
    }

    /// Replaces the record written at `revision` (0: nothing; `None`: whatever is there) by `text` (`None`: forgets it);
    /// whether that was there. Whoever stops waiting for it changes nothing about it.
    ///
    /// # Errors
    /// The disk did not take it: nothing has changed.
    pub async fn write(
        self: &Arc<Self>,
        key: &str,
        revision: Option<i64>,
        text: Option<&str>,
    ) -> io::Result<bool> {
        let new = text.map(|text| (text.to_owned(), 0));
        let is_there = move |found: Option<&Entry>| {
            revision.is_none_or(|revision| revision == found.map_or(0, |found| found.revision))
        };
        if self.disk_of(key).is_none() {
            return Ok(self.swap(key, new, is_there));
        }
        let (store, key) = (self.clone(), key.to_owned());
        let stored = spawn_blocking(move || store.swap_stored(&key, new, is_there));
        stored.await.map_err(io::Error::other)?
    }

    fn disk_of(&self, key: &str) -> Option<&Disk> {
        self.disk.as_ref().filter(|disk| key.starts_with(&disk.folder))
    }

    fn swap_stored(
        &self,
        key: &str,
        new: Option<(String, i64)>,
        allowed: impl Fn(Option<&Entry>) -> bool,
    ) -> io::Result<bool> {
        let Some(disk) = self.disk_of(key) else { return Ok(self.swap(key, new, allowed)) };
        let _turn = disk.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let text = new.as_ref().map(|(text, _)| text);
        let after = self.read(|view| {
            let found = view.get(key);
            let is_new = found.map(|found| &found.text) != text;
            let others = view.list(&disk.folder).filter(|(other, _)| *other != key);
            let others = others.map(|(key, entry)| (key.to_owned(), entry.text.clone()));
            (allowed(found) && is_new).then(|| others.collect::<Vec<_>>())
        });
        if let Some(mut all) = after {
            all.extend(text.map(|text| (key.to_owned(), text.clone())));
            all.sort();
            let all: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
            (disk.store_all)(&all)?;
        }
        Ok(self.swap(key, new, allowed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
