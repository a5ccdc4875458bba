//! HTTPS: the same streams over HTTP/2 and HTTP/1.1, asked for by curl.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod farm;

use std::process::Command;

use farm::{FIRST, Farm, free_ports, media};
use millrace_origin::{Config, TlsConfig};
use millrace_testkit::Scratch;

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_serves_http2_and_http1_on_the_same_port() {
    let scratch = Scratch::new("origin-tls").unwrap();
    let (certificate, key) = (scratch.path().join("cert.pem"), scratch.path().join("key.pem"));
    let (cert_file, key_file) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
    let mut arguments: Vec<&str> = make.split(' ').collect();
    arguments.extend([
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-out",
        cert_file,
        "-keyout",
        key_file,
    ]);
    run("openssl", &arguments);
    let tls = Some(TlsConfig { certificate: certificate.clone(), key: key.clone() });
    let farm = Farm::start(Config { tls, ..free_ports() }).await;
    farm.open(farm.epoch).await;
    for name in ["video", "audio"] {
        farm.push_init(name).await;
    }
    farm.fill(1, 1).await;
    let secure = farm.origin.addresses.playback_tls.unwrap();
    let url = format!("https://{secure}/live/demo/video/{FIRST}.m4s");
    let whole: Vec<u8> =
        (0..farm::PARTS).flat_map(|number| media("video", FIRST, number)).collect();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let out = run("curl", &["-sS", flag, "--cacert", cert_file, "-w", "%{http_version}", &url]);
        let (body, said) = out.split_at(out.len() - version.len());
        assert_eq!(String::from_utf8_lossy(said), version);
        assert_eq!(body, whole);
    }
}
