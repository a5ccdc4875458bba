//! What carries RTMP: TLS, proxies, and a task that is lost.

use std::{sync::Arc, time::Duration};

use millrace_publisher::Publisher;
use millrace_router::ingest::{
    Gate, Granted, IngestConfig, IngestEnd, IngestMetrics, IngestServer, PublishRequest, Refusal,
};
use millrace_telemetry::Metrics;
use millrace_types::{RefusalReason, StreamKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};

use crate::{
    encoders,
    farm::{Farm, PATIENCE, tally},
};

fn self_signed() -> Arc<rustls::ServerConfig> {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.expect("a usable certificate"))
}

#[tokio::test]
async fn ffmpeg_publishes_over_tls_and_reads_its_refusal_there() {
    let mut farm = Farm::with(IngestConfig::default(), Some(self_signed())).await;
    let url = farm.url().replace("rtmp://", "rtmps://");
    let mut encoder = encoders::ffmpeg(1, "", &url);
    let (output, tally) = tokio::join!(encoders::finish(&mut encoder), async {
        tally(farm.publication().await).await
    });
    assert!(output.status.success(), "{}", encoders::log(&output));
    assert_eq!((tally.video, tally.end), (32, Some(IngestEnd::Unpublished)));
    let wrong = url.replace("/live/", "/live/x");
    let output = encoders::finish(&mut encoders::ffmpeg(1, "", &wrong)).await;
    assert!(encoders::log(&output).contains("bad_key: "), "{}", encoders::log(&output));
}

#[tokio::test]
async fn a_plain_client_on_the_tls_port_is_refused() {
    let farm = Farm::with(IngestConfig::default(), Some(self_signed())).await;
    let refused = Publisher::connect(&format!("rtmp://{}/live", farm.address), "key").await;
    assert!(refused.is_err());
    farm.counted(RefusalReason::Protocol, 1).await;
}

/// Forwards one connection with a PROXY protocol header that names `192.0.2.7:4242`.
async fn proxy_to(farm: &Farm) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let (address, target) = (listener.local_addr().expect("bound"), farm.address);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut server = TcpStream::connect(target).await.expect("the ingest");
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend([192, 0, 2, 7, 127, 0, 0, 1, 0x10, 0x92, 7, 143]);
        server.write_all(&header).await.expect("sent");
        // Whichever side ends the connection ends the proxy.
        drop(copy_bidirectional(&mut client, &mut server).await);
    });
    address
}

#[tokio::test]
async fn a_publisher_behind_a_proxy_is_known_by_its_own_address() {
    let proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let mut farm = Farm::with(IngestConfig { proxies, ..IngestConfig::default() }, None).await;
    let url = format!("rtmp://{}/live", proxy_to(&farm).await);
    let _publisher = Publisher::connect(&url, &farm.key.reveal()).await.expect("let in");
    let (peer, _publication) = timeout(PATIENCE, farm.publications.recv()).await.unwrap().unwrap();
    assert_eq!(peer.to_string(), "192.0.2.7:4242");
}

/// Panics for the first publisher, refuses the others.
struct Broken;

impl Gate for Broken {
    async fn authorize(&self, request: PublishRequest) -> Result<Granted, Refusal> {
        assert_ne!(request.key.channel().as_str(), "panic", "as the test wants it");
        Err(RefusalReason::NoCapacity.into())
    }
}

#[tokio::test]
async fn a_panic_loses_one_connection_and_is_counted() {
    let stats = IngestMetrics::new(&Metrics::new());
    let server = IngestServer::new(IngestConfig::default(), Arc::new(Broken), stats.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("rtmp://{}/live", listener.local_addr().expect("bound"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(listener, None, async { drop(stopped.await) }));
    let key = |channel: &str| StreamKey::from_random(channel.parse().unwrap(), [1; 17]).reveal();
    assert!(Publisher::connect(&url, &key("panic")).await.is_err());
    let Err(refused) = Publisher::connect(&url, &key("other")).await else { panic!("let in") };
    assert!(refused.to_string().contains("no_capacity: the farm is full"), "{refused}");
    stop.send(()).expect("the server runs");
    timeout(PATIENCE, serving).await.expect("it ends once its connections have").expect("cleanly");
    assert_eq!(stats.panicked(), 1);
}

#[tokio::test]
async fn a_stopped_ingest_takes_no_more_and_keeps_whom_it_has() {
    let mut farm = Farm::start().await;
    let url = format!("rtmp://{}/live", farm.address);
    let publisher = Publisher::connect(&url, &farm.key.reveal()).await.expect("let in");
    let publication = farm.publication().await;
    farm.stop();
    let waited = timeout(PATIENCE, async {
        while TcpStream::connect(farm.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the listener closes");
    publisher.finish().await.expect("it still says goodbye");
    assert_eq!(tally(publication).await.end, Some(IngestEnd::Unpublished));
}

#[tokio::test]
async fn what_is_said_before_the_handshake_ends_is_nothing() {
    let farm = Farm::start().await;
    let mut socket = TcpStream::connect(farm.address).await.expect("connected");
    socket.write_all(b"x").await.expect("sent");
    let mut said = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut said)).await.expect("closed").expect("read");
    assert!(said.is_empty(), "strangers learn nothing: {said:?}");
}
