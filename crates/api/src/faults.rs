//! What of the farm is down or missing, as far as this API sees it: said beside whatever is asked about streams and nodes.

use millrace_registry::{OriginRecord, Registry, RouterRecord, StreamRecord};
use millrace_types::NodeId;
use serde::Serialize;
use serde_json::Value;

use crate::farm::{Farm, Missing};

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// `registry`, `origin`, `router` or `stream`.
    what: &'static str,
    /// For people.
    text: String,
}

/// An origin, and why it does not answer, if it does not.
type Seen = (String, Option<String>);

/// Looks at the registry and at every origin. `streams`: the routers' reports of what is live; `silent`: the routers that gave
/// none.
pub(crate) async fn faults(farm: &Farm, streams: &[Value], silent: &[Missing]) -> Vec<Fault> {
    let origins = farm.registry.list::<OriginRecord>();
    let errors = farm.silent_origins(&origins).await;
    let names = origins.iter().map(|origin| origin.origin.to_string());
    let origins: Vec<_> = names.zip(errors).collect();
    let mut faults = judged(farm.registry.is_reachable(), &origins, streams);
    faults.extend(silent.iter().map(|Missing { name, error, .. }| Fault {
        what: "router",
        text: format!("router {name} does not answer, its streams are not shown: {error}"),
    }));
    faults.extend(deserted(&farm.registry));
    faults
}

/// Streams that are recorded as live by a router that is not registered any more.
fn deserted(registry: &Registry) -> Vec<Fault> {
    let routers = registry.list::<RouterRecord>();
    let is_there = |name: &NodeId| routers.iter().any(|router| router.router == *name);
    let live = registry.list::<StreamRecord>().into_iter().filter(|record| record.node.is_some());
    let fault = |StreamRecord { stream, router, .. }: StreamRecord| {
        let why = "dead, frozen, or cut off from the registry";
        let then = "it is over unless its publisher comes to another within 30 s";
        let text =
            format!("stream {stream} was live at router {router}, which is gone ({why}): {then}");
        Fault { what: "stream", text }
    };
    live.filter(|record| !is_there(&record.router)).map(fault).collect()
}

fn judged(registry_answers: bool, origins: &[Seen], streams: &[Value]) -> Vec<Fault> {
    let of_origin = |text| Fault { what: "origin", text };
    let mut faults = Vec::new();
    if !registry_answers {
        let text = "the registry (etcd) does not answer: who is there is as it was last known, and no order or key can be changed";
        faults.push(Fault { what: "registry", text: text.to_owned() });
    }
    if origins.is_empty() {
        faults.push(of_origin("no origin is registered: nobody can watch".to_owned()));
    }
    let silent = origins.iter().filter_map(|(name, error)| {
        Some(of_origin(format!("origin {name} does not answer: {}", error.as_ref()?)))
    });
    faults.extend(silent);
    let is_registered = |origin: &str| origins.iter().any(|(name, _)| name == origin);
    let elsewhere = streams.iter().filter_map(|stream| {
        let origin = stream["origin"].as_str().filter(|origin| !is_registered(origin))?;
        let stream = stream["stream"].as_str().unwrap_or_default();
        Some(of_origin(format!("stream {stream} is at {origin}, which is not registered")))
    });
    faults.extend(elsewhere);
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(registry_answers: bool, origins: &[Seen], streams: &[Value]) -> Vec<String> {
        let faults = judged(registry_answers, origins, streams);
        faults.into_iter().map(|fault| format!("{}: {}", fault.what, fault.text)).collect()
    }

    #[test]
    fn a_registry_or_an_origin_that_is_down_is_said_and_a_whole_farm_says_nothing() {
        let one = ("origin-1".to_owned(), None);
        let down = ("origin-2".to_owned(), Some("refused".to_owned()));
        let at = |origin: &str| json!({ "stream": "live", "origin": origin });
        let waiting = json!({ "stream": "new", "origin": null });
        assert!(texts(true, std::slice::from_ref(&one), &[at("origin-1"), waiting]).is_empty());
        let said = texts(false, &[one, down], &[at("origin-3")]);
        assert!(said[0].starts_with("registry: the registry (etcd) does not answer"), "{said:?}");
        assert_eq!(said[1], "origin: origin origin-2 does not answer: refused");
        assert_eq!(said[2], "origin: stream live is at origin-3, which is not registered");
        assert_eq!(texts(true, &[], &[]), ["origin: no origin is registered: nobody can watch"]);
    }
}
