//! `docs/reference/configuration.md` is written from every program's `config.rs`, the registry's settings and the scheduler's:
//! each key with its type and meaning.
//!
//! The test compares, or writes: see [`crate::tree::assert_page`].

use std::fmt::Write as _;

use crate::tree;

const HEAD: &str = "# Configuration\n\n\
Written from the sources by a house test; do not edit. Every key is optional; an unknown one is an error. The defaults\n\
stand in each program's `config.rs`. The file of a program of its own also takes `log` (what to log, such as `info` or\n\
`millrace_node=debug,info`) and a section `[registry]` (where etcd is; see the shipped examples).\n";

/// A struct of settings: its name and its keys as (name, type, meaning).
type Table = (String, Vec<[String; 3]>);

/// The public structs of a source file with their public, documented fields.
fn tables(source: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut doc = String::new();
    let before_tests = source.split("#[cfg(test)]").next().unwrap_or_default();
    for line in before_tests.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc += text;
            continue;
        }
        let is_struct = |rest: &str| rest.strip_suffix(" {").map(str::to_owned);
        if let Some(name) = line.strip_prefix("pub struct ").and_then(is_struct) {
            tables.push((name, Vec::new()));
        } else if let (Some(field), Some((_, keys))) = (field(line), tables.last_mut()) {
            keys.push([field.0.to_owned(), field.1.to_owned(), doc.trim().replace('|', "\\|")]);
        } else if line.starts_with('#') {
            continue;
        }
        doc.clear();
    }
    tables.retain(|(_, keys)| !keys.is_empty());
    tables
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, kind) = line.strip_prefix("pub ")?.strip_suffix(',')?.split_once(": ")?;
    name.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        .then_some((name, kind))
}

fn page<'a>(sources: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut page = HEAD.to_owned();
    for (program, source) in sources {
        for (name, keys) in tables(source) {
            let title = match name.as_str() {
                "Config" => program.to_owned(),
                "RegistryConfig" => "registry: `[registry]` of every program".to_owned(),
                "HotConfig" => "router: `[hot]`".to_owned(),
                "CapacityConfig" => "node: `[capacity]`".to_owned(),
                "LadderConfig" => "router: `[ladder]`".to_owned(),
                "RungConfig" => "router: each `[[ladder.rung]]`, best first".to_owned(),
                _ if program == "sched" => continue,
                _ => format!("{program}: {name}"),
            };
            let _ = write!(page, "\n## {title}\n\n| key | type | means |\n|---|---|---|\n");
            for [key, kind, meaning] in keys {
                let _ = writeln!(page, "| `{key}` | `{kind}` | {meaning} |");
            }
        }
    }
    page
}

#[test]
fn the_reference_lists_exactly_the_keys_of_every_configuration() {
    let elsewhere = ["registry/src/settings.rs", "sched/src/hot.rs", "sched/src/ladder.rs"];
    let texts = tree::texts(&[&["/src/config.rs"], &elsewhere[..]].concat());
    let sources = texts.iter().filter_map(|(path, source)| {
        let (program, _) = path.strip_prefix("crates/")?.split_once('/')?;
        Some((program, source.as_str()))
    });
    let page = page(sources);
    assert!(page.contains("listen_playback"), "the sources are not where they were");
    assert!(page.contains("lease_seconds"), "the registry's settings are not where they were");
    assert!(page.contains("share_percent"), "the scheduler's settings are not where they were");
    tree::assert_page("docs/reference/configuration.md", &page);
}

#[test]
fn keys_are_read_with_their_meaning_and_an_undocumented_one_stands_bare() {
    let source = "/// Settings.\n#[derive(Debug)]\npub struct Config {\n    /// Where it\n    /// listens.\n    #[serde(default)]\n    pub listen: SocketAddr,\n    pub bare: u8,\n    private: u8,\n}\n";
    let expected = "## node\n\n| key | type | means |\n|---|---|---|\n| `listen` | `SocketAddr` | Where it listens. |\n| `bare` | `u8` |  |\n";
    assert!(page([("node", source)].into_iter()).ends_with(expected));
}
