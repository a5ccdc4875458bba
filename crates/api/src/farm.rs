//! Asks every router and node that the registry names, all at once, and says who did not answer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures_util::future::join_all;
use millrace_registry::{NodeRecord, Registry, RouterRecord};
use millrace_tls::{FarmTls, Role};
use serde::Serialize;
use serde_json::Value;

use crate::{FetchError, HttpClient};

/// The programs of the farm, as the registry knows them.
#[derive(Clone, Debug)]
pub(crate) struct Farm {
    pub(crate) registry: Registry,
    routers: HttpClient,
    nodes: HttpClient,
}

/// A program that gave no answer: what it knows is missing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) error: String,
}

/// What several programs answered to the same question.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) found: Vec<Value>,
    pub(crate) missing: Vec<Missing>,
}

impl Farm {
    pub(crate) fn new(registry: Registry, tls: Option<Arc<FarmTls>>) -> Self {
        let of = |role| HttpClient::in_farm(tls.clone(), role);
        Self { registry, routers: of(Role::Router), nodes: of(Role::Node) }
    }

    /// Asks all routers. One that answers 404 has nothing to say and is not missing.
    pub(crate) async fn ask_routers(&self, path: &str) -> Answers {
        let routers = self.registry.list::<RouterRecord>();
        let asked = routers.iter().map(|router| ask(&self.routers, router.admin, path));
        let mut answers = Answers::default();
        for (router, answer) in routers.iter().zip(join_all(asked).await) {
            match answer {
                Ok(value) => answers.found.push(value),
                Err(FetchError::Refused { status, .. }) if status.as_u16() == 404 => {}
                Err(error) => answers
                    .missing
                    .push(Missing { name: router.router.to_string(), error: error.to_string() }),
            }
        }
        answers
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
