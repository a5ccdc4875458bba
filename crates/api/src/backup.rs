//! What only the registry knows, as one document: `/v1/backup` gives it, `/v1/restore` puts it back and says what that changes.
//!
//! Records of living programs are not in it: they come back by themselves. Restoring adds and replaces, and never takes away: what
//! is there and not in the document stays.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
};
use bytes::Bytes;
use millrace_registry::{ChannelRecord, OrderRecord, Record, Registry, RegistryError};
use millrace_types::DecisionKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{channels, farm::Farm, problem::Problem};

/// The layout of the document; a newer one is refused.
const VERSION: u64 = 1;
/// Largest document that is read, bytes: some hundred thousand channels.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backup {
    /// [`VERSION`]; its name says what the file is.
    millrace_backup: u64,
    /// When it was made, RFC 3339.
    made_at: String,
    /// With the hashes of their keys.
    channels: Vec<ChannelRecord>,
    /// To nodes: drained or cordoned. Older documents have none.
    #[serde(default)]
    orders: Vec<OrderRecord>,
}

/// `?dry_run=true`: only say what would change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restoring {
    #[serde(default)]
    dry_run: bool,
}

/// What restoring does to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Added,
    Replaced,
    Unchanged,
}

/// Everything that a wiped registry would lack.
pub(crate) async fn give(State(farm): State<Farm>) -> Json<Value> {
    Json(json!(Backup {
        millrace_backup: VERSION,
        made_at: farm.now().to_string(),
        channels: farm.registry.list(),
        orders: farm.registry.list(),
    }))
}

/// Puts a document's records back.
pub(crate) async fn restore(
    State(farm): State<Farm>,
    query: Result<Query<Restoring>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let dry_run = query?.dry_run;
    let backup = read(&body?)?;
    let mut changes = Vec::new();
    for record in &backup.channels {
        let change = put_back(&farm.registry, record, dry_run).await?;
        if !dry_run && change != Change::Unchanged {
            let text = format!("as of {}", backup.made_at);
            channels::note(&farm, DecisionKind::Restored, &record.channel, &text);
        }
        changes.push(json!({ "record": name(record), "change": change }));
    }
    for record in &backup.orders {
        let change = put_back(&farm.registry, record, dry_run).await?;
        changes.push(json!({ "record": name(record), "change": change }));
    }
    let mut kept = others(&farm.registry, &backup.channels);
    kept.extend(others(&farm.registry, &backup.orders));
    tracing::info!(records = changes.len(), dry_run, "backup restored");
    Ok(Json(json!({
        "dry_run": dry_run,
        "made_at": backup.made_at,
        "changes": changes,
        "not_in_backup": kept,
    })))
}

fn name<T: Record>(record: &T) -> String {
    format!("{}/{}", T::PREFIX, record.key())
}

/// The records that are there and not among `these`.
fn others<T: Record>(registry: &Registry, these: &[T]) -> Vec<String> {
    let all = registry.list::<T>();
    let others = all.iter().filter(|record| !these.iter().any(|it| it.key() == record.key()));
    others.map(name).collect()
}

/// Puts one record back unless it is there as it is.
async fn put_back<T: Record + PartialEq>(
    registry: &Registry,
    record: &T,
    dry_run: bool,
) -> Result<Change, RegistryError> {
    let change = match registry.get::<T>(&record.key()) {
        Ok(Some(found)) if found == *record => return Ok(Change::Unchanged),
        Ok(None) => Change::Added,
        // Also one that cannot be read.
        Ok(Some(_)) | Err(_) => Change::Replaced,
    };
    if !dry_run {
        registry.put(record).await?;
    }
    Ok(change)
}

fn read(body: &[u8]) -> Result<Backup, Problem> {
    let wrong = |error: String| {
        let what_to_do =
            "send a document as GET /v1/backup of this version or an older one gave it";
        Problem::new(StatusCode::BAD_REQUEST, error, what_to_do).command(
            "give a file that `millrace backup FILE` of this version or an older one wrote",
        )
    };
    // The version first: a newer document has fields that are unknown here.
    let document: Value = serde_json::from_slice(body)
        .map_err(|error| wrong(format!("the backup is not JSON: {error}")))?;
    match document["millrace_backup"].as_u64() {
        Some(VERSION) => {}
        Some(other) => {
            return Err(wrong(format!("backup version {other}, this API reads {VERSION}")));
        }
        None => {
            return Err(wrong("no `millrace_backup`: this is no backup of Millrace".to_owned()));
        }
    }
    let backup: Backup =
        serde_json::from_value(document).map_err(|error| wrong(format!("the backup: {error}")))?;
    let is_hash = |hash: &&String| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let mut names = BTreeSet::new();
    for channel in &backup.channels {
        if !names.insert(&channel.channel) {
            return Err(wrong(format!("the backup names channel {} twice", channel.channel)));
        }
        if let Some(hash) = channel.key_hashes.iter().find(|hash| !is_hash(hash)) {
            let channel = &channel.channel;
            return Err(wrong(format!("the backup: {hash:?} of {channel} is no SHA-256 of a key")));
        }
    }
    Ok(backup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str, hash: &str) -> ChannelRecord {
        let json = json!({ "channel": name, "key_hashes": [hash] });
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test]
    async fn a_record_is_added_replaced_or_left_and_a_dry_run_writes_nothing() {
        let registry = Registry::in_memory();
        registry.put(&channel("same", "a")).await.unwrap();
        registry.put(&channel("other", "a")).await.unwrap();
        let records = [channel("new", "b"), channel("other", "b"), channel("same", "a")];
        let mut seen = Vec::new();
        for dry_run in [true, false, false] {
            for record in &records {
                seen.push(put_back(&registry, record, dry_run).await.unwrap());
            }
            if dry_run {
                assert_eq!(registry.get::<ChannelRecord>("new").unwrap(), None);
            }
        }
        use Change::{Added, Replaced, Unchanged};
        let first = [Added, Replaced, Unchanged];
        assert_eq!(seen, [first, first, [Unchanged; 3]].concat());
        assert_eq!(registry.list::<ChannelRecord>(), records);
    }

    #[test]
    fn a_document_from_before_there_were_orders_is_read() {
        let old = read(br#"{"millrace_backup": 1, "made_at": "then", "channels": []}"#).unwrap();
        assert_eq!((old.channels.len(), old.orders.len()), (0, 0));
    }

    #[test]
    fn what_is_no_backup_or_a_newer_one_is_refused_with_what_is_wrong() {
        let refused = |text: &str| format!("{:?}", read(text.as_bytes()).unwrap_err());
        assert!(refused("{").contains("not JSON"));
        assert!(refused("[]").contains("no backup of Millrace"));
        let zz = r#"{"millrace_backup": 1, "made_at": "then",
            "channels": [{"channel": "news", "key_hashes": ["zz"]}]}"#;
        assert!(refused(zz).contains("of news is no SHA-256 of a key"));
        let twice = r#"{"millrace_backup": 1, "made_at": "then", "channels": [
            {"channel": "news", "key_hashes": []}, {"channel": "news", "key_hashes": []}]}"#;
        assert!(refused(twice).contains("names channel news twice"));
        assert!(refused(r#"{"millrace_backup": 2, "gadgets": []}"#).contains("backup version 2"));
        let cut = r#"{"millrace_backup": 1, "made_at": "", "channels": [{}]}"#;
        assert!(refused(cut).contains("channel"));
    }
}
