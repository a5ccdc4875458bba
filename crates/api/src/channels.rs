//! Channels and their stream keys: `/v1/channels…`. A key is in an answer once, when it is made; the registry has its hash.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
};
use bytes::Bytes;
use millrace_registry::{ChannelRecord, EndingKey, Priority, Registry};
use millrace_types::{Because, ChannelId, Decision, DecisionKind, Wall};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    farm::Farm,
    new_stream_key,
    problem::{Name, NoBody, Problem},
};

type Answer = Result<Json<Value>, Problem>;

/// The longest that an old key may go on by itself.
pub const MAX_OVERLAP: Duration = Duration::from_secs(366 * 24 * 3600);
/// Leading characters of a key's hash by which people tell keys apart.
const KEY_ID_CHARS: usize = 12;

/// A channel to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct NewChannel {
    channel: ChannelId,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    low_latency: bool,
    #[serde(default)]
    dual: bool,
}

/// What of a channel is to be otherwise; what is not named stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct Edit {
    dual: Option<bool>,
    low_latency: Option<bool>,
    priority: Option<Priority>,
}

impl Edit {
    const fn is_empty(&self) -> bool {
        self.dual.is_none() && self.low_latency.is_none() && self.priority.is_none()
    }

    fn apply(&self, record: &mut ChannelRecord) {
        record.dual = self.dual.unwrap_or(record.dual);
        record.low_latency = self.low_latency.unwrap_or(record.low_latency);
        record.priority = self.priority.unwrap_or(record.priority);
    }

    /// What becomes of the encoders, for operators.
    fn pinned(&self) -> Option<&'static str> {
        self.dual
            .map(|dual| if dual { "two encoders, where there is capacity" } else { "one encoder" })
    }

    /// What else it changes, for operators.
    fn changed(&self) -> Option<String> {
        let low_latency = self.low_latency.map(|low| match low {
            true => "low latency, from its next stream on".to_owned(),
            false => "the usual latency, from its next stream on".to_owned(),
        });
        let priority = self.priority.map(|priority| format!("priority {}", text(priority)));
        let all: Vec<String> = [low_latency, priority].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// As it stands in records.
fn text(priority: Priority) -> String {
    json!(priority).as_str().unwrap_or_default().to_owned()
}

/// What becomes of the old keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// They go on until they are revoked.
    #[serde(default)]
    keep_old: bool,
    /// They go on for so long; without it for as long as the settings say.
    overlap_s: Option<u64>,
}

/// `?key=`: only the key of that id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    key: Option<String>,
}

/// Where an operator finds a channel's name.
const LISTED: &str = "`millrace channels list` shows the names";

/// All channels, by name.
pub(crate) async fn list(State(farm): State<Farm>) -> Answer {
    let (channels, now) = (farm.registry.list::<ChannelRecord>(), farm.now());
    let channels = channels.iter().map(|record| shown(record, now));
    Ok(Json(json!({ "channels": channels.collect::<Vec<_>>() })))
}

/// Makes a channel and its first key.
pub(crate) async fn create(
    State(farm): State<Farm>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let NewChannel { channel, priority, low_latency, dual } =
        from_json(&body?, r#"{"channel": "news"}"#)?;
    let key = new_stream_key(channel.clone());
    let new = ChannelRecord {
        channel: channel.clone(),
        key_hashes: vec![key.hash()],
        ending_keys: Vec::new(),
        priority,
        low_latency,
        dual,
    };
    let keep = |old: Option<ChannelRecord>| Some(old.unwrap_or_else(|| new.clone()));
    let kept = farm.registry.update(&channel.to_string(), keep).await?;
    if kept.as_ref() != Some(&new) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("channel {channel} exists"),
            format!("choose another name, or POST /v1/channels/{channel}/rotate for a new key"),
        )
        .command(format!(
            "choose another name, or `millrace channels rotate {channel}` for a new key"
        )));
    }
    tracing::info!(%channel, "channel created");
    note(&farm, DecisionKind::ChannelCreated, &channel, "");
    let mut answer = shown(&new, farm.now());
    answer["stream_key"] = json!(key.reveal());
    Ok((StatusCode::CREATED, Json(answer)))
}

/// One channel.
pub(crate) async fn show(State(farm): State<Farm>, Name(name): Name) -> Answer {
    let found = farm.registry.get::<ChannelRecord>(&parsed(&name)?.to_string())?;
    found.map(|record| Json(shown(&record, farm.now()))).ok_or_else(|| unknown(&name))
}

/// Forgets a channel and its keys.
pub(crate) async fn delete(State(farm): State<Farm>, Name(name): Name, NoBody: NoBody) -> Answer {
    let channel = parsed(&name)?;
    if farm.registry.get::<ChannelRecord>(&channel.to_string())?.is_none() {
        return Err(unknown(&name));
    }
    farm.registry.delete::<ChannelRecord>(&channel.to_string()).await?;
    tracing::info!(%channel, "channel deleted");
    note(&farm, DecisionKind::ChannelDeleted, &channel, "");
    Ok(Json(json!({ "channel": channel, "deleted": true })))
}

