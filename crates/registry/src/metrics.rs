//! What a program shows of its connection to the registry. Worked out when somebody asks, so that an age is never old.

use millrace_telemetry::{
    Metrics,
    prometheus::{
        Gauge, IntCounter, IntGauge,
        core::{Collector, Desc},
        proto::MetricFamily,
    },
};

use crate::{Registry, store::Store};

const VALID: &str = "invariant: a constant metric definition is valid";

/// The registry as this program sees it.
#[derive(Clone, Debug)]
struct RegistryMetrics {
    store: Store,
    connected: IntGauge,
    revision: IntGauge,
    silence: Gauge,
    event_age: Gauge,
}

impl Registry {
    /// Shows this registry among a program's metrics.
    pub fn show(&self, metrics: &Metrics) {
        let whole = |name: &str, help: &str| IntGauge::new(name, help).expect(VALID);
        let seconds = |name: &str, help: &str| Gauge::new(name, help).expect(VALID);
        metrics.add(self.failed_writes.clone());
        metrics.add(RegistryMetrics {
            store: self.store.clone(),
            connected: whole(
                "millrace_registry_connected",
                "1 while the registry has answered within the last lease's time, else 0.",
            ),
            revision: whole(
                "millrace_registry_revision",
                "Newest revision of the registry that this program knows of.",
            ),
            silence: seconds(
                "millrace_registry_silence_seconds",
                "Since the registry last answered a heartbeat.",
            ),
            event_age: seconds(
                "millrace_registry_last_event_age_seconds",
                "Since the registry last told of a change, or was read whole.",
            ),
        });
    }
}

impl Collector for RegistryMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let whole = [&self.connected, &self.revision].into_iter().flat_map(Collector::desc);
        whole
            .chain([&self.silence, &self.event_age].into_iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.connected.set(i64::from(self.store.is_reachable()));
        self.revision.set(self.store.read(|view| view.newest()));
        let (silence, event_age) = self.store.ages();
        self.silence.set(silence.as_secs_f64());
        self.event_age.set(event_age.as_secs_f64());
        let whole = [&self.connected, &self.revision].into_iter().flat_map(Collector::collect);
        let ages = [&self.silence, &self.event_age].into_iter().flat_map(Collector::collect);
        whole.chain(ages).collect()
    }
}

/// Counts the writes that were not answered, whether anybody looks or not.
pub fn failed_writes() -> IntCounter {
    IntCounter::new(
        "millrace_registry_failed_writes_total",
        "Writes that the registry did not answer in time.",
    )
    .expect(VALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_registry_that_nobody_answers_for_is_shown_as_not_connected() {
        let config = toml::from_str("endpoints = ['http://127.0.0.1:9']").unwrap();
        for (registry, connected) in
            [(Registry::in_memory(), 1), (Registry::connect(&config).unwrap(), 0)]
        {
            let metrics = Metrics::new();
            registry.show(&metrics);
            let text = metrics.text();
            assert!(text.contains(&format!("millrace_registry_connected {connected}\n")), "{text}");
            for name in ["revision", "silence_seconds", "last_event_age_seconds"] {
                assert!(text.contains(&format!("\nmillrace_registry_{name} ")), "{text}");
            }
            assert!(text.contains("\nmillrace_registry_failed_writes_total 0\n"), "{text}");
        }
    }
}
