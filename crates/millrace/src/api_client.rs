//! The farm's API as the commands use it: where it is, which token is shown, and what to say when it does not answer.
//!
//! What a person gave wrongly, the API's own words about that among it, is a [`Prerequisite`].

use std::{fs, path::Path, time::Duration};

use anyhow::bail;
use millrace_api::{Ask, FetchError, HttpClient};
use serde_json::Value;

use crate::{arguments::FarmArguments, prerequisite::Prerequisite, table::text};

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
    match http.ask(&farm.api, question).await {
        Ok(value) => Ok(value),
        Err(FetchError::Refused { status, body, .. }) if body["error"].is_string() => {
            let said = refusal(&body, &status);
            match OF_A_PERSON.contains(&status.as_u16()) {
                true => Err(Prerequisite(said).into()),
                false => bail!("{said}"),
            }
        }
        Err(FetchError::Unreachable { url, text }) if text.contains("certificate") => {
            bail!("no answer from {url}: {text}; --api-ca FILE names an authority of your own")
        }
        Err(error @ FetchError::Unreachable { .. }) => {
            bail!("{error}; is the farm running? Give its API with --api URL")
        }
        Err(error @ FetchError::NotHttp { .. }) => {
            bail!(
                "{error}; an API with `tls` takes other hosts by https only: --api https://HOST:PORT"
            )
        }
        Err(error @ FetchError::NotTls { .. }) => {
            bail!("{error}: --api http://HOST:PORT, or give the API a certificate with `tls`")
        }
        Err(error @ (FetchError::Refused { .. } | FetchError::Json { .. })) => {
            Err(no_api(farm, &error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an answer has the list of that name: admin pages of other programs have paths of the same names.
///
/// # Errors
/// It does not.
pub fn is_of_the_api(farm: &FarmArguments, answer: &Value, list: &str) -> anyhow::Result<()> {
    match answer[list].is_array() {
        true => Ok(()),
        false => Err(no_api(farm, &format_args!("no list of {list}"))),
    }
}

fn no_api(farm: &FarmArguments, why: &dyn std::fmt::Display) -> anyhow::Error {
    let here = &farm.api;
    anyhow::anyhow!("what answers at {here} is no API of Millrace: give it with --api URL ({why})")
}

/// What the API said, in the words of the command line where it has such.
fn refusal(body: &Value, status: &impl std::fmt::Display) -> String {
    let what_to_do = body.get("command").unwrap_or(&body["what_to_do"]);
    format!("{}: {} (the API answered {status})", text(&body["error"]), text(what_to_do))
}

/// What the API says to a question that was wrong, or came without what it needs.
const OF_A_PERSON: [u16; 4] = [400, 401, 403, 413];

fn client(farm: &FarmArguments) -> Result<HttpClient, Prerequisite> {
    match (farm.api.starts_with("https://"), &farm.api_ca) {
        (true, ca) => HttpClient::trusting(ca.as_deref())
            .map_err(|error| Prerequisite(format!("--api-ca: {error}"))),
        (false, Some(_)) => {
            let why = "--api-ca has a meaning with https:// only";
            Err(Prerequisite(format!("--api {}: {why}", farm.api)))
        }
        (false, None) => Ok(HttpClient::new()),
    }
}

/// How long an answer may take: longer than the API waits for the registry, so that its own words are heard.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an answer may take that has much to do behind it.
pub const LONG: Duration = Duration::from_secs(120);

/// The token in a file: its first line.
fn token(path: &Path) -> Result<String, Prerequisite> {
    let wrong = |why: &dyn std::fmt::Display| {
        Prerequisite(format!("--token-file {}: {why}", path.display()))
    };
    let give = "give a file that holds the token that `millrace tokens add` printed";
    let text = fs::read_to_string(path).map_err(|error| wrong(&format_args!("{error}: {give}")))?;
    let token = text.lines().next().unwrap_or_default().trim();
    match !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(wrong(&format_args!("no token in its first line: {give}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_names_a_command_where_there_is_one_and_what_the_api_answered_last() {
        let mut body = json!({ "error": "no channel a", "what_to_do": "see /v1/channels" });
        let plain = refusal(&body, &"404 Not Found");
        assert_eq!(plain, "no channel a: see /v1/channels (the API answered 404 Not Found)");
        body["command"] = json!("`millrace channels list`");
        assert!(refusal(&body, &404).starts_with("no channel a: `millrace channels list` ("));
    }
}