/// Pins a channel to two encoders or frees it, which its stream follows within a second; and changes what its next stream begins
/// with.
pub(crate) async fn edit(
    State(farm): State<Farm>,
    Name(name): Name,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (channel, edit): (_, Edit) = (parsed(&name)?, from_json(&body?, r#"{"dual": true}"#)?);
    if edit.is_empty() || edit.priority == Some(Priority::Unknown) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "nothing that can be changed is named",
            r#"send at least one of {"dual": true, "low_latency": true, "priority": "small", "standard" or "partner"}"#,
        ));
    }
    let changed = change(&farm.registry, &channel, |record| edit.apply(record)).await?;
    tracing::info!(%channel, dual = edit.dual, low_latency = edit.low_latency, priority = ?edit.priority, "channel changed");
    if let Some(text) = edit.pinned() {
        note(&farm, DecisionKind::ChannelPinned, &channel, text);
    }
    if let Some(text) = edit.changed() {
        note(&farm, DecisionKind::ChannelChanged, &channel, &text);
    }
    Ok(Json(shown(&changed, farm.now())))
}

/// Makes a new key of a channel; the old ones end unless they are kept.
pub(crate) async fn rotate(
    State(farm): State<Farm>,
    Name(name): Name,
    query: Result<Query<Rotation>, QueryRejection>,
    NoBody: NoBody,
) -> Answer {
    let Query(Rotation { keep_old, overlap_s }) = query?;
    let overlap = overlap_s.map_or(farm.overlap, Duration::from_secs);
    if overlap > MAX_OVERLAP || (keep_old && overlap_s.is_some()) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "either keep_old or overlap_s, and that at most a year",
            "keep_old=true keeps the old keys until they are revoked",
        ));
    }
    let channel = parsed(&name)?;
    let key = new_stream_key(channel.clone());
    let now = farm.now();
    let until = now + overlap;
    let changed = change(&farm.registry, &channel, |record| {
        record.ending_keys.retain(|key| now < key.until);
        if !keep_old {
            let old = record.key_hashes.drain(..).map(|hash| EndingKey { hash, until });
            record.ending_keys.extend(old);
        }
        if !keep_old && overlap.is_zero() {
            record.ending_keys.clear();
        }
        record.key_hashes.push(key.hash());
    });
    let mut answer = shown(&changed.await?, now);
    let text = match (keep_old, overlap.as_secs()) {
        (true, _) => "the old keys go on until they are revoked".to_owned(),
        (false, 0) => "the old keys have ended".to_owned(),
        (false, seconds) => format!("the old keys go on for {seconds} s"),
    };
    tracing::info!(%channel, text, "stream key rotated");
    note(&farm, DecisionKind::KeyRotated, &channel, &text);
    answer["stream_key"] = json!(key.reveal());
    Ok(Json(answer))
}

/// Ends keys of a channel: without any, nobody can publish on it until it gets a new one.
pub(crate) async fn revoke(
    State(farm): State<Farm>,
    Name(name): Name,
    query: Result<Query<Revocation>, QueryRejection>,
    NoBody: NoBody,
) -> Answer {
    let Query(Revocation { key }) = query?;
    let channel = parsed(&name)?;
    let ends = |hash: &str| key.as_ref().is_none_or(|id| hash.starts_with(id.as_str()));
    if let (Some(id), Some(record)) = (&key, farm.registry.get::<ChannelRecord>(&name)?) {
        let ending = record.ending_keys.iter().map(|key| &key.hash);
        if id.len() < KEY_ID_CHARS || !record.key_hashes.iter().chain(ending).any(|hash| ends(hash))
        {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!("channel {channel} has no key {id}"),
                format!("GET /v1/channels/{channel} shows the ids of its keys"),
            )
            .command("`millrace channels list` shows the ids of its keys"));
        }
    }
    let changed = change(&farm.registry, &channel, |record| {
        record.key_hashes.retain(|hash| !ends(hash));
        record.ending_keys.retain(|key| !ends(&key.hash));
    });
    let changed = changed.await?;
    tracing::info!(%channel, key, "stream keys revoked");
    let text = key.map_or_else(|| "all of them".to_owned(), |id| format!("the key {id}"));
    note(&farm, DecisionKind::KeysRevoked, &channel, &text);
    Ok(Json(shown(&changed, farm.now())))
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
fn from_json<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let what_to_do = format!("send a JSON object such as {example}; see /v1/openapi.json");
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

/// As it is now: a key that has ended is none.
fn shown(record: &ChannelRecord, now: Wall) -> Value {
    let id = |hash: &String| hash.chars().take(KEY_ID_CHARS).collect::<String>();
    let ending = record.ending_keys.iter().filter(|key| now < key.until);
    let ending = ending.map(|key| json!({ "key": id(&key.hash), "until": key.until.to_string() }));
    json!({
        "channel": record.channel,
        "keys": record.key_hashes.iter().map(id).collect::<Vec<_>>(),
        "ending_keys": ending.collect::<Vec<_>>(),
        "priority": record.priority,
        "low_latency": record.low_latency,
        "dual": record.dual,
    })
}

fn parsed(name: &str) -> Result<ChannelId, Problem> {
    name.parse().map_err(|error: millrace_types::IdError| {
        let what_to_do = "see /v1/channels for the names";
        Problem::new(StatusCode::BAD_REQUEST, error.to_string(), what_to_do).command(LISTED)
    })
}

fn unknown(name: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("no channel {name}"),
        "see /v1/channels for the names, or POST there to make one",
    )
    .command(format!("{LISTED}, `millrace channels create NAME` makes one"))
}
