//! The admin ports of a farm's programs: asked from this machine as they are, and on hosts of their own as the API asks them, by
//! its certificate.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use millrace_telemetry::Metrics;
use millrace_tls::{Expected, FarmConnector, FarmTls, FarmTlsConfig, Role};

use super::ASK_PATIENCE;
use crate::FarmCerts;

/// Who may ask for everything.
const API: &str = "api/api-1";

/// Clients, by the kind of program that they ask.
#[derive(Debug)]
pub(super) struct Admin {
    clients: BTreeMap<&'static str, (&'static str, Client<FarmConnector, Full<Bytes>>)>,
}

impl Admin {
    /// `certs`: of the farm, where admin ports ask for a certificate.
    pub(super) fn new(certs: Option<&FarmCerts>) -> anyhow::Result<Self> {
        let tls = certs.map(api_tls).transpose()?;
        let kinds = [Role::Router, Role::Node, Role::Origin, Role::Api];
        let client = |role: Role| {
            let expected = Expected::any(role);
            let connector = FarmConnector { tls: tls.clone(), expected, patience: ASK_PATIENCE };
            let scheme = connector.scheme();
            (role.as_str(), (scheme, Client::builder(TokioExecutor::new()).build(connector)))
        };
        Ok(Self { clients: kinds.map(client).into() })
    }

    /// The page at `path` of a program of that kind.
    pub(super) async fn page(
        &self,
        kind: &str,
        address: std::net::SocketAddr,
        path: &str,
    ) -> anyhow::Result<String> {
        let (scheme, client) = self.clients.get(kind).with_context(|| kind.to_owned())?;
        let url = format!("{scheme}://{address}{path}");
        let answer = async {
            let answer = client.get(url.parse()?).await?;
            let status = answer.status();
            let text = answer.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&text).into_owned()))
        };
        let (status, text) =
            tokio::time::timeout(ASK_PATIENCE, answer).await.with_context(|| url.clone())??;
        ensure!(status.is_success(), "{url}: {status} {text}");
        Ok(text)
    }
}

fn api_tls(certs: &FarmCerts) -> anyhow::Result<Arc<FarmTls>> {
    let [certificate, key] = certs.pair(API);
    let files = FarmTlsConfig { ca: certs.ca(), certificate, key };
    Ok(FarmTls::load(&files, Expected::any(Role::Api), &Metrics::default())?)
}
