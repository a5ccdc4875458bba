//! Looks at the viewers of all streams of the farm, as its origins tell the registry, and at what the farm has: for which of
//! this router's streams that makes a second encoder. Which is `millrace_sched::HotStreams`' decision; sessions follow it.

use std::{collections::BTreeMap, time::Duration};

use millrace_registry::{ChannelRecord, NodeRecord, OriginRecord, Registry, StreamRecord};
use millrace_sched::{Capacity, Heat, HotConfig, HotStreams, Watched, cost};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{NodeId, StreamId};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{metrics::RouterMetrics, placement::capacity};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the viewers of this router's streams are worth; a stream that is not there was not looked at yet.
pub type Heats = BTreeMap<StreamId, Heat>;

/// What is looked at, and by which rule.
pub struct Looking {
    pub registry: Registry,
    pub router: NodeId,
    pub config: HotConfig,
    pub metrics: RouterMetrics,
    pub clock: SystemClock,
}

impl Looking {
    /// Runs until the router stops.
    pub async fn run(self, heats: watch::Sender<Heats>, stop: CancellationToken) {
        let mut hot = HotStreams::new(self.config.clone());
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let nodes = self.registry.list::<NodeRecord>();
            let total = nodes.iter().map(capacity).fold(Capacity::ZERO, |all, it| all.plus(&it));
            let found = hot.look(self.clock.mono(), &total, &self.watched());
            self.count(&found);
            heats.send_replace(found);
        }
    }

    /// Every live stream that is not pinned.
    fn watched(&self) -> Vec<Watched> {
        let mut viewers = BTreeMap::<StreamId, u64>::new();
        for (stream, count) in
            self.registry.list::<OriginRecord>().into_iter().flat_map(|it| it.viewers)
        {
            // An origin that a stream has just left may still name it.
            let most = viewers.entry(stream).or_default();
            *most = count.max(*most);
        }
        let live = self.registry.list::<StreamRecord>().into_iter().filter(|it| it.node.is_some());
        let free = live.filter(|it| !self.is_pinned(&it.stream));
        free.map(|it| Watched {
            viewers: viewers.get(&it.stream).copied().unwrap_or_default(),
            // A record does not say what was announced: by the picture.
            demand: cost(it.source_pixels_per_second, Default::default(), &it.ladder),
            is_here: it.router == self.router,
            is_granted: it.hot,
            stream: it.stream,
        })
        .collect()
    }

    fn is_pinned(&self, stream: &StreamId) -> bool {
        let channel = self.registry.get::<ChannelRecord>(stream.as_str());
        matches!(channel, Ok(Some(channel)) if channel.dual)
    }

    fn count(&self, found: &Heats) {
        let count = |result, is_one: fn(&Heat) -> bool| {
            let streams = found.values().filter(|heat| is_one(heat)).count();
            let streams = i64::try_from(streams).unwrap_or(i64::MAX);
            self.metrics.hot_streams.with_label_values(&[result]).set(streams);
        };
        count("granted", |heat| matches!(heat, Heat::Granted { .. }));
        count("waiting", |heat| matches!(heat, Heat::Waits { .. }));
    }
}
