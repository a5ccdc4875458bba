//! Follows the records of the prefix into the view: goes on after the last write that was told of, or reads all.
//!
//! A watch begins with the view's own [`Mark`], which the store has to tell of again as it was; only then does it count.
//! A store that was compacted past it, went back behind what is known or has another write there is read whole, and so is one
//! that has not told of all that this process wrote.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{
    Client, Error, Event, EventType, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream,
};
use tokio::time::timeout;

use super::Shared;
use crate::view::{Entry, Mark};

/// Records per answer of a whole reading.
const PAGE: i64 = 1000;
/// Larger than any answer: a page, or a thousand events.
const MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// One answer, however large.
const ANSWER: Duration = Duration::from_secs(10);

/// Follows until something fails; never ends well.
pub async fn follow(shared: &Shared, client: &Client) -> Result<(), Error> {
    let mark = shared.view().mark().cloned();
    let mut watch = match mark {
        Some(mark) => match resume(shared, client, &mark).await? {
            Some(watch) => watch,
            None => read_all(shared, client).await?,
        },
        None => read_all(shared, client).await?,
    };
    shared.synced.send_replace(true);
    loop {
        let answer = watch.message().await?.ok_or_else(ended)?;
        if answer.canceled() {
            // Compacted or without a leader: the next session sees what is left.
            return Err(Error::WatchError(format!("watch ended: {}", answer.cancel_reason())));
        }
        tell(shared, answer.events());
    }
}

/// Watches from the mark on; `None` when the store has another history, or forgot this one.
async fn resume(
    shared: &Shared,
    client: &Client,
    mark: &Mark,
) -> Result<Option<WatchStream>, Error> {
    let known = shared.view().newest();
    let (mut watch, revision) = watch_from(shared, client, mark.revision).await?;
    if revision < known {
        return Ok(None);
    }
    let first = answer(&mut watch).await?;
    let same = first.events().iter().filter_map(told).any(|event| event == *mark);
    if first.canceled() || !same {
        tracing::info!(revision, mark = mark.revision, "registry is read whole");
        return Ok(None);
    }
    tell(shared, first.events());
    Ok(Some(watch))
}

/// Reads everything and watches from there on.
async fn read_all(shared: &Shared, client: &Client) -> Result<WatchStream, Error> {
    let asked_at = shared.view().newest();
    let folder = format!("{}/", shared.prefix);
    let mut entries = BTreeMap::new();
    let mut revision = 0;
    let mut from = folder.clone().into_bytes();
    // The first key behind the folder: '0' follows '/'.
    let end = format!("{}0", shared.prefix);
    let mut client_kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES);
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        let page = client_kv.get(from.clone(), Some(options.with_revision(revision)));
        let page = timeout(ANSWER, page).await.map_err(|_| late())??;
        if revision == 0 {
            revision = page.header().map_or(0, |header| header.revision());
        }
        let records = page.kvs().iter().map(|record| (key(record), entry(record)));
        entries.extend(records);
        match page.kvs().last().filter(|_| page.more()) {
            Some(last) => from = [last.key(), b"\0"].concat(),
            None => break,
        }
    }
    let records = entries.len();
    shared.told();
    shared.fold(|view| view.load(asked_at, revision, entries));
    tracing::info!(records, revision, "registry read");
    Ok(watch_from(shared, client, revision + 1).await?.0)
}

/// A watch of the prefix, and the revision at which the store was when it began.
async fn watch_from(
    shared: &Shared,
    client: &Client,
    revision: i64,
) -> Result<(WatchStream, i64), Error> {
    let options = WatchOptions::new().with_prefix().with_start_revision(revision);
    let mut watches = client.watch_client().max_decoding_message_size(MESSAGE_BYTES);
    let watch = watches.watch(format!("{}/", shared.prefix), Some(options));
    let mut watch = timeout(ANSWER, watch).await.map_err(|_| late())??;
    let created = answer(&mut watch).await?;
    Ok((watch, created.header().map_or(0, |header| header.revision())))
}

async fn answer(watch: &mut WatchStream) -> Result<WatchResponse, Error> {
    timeout(ANSWER, watch.message()).await.map_err(|_| late())??.ok_or_else(ended)
}

fn tell(shared: &Shared, events: &[Event]) {
    shared.told();
    shared.fold(|view| {
        let news = events.iter().filter_map(told).filter(|event| view.tell(event.clone()));
        news.count() > 0
    });
    if shared.view().newest_doubt().is_some() {
        shared.doubts.notify_one();
    }
}

fn told(event: &Event) -> Option<Mark> {
    let record = event.kv()?;
    let entry = (event.event_type() == EventType::Put).then(|| entry(record));
    Some(Mark { key: key(record), revision: record.mod_revision(), entry })
}

fn key(record: &KeyValue) -> String {
    String::from_utf8_lossy(record.key()).into_owned()
}

/// A record as etcd stores it.
pub fn entry(record: &KeyValue) -> Entry {
    Entry {
        text: String::from_utf8_lossy(record.value()).into_owned(),
        revision: record.mod_revision(),
        lease: record.lease(),
    }
}

fn late() -> Error {
    Error::WatchError("no answer in time".to_owned())
}

fn ended() -> Error {
    Error::WatchError("the watch ended".to_owned())
}
