//! Owns the DevTools connection to one page: numbers calls, matches their answers, and keeps what
//! the page writes to its console.
//!
//! One call at a time: the page of a test has one driver. Deliberately knows nothing of what the
//! methods mean. Protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// One line of a page's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// `log`, `warning`, `error`, … as the browser names it; `exception` for an uncaught one.
    pub level: String,
    /// The arguments, joined by spaces.
    pub text: String,
}

#[derive(Debug)]
pub(super) struct Devtools {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    last_call: u64,
    console: Vec<ConsoleLine>,
}

impl Devtools {
    /// Connects to a browser's endpoint and attaches to a new blank page.
    pub(super) async fn attach(endpoint: &str, patience: Duration) -> Result<Self> {
        // Sampled frames and screenshots of a long test are tens of MiB in one message.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) =
            timeout(patience, connect_async_with_config(endpoint, Some(config), true))
                .await
                .with_context(|| format!("{endpoint} not answering after {patience:?}"))??;
        let mut page = Self { socket, session: None, last_call: 0, console: Vec::new() };
        let target =
            page.call("Target.createTarget", json!({ "url": "about:blank" }), patience).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = page.call("Target.attachToTarget", attach, patience).await?;
        page.session =
            Some(attached["sessionId"].as_str().context("attached without a session")?.to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({}), patience).await?;
        }
        Ok(page)
    }

    /// Calls `method` and returns its result.
    pub(super) async fn call(
        &mut self,
        method: &str,
        parameters: Value,
        patience: Duration,
    ) -> Result<Value> {
        self.last_call += 1;
        let id = self.last_call;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        let answer = async {
            self.socket.send(Message::text(call.to_string())).await?;
            loop {
                let message =
                    self.socket.next().await.context("browser closed the connection")??;
                if let Some(answer) = self.receive(&message, id)? {
                    return anyhow::Ok(answer);
                }
            }
        };
        let mut answer = timeout(patience, answer)
            .await
            .with_context(|| format!("{method} not answered after {patience:?}"))??;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    /// Everything the page has written so far, what waits on the socket included.
    pub(super) fn console(&mut self) -> &[ConsoleLine] {
        while let Some(Some(Ok(message))) = self.socket.next().now_or_never() {
            let _ = self.receive(&message, 0);
        }
        &self.console
    }

    /// The answer to call `id`, if `message` is that; console lines are kept, all else is dropped.
    fn receive(&mut self, message: &Message, id: u64) -> Result<Option<Value>> {
        let Message::Text(text) = message else { return Ok(None) };
        let value: Value = serde_json::from_str(text)?;
        if value["id"].as_u64() == Some(id) {
            return Ok(Some(value));
        }
        self.console.extend(console_line(&value));
        Ok(None)
    }
}

fn console_line(event: &Value) -> Option<ConsoleLine> {
    let parameters = &event["params"];
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event["method"].as_str()? {
        "Runtime.consoleAPICalled" => {
            let words: Vec<String> = parameters["args"].as_array()?.iter().map(argument).collect();
            Some(ConsoleLine { level: string(&parameters["type"]), text: words.join(" ") })
        }
        "Runtime.exceptionThrown" => {
            let details = &parameters["exceptionDetails"];
            let thrown = details["exception"]["description"]
                .as_str()
                .or(details["text"].as_str())
                .unwrap_or_default();
            Some(ConsoleLine { level: "exception".to_owned(), text: thrown.to_owned() })
        }
        "Log.entryAdded" => {
            let entry = &parameters["entry"];
            let text = format!("{} {}", string(&entry["text"]), string(&entry["url"]));
            Some(ConsoleLine { level: string(&entry["level"]), text: text.trim_end().to_owned() })
        }
        _ => None,
    }
}

/// A console argument as a person would read it.
fn argument(value: &Value) -> String {
    match (&value["value"], value["description"].as_str()) {
        (Value::String(text), _) => text.clone(),
        (Value::Null, Some(description)) => description.to_owned(),
        (plain, _) => plain.to_string(),
    }
}
