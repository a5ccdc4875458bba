//! Reads records from the cluster itself, past the view, and folds them in: for a process that has slept, whose view is what the
//! farm was like before, or that is asked for what may be too new for it. Says nothing of records that are gone; the watch tells
//! of those.

use std::time::Duration;

use etcd_client::{Client, Error, GetOptions};
use tokio::time::{sleep, timeout};

use super::{Shared, follow};

/// Records per answer.
const PAGE: i64 = 1000;
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What is read.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// Every record whose key begins with this path and `/`, which it ends with.
    Folder(&'a str),
    /// One, by its key.
    Record(&'a str),
}

/// Whether the view knows within `patience` what the cluster knew of these when it was asked.
pub async fn refresh(shared: &Shared, what: &Which<'_>, patience: Duration) -> bool {
    let mut clients = shared.client.subscribe();
    let reading = async {
        loop {
            let client = clients.wait_for(Option::is_some).await;
            let client = client.ok().and_then(|client| client.clone());
            let Some(client) = client else { return std::future::pending().await };
            if read(shared, &client, what).await.is_ok() {
                return;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(patience, reading).await.is_ok()
}

async fn read(shared: &Shared, client: &Client, what: &Which<'_>) -> Result<(), Error> {
    let (from, end) = match what {
        // The first key behind the folder: '0' follows '/'.
        Which::Folder(folder) => (folder.as_bytes(), format!("{}0", folder.trim_end_matches('/'))),
        Which::Record(key) => (key.as_bytes(), format!("{key}\0")),
    };
    let mut from = from.to_vec();
    let mut reader = client.kv_client();
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        let page = reader.get(from, Some(options)).await?;
        shared.fold(|view| {
            let record = |record: &etcd_client::KeyValue| {
                let key = String::from_utf8_lossy(record.key()).into_owned();
                view.put(&key, follow::entry(record))
            };
            page.kvs().iter().map(record).filter(|news| *news).count() > 0
        });
        match page.kvs().last().filter(|_| page.more()) {
            Some(last) => from = [last.key(), b"\0"].concat(),
            None => return Ok(()),
        }
    }
}
