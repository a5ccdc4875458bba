//! The pages for people: the list of live streams, and the watch page, which finds its stream in its own address.

use std::{collections::BTreeMap, fmt::Write as _};

use millrace_types::StreamId;

/// The watch page of every stream.
pub(crate) const WATCH: &[u8] = include_bytes!("../assets/watch.html");

/// The list of streams, by name whether each has ended. Their names need no escaping: see [`StreamId`].
pub(crate) fn list(streams: &BTreeMap<StreamId, bool>) -> String {
    let mut items = String::new();
    for (id, ended) in streams {
        let note = if *ended { " <small>ended</small>" } else { "" };
        let _ = writeln!(
            items,
            "<li><a href=\"/watch/{id}\">{id}</a>{note} <a class=\"raw\" href=\"/live/{id}/index.m3u8\">index.m3u8</a></li>"
        );
    }
    let body = if items.is_empty() {
        "<p>No stream is live.</p>".to_owned()
    } else {
        format!("<ul class=\"streams\">\n{items}</ul>")
    };
    include_str!("../assets/list.html").replace("<!-- streams -->", &body)
}
