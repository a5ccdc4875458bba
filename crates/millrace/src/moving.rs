//! `millrace move`: tells a stream to go to another node by the farm's API, and waits until it is made there.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use millrace_api::Ask;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api_client::{ask, send, tell},
    arguments::MoveArguments,
    output::{note, say},
    table::text,
};

/// From one look at the stream to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// Made by that node now.
    Moved(String),
    /// Not yet; why it could not, when it was tried.
    Stays(Option<String>),
}

impl Progress {
    /// From the answer to `/v1/streams/{id}`; `before`: why it could not be moved before this order, if that stands there still.
    fn of(from: &str, stream: &Value, before: Option<&str>) -> Self {
        match stream["node"].as_str() {
            Some(node) if node != from => Self::Moved(node.to_owned()),
            _ => {
                let why = stream["stays"].as_str().filter(|why| Some(*why) != before);
                Self::Stays(why.map(str::to_owned))
            }
        }
    }
}

/// Moves a stream.
///
/// # Errors
/// The API refuses, the stream ends, or no node takes it in time.
pub async fn move_stream(arguments: &MoveArguments) -> anyhow::Result<ExitCode> {
    let MoveArguments { stream, to, farm, .. } = arguments;
    let (path, looked_at) = (format!("/v1/streams/{stream}/move"), format!("/v1/streams/{stream}"));
    let before = ask(farm, &looked_at).await?["stays"].as_str().map(str::to_owned);
    let query = to.as_ref().map_or_else(String::new, |to| format!("?to={to}"));
    let order = tell(farm, &format!("{path}{query}"), None).await?;
    let from = text(&order["from"]);
    let said = |answer: &Value, sentence: String| match farm.json {
        true => say(format_args!("{answer:#}")),
        false => say(format_args!("{sentence}")),
    };
    if arguments.no_wait {
        said(&order, format!("{stream} is told to leave {from}"));
        return Ok(ExitCode::SUCCESS);
    }
    let until = Instant::now() + Duration::from_secs(arguments.timeout);
    let mut shown = None;
    loop {
        let now = ask(farm, &looked_at).await.context("the order stands")?;
        match Progress::of(&from, &now, before.as_deref()) {
            Progress::Moved(node) => {
                let moved = json!({ "stream": stream, "from": from, "to": node });
                said(&moved, format!("{stream} is made on {node} now, and was on {from}"));
                return Ok(ExitCode::SUCCESS);
            }
            Progress::Stays(why) => {
                if let Some(why) = why.as_ref().filter(|_| shown != why) {
                    note(format_args!("{stream} could not be moved yet: {why}"));
                }
                shown = why.or(shown);
            }
        }
        if Instant::now() >= until {
            send(farm, Ask::delete(&path)).await.context("the order stands")?;
            let why = shown.or(before).map_or_else(String::new, |why| format!(": {why}"));
            bail!(
                "{stream} stays on {from}, where it goes on; no node took it in {} s{why}",
                arguments.timeout
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_moved_once_another_node_makes_it_and_only_new_reasons_are_told() {
        let of = |stream: Value| Progress::of("node-1", &stream, Some("old"));
        assert_eq!(of(json!({ "node": "node-2" })), Progress::Moved("node-2".to_owned()));
        assert_eq!(of(json!({ "node": "node-1", "stays": "old" })), Progress::Stays(None));
        let new = of(json!({ "node": "node-1", "stays": "refused: no room" }));
        assert_eq!(new, Progress::Stays(Some("refused: no room".to_owned())));
        assert_eq!(of(json!({ "node": null })), Progress::Stays(None), "it is being placed");
    }
}
