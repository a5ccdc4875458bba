//! What a player's URL path names. Strangers write it.

use millrace_hls::Hash;
use millrace_types::{Msn, PartNo, RungId, StreamId};

/// Something a player can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/`
    List,
    /// `/watch/<stream>`
    Watch,
    /// `/assets/<file>`
    Asset(&'static Asset),
    /// `/live/<stream>/index.m3u8`
    Multivariant(StreamId),
    /// `/live/<stream>/status.json`
    Status(StreamId),
    /// `/live/<stream>/<rung>/index.m3u8`
    Media(StreamId, RungId),
    /// `/live/<stream>/<rung>/init-<hash>.mp4`
    Init(StreamId, RungId, Hash),
    /// `/live/<stream>/<rung>/<msn>.m4s`
    Segment(StreamId, RungId, Msn),
    /// `/live/<stream>/<rung>/<msn>.<part>.m4s`
    Part(StreamId, RungId, Msn, PartNo),
}

/// A file that is part of the program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: &'static [u8],
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 3] = [
    Asset {
        name: "hls.min.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("../assets/hls.min.js"),
    },
    Asset {
        name: "watch.js",
        content_type: JAVASCRIPT,
        bytes: include_bytes!("../assets/watch.js"),
    },
    Asset {
        name: "page.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/page.css"),
    },
];

impl Route {
    /// The route of a path, `None` for 404.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let route = match (segments.next()?, segments.next(), segments.next(), segments.next()) {
            ("", None, ..) => Self::List,
            ("watch", Some(stream), None, _) => {
                stream.parse::<StreamId>().ok().map(|_| Self::Watch)?
            }
            ("assets", Some(name), None, _) => {
                Self::Asset(ASSETS.iter().find(|asset| asset.name == name)?)
            }
            ("live", Some(stream), Some("index.m3u8"), None) => {
                Self::Multivariant(stream.parse().ok()?)
            }
            ("live", Some(stream), Some("status.json"), None) => Self::Status(stream.parse().ok()?),
            ("live", Some(stream), Some(rung), Some(file)) => {
                Self::file(stream.parse().ok()?, rung.parse().ok()?, file)?
            }
            _ => return None,
        };
        segments.next().is_none().then_some(route)
    }

    fn file(stream: StreamId, rung: RungId, file: &str) -> Option<Self> {
        if file == "index.m3u8" {
            return Some(Self::Media(stream, rung));
        }
        if let Some(hash) = file.strip_prefix("init-").and_then(|rest| rest.strip_suffix(".mp4")) {
            return Some(Self::Init(stream, rung, hash.parse().ok()?));
        }
        let numbers = file.strip_suffix(".m4s")?;
        if !numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        match numbers.split_once('.') {
            None => Some(Self::Segment(stream, rung, Msn(numbers.parse().ok()?))),
            Some((msn, part)) => {
                Some(Self::Part(stream, rung, Msn(msn.parse().ok()?), PartNo(part.parse().ok()?)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_url_of_a_playlist_has_a_route() {
        let (stream, rung) = ("demo".parse().unwrap(), "720p".parse().unwrap());
        let part = Route::Part(stream, rung, Msn(1_795_222_923), PartNo(4));
        assert_eq!(Route::parse("/live/demo/720p/1795222923.4.m4s"), Some(part));
        for path in ["/", "/watch/demo", "/assets/hls.min.js", "/live/demo/index.m3u8"] {
            assert!(Route::parse(path).is_some(), "{path}");
        }
        let hash = Hash::of(b"x");
        assert!(Route::parse(&format!("/live/demo/720p/init-{hash}.mp4")).is_some());
    }

    #[test]
    fn what_no_playlist_names_has_no_route() {
        for path in [
            "",
            "live",
            "//",
            "/live",
            "/live/demo",
            "/live/../index.m3u8",
            "/live/demo/720p/+1.m4s",
            "/live/demo/720p/1.2.3.m4s",
            "/live/demo/720p/.m4s",
            "/live/demo/720p/init-.mp4",
            "/live/demo/720p/1.m4s/x",
            "/watch/demo/x",
            "/watch/<b>",
            "/assets/../x",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
