//! How many connections players may have at all listeners together: as the settings say, and never so many that the process has
//! no open files left for its other work.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use millrace_telemetry::{Clock, LineLimit, SystemClock, files_for_players};
use tracing::warn;

use crate::metrics::OriginMetrics;

/// Counts players' connections against the limit.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    most: AtomicUsize,
    metrics: OriginMetrics,
    clock: SystemClock,
    lines: Mutex<LineLimit>,
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    /// For so many by the settings.
    pub(crate) fn new(max_connections: usize, metrics: OriginMetrics) -> Self {
        let (taken, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let places =
            Self { taken, most, metrics, clock: SystemClock::new(), lines: Mutex::default() };
        places.set(max_connections);
        places
    }

    /// The limit from now on; connections that are open stay.
    pub(crate) fn set(&self, max_connections: usize) {
        self.most.store(max_connections.min(files_for_players()), Relaxed);
    }

    /// A place, unless all are taken: then `peer` is counted as turned away, and a line says so, not for each.
    pub(crate) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let most = self.most.load(Relaxed);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        if self.taken.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            self.turned_away(peer, most);
            return None;
        }
        self.metrics.connections.inc();
        Some(Place(self.clone()))
    }

    fn turned_away(&self, peer: SocketAddr, most: usize) {
        self.metrics.turned_away.inc();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = lines.admit(self.clock.mono()) else { return };
        drop(lines);
        let left_out = (left_out > 0).then_some(left_out);
        warn!(%peer, most, left_out, "player turned away: all connections are taken");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
        self.0.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use millrace_telemetry::Metrics;

    use super::*;

    #[test]
    fn places_are_limited_by_the_settings_and_by_open_files_and_come_back() {
        let metrics = OriginMetrics::new(&Metrics::new());
        let places = Arc::new(Places::new(2, metrics.clone()));
        let peer = "127.0.0.1:1".parse().unwrap();
        let two = [places.enter(peer).unwrap(), places.enter(peer).unwrap()];
        assert!(places.enter(peer).is_none());
        assert_eq!((metrics.connections.get(), metrics.turned_away.get()), (2, 1));
        drop(two);
        assert!(places.enter(peer).is_some());
        places.set(usize::MAX);
        assert_eq!(places.most.load(Relaxed), files_for_players());
    }
}
