//! The pages for people: the list of live streams, and the watch page, which finds its stream in its own address.

use std::{fmt::Write as _, sync::Arc};

use crate::stream::Stream;

/// The watch page of every stream.
pub(crate) const WATCH: &[u8] = include_bytes!("../assets/watch.html");

/// The list of streams. Their names need no escaping: see [`millrace_types::StreamId`].
pub(crate) fn list(streams: &[Arc<Stream>]) -> String {
    let mut items = String::new();
    for stream in streams {
        let id = &stream.id;
        let ended = stream.look(|window, _| window.is_ended());
        let note = if ended { " <small>ended</small>" } else { "" };
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
