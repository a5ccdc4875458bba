//! A page of the tests' own: one video element and one of the players that people use, from a web server of its own, so
//! that players are met as on a stranger's site. Drives no browser and judges nothing.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const PAGE: &str = include_str!("player_page.html");
/// Where the page finds a script that the server holds itself.
const SCRIPT_PATH: &str = "/player.js";

/// Which player plays, and how it is set.
#[derive(Clone, Debug)]
pub enum WebPlayer {
    /// hls.js as the origin serves it, with its configuration.
    HlsJs {
        /// `Hls`'s configuration.
        config: Value,
        /// Plays the rung of this height only, in pixels; `None` lets the player choose.
        height: Option<u32>,
    },
    /// The given shaka script, with its configuration.
    Shaka {
        /// The compiled library.
        script: Bytes,
        /// `shaka.Player.configure`'s argument.
        config: Value,
    },
    /// The browser itself.
    Native,
}

/// A served page; the server ends with it.
#[derive(Debug)]
pub struct PlayerPage {
    url: String,
    server: JoinHandle<()>,
}

impl PlayerPage {
    /// Serves a page that plays the multivariant playlist at `playback_url`.
    ///
    /// # Errors
    /// When nothing can be bound on the loopback, or the URL names no host.
    pub async fn serve(player: WebPlayer, playback_url: &str) -> anyhow::Result<Self> {
        let origin = origin_of(playback_url)?;
        let (name, script_url, config, height, script) = match player {
            WebPlayer::HlsJs { config, height } => {
                ("hls", format!("{origin}/assets/hls.min.js"), config, height, Bytes::new())
            }
            WebPlayer::Shaka { script, config } => {
                ("shaka", SCRIPT_PATH.to_owned(), config, None, script)
            }
            WebPlayer::Native => ("native", SCRIPT_PATH.to_owned(), json!({}), None, Bytes::new()),
        };
        let asked =
            json!({"player": name, "playlist": playback_url, "config": config, "height": height});
        let page = PAGE.replace("SCRIPT", &script_url).replace("ASKED", &asked.to_string());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let files = Arc::new((Bytes::from(page), script));
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&files)));
            }
        });
        Ok(Self { url, server })
    }

    /// Where the page is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PlayerPage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Scheme, host and port.
fn origin_of(url: &str) -> anyhow::Result<&str> {
    let host = url.find("://").with_context(|| format!("no host in {url}"))? + 3;
    let end = url[host..].find('/').map_or(url.len(), |slash| host + slash);
    Ok(&url[..end])
}

/// Answers one request of our own browser, and closes.
async fn answer(socket: TcpStream, files: Arc<(Bytes, Bytes)>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let mut request = String::new();
    while socket.read_line(&mut request).await? > 2 {}
    let (page, script) = &*files;
    let (kind, body) = match request.split(' ').nth(1) {
        Some("/") => ("text/html", page),
        _ => ("text/javascript", script),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    socket.shutdown().await
}
