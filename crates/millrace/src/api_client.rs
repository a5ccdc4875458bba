//! The farm's API as the commands use it: where it is, which token is shown, and what to say when it does not answer.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use millrace_api::{Ask, FetchError, HttpClient};
use serde_json::Value;

use crate::{arguments::FarmArguments, table::text};

/// Asks the farm's API for what is there.
///
/// # Errors
/// The API does not answer, or says no; the text says what to do.
pub async fn ask(farm: &FarmArguments, path: &str) -> anyhow::Result<Value> {
    send(farm, Ask::get(path)).await
}

/// Has the farm's API do something.
///
/// # Errors
/// As [`ask`].
pub async fn tell(farm: &FarmArguments, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
    send(farm, Ask::post(path, body)).await
}

/// Sends a question of any kind.
///
/// # Errors
/// As [`ask`].
pub async fn send(farm: &FarmArguments, mut question: Ask<'_>) -> anyhow::Result<Value> {
    question.patience = question.patience.max(PATIENCE);
    question.token = farm.token_file.as_deref().map(token).transpose()?;
    let http = client(farm)?;
    match http.ask(farm.api.trim_end_matches('/'), question).await {
        Ok(value) => Ok(value),
        Err(FetchError::Refused { body, .. }) if body["error"].is_string() => {
            bail!("{}: {}", text(&body["error"]), text(&body["what_to_do"]))
        }
        Err(error @ FetchError::Unreachable { .. }) => {
            bail!("{error}; is the farm running? Give its API with --api URL")
        }
        Err(error) => Err(error.into()),
    }
}

fn client(farm: &FarmArguments) -> anyhow::Result<HttpClient> {
    match farm.api.split_once("://") {
        Some(("https", _)) => HttpClient::trusting(farm.api_ca.as_deref()).context("--api-ca"),
        Some(("http", _)) if farm.api_ca.is_some() => {
            bail!("--api {}: --api-ca has a meaning with https:// only", farm.api)
        }
        Some(("http", _)) => Ok(HttpClient::new()),
        _ => bail!("--api {}: give http://HOST:PORT or https://HOST:PORT", farm.api),
    }
}

/// How long an answer may take: longer than the API waits for the registry, so that its own words are heard.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an answer may take that has much to do behind it.
pub const LONG: Duration = Duration::from_secs(120);

/// The token in a file: its first line.
fn token(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        bail!("{}: no token in its first line", path.display());
    }
    Ok(token.to_owned())
}
