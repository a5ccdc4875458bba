//! What of the farm is down or missing, as far as this API sees it: said beside whatever is asked about streams and nodes.

use millrace_registry::OriginRecord;
use serde::Serialize;
use serde_json::Value;

use crate::farm::Farm;

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// `registry` or `origin`.
    what: &'static str,
    /// For people.
    text: String,
}

/// An origin, and why it does not answer, if it does not.
type Seen = (String, Option<String>);

/// Looks at the registry and at every origin. `streams`: the routers' reports of what is live.
pub(crate) async fn faults(farm: &Farm, streams: &[Value]) -> Vec<Fault> {
    let origins = farm.registry.list::<OriginRecord>();
    let errors = farm.silent_origins(&origins).await;
    let names = origins.iter().map(|origin| origin.origin.to_string());
    judged(farm.registry.is_reachable(), &names.zip(errors).collect::<Vec<_>>(), streams)
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
