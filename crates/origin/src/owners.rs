//! Which origin owns a stream: the one that its record names, unless media came here under a newer epoch than the record's.
//!
//! An origin that finds another named for a stream it has forgets the stream's media: players who wait for it are sent on.

use std::{sync::Arc, time::Duration};

use millrace_registry::{OriginRecord, Registry, StreamRecord};
use millrace_types::{NodeId, StreamId};
use tokio::sync::watch;

use crate::{
    stream::Stream,
    streams::{ById, Streams},
};

/// From one look at all streams to the next, at least, however often records change.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who has a stream.
#[derive(Clone)]
pub(crate) enum Owner {
    /// This origin.
    Here(Arc<Stream>),
    /// That one.
    There(OriginRecord),
    /// This origin by its record, but its node has not come yet; or one that has left, so that another is about to.
    Coming,
    /// Nobody that is known.
    Unknown,
}

impl Owner {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here(_), Self::Here(_))
            | (Self::Coming, Self::Coming)
            | (Self::Unknown, Self::Unknown) => true,
            // What else its record says changes all the time.
            (Self::There(one), Self::There(other)) => {
                (&one.origin, one.intake) == (&other.origin, other.intake)
            }
            _ => false,
        }
    }
}

/// What is known of owners; clones share it.
#[derive(Clone)]
pub(crate) struct Owners {
    here: NodeId,
    registry: Registry,
    streams: Arc<Streams>,
    changes: watch::Receiver<u64>,
}

impl Owners {
    pub(crate) fn new(here: NodeId, registry: Registry, streams: Arc<Streams>) -> Self {
        let changes = registry.changes();
        Self { here, registry, streams, changes }
    }

    /// Who has the stream now.
    pub(crate) fn of(&self, id: &StreamId) -> Owner {
        let here = self.streams.get(id).filter(|stream| stream.is_known());
        // Before the record is read: a change in between is looked at with the next request.
        let seen = *self.changes.borrow();
        if let Some(stream) = here.as_ref().filter(|stream| stream.is_owned_as_of(seen)) {
            return Owner::Here(stream.clone());
        }
        let record = self.record(id);
        if let Some(stream) = here
            && !record.as_ref().is_some_and(|record| self.has_left(&stream, record))
        {
            stream.owned_as_of(seen);
            return Owner::Here(stream);
        }
        match record {
            Some(StreamRecord { origin: Some(origin), node, .. }) if origin == self.here => {
                if node.is_some() { Owner::Coming } else { Owner::Unknown }
            }
            Some(StreamRecord { origin: Some(origin), node, .. }) => {
                let known = self.registry.get::<OriginRecord>(origin.as_str());
                let successor = if node.is_some() { Owner::Coming } else { Owner::Unknown };
                known.ok().flatten().map_or(successor, Owner::There)
            }
            _ => Owner::Unknown,
        }
    }

    /// Whether a stream that was found here has stayed, for certain.
    pub(crate) fn has(&self, stream: &Stream) -> bool {
        stream.is_owned_as_of(*self.changes.borrow())
    }

    /// Waits until another than `owner` has the stream.
    pub(crate) async fn changed(&self, id: &StreamId, owner: &Owner) {
        let (mut records, mut streams) = (self.changes.clone(), self.streams.changes());
        loop {
            records.mark_unchanged();
            streams.mark_unchanged();
            if !self.of(id).is_like(owner) {
                return;
            }
            if !either(&mut records, &mut streams).await {
                return std::future::pending().await;
            }
        }
    }

    /// Live streams that other origins have, by name.
    pub(crate) fn elsewhere(&self) -> Vec<StreamId> {
        let records = self.registry.list::<StreamRecord>().into_iter();
        let live = records.filter(|record| record.node.is_some());
        let elsewhere = live.filter(|record| matches!(self.of(&record.stream), Owner::There(_)));
        elsewhere.map(|record| record.stream).collect()
    }

    /// Forgets the media of streams that others own by now, whenever records change.
    pub(crate) async fn give_up_moved(self) {
        let mut changes = self.changes.clone();
        while changes.changed().await.is_ok() {
            self.give_up();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The same, once.
    pub(crate) fn give_up(&self) {
        for stream in self.streams.watchable() {
            let Some(record) = self.record(&stream.id) else { continue };
            if self.has_left(&stream, &record) {
                let owner = record.origin.as_ref().map(NodeId::as_str);
                tracing::info!(stream = %stream.id, owner, "stream given up: another origin owns it");
                stream.release();
            }
        }
    }

    fn has_left(&self, stream: &Stream, record: &StreamRecord) -> bool {
        record.has_left(&self.here, stream.fenced_at())
    }

    fn record(&self, id: &StreamId) -> Option<StreamRecord> {
        // What cannot be read moves nothing, nor does a store that was emptied: it is filled again by who makes the stream.
        self.registry.get_or_lost(id.as_str()).ok().flatten()
    }
}

async fn either(records: &mut watch::Receiver<u64>, streams: &mut watch::Receiver<ById>) -> bool {
    tokio::select! {
        changed = records.changed() => changed.is_ok(),
        changed = streams.changed() => changed.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use millrace_hls::StreamOpen;
    use millrace_types::{Epoch, Mono, Versions, Wall};

    use super::*;

    fn open(placement: u64) -> StreamOpen {
        StreamOpen {
            epoch: Epoch { generation: 1, placement },
            beside: None,
            rungs: vec!["source".parse().unwrap()],
            part_target_ms: 334,
            hold_back_ms: 1_500,
            speaks: Versions::OURS,
            restores: Vec::new(),
            followed: false,
        }
    }

    /// The waiter runs on another thread, at any moment of the reopening.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_for_a_stream_that_comes_back_is_told_however_it_falls() {
        let registry = Registry::in_memory();
        let (id, here): (StreamId, NodeId) = ("live".parse().unwrap(), "origin-1".parse().unwrap());
        let record = StreamRecord {
            stream: id.clone(),
            router: "router-1".parse().unwrap(),
            epoch: Epoch { generation: 1, placement: 1 },
            node: Some("node-1".parse().unwrap()),
            origin: Some(here.clone()),
            ladder: Default::default(),
            since: Wall(0),
            takeovers: Default::default(),
            source_pixels_per_second: 0,
            hot: false,
        };
        registry.put(&record).await.unwrap();
        let streams = Arc::new(Streams::default());
        let owners = Owners::new(here, registry, streams.clone());
        for placement in 1..2_000 {
            streams.open(Mono::default(), &id, open(placement)).unwrap();
            streams.get(&id).unwrap().release();
            let owner = owners.of(&id);
            assert!(matches!(owner, Owner::Coming));
            let (waiting, waited) = (owners.clone(), id.clone());
            let waiter = tokio::spawn(async move { waiting.changed(&waited, &owner).await });
            tokio::task::yield_now().await;
            streams.open(Mono::default(), &id, open(placement + 1)).unwrap();
            let told = tokio::time::timeout(Duration::from_secs(5), waiter).await;
            told.expect("it is never told").unwrap();
        }
    }
}
