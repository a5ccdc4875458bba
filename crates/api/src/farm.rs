//! Asks the programs that the registry names, all at once, and says who did not answer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use millrace_registry::{NodeRecord, OriginRecord, Registry, RouterRecord};
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_tls::{FarmTls, Role};
use millrace_types::Wall;
use serde::Serialize;
use serde_json::Value;

use crate::{FetchError, HttpClient};

/// What every program answers at once.
pub(crate) const REMEMBERS: &str = "/v1/decisions?limit=1";

/// The programs of the farm, as the registry knows them.
#[derive(Clone, Debug)]
pub(crate) struct Farm {
    pub(crate) registry: Registry,
    /// The API's own.
    pub(crate) decisions: DecisionLog,
    /// For how long old keys go on where a rotation does not say.
    pub(crate) overlap: Duration,
    routers: HttpClient,
    nodes: HttpClient,
    origins: HttpClient,
}

/// A program that gave no answer: what it knows is missing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) error: String,
    /// It answered that there is no such page or thing.
    #[serde(skip)]
    pub(crate) has_nothing: bool,
}

/// What several programs answered to the same question.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) found: Vec<Value>,
    pub(crate) missing: Vec<Missing>,
}

/// A program to ask: by which client, its name, where.
type Asked<'a> = (&'a HttpClient, String, SocketAddr);

impl Farm {
    pub(crate) fn new(
        registry: Registry,
        decisions: DecisionLog,
        overlap: Duration,
        tls: Option<Arc<FarmTls>>,
    ) -> Self {
        let of = |role| HttpClient::in_farm(tls.clone(), role);
        let (routers, nodes) = (of(Role::Router), of(Role::Node));
        Self { registry, decisions, overlap, routers, nodes, origins: of(Role::Origin) }
    }

    /// UTC.
    pub(crate) fn now(&self) -> Wall {
        SystemClock::new().wall()
    }

    /// Asks all routers. One that answers 404 has nothing to say and is not missing.
    pub(crate) async fn ask_routers(&self, path: &str) -> Answers {
        let mut answers = self.ask_each(self.routers(), path).await;
        answers.missing.retain(|missing| !missing.has_nothing);
        answers
    }

    /// Asks all routers, nodes and origins.
    pub(crate) async fn ask_everybody(&self, path: &str) -> Answers {
        let nodes = self.registry.list::<NodeRecord>().into_iter();
        let nodes = nodes.map(|node| (&self.nodes, node.node.to_string(), node.admin));
        let origins = self.registry.list::<OriginRecord>().into_iter();
        let origins = origins.map(|it| (&self.origins, it.origin.to_string(), it.admin));
        self.ask_each(self.routers().into_iter().chain(nodes).chain(origins).collect(), path).await
    }

    fn routers(&self) -> Vec<Asked<'_>> {
        let routers = self.registry.list::<RouterRecord>();
        let routers = routers.into_iter();
        routers.map(|router| (&self.routers, router.router.to_string(), router.admin)).collect()
    }

    async fn ask_each(&self, programs: Vec<Asked<'_>>, path: &str) -> Answers {
        let asked = programs.iter().map(|(http, _, admin)| ask(http, *admin, path));
        let given = join_all(asked).await;
        let mut answers = Answers::default();
        for ((_, name, _), answer) in programs.into_iter().zip(given) {
            match answer {
                Ok(value) => answers.found.push(value),
                Err(error) => {
                    let has_nothing =
                        matches!(&error, FetchError::Refused { status, .. } if *status == 404);
                    answers.missing.push(Missing { name, error: error.to_string(), has_nothing });
                }
            }
        }
        answers
    }

    /// Why each origin does not answer, of those that do not.
    pub(crate) async fn silent_origins(&self, origins: &[OriginRecord]) -> Vec<Option<String>> {
        let asked = origins.iter().map(|it| ask(&self.origins, it.admin, REMEMBERS));
        let answers = join_all(asked).await.into_iter();
        answers.map(|answer| answer.err().map(|error| error.to_string())).collect()
    }

    /// What a node works on, per its own admin pages.
    pub(crate) async fn node_streams(&self, node: &NodeRecord) -> Result<Vec<Value>, FetchError> {
        match ask(&self.nodes, node.admin, "/v1/streams").await? {
            Value::Array(streams) => Ok(streams),
            other => Ok(vec![other]),
        }
    }

    /// What all nodes work on, in the order of `nodes`.
    pub(crate) async fn all_node_streams(
        &self,
        nodes: &[NodeRecord],
    ) -> Vec<Result<Vec<Value>, FetchError>> {
        join_all(nodes.iter().map(|node| self.node_streams(node))).await
    }
}

async fn ask(http: &HttpClient, admin: SocketAddr, path: &str) -> Result<Value, FetchError> {
    http.get_json(&format!("{}://{}{path}", http.scheme(), reachable(admin))).await
}

/// The address to connect to from this host: a listener on all interfaces is reached through loopback.
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}
