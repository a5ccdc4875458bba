//! Channels and their stream keys: `/v1/channels…`. A key is in an answer once, when it is made; the registry has its hash.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
};
use bytes::Bytes;
use millrace_registry::{ChannelRecord, Priority, Registry};
use millrace_types::{Because, ChannelId, Decision, DecisionKind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{farm::Farm, new_stream_key, problem::Problem};

type Answer = Result<Json<Value>, Problem>;

/// Leading characters of a key's hash by which people tell keys apart.
const KEY_ID_CHARS: usize = 12;

/// A channel to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewChannel {
    channel: ChannelId,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    low_latency: bool,
}

/// `?keep_old=true`: the old keys go on working until they are revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    #[serde(default)]
    keep_old: bool,
}

/// All channels, by name.
pub(crate) async fn list(State(farm): State<Farm>) -> Answer {
    let channels = farm.registry.list::<ChannelRecord>();
    Ok(Json(json!({ "channels": channels.iter().map(shown).collect::<Vec<_>>() })))
}

/// Makes a channel and its first key.
pub(crate) async fn create(
    State(farm): State<Farm>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let NewChannel { channel, priority, low_latency } = from_json(&body?)?;
    let key = new_stream_key(channel.clone());
    let new = ChannelRecord {
        channel: channel.clone(),
        key_hashes: vec![key.hash()],
        priority,
        low_latency,
    };
    let keep = |old: Option<ChannelRecord>| Some(old.unwrap_or_else(|| new.clone()));
    let kept = farm.registry.update(&channel.to_string(), keep).await?;
    if kept.as_ref() != Some(&new) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("channel {channel} exists"),
            format!("choose another name, or POST /v1/channels/{channel}/rotate for a new key"),
        ));
    }
    tracing::info!(%channel, "channel created");
    note(&farm, DecisionKind::ChannelCreated, &channel, "");
    let mut answer = shown(&new);
    answer["stream_key"] = json!(key.reveal());
    Ok((StatusCode::CREATED, Json(answer)))
}

/// One channel.
pub(crate) async fn show(State(farm): State<Farm>, Path(name): Path<String>) -> Answer {
    let found = farm.registry.get::<ChannelRecord>(&parsed(&name)?.to_string())?;
    found.map(|record| Json(shown(&record))).ok_or_else(|| unknown(&name))
}

/// Forgets a channel and its keys.
pub(crate) async fn delete(State(farm): State<Farm>, Path(name): Path<String>) -> Answer {
    let channel = parsed(&name)?;
    if farm.registry.get::<ChannelRecord>(&channel.to_string())?.is_none() {
        return Err(unknown(&name));
    }
    farm.registry.delete::<ChannelRecord>(&channel.to_string()).await?;
    tracing::info!(%channel, "channel deleted");
    note(&farm, DecisionKind::ChannelDeleted, &channel, "");
    Ok(Json(json!({ "channel": channel, "deleted": true })))
}

/// Makes a new key of a channel; the old ones end unless they are kept.
pub(crate) async fn rotate(
    State(farm): State<Farm>,
    Path(name): Path<String>,
    query: Result<Query<Rotation>, QueryRejection>,
) -> Answer {
    let keep_old = query?.keep_old;
    let channel = parsed(&name)?;
    let key = new_stream_key(channel.clone());
    let changed = change(&farm.registry, &channel, |record| {
        if !keep_old {
            record.key_hashes.clear();
        }
        record.key_hashes.push(key.hash());
    });
    let mut answer = shown(&changed.await?);
    tracing::info!(%channel, keep_old, "stream key rotated");
    let text = if keep_old { "the old keys stay valid" } else { "the old keys have ended" };
    note(&farm, DecisionKind::KeyRotated, &channel, text);
    answer["stream_key"] = json!(key.reveal());
    Ok(Json(answer))
}

/// Ends all keys of a channel: nobody can publish on it until it gets a new one.
pub(crate) async fn revoke(State(farm): State<Farm>, Path(name): Path<String>) -> Answer {
    let channel = parsed(&name)?;
    let changed = change(&farm.registry, &channel, |record| record.key_hashes.clear()).await?;
    tracing::info!(%channel, "stream keys revoked");
    note(&farm, DecisionKind::KeysRevoked, &channel, "");
    Ok(Json(shown(&changed)))
}

/// Keeps what was ordered, for operators.
pub(crate) fn note(farm: &Farm, kind: DecisionKind, channel: &ChannelId, text: &str) {
    let decision = Decision::of(kind).because(Because::Ordered).saying(text);
    farm.decisions.record(match channel.as_str().parse() {
        Ok(stream) => decision.stream(&stream),
        Err(_) => decision,
    });
}

/// Whatever its content type says, so that `curl -d` works as it is.
fn from_json(body: &[u8]) -> Result<NewChannel, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let what_to_do = "send a JSON object such as {\"channel\": \"news\"}; see /v1/openapi.json";
        Problem::new(StatusCode::BAD_REQUEST, error.to_string(), what_to_do)
    })
}

async fn change(
    registry: &Registry,
    channel: &ChannelId,
    edit: impl Fn(&mut ChannelRecord) + Send,
) -> Result<ChannelRecord, Problem> {
    let edited = move |old: Option<ChannelRecord>| {
        old.map(|mut record| {
            edit(&mut record);
            record
        })
    };
    let changed = registry.update(&channel.to_string(), edited).await?;
    changed.ok_or_else(|| unknown(&channel.to_string()))
}

fn shown(record: &ChannelRecord) -> Value {
    let ids = record.key_hashes.iter().map(|hash| hash.chars().take(KEY_ID_CHARS).collect());
    json!({
        "channel": record.channel,
        "keys": ids.collect::<Vec<String>>(),
        "priority": record.priority,
        "low_latency": record.low_latency,
    })
}

fn parsed(name: &str) -> Result<ChannelId, Problem> {
    name.parse().map_err(|error: millrace_types::IdError| {
        let what_to_do = "see /v1/channels for the names";
        Problem::new(StatusCode::BAD_REQUEST, error.to_string(), what_to_do)
    })
}

fn unknown(name: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("no channel {name}"),
        "see /v1/channels for the names, or POST there to make one",
    )
}
