//! Downloads a stream as a Low-Latency HLS player would: all renditions at once, each by blocking reloads, every part in order.
//!
//! ```text
//! multivariant → per rendition:  reload (_HLS_msn, _HLS_part) → init sections, new parts → reload → …
//! ```
//!
//! Keeps what came and when ([`Recording`]); decodes and judges nothing: see `check`. Unlike a real player it never
//! skips ahead: a part that cannot be had is recorded as missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    HttpClient, Recording, RenditionRecording, download::Download, http::resolve,
    playlist::Multivariant, until,
};

/// Where in the first playlist a player begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest segment: for checks that nothing was lost.
    #[default]
    Oldest,
    /// At the newest independent part: for latency.
    Live,
}

/// How a player behaves.
#[derive(Clone, Copy, Debug)]
pub struct PlayerOptions {
    /// How long the multivariant playlist may take to appear.
    pub ready_within: Duration,
    /// How long a playlist or part may be unavailable (connection refused, 5xx) before it counts as lost.
    pub patience: Duration,
    /// Where to begin.
    pub start_at: StartAt,
    /// Ignore parts: an ordinary HLS player.
    pub whole_segments: bool,
    /// Ask for delta updates (`_HLS_skip=YES`) where the server offers them.
    pub delta_updates: bool,
}

impl Default for PlayerOptions {
    fn default() -> Self {
        Self {
            ready_within: Duration::from_secs(20),
            patience: Duration::from_secs(10),
            start_at: StartAt::Oldest,
            whole_segments: false,
            delta_updates: false,
        }
    }
}

/// How far a running download is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Parts or segments listed so far.
    pub chunks: usize,
    /// Seconds of media listed so far.
    pub media_s: f64,
    /// When the last one came.
    pub last_arrival: Option<Instant>,
    /// The playlist has ended.
    pub ended: bool,
}

/// Progress by rendition, shared between the download and its owner.
pub(crate) type Board = Arc<Mutex<BTreeMap<String, Progress>>>;

/// A download in the background; dropped, it ends at once.
#[derive(Debug)]
pub struct Player {
    board: Board,
    stop: watch::Sender<bool>,
    task: JoinSet<anyhow::Result<Recording>>,
}

impl Player {
    /// Begins to download the stream whose multivariant playlist is at `url`; it need not be there yet.
    pub fn start(url: &str, options: PlayerOptions) -> Self {
        let (stop, stopped) = watch::channel(false);
        let board = Board::default();
        let mut task = JoinSet::new();
        task.spawn(download(url.to_owned(), options, Arc::clone(&board), stopped));
        Self { board, stop, task }
    }

    /// How far each rendition is; empty before the multivariant playlist has come.
    pub fn progress(&self) -> BTreeMap<String, Progress> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every rendition has at least `seconds` of media.
    ///
    /// # Errors
    ///
    /// When that is not so `within` the time given; says how far each was.
    pub async fn media(&self, seconds: f64, within: Duration) -> anyhow::Result<()> {
        let enough = |progress: &Progress| progress.media_s >= seconds;
        self.all(&format!("{seconds} s of media"), within, enough).await
    }

    /// Waits until every rendition's playlist has ended.
    ///
    /// # Errors
    ///
    /// When one has not `within` the time given; says how far each was.
    pub async fn ended(&self, within: Duration) -> anyhow::Result<()> {
        self.all("the end of every playlist", within, |progress| progress.ended).await
    }

    async fn all(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Progress) -> bool,
    ) -> anyhow::Result<()> {
        let done = || {
            let progress = self.progress();
            !progress.is_empty() && progress.values().all(&holds)
        };
        until(what, within, done).await.with_context(|| format!("at {:?}", self.progress()))
    }

    /// Stops after the pieces being fetched now, and hands out what came.
    ///
    /// # Errors
    ///
    /// When the multivariant playlist never came or listed nothing.
    pub async fn stop(mut self) -> anyhow::Result<Recording> {
        self.stop.send_replace(true);
        self.task.join_next().await.context("invariant: one task")??
    }
}

async fn download(
    url: String,
    options: PlayerOptions,
    board: Board,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<Recording> {
    let http = HttpClient::default();
    let (text, list) = tokio::select! {
        appeared = tokio::time::timeout(options.ready_within, multivariant(&http, &url)) => {
            appeared.with_context(|| format!("{url}: no multivariant playlist"))?
        }
        _ = stop.wait_for(|stop| *stop) => bail!("{url}: stopped before it appeared"),
    };
    let renditions = renditions(&list);
    {
        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
        board.extend(
            renditions.iter().map(|(_, record)| (record.name.clone(), Progress::default())),
        );
    }
    let mut tasks = JoinSet::new();
    for (order, (uri, record)) in renditions.into_iter().enumerate() {
        let url = resolve(&url, &uri);
        let download =
            Download::new(http.clone(), url, options, record, Arc::clone(&board), stop.clone());
        tasks.spawn(async move { (order, download.run().await) });
    }
    let mut done = BTreeMap::new();
    while let Some(finished) = tasks.join_next().await {
        let (order, record) = finished?;
        done.insert(order, record);
    }
    Ok(Recording { multivariant: text, renditions: done.into_values().collect() })
}

/// Asks until there is a playlist with variants in it.
async fn multivariant(http: &HttpClient, url: &str) -> (String, Multivariant) {
    loop {
        if let Ok(body) = http.get_ok(url, Duration::from_secs(5)).await {
            let text = String::from_utf8_lossy(&body).into_owned();
            match Multivariant::parse(&text) {
                Ok(list) if !list.variants.is_empty() => return (text, list),
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every media playlist once, with an empty record called after its folder (or its file, where that is not unique).
fn renditions(list: &Multivariant) -> Vec<(String, RenditionRecording)> {
    let variants = list.variants.iter().map(|variant| (&variant.uri, variant.frame_rate));
    let media = list.media.iter().filter_map(|media| Some((media.uri.as_ref()?, None)));
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for (uri, frame_rate) in variants.chain(media) {
        if !seen.insert(uri.clone()) {
            continue;
        }
        let path = uri.split('?').next().unwrap_or(uri);
        let mut steps = path.rsplit('/');
        let file = steps.next().unwrap_or(path).trim_end_matches(".m3u8");
        let mut name = steps.next().filter(|folder| !folder.is_empty()).unwrap_or(file).to_owned();
        if !names.insert(name.clone()) {
            name = uri.clone();
        }
        let record = RenditionRecording { name, frame_rate, ..Default::default() };
        found.push((uri.clone(), record));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendition_listed_twice_is_downloaded_once_and_called_after_its_folder() {
        let list = Multivariant::parse(
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"audio/index.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1,FRAME-RATE=30.000\n720p/index.m3u8?x=1\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1\naudio/index.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n",
        )
        .expect("playlist");
        let names: Vec<_> = renditions(&list).into_iter().map(|(_, record)| record.name).collect();
        assert_eq!(names, ["720p", "audio", "low"]);
    }

    #[tokio::test]
    async fn a_stream_that_never_appears_is_an_error() {
        let options =
            PlayerOptions { ready_within: Duration::from_millis(50), ..Default::default() };
        let mut player = Player::start("http://127.0.0.1:9/none/index.m3u8", options);
        let ended = player.task.join_next().await.expect("one task").expect("no panic");
        assert!(
            format!("{:#}", ended.expect_err("nobody there")).contains("no multivariant playlist")
        );
    }
}
