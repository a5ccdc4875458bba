//! What a player's URL path names. Strangers write it.

use millrace_hls::{Hash, Query};
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

    /// The stream it is about; `None` for pages of the origin itself.
    pub(crate) fn stream(&self) -> Option<&StreamId> {
        match self {
            Self::List | Self::Watch | Self::Asset(_) => None,
            Self::Multivariant(stream)
            | Self::Status(stream)
            | Self::Media(stream, _)
            | Self::Init(stream, ..)
            | Self::Segment(stream, ..)
            | Self::Part(stream, ..) => Some(stream),
        }
    }

    /// Whether it names a playlist.
    pub(crate) fn is_playlist(&self) -> bool {
        matches!(self, Self::Multivariant(_) | Self::Media(..))
    }

    /// Path and query that name the same, written in one way only.
    pub(crate) fn target(&self, query: Query) -> String {
        match self {
            Self::List | Self::Watch | Self::Asset(_) => "/".to_owned(),
            Self::Multivariant(stream) => format!("/live/{stream}/index.m3u8"),
            Self::Status(stream) => format!("/live/{stream}/status.json"),
            Self::Media(stream, rung) => {
                let mut directives = Vec::new();
                if let Some(block) = query.block {
                    directives.push(format!("_HLS_msn={}", block.msn));
                    directives.extend(block.part.map(|part| format!("_HLS_part={part}")));
                }
                if query.skip {
                    directives.push("_HLS_skip=YES".to_owned());
                }
                let mark = if directives.is_empty() { "" } else { "?" };
                format!("/live/{stream}/{rung}/index.m3u8{mark}{}", directives.join("&"))
            }
            Self::Init(stream, rung, hash) => format!("/live/{stream}/{rung}/init-{hash}.mp4"),
            Self::Segment(stream, rung, msn) => format!("/live/{stream}/{rung}/{msn}.m4s"),
            Self::Part(stream, rung, msn, part) => {
                format!("/live/{stream}/{rung}/{msn}.{part}.m4s")
            }
        }
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
    fn what_a_route_is_asked_for_by_at_another_origin_names_the_same() {
        let hash = Hash::of(b"x");
        let files = ["index.m3u8", "status.json", "720p/index.m3u8", "720p/7.m4s", "720p/7.4.m4s"];
        let files = files.map(str::to_owned).into_iter().chain([format!("720p/init-{hash}.mp4")]);
        for path in files.map(|file| format!("/live/demo/{file}")) {
            let route = Route::parse(&path).unwrap();
            assert_eq!(route.target(Query::default()), path);
        }
        let media = Route::parse("/live/demo/720p/index.m3u8").unwrap();
        for text in ["_HLS_msn=7", "_HLS_msn=7&_HLS_part=2", "_HLS_msn=7&_HLS_part=2&_HLS_skip=YES"]
        {
            let target = media.target(Query::parse(text).unwrap());
            assert_eq!(target, format!("/live/demo/720p/index.m3u8?{text}"));
        }
        let other_order = Query::parse("_HLS_part=2&x=1&_HLS_msn=7").unwrap();
        assert!(media.target(other_order).ends_with("?_HLS_msn=7&_HLS_part=2"));
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
