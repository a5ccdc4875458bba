//! A publisher comes in over TLS, players watch over it, and the certificate is renewed under them: every frame is on every rung all
//! the same.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check, until};
use millrace_tests::{Farm, FarmOptions, SelfSigned};

const SECONDS: u32 = 16;
const WITHIN: Duration = Duration::from_secs(10);

/// Whether the server shows a certificate that who trusts `trusted` takes.
fn shows(url: &str, trusted: &Path) -> bool {
    let server = url.split('/').nth(2).unwrap();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-verify_return_error", "-connect", server, "-CAfile"]).arg(trusted);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    client.status().unwrap().success()
}

/// What a player who trusts `trusted` gets over HTTPS.
fn playlist(url: &str, trusted: &Path) -> String {
    let (server, path) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-verify_return_error", "-connect", server, "-CAfile"]);
    client.arg(trusted).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    // Whoever does not trust the server never sends it.
    let _ = client.stdin.take().unwrap().write_all(request.as_bytes());
    String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout).into_owned()
}

#[tokio::test]
async fn a_stream_over_tls_loses_nothing_while_its_certificate_is_renewed() {
    let certificate = SelfSigned::new().unwrap();
    let first = certificate.renew("first.pem").unwrap();
    let tls = certificate.setting();
    let toml = format!("[router]\n{tls}\n[origin]\n{tls}");
    let options = FarmOptions { toml, ..FarmOptions::default() };
    let farm = Farm::start(options.clone()).await.unwrap();
    let (channel, url) = (farm.channel(), farm.rtmps_url().unwrap());
    let clip = ClipSpec { seconds: SECONDS, ..ClipSpec::default() };
    let trust = ["-c", "copy", "-tls_verify", "1", "-ca_file", first.to_str().unwrap()];
    let mut publisher = Publisher::start_with(&clip.file().unwrap(), &trust, &url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    player.media(4.0, WITHIN * 2).await.unwrap();

    let watched = farm.playback_tls_url().unwrap();
    assert!(shows(&url, &first) && playlist(watched, &first).contains("#EXT-X-STREAM-INF"));
    let second = certificate.renew("second.pem").unwrap();
    assert!(!shows(&url, &second), "it is not read before it is asked for");
    assert!(!shows(watched, &second) && playlist(watched, &second).is_empty());
    farm.reload(&options).unwrap();
    let both = || shows(&url, &second) && shows(watched, &second);
    until("the new certificate", WITHIN, both).await.unwrap();
    assert!(!shows(&url, &first) && !shows(watched, &first));
    assert!(playlist(watched, &second).contains("#EXT-X-STREAM-INF"));

    let length = Duration::from_secs(u64::from(SECONDS));
    let status = publisher.wait(length + WITHIN).await.unwrap();
    assert!(status.success(), "{}", publisher.log());
    player.media(f64::from(SECONDS) - 0.2, WITHIN).await.unwrap();
    let recording = player.stop().await.unwrap();
    assert_eq!(farm.stream(&channel.stream).await.unwrap().restarts, 0);
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
}
