//! Every pure crate carries a `clippy.toml` with all the bans: one of its own replaces the root's, so a ban that
//! is missing there is lifted. Clippy applies them; this keeps the lists whole.

use std::fs;

use crate::{assert_clean, tree};

const PURE: &[&str] = &["types", "media", "hls", "sched", "lifecycle"];

/// What a pure crate may not touch. The first comes from the root's file.
const BANS: &[&str] = &[
    "std::thread::sleep",
    "std::thread::spawn",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::env::var",
    "std::fs::File",
    "std::fs::read",
    "std::fs::write",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::process::Command",
    "std::process::exit",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// The bans that `config` lacks, and those that do not say why.
fn missing(config: &str) -> Vec<String> {
    let line_of = |ban: &str| config.lines().find(|line| line.contains(&format!("\"{ban}\"")));
    BANS.iter()
        .filter_map(|ban| match line_of(ban) {
            None => Some(format!("{ban} is not banned")),
            Some(line) if !line.contains("reason = \"") => Some(format!("{ban}: no reason")),
            Some(_) => None,
        })
        .collect()
}

#[test]
fn every_pure_crate_bans_clocks_threads_files_sockets_and_hash_maps() {
    let mut findings = Vec::new();
    for name in PURE {
        let dir = tree::root().join("crates").join(name);
        if dir.join(".clippy.toml").exists() {
            findings.push(format!("{name}: .clippy.toml hides clippy.toml"));
        }
        let config = fs::read_to_string(dir.join("clippy.toml")).unwrap_or_default();
        findings.extend(missing(&config).into_iter().map(|found| format!("{name}: {found}")));
    }
    assert_clean(&findings);
}

#[test]
fn the_rule_fails_on_a_lifted_ban_and_on_one_without_a_reason() {
    let whole: String =
        BANS.iter().map(|ban| format!("{{ path = \"{ban}\", reason = \"r\" }},\n")).collect();
    assert_eq!(missing(&whole), Vec::<String>::new());
    let lifted = whole.replace("std::time::Instant::now", "std::time::Instant::elapsed");
    assert_eq!(missing(&lifted), ["std::time::Instant::now is not banned"]);
    let mute = whole.replacen("reason = \"r\"", "", 1);
    assert_eq!(missing(&mute), ["std::thread::sleep: no reason"]);
}
