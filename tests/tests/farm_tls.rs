//! A farm whose programs and etcd know each other by certificates: strangers get nowhere and learn nothing, and under a live
//! stream every certificate and their authority are replaced without a lost frame.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hyper::Method;
use millrace_testkit::{
    ClipSpec, HttpClient, Player, PlayerOptions, Publisher, Scratch, check, until, until_some,
};
use millrace_tests::{FarmCerts, ManyFarm, ManyOptions};

const SECONDS: u32 = 16;
const WITHIN: Duration = Duration::from_secs(15);
const PROGRAMS: [&str; 6] = ["origin-1", "origin-2", "api-1", "node-1", "node-2", "router-1"];

/// What somebody with `openssl s_client` hears over TLS 1.3 who shows that certificate, or none, and says `words`.
fn knock(at: SocketAddr, certificate: Option<[PathBuf; 2]>, words: &str) -> String {
    let mut client = Command::new("timeout");
    client.args(["3", "openssl", "s_client", "-quiet", "-tls1_3", "-connect", &at.to_string()]);
    if let Some([certificate, key]) = certificate {
        client.arg("-cert").arg(certificate).arg("-key").arg(key);
    }
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    // Whoever is turned away may not get to the end of it.
    let _ = client.stdin.take().unwrap().write_all(words.as_bytes());
    String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout).into_owned()
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: farm\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Waits for the line about a peer that was turned away.
async fn turned_away(farm: &ManyFarm, name: &str, listener: &str, reason: &str) {
    let wanted = [
        "\"peer refused\"".to_owned(),
        format!("\"listener\":\"{listener}\""),
        format!("\"reason\":\"{reason}\""),
    ];
    let said = || farm.log(name).lines().any(|line| wanted.iter().all(|word| line.contains(word)));
    let what = format!("{name} says {listener} {reason}");
    until(&what, WITHIN, said).await.unwrap_or_else(|late| panic!("{late}\n{}", farm.log(name)));
}

/// Nobody without a certificate of the farm, for that listener, is let in or told a byte.
async fn strangers_get_nowhere(farm: &ManyFarm, other: &FarmCerts) {
    let certs = farm.certs().unwrap();
    let put = request("PUT", "/intake/v1/live", "{}");
    for (name, listener) in [("node-1", "link"), ("origin-1", "intake")] {
        let at = farm.address(name, listener).unwrap();
        for (certificate, reason) in [
            (None, "no_certificate"),
            (Some(other.pair("router/router-1")), "unknown_authority"),
            (Some(certs.pair("api/api-1")), "wrong_role"),
        ] {
            assert_eq!(knock(at, certificate, &put), "", "{name} {listener} {reason}");
            turned_away(farm, name, listener, reason).await;
        }
        let plain = HttpClient::default().get(&format!("http://{at}/"), WITHIN).await;
        let words = plain.map(|answer| answer.text()).unwrap_or_default();
        assert!(words.is_empty(), "{words}");
        turned_away(farm, name, listener, "not_tls").await;
    }
    let admin = farm.address("node-1", "admin").unwrap();
    assert_eq!(knock(admin, None, &request("GET", "/metrics", "")), "");
}

/// Nor does a program that has somebody else's certificate join.
async fn strangers_do_not_join(farm: &mut ManyFarm, other: &FarmCerts) {
    let (ours, theirs) = (farm.certs().unwrap(), other.farm_tls("node/node-9"));
    let foreign = theirs.replace(other.ca().to_str().unwrap(), ours.ca().to_str().unwrap());
    let of_node = ours.farm_tls("node/node-1");
    for (name, farm_tls, why) in [
        ("node-7", String::new(), "https needs ca"),
        ("node-9", foreign, "no authority that counts here signed"),
        ("router-9", of_node, "it is for node/node-1, and this is router/router-9"),
        // Nobody of the farm knows its authority, and it knows none of the farm's.
        ("node-9", theirs, "registry session ended"),
    ] {
        farm.start_stranger(name, &farm_tls).unwrap();
        let said = || farm.log(name).contains(why);
        until(why, WITHIN, said).await.unwrap_or_else(|late| panic!("{late}\n{}", farm.log(name)));
    }
    let known = farm.api(Method::GET, "/v1/nodes", String::new()).await.unwrap();
    assert_eq!(known["nodes"].as_array().unwrap().len(), 2, "{known}");
    for stranger in ["node-7", "node-9", "router-9"] {
        // Most have ended by themselves.
        let _ = farm.kill(stranger);
    }
}

