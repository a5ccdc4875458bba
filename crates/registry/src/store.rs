//! The two stores behind one handle: in etcd, or in memory.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    etcd::{EtcdStore, Outcome, Which, keeper::Wanted},
    memory::MemoryStore,
    view::View,
};

/// Before every key of the in-memory store.
pub const ROOT: &str = "/millrace/v1";

/// Why a write has no outcome.
#[derive(Debug)]
pub enum Unwritten {
    /// What was last seen of the store.
    NoAnswer(String),
    /// Why the disk did not take it: nothing has changed.
    NotStored(io::Error),
}

/// Where records are. Clones share it.
#[derive(Clone, Debug)]
pub enum Store {
    Memory(Arc<MemoryStore>),
    Etcd(Arc<EtcdStore>),
}

impl Store {
    /// What every key begins with, without a slash at its end.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Memory(_) => ROOT,
            Self::Etcd(etcd) => etcd.prefix(),
        }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        match self {
            Self::Memory(memory) => memory.changes(),
            Self::Etcd(etcd) => etcd.changes(),
        }
    }

    pub fn read<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        match self {
            Self::Memory(memory) => memory.read(read),
            Self::Etcd(etcd) => etcd.read(read),
        }
    }

    pub async fn synced(&self, patience: Duration) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Etcd(etcd) => etcd.synced(patience).await,
        }
    }

    pub fn is_reachable(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Etcd(etcd) => etcd.is_reachable(),
        }
    }

    pub async fn refresh(&self, what: &Which<'_>, patience: Duration) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Etcd(etcd) => etcd.refresh(what, patience).await,
        }
    }

    /// How long ago the store was last heard, and last told of a change.
    pub fn ages(&self) -> (Duration, Duration) {
        match self {
            Self::Memory(_) => (Duration::ZERO, Duration::ZERO),
            Self::Etcd(etcd) => etcd.ages(),
        }
    }

    /// Replaces what was written at `revision` (0: nothing; `None`: whatever is there) by `text` (`None`: deletes it).
    pub async fn write(
        &self,
        key: &str,
        revision: Option<i64>,
        text: Option<&str>,
    ) -> Result<Outcome, Unwritten> {
        match self {
            Self::Memory(memory) => {
                let done = memory.write(key, revision, text).await.map_err(Unwritten::NotStored)?;
                Ok(if done { Outcome::Done } else { Outcome::Conflict })
            }
            Self::Etcd(etcd) => etcd.write(key, revision, text).await.map_err(Unwritten::NoAnswer),
        }
    }

    /// Keeps the key from now on, instead of whoever did; the token is the new keeper's.
    pub fn keep(&self, key: &str, text: String) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let token = NEXT.fetch_add(1, Ordering::Relaxed);
        match self {
            Self::Memory(memory) => {
                memory.swap(key, Some((text, lease(token))), |_| true);
            }
            Self::Etcd(etcd) => etcd.wish(key, Wanted { text: Some(text), token }),
        }
        token
    }

    /// Changes what is kept, or ends it; unless another keeps the key since.
    pub fn change(&self, key: &str, token: u64, text: Option<String>) {
        match self {
            Self::Memory(memory) => {
                let new = text.map(|text| (text, lease(token)));
                memory
                    .swap(key, new, |found| found.is_some_and(|found| found.lease == lease(token)));
            }
            Self::Etcd(etcd) => etcd.change(key, Wanted { text, token }),
        }
    }

    /// Whether what this keeper wants of the key is so; waits for that, `patience` at most.
    pub async fn wish_comes_true(&self, key: &str, token: u64, patience: Duration) -> bool {
        let Self::Etcd(etcd) = self else {
            return self
                .read(|view| view.get(key).is_some_and(|found| found.lease == lease(token)));
        };
        let (mut changes, mut wishes) = (etcd.changes(), etcd.wishes());
        let comes_true = async {
            loop {
                let wish = wishes.borrow_and_update().get(key).cloned();
                changes.mark_unchanged();
                let found = etcd.read(|view| view.get(key).map(|found| found.text.clone()));
                match wish {
                    Some(wish) if wish.token == token && wish.text.is_some() => {
                        if found == wish.text {
                            return;
                        }
                    }
                    Some(wish) if wish.token == token => {}
                    _ => return,
                }
                let changed = async {
                    tokio::select! {
                        changed = changes.changed() => changed.is_ok(),
                        changed = wishes.changed() => changed.is_ok(),
                    }
                };
                if !changed.await {
                    return std::future::pending().await;
                }
            }
        };
        tokio::time::timeout(patience, comes_true).await.is_ok()
    }

    /// How long a kept record outlives its process.
    pub fn lease(&self) -> Duration {
        match self {
            Self::Memory(_) => Duration::ZERO,
            Self::Etcd(etcd) => etcd.lease(),
        }
    }
}

/// In memory each keeper has a lease of its own.
fn lease(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(i64::MAX)
}
