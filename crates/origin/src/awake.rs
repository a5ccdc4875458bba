//! Whether this process was stopped for so long that another origin may have its streams by now.
//!
//! A process that was frozen, or whose host was, has what the farm was like before. It hands out nothing of its own until it
//! has asked the registry who owns what. Nothing is asked of a registry that did not answer before either: then its view is
//! the best there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millrace_registry::{Registry, StreamRecord};
use millrace_telemetry::{Clock, SystemClock};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::owners::Owners;

/// From one sign of life to the next.
const TICK: Duration = Duration::from_millis(100);
/// Without one for so long it may have lost its streams: nodes wait a second for an origin.
const LATE: Duration = Duration::from_millis(900);
/// How long the registry may take to say who owns what.
const PATIENCE: Duration = Duration::from_secs(2);

/// Signs of life of this process itself.
pub(crate) struct Awake {
    clock: SystemClock,
    ticked_ms: AtomicU64,
    is_sure: watch::Sender<bool>,
}

impl Awake {
    pub(crate) fn new(clock: SystemClock) -> Self {
        let awake = Self { clock, ticked_ms: AtomicU64::new(0), is_sure: watch::Sender::new(true) };
        awake.tick();
        awake
    }

    /// Whether what is known of owners is from before a sleep.
    pub(crate) fn is_unsure(&self) -> bool {
        if self.is_late() {
            self.is_sure.send_replace(false);
        }
        !*self.is_sure.borrow()
    }

    /// Waits until it is known who owns what.
    pub(crate) async fn sure(&self) {
        if self.is_unsure() {
            let _ = timeout(PATIENCE, self.is_sure.subscribe().wait_for(|sure| *sure)).await;
        }
    }

    /// Gives signs of life; after a sleep, asks the registry.
    pub(crate) async fn run(self: Arc<Self>, registry: Registry, owners: Owners) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answered = true;
        loop {
            ticks.tick().await;
            if self.is_unsure() {
                let asked = answered && registry.refresh::<StreamRecord>(PATIENCE).await;
                tracing::warn!(asked, "slept: looked anew who owns which stream");
                owners.give_up();
            }
            self.tick();
            self.is_sure.send_replace(true);
            answered = registry.is_reachable();
        }
    }

    fn tick(&self) {
        self.ticked_ms.store(self.now_ms(), Relaxed);
    }

    fn is_late(&self) -> bool {
        self.now_ms().saturating_sub(self.ticked_ms.load(Relaxed)) > LATE.as_millis() as u64
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.mono().0.as_millis()).unwrap_or(u64::MAX)
    }
}