/// A certificate of the farm is good for what is its own, and for nothing else.
async fn certificates_are_good_for_their_own_only(
    farm: &ManyFarm,
    maker: &str,
    owner: &str,
    epoch: &str,
) {
    let certs = farm.certs().unwrap();
    let spare = if maker == "node-1" { "node/node-2" } else { "node/node-1" };
    let intake = farm.address(owner, "intake").unwrap();
    let (generation, placement) = epoch.split_once('.').unwrap();
    let epoch = format!("{{\"generation\":{generation},\"placement\":{placement}}}");
    let end = format!("{{\"epoch\":{epoch},\"continues\":false}}");
    let end = request("POST", "/intake/v1/live/end", &end);
    let heard = knock(intake, Some(certs.pair(spare)), &end);
    assert!(heard.contains(" 403 ") && heard.contains("not_the_writer"), "{heard}");
    let heard = knock(intake, Some(certs.pair("router/router-1")), &end);
    assert!(heard.contains(" 403 ") && heard.contains("wrong_role"), "{heard}");

    let admin = farm.address("node-1", "admin").unwrap();
    for (identity, path, status) in [
        ("monitor/prometheus", "/metrics", " 200 "),
        ("monitor/prometheus", "/v1/streams", " 403 "),
        ("api/api-1", "/v1/streams", " 200 "),
    ] {
        let heard = knock(admin, Some(certs.pair(identity)), &request("GET", path, ""));
        assert!(heard.lines().next().unwrap_or_default().contains(status), "{path}: {heard}");
    }

    let stolen = certs.etcd_client(&farm.etcd, "node/node-1").await.unwrap();
    let other = "/millrace/v1/nodes/node-2";
    let found = stolen.clone().get(other, None).await.unwrap();
    for key in [other, "/millrace/v1/channels/live", "/millrace/v1/streams/live", "/elsewhere"] {
        let denied = stolen.clone().put(key, "{}", None).await.unwrap_err().to_string();
        assert!(denied.contains("permission denied"), "{key}: {denied}");
    }
    let denied = stolen.clone().delete(other, None).await.unwrap_err().to_string();
    assert!(denied.contains("permission denied"), "{denied}");
    let denied = stolen.clone().lease_revoke(found.kvs()[0].lease()).await.unwrap_err().to_string();
    assert!(denied.contains("permission denied"), "{denied}");
}

/// What anybody may ask names nobody behind it.
async fn the_public_side_names_nobody(playback: SocketAddr) {
    for path in ["/", "/live/live/index.m3u8", "/live/live/status.json", "/live/none/index.m3u8"] {
        let answer = HttpClient::default().get(&format!("http://{playback}{path}"), WITHIN).await;
        let answer = answer.unwrap();
        let said = format!("{:?}\n{}", answer.headers, answer.text());
        let version = env!("CARGO_PKG_VERSION");
        for secret in PROGRAMS.iter().copied().chain([version, "127.0.0.1", "etcd"]) {
            assert!(!said.contains(secret), "{path} says {secret}: {said}");
        }
    }
}

/// First everybody trusts both authorities, then everybody has a certificate of the new one, then the old one goes.
async fn replace_every_certificate(farm: &mut ManyFarm) {
    let certs = farm.certs().unwrap();
    certs.run(&["init", "--replace"]).unwrap();
    farm.reload(1).await.unwrap();
    for name in PROGRAMS {
        let (role, _) = name.split_once('-').unwrap();
        farm.certs().unwrap().issue(&format!("{role}/{name}"), true).unwrap();
    }
    certs.issue("etcd/etcd-1", true).unwrap();
    farm.reload(2).await.unwrap();
    // etcd reads its authorities at its start only.
    farm.etcd.kill_member(0);
    farm.etcd.start_member(0).unwrap();
    let ca = farm.certs().unwrap().ca();
    let both = fs::read_to_string(&ca).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let (new, old) = both.split_once(end).unwrap();
    assert!(old.contains("BEGIN CERTIFICATE"), "{both}");
    fs::write(&ca, format!("{new}{end}")).unwrap();
    farm.reload(3).await.unwrap();
}

