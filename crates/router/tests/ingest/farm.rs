//! An ingest on loopback with one valid key, and the publications it lets in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use millrace_router::ingest::{
    Gate, Granted, IngestConfig, IngestEnd, IngestEvent, IngestMetrics, IngestServer, Limits,
    MessageKind, Publication, PublishRequest, PublisherMessage, Refusal,
};
use millrace_telemetry::Metrics;
use millrace_types::{RefusalReason, StreamKey};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::rustls;

/// Longer than anything here takes; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lets in who shows the farm's key.
pub struct OneKey {
    key: StreamKey,
    publications: mpsc::UnboundedSender<(SocketAddr, Publication)>,
}

impl Gate for OneKey {
    async fn authorize(&self, request: PublishRequest) -> Result<Granted, Refusal> {
        if request.key != self.key {
            return Err(RefusalReason::BadKey.into());
        }
        let (granted, publication) = Publication::new(8);
        self.publications.send((request.peer, publication)).expect("the test listens");
        Ok(granted)
    }
}

/// A running ingest.
pub struct Farm {
    pub address: SocketAddr,
    pub key: StreamKey,
    pub stats: IngestMetrics,
    pub publications: mpsc::UnboundedReceiver<(SocketAddr, Publication)>,
    server: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Farm {
    pub async fn start() -> Self {
        Self::with(IngestConfig::default(), None).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        Self::with(IngestConfig { limits, ..IngestConfig::default() }, None).await
    }

    pub async fn with(config: IngestConfig, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let key = StreamKey::from_random("demo".parse().expect("a name"), [9; 17]);
        let (sender, publications) = mpsc::unbounded_channel();
        let gate = Arc::new(OneKey { key: key.clone(), publications: sender });
        let stats = IngestMetrics::new(&Metrics::new());
        let server = IngestServer::new(config, gate, stats.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(server.serve(listener, tls, stopped));
        Self { address, key, stats, publications, server, stop: Some(stop) }
    }

    pub fn url(&self) -> String {
        format!("rtmp://{}/live/{}", self.address, self.key.reveal())
    }

    /// Closes the listener; connections stay.
    pub fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits until at least `times` connections have ended for `reason`.
    pub async fn counted(&self, reason: RefusalReason, times: u64) {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let reached = timeout(PATIENCE, async {
            while self.stats.refused(reason) < times {
                tick.tick().await;
            }
        });
        assert!(reached.await.is_ok(), "{:?}", self.stats);
    }

    /// The next publication that the gate let in.
    pub async fn publication(&mut self) -> Publication {
        let waited = timeout(PATIENCE, self.publications.recv()).await;
        waited.expect("a publisher in time").expect("a running server").1
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The next media message.
pub async fn next_media(publication: &mut Publication) -> PublisherMessage {
    match timeout(PATIENCE, publication.next()).await.expect("media in time") {
        Some(IngestEvent::Media(message)) => message,
        other => panic!("media expected, not {other:?}"),
    }
}

/// What came until the end.
#[derive(Debug, Default)]
pub struct Tally {
    pub video: usize,
    pub audio: usize,
    pub metadata: usize,
    pub last_video_ms: u32,
    pub end: Option<IngestEnd>,
}

/// Counts everything up to the end.
pub async fn tally(mut publication: Publication) -> Tally {
    let mut tally = Tally::default();
    loop {
        match timeout(PATIENCE, publication.next()).await.expect("an event in time") {
            Some(IngestEvent::Media(message)) => match message.kind {
                MessageKind::Video => {
                    tally.video += 1;
                    tally.last_video_ms = tally.last_video_ms.max(message.timestamp_ms);
                }
                MessageKind::Audio => tally.audio += 1,
                MessageKind::Metadata => tally.metadata += 1,
            },
            Some(IngestEvent::Ended(end)) => tally.end = Some(end),
            None => return tally,
        }
    }
}
