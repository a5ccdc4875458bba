//! Records in etcd: a view that is followed, writes that are bounded, and a lease for what stands for this process.
//!
//! One task holds a [`session`] with one member of the cluster at a time, and goes to the next whenever anything of it
//! fails or falls silent. A handle reads the view and writes through the session's client; it waits for neither longer
//! than its bound. Only the monotonic clock is read: a step of the host's clock changes nothing.

mod follow;
pub mod keeper;
mod refresh;
mod session;
mod write;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::Client;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use self::keeper::{Wanted, Wishes};
use crate::{RegistryConfig, SettingsError, view::View};

pub use self::{refresh::Which, write::Outcome};

/// Everything that handles and the session share.
pub struct Shared {
    prefix: String,
    lease: Duration,
    view: Mutex<View>,
    changes: watch::Sender<u64>,
    synced: watch::Sender<bool>,
    client: watch::Sender<Option<Client>>,
    wishes: watch::Sender<Wishes>,
    /// When a heartbeat was last answered.
    heard: Mutex<Option<Instant>>,
    /// When the store last told of a change.
    told: Mutex<Option<Instant>>,
    /// Records have gone with a lease: the own one is to be looked at.
    doubts: Notify,
    began: Instant,
    /// What last went wrong, for errors that people read.
    trouble: Mutex<String>,
}

/// The store. Dropping it ends the session; the lease runs out.
#[derive(Debug)]
pub struct EtcdStore {
    shared: Arc<Shared>,
    session: AbortHandle,
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl EtcdStore {
    pub fn connect(config: &RegistryConfig) -> Result<Self, SettingsError> {
        config.check()?;
        config.files()?;
        let shared = Arc::new(Shared {
            prefix: config.prefix.clone(),
            lease: Duration::from_secs(config.lease_seconds),
            view: Mutex::default(),
            changes: watch::Sender::new(0),
            synced: watch::Sender::new(false),
            client: watch::Sender::new(None),
            wishes: watch::Sender::default(),
            heard: Mutex::default(),
            told: Mutex::default(),
            doubts: Notify::new(),
            began: Instant::now(),
            trouble: Mutex::new("no connection was made yet".to_owned()),
        });
        let session = tokio::spawn(session::run(config.clone(), shared.clone())).abort_handle();
        Ok(Self { shared, session })
    }

    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    pub fn read<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.shared.view())
    }

    pub fn is_reachable(&self) -> bool {
        let heard = *self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() < self.shared.lease)
    }

    /// How long ago a heartbeat was last answered, and the store last told of a change; since the start when it never did.
    pub fn ages(&self) -> (Duration, Duration) {
        let age = |moment: &Mutex<Option<Instant>>| {
            let moment = *moment.lock().unwrap_or_else(PoisonError::into_inner);
            moment.unwrap_or(self.shared.began).elapsed()
        };
        (age(&self.shared.heard), age(&self.shared.told))
    }

    pub async fn synced(&self, patience: Duration) -> bool {
        let mut synced = self.shared.synced.subscribe();
        let first = synced.wait_for(|synced| *synced);
        tokio::time::timeout(patience, first).await.is_ok_and(|synced| synced.is_ok())
    }

    /// Replaces what was written at `revision` (0: nothing; `None`: whatever is there) by `text` (`None`: deletes it).
    pub async fn write(
        &self,
        key: &str,
        revision: Option<i64>,
        text: Option<&str>,
    ) -> Result<Outcome, String> {
        write::bounded(&self.shared, &write::Order { key, revision, text, lease: 0 }).await
    }

    /// Whether the view knows within `patience` what the cluster knew of these when it was asked.
    pub async fn refresh(&self, what: &Which<'_>, patience: Duration) -> bool {
        refresh::refresh(&self.shared, what, patience).await
    }

    /// From now on this handle keeps the key.
    pub fn wish(&self, key: &str, wanted: Wanted) {
        self.shared.wishes.send_modify(|wishes| drop(wishes.insert(key.to_owned(), wanted)));
    }

    /// Changes the wish of this handle; that of a later one of the same key stays.
    pub fn change(&self, key: &str, changed: Wanted) {
        self.shared.wishes.send_if_modified(|wishes| {
            let mine = wishes.get_mut(key).filter(|wanted| wanted.token == changed.token);
            mine.is_some_and(|wanted| std::mem::replace(wanted, changed.clone()) != changed)
        });
    }

    /// The wishes, to wait for one to come true.
    pub fn wishes(&self) -> watch::Receiver<Wishes> {
        self.shared.wishes.subscribe()
    }

    /// How long a record outlives its process.
    pub fn lease(&self) -> Duration {
        self.shared.lease
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds facts into the view, and tells whoever waits for changes.
    fn fold(&self, fold: impl FnOnce(&mut View) -> bool) {
        let news = fold(&mut self.view());
        if news {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn told(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn set_trouble(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