/// A certificate that counted before is now as good as none at that node's Link.
async fn is_not_known_any_more(farm: &ManyFarm, node: &str, certificate: [PathBuf; 2]) {
    let count = || farm.log(node).matches("unknown_authority").count();
    let before = count();
    assert_eq!(knock(farm.address(node, "link").unwrap(), Some(certificate), "hello"), "");
    let what = "the old authority counts no more";
    until(what, WITHIN, || count() > before).await.unwrap();
}

/// The origin that owns the stream.
async fn owner(farm: &ManyFarm) -> String {
    let owner = until_some("an origin owns the stream", WITHIN, async || {
        let view = farm.stream("router-1", "live").await.ok()?;
        Some(view.rest.get("origin")?.as_str()?.to_owned())
    });
    owner.await.unwrap()
}

#[tokio::test]
async fn a_farm_with_certificates_lets_no_stranger_in_and_streams_on_while_all_are_replaced() {
    let options = ManyOptions { tls: true, origins: 2, ..ManyOptions::default() };
    let mut farm = ManyFarm::start(options).await.unwrap();
    let scratch = Scratch::new("strangers").unwrap();
    let other = FarmCerts::new(scratch.path()).unwrap();
    for identity in ["router/router-1", "node/node-9"] {
        other.issue(identity, false).unwrap();
    }
    farm.certs().unwrap().issue("monitor/prometheus", false).unwrap();
    let channel =
        farm.new_channel("live", farm.address("router-1", "rtmp").unwrap()).await.unwrap();
    let clip = ClipSpec { seconds: SECONDS, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    // At the origin that has to ask the other.
    let owner = owner(&farm).await;
    let other_origin = if owner == "origin-1" { "origin-2" } else { "origin-1" };
    let playback = farm.address(other_origin, "playback").unwrap();
    let url = format!("http://{playback}/live/live/index.m3u8");
    let player = Player::start(&url, PlayerOptions::default());
    let began = Instant::now();
    player.media(0.3, WITHIN).await.unwrap();

    let (maker, worker) = farm.made_by("router-1", "live", None).await.unwrap();
    let view = farm.stream("router-1", "live").await.unwrap();
    let epoch = view.rest["epoch"].as_str().unwrap();
    strangers_get_nowhere(&farm, &other).await;
    certificates_are_good_for_their_own_only(&farm, &maker, &owner, epoch).await;
    the_public_side_names_nobody(playback).await;
    strangers_do_not_join(&mut farm, &other).await;

    let [old, key] = farm.certs().unwrap().pair("router/router-1");
    let kept = [scratch.path().join("old.pem"), scratch.path().join("old.key")];
    fs::copy(old, &kept[0]).unwrap();
    fs::copy(key, &kept[1]).unwrap();
    replace_every_certificate(&mut farm).await;
    let view = farm.stream("router-1", "live").await.unwrap();
    assert_eq!((view.restarts, view.worker_pid), (0, Some(worker)), "nothing live was touched");
    // From here on everything is connected anew, with certificates of the new authority.
    farm.kill(&maker).unwrap();
    println!("all certificates replaced {:?} after the first frame", began.elapsed());
    let (next, _) = farm.made_by("router-1", "live", Some(worker)).await.unwrap();
    assert_ne!(next, maker);
    is_not_known_any_more(&farm, &next, kept).await;

    let length = Duration::from_secs(SECONDS.into());
    assert!(publisher.wait(length + WITHIN).await.unwrap().success(), "{}", publisher.log());
    player.media(f64::from(SECONDS) - 0.2, WITHIN).await.unwrap();
    until_some("the registry answers the new certificates", WITHIN, async || {
        farm.api(Method::POST, "/v1/channels", "{\"channel\":\"late\"}".to_owned()).await.ok()
    })
    .await
    .unwrap();
    let recording = player.stop().await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
}
