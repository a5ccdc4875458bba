//! `millrace channels …`: channels and their stream keys, through the farm's API. A key is printed once, when it is made.

use std::process::ExitCode;

use millrace_api::Ask;
use serde_json::{Value, json};

use crate::{
    api_client::{ask, send, tell},
    arguments::{ChannelsArguments, ChannelsCommand, FarmArguments},
    table::{items, show, table, text},
};

/// Lists or changes channels.
///
/// # Errors
/// The API does not answer, or says no.
pub async fn run(arguments: &ChannelsArguments) -> anyhow::Result<ExitCode> {
    let farm = &arguments.farm;
    match &arguments.command {
        ChannelsCommand::List => show(farm, &ask(farm, "/v1/channels").await?, all),
        ChannelsCommand::Create { name, priority, low_latency, dual } => {
            let new = json!({ "channel": name, "priority": priority.as_str(), "low_latency": low_latency, "dual": dual });
            with_key(farm, &tell(farm, "/v1/channels", Some(new)).await?)
        }
        ChannelsCommand::Set { name, dual, low_latency, priority } => {
            let path = format!("/v1/channels/{name}");
            let priority = priority.map(|priority| json!(priority.as_str()));
            let named = [
                ("dual", dual.map(Value::Bool)),
                ("low_latency", low_latency.map(Value::Bool)),
                ("priority", priority),
            ];
            let edit =
                named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let edit = Ask::patch(&path, Value::Object(edit.collect()));
            show(farm, &send(farm, edit).await?, one)
        }
        ChannelsCommand::Rotate { name, keep_old, overlap } => {
            let query = match overlap {
                Some(seconds) => format!("overlap_s={seconds}"),
                None => format!("keep_old={keep_old}"),
            };
            with_key(farm, &tell(farm, &format!("/v1/channels/{name}/rotate?{query}"), None).await?)
        }
        ChannelsCommand::Revoke { name, key } => {
            let query = key.as_ref().map(|key| format!("?key={key}")).unwrap_or_default();
            let path = format!("/v1/channels/{name}/revoke{query}");
            show(farm, &tell(farm, &path, None).await?, one)
        }
        ChannelsCommand::Delete { name } => {
            let path = format!("/v1/channels/{name}");
            show(farm, &send(farm, Ask::delete(&path)).await?, |answer| {
                format!("channel {} and its keys are gone\n", text(&answer["channel"]))
            })
        }
    }
}

fn with_key(farm: &FarmArguments, answer: &Value) -> anyhow::Result<ExitCode> {
    show(farm, answer, |answer| {
        let key = text(&answer["stream_key"]);
        format!("{}stream key, shown this once: {key}\n", one(answer))
    })
}

fn all(answer: &Value) -> String {
    let rows: Vec<_> = items(&answer["channels"]).map(row).collect();
    match rows.is_empty() {
        true => "no channel yet: millrace channels create NAME\n".to_owned(),
        false => table(HEAD, &rows),
    }
}

fn one(channel: &Value) -> String {
    table(HEAD, &[row(channel)])
}

const HEAD: [&str; 6] = ["CHANNEL", "PRIORITY", "LATENCY", "ENCODERS", "KEYS", "ENDING KEYS"];

fn row(channel: &Value) -> [String; 6] {
    let keys: Vec<_> = items(&channel["keys"]).map(text).collect();
    let ending = items(&channel["ending_keys"]);
    let ending = ending.map(|key| format!("{} until {}", text(&key["key"]), text(&key["until"])));
    let ending: Vec<_> = ending.collect();
    let dash = |list: Vec<String>| if list.is_empty() { "-".to_owned() } else { list.join(", ") };
    [
        text(&channel["channel"]),
        text(&channel["priority"]),
        if channel["low_latency"] == true { "low" } else { "usual" }.to_owned(),
        if channel["dual"] == true { "2" } else { "1" }.to_owned(),
        dash(keys),
        dash(ending),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_shown_with_the_beginnings_of_their_keys_hashes_and_when_an_old_one_ends() {
        let answer = json!({ "channels": [
            { "channel": "news", "priority": "partner", "low_latency": true, "dual": true, "keys": ["ab", "cd"],
              "ending_keys": [{ "key": "ef", "until": "2026-11-21T14:00:00.000Z" }] },
            { "channel": "off", "priority": "standard", "low_latency": false, "keys": [] },
        ]});
        let shown = all(&answer);
        let cells = |line: usize| -> Vec<&str> {
            let cells = shown.lines().nth(line).unwrap().split("  ").map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect()
        };
        let ending = "ef until 2026-11-21T14:00:00.000Z";
        assert_eq!(cells(1), ["news", "partner", "low", "2", "ab, cd", ending]);
        assert_eq!(cells(2), ["off", "standard", "usual", "1", "-", "-"]);
        assert!(all(&json!({ "channels": [] })).contains("channels create"));
    }
}
