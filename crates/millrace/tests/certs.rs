//! `millrace certs`: what it writes, who can read it, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Output},
};

use millrace_testkit::Scratch;

fn certs(dir: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.arg("certs").args(arguments.split_whitespace()).arg("--dir").arg(dir);
    command.output().unwrap()
}

fn done(dir: &Path, arguments: &str) -> String {
    let output = certs(dir, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "certs {arguments}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when a person must do something first.
fn refused(dir: &Path, arguments: &str) -> String {
    let output = certs(dir, arguments);
    assert_eq!(output.status.code(), Some(2), "certs {arguments}");
    String::from_utf8(output.stderr).unwrap()
}

/// Whether openssl, another's reading of the same standards, takes the certificate for either end of a connection.
fn openssl_takes(dir: &Path, name: &str) -> bool {
    ["sslserver", "sslclient"].iter().all(|purpose| {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .arg(dir.join("ca.pem"));
        openssl.arg(dir.join(name)).output().unwrap().status.success()
    })
}

#[test]
fn an_authority_issues_certificates_that_others_take_and_keys_that_only_their_owner_reads() {
    let scratch = Scratch::new("certs").unwrap();
    let dir = scratch.path();
    done(dir, "init --farm testing");
    done(dir, "issue node gpu-3");
    done(dir, "issue etcd etcd-1 --address 192.0.2.7 --address etcd-1.example --days 30");
    for (file, mode) in
        [("ca.key", 0o600), ("node-gpu-3.key", 0o600), ("ca.pem", 0o644), ("node-gpu-3.pem", 0o644)]
    {
        assert_eq!(fs::metadata(dir.join(file)).unwrap().mode() & 0o777, mode, "{file}");
    }
    assert!(openssl_takes(dir, "node-gpu-3.pem") && openssl_takes(dir, "etcd-etcd-1.pem"));
    let shown = done(dir, "show");
    let line = |name: &str| shown.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("etcd-etcd-1.pem").contains("192.0.2.7,etcd-1.example"), "{shown}");
    assert!(line("etcd-etcd-1.pem").contains("29 days") && line("ca.pem").contains("authority"));
    let read: serde_json::Value = serde_json::from_str(&done(dir, "show --json")).unwrap();
    assert!(read.as_array().unwrap().iter().any(|it| it["name"] == "node/gpu-3"), "{read}");
}

#[test]
fn what_is_there_is_only_replaced_when_asked_for() {
    let scratch = Scratch::new("certs").unwrap();
    let dir = scratch.path();
    assert!(refused(dir, "issue node a").contains("millrace certs init"));
    done(dir, "init");
    assert!(refused(dir, "init").contains("is there already"));
    done(dir, "issue node a --address 192.0.2.1");
    let first = fs::read(dir.join("node-a.pem")).unwrap();
    assert!(refused(dir, "issue node a").contains("--renew"));
    assert_eq!(fs::read(dir.join("node-a.pem")).unwrap(), first);
    done(dir, "issue node a --renew");
    assert_ne!(fs::read(dir.join("node-a.pem")).unwrap(), first);
    assert!(done(dir, "show").contains("192.0.2.1"), "a renewed one keeps its addresses");
    assert!(refused(dir, "issue etcd e").contains("--address"));
    assert!(refused(dir, "issue node b --address 192.0.2.1:1").contains("192.0.2.1:1"));

    done(dir, "init --replace");
    assert!(openssl_takes(dir, "node-a.pem"), "the old authority counts for a while");
    done(dir, "issue node b");
    assert!(openssl_takes(dir, "node-b.pem"));
    assert!(refused(dir, "rights").contains("operator"));
    done(dir, "issue operator ann");
    assert!(done(dir, "rights --prefix /farm-2").contains("readwrite /farm-2/nodes/a\n"));
}
