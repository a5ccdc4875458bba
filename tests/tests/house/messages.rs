//! `docs/reference/messages.md` is written from the crate `wire`: each kind of frame, each field and its number.
//!
//! The test compares, or writes: see [`crate::tree::assert_page`].

use std::{fmt::Write as _, fs};

use crate::tree;

const HEAD: &str = "# Messages of Link and worker socket\n\n\
Written from the sources by a house test; do not edit. What they are for stands in [protocol/link.md](../protocol/link.md).\n";

/// The kinds of frames in `codec.rs`: number and name.
pub fn kinds(source: &str) -> Vec<(u8, String)> {
    source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.strip_suffix(';'))
        .filter_map(|constant| {
            let (name, number) = constant.split_once(": u8 = ")?;
            Some((number.parse().ok()?, name.to_lowercase()))
        })
        .collect()
}

/// One message: its name and its fields as (number, name, type).
type Message = (String, Vec<(String, String, String)>);

/// The messages in `proto.rs`, in its order.
fn messages(source: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut tag = None;
    for line in source.lines().map(str::trim) {
        if let Some(name) =
            line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {"))
        {
            messages.push((name.to_owned(), Vec::new()));
        } else if let Some(attribute) = line.strip_prefix("#[prost(") {
            tag = attribute.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next());
        } else if let (Some(number), Some(field)) = (tag, line.strip_prefix("pub ")) {
            let (name, kind) = field.trim_end_matches(',').split_once(": ").unwrap_or((field, ""));
            let fields = messages.last_mut().map(|(_, fields)| fields);
            fields.unwrap().push((number.to_owned(), name.to_owned(), kind.to_owned()));
            tag = None;
        }
    }
    messages
}

fn page(codec: &str, proto: &str) -> String {
    let mut page = format!("{HEAD}\n## Kinds of frames\n\n| kind | message |\n|---|---|\n");
    for (number, name) in kinds(codec) {
        let _ = writeln!(page, "| {number} | {name} |");
    }
    for (name, fields) in messages(proto) {
        let _ = write!(page, "\n## {name}\n\n| number | field | type |\n|---|---|---|\n");
        for (number, field, kind) in fields {
            let _ = writeln!(page, "| {number} | `{field}` | `{kind}` |");
        }
    }
    page
}

#[test]
fn the_reference_lists_exactly_the_messages_of_the_sources() {
    let source = |name: &str| fs::read_to_string(tree::root().join("crates/wire/src").join(name));
    let (codec, proto) = (source("codec.rs").unwrap(), source("proto.rs").unwrap());
    assert!(kinds(&codec).len() > 10 && messages(&proto).len() > 10, "the sources have changed");
    tree::assert_page("docs/reference/messages.md", &page(&codec, &proto));
}

#[test]
fn kinds_and_fields_are_read_with_their_numbers() {
    let codec = "mod kind {\n    pub const HELLO: u8 = 1;\n}\npub const FORMAT: u32 = 1;\n";
    assert_eq!(kinds(codec), [(1, "hello".to_owned())]);
    let proto = "/// Doc.\npub struct Tick {\n    #[prost(uint64, tag = \"1\")]\n    pub seq: u64,\n    /// Doc.\n    #[prost(sint64, tag = \"7\")]\n    pub to: i64,\n}\n";
    let page = page(codec, proto);
    assert!(page.ends_with("## Tick\n\n| number | field | type |\n|---|---|---|\n| 1 | `seq` | `u64` |\n| 7 | `to` | `i64` |\n"));
}
