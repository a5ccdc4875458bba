//! Which origin a stream's media goes to. Knows addresses only; connections are the books'.

use std::net::SocketAddr;

use millrace_registry::{OriginRecord, Registry, StreamRecord};
use millrace_sched::choose_origin;
use millrace_types::StreamId;
use millrace_wire::Hello;

/// Where origins are found.
#[derive(Clone, Debug)]
pub struct Origins {
    /// Set by the operator: the only origin.
    pub only: Option<SocketAddr>,
    /// Knows the others.
    pub registry: Registry,
}

impl Origins {
    /// The intake for a stream: the operator's word, then the router's, then the stream's record, then the choice that
    /// everybody makes alike. `None` when no origin is known.
    pub fn intake_of(&self, hello: &Hello) -> Option<SocketAddr> {
        match self.only.or(hello.origin_intake) {
            Some(intake) => Some(intake),
            None => self.recorded(&hello.stream),
        }
    }

    /// Where media may have to go, as far as is known now.
    pub fn intakes(&self) -> Vec<SocketAddr> {
        let known = || self.registry.list::<OriginRecord>().into_iter().map(|it| it.intake);
        self.only.map_or_else(|| known().collect(), |only| vec![only])
    }

    fn recorded(&self, stream: &StreamId) -> Option<SocketAddr> {
        let origins = self.registry.list::<OriginRecord>();
        let record = self.registry.get::<StreamRecord>(stream.as_str()).ok().flatten();
        let names = || origins.iter().map(|origin| &origin.origin);
        let recorded = record.and_then(|record| record.origin);
        let recorded = recorded.filter(|recorded| names().any(|name| name == recorded));
        let chosen = recorded.or_else(|| choose_origin(stream, names()).cloned())?;
        origins.iter().find(|origin| origin.origin == chosen).map(|origin| origin.intake)
    }
}
