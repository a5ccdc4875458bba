//! Two programs of a farm over loopback: who gets in, who does not and why, and what a new certificate changes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use millrace_telemetry::Metrics;
use millrace_tls::{
    Expected, FarmListener, FarmStream, FarmTls, FarmTlsConfig, Gate, Identity, Role, connect,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(5);

/// An authority and what it has signed, in a folder of its own.
struct Authority {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("millrace-farm-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    /// Certificate and key for `name`, valid until that year, in place of earlier ones.
    fn issue(&self, name: &str, until: i32) -> FarmTlsConfig {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let stem = name.replace('/', "-");
        let file = |ending: &str| self.dir.join(format!("{stem}.{ending}"));
        fs::write(file("pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(file("key"), key.serialize_pem()).unwrap();
        FarmTlsConfig { ca: self.dir.join("ca.pem"), certificate: file("pem"), key: file("key") }
    }

    fn program(&self, name: &str) -> Arc<FarmTls> {
        load(&self.issue(name, 4000)).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn load(files: &FarmTlsConfig) -> Result<Arc<FarmTls>, String> {
    let named = Path::new(&files.certificate).file_stem().unwrap().to_str().unwrap();
    let identity: Identity = named.replacen('-', "/", 1).parse().unwrap();
    let expected = Expected::named(identity.role, identity.name);
    FarmTls::load(files, expected, &Metrics::new()).map_err(|error| error.to_string())
}

/// A node's Link that says `hello` to whoever gets in, and its address.
async fn node(tls: Arc<FarmTls>, plain_from_here: bool) -> std::net::SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let gate = Gate { tls, roles: &[Role::Router], listener: "link", plain_from_here };
    let mut listener = FarmListener::new(tcp, Some(gate));
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, peer) = listener.accept().await;
            let who = peer.identity.map_or("this host".to_owned(), |it| it.to_string());
            stream.write_all(format!("hello {who}\n").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            open.push(stream);
        }
    });
    address
}

/// The first line that is heard, or what went wrong.
async fn heard(stream: std::io::Result<FarmStream>) -> Result<String, String> {
    let mut stream = stream.map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    let reading = async {
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await?);
        }
        std::io::Result::Ok(())
    };
    timeout(SOON, reading).await.unwrap().map_err(|error| error.to_string())?;
    Ok(String::from_utf8(line).unwrap().trim().to_owned())
}

fn expect(name: &str) -> Expected {
    let Identity { role, name } = name.parse().unwrap();
    Expected::named(role, name)
}

#[tokio::test]
async fn programs_of_a_farm_know_each_other_by_name_and_everybody_else_stays_out() {
    let (farm, other) = (Authority::new("farm"), Authority::new("other"));
    let at = node(farm.program("node/a"), false).await;
    let router = farm.program("router/r");
    let to_a = || expect("node/a");
    assert_eq!(heard(connect(Some(&router), at, to_a()).await).await.unwrap(), "hello router/r");
    let refused =
        async |who: &FarmTls, whom: Expected| heard(connect(Some(who), at, whom).await).await;
    let error = refused(&router, expect("node/b")).await.unwrap_err();
    assert!(error.contains("node/a answers, node/b was meant"), "{error}");
    let error = refused(&router, Expected::any(Role::Origin)).await.unwrap_err();
    assert!(error.contains("any origin was meant"), "{error}");
    assert!(refused(&farm.program("node/b"), to_a()).await.is_err(), "a node opens no Link");
    let error = refused(&other.program("router/r"), to_a()).await.unwrap_err();
    assert!(error.contains("no authority that counts"), "{error}");
    let mixed = other.issue("router/x", 4000);
    let trusting = FarmTlsConfig { ca: farm.dir.join("ca.pem"), ..mixed };
    assert!(load(&trusting).unwrap_err().contains("no authority that counts"));
}

#[tokio::test]
async fn without_tls_only_this_host_gets_in_and_only_where_it_may() {
    let farm = Authority::new("plain");
    let (closed, open) = (farm.program("node/a"), farm.program("node/b"));
    for (at, gets_in) in [(node(closed, false).await, false), (node(open, true).await, true)] {
        let mut tcp = TcpStream::connect(at).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let heard = heard(Ok(FarmStream::Plain(tcp))).await;
        assert_eq!(heard.is_ok_and(|line| line == "hello this host"), gets_in);
    }
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections_and_a_useless_one_for_none() {
    let farm = Authority::new("renewed");
    let files = farm.issue("node/a", 4000);
    let of_node = load(&files).unwrap();
    let at = node(of_node.clone(), false).await;
    let router = farm.program("router/r");
    let connected = connect(Some(&router), at, expect("node/a")).await;
    let before = fs::read(&files.certificate).unwrap();
    for (name, why) in [("node/b", "it is for node/b"), ("nobody", "role/name")] {
        let wrong = farm.issue(name, 4000);
        fs::copy(&wrong.certificate, &files.certificate).unwrap();
        fs::copy(&wrong.key, &files.key).unwrap();
        let error = of_node.reload().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("node-a.pem"), "{error}");
    }
    farm.issue("node/a", 2000);
    let error = of_node.reload().unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
    assert!(heard(connect(Some(&router), at, expect("node/a")).await).await.is_ok());
    farm.issue("node/a", 4000);
    assert_ne!(fs::read(&files.certificate).unwrap(), before);
    of_node.reload().unwrap();
    assert!(heard(connect(Some(&router), at, expect("node/a")).await).await.is_ok());
    assert!(heard(connected).await.is_ok(), "what was open stays open");
}

#[tokio::test]
async fn two_authorities_count_while_one_replaces_the_other() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = old.issue("node/a", 4000);
    let of_node = load(&files).unwrap();
    let at = node(of_node.clone(), false).await;
    let renewed = new.issue("router/r", 4000);
    let both =
        [fs::read(old.dir.join("ca.pem")).unwrap(), fs::read(new.dir.join("ca.pem")).unwrap()];
    fs::write(old.dir.join("ca.pem"), both.concat()).unwrap();
    let router = load(&FarmTlsConfig { ca: files.ca.clone(), ..renewed }).unwrap();
    let asked = async || heard(connect(Some(&router), at, expect("node/a")).await).await;
    assert!(asked().await.is_err(), "the node does not know the new one yet");
    of_node.reload().unwrap();
    assert!(asked().await.is_ok());
}
