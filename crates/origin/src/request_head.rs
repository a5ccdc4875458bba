//! The head of a player's HTTP/1.1 request, from bytes to what was asked. Strangers write it; reading it off a connection is
//! [`crate::http1`]'s.

use std::mem::MaybeUninit;

use crate::player::Asked;

/// More headers than any player sends.
const MAX_HEADERS: usize = 64;

/// A request that is there in full.
pub(crate) struct Head {
    pub(crate) asked: Asked,
    /// Bytes it took.
    pub(crate) length: usize,
    pub(crate) keep_alive: bool,
}

/// Why a connection is given up after an error answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No request of HTTP/1.0 or 1.1: 400.
    #[error("no http/1 request")]
    Syntax,
    /// More headers than any player sends: 431.
    #[error("a request head that is too long")]
    TooLong,
    /// A request of another method than those there are, with a body: 405.
    #[error("a request to change something")]
    Method,
    /// A request with a body: 413.
    #[error("a request with a body")]
    Body,
}

impl Malformed {
    /// A complete answer, after which the connection is closed.
    pub(crate) const fn answer(self) -> &'static [u8] {
        match self {
            Self::Syntax => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            Self::TooLong => {
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
            Self::Method => {
                b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET, HEAD, OPTIONS\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
            Self::Body => {
                b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
        }
    }
}

/// What [`read_request`] says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes its head takes.
    pub bytes: usize,
    /// Path and query by which another origin is asked for the same; `None` where none is asked.
    pub relayed_as: Option<String>,
}

/// Reads the first request in `received` as a connection does, down to its path and query; `None` when bytes are missing. It
/// is how strangers' bytes can be tried without a connection.
///
/// # Errors
/// [`Malformed`] when the bytes are no request that is answered.
pub fn read_request(received: &[u8]) -> Result<Option<Request>, Malformed> {
    let head = parse(received)?;
    Ok(head.map(|head| Request { bytes: head.length, relayed_as: head.asked.relayed_as() }))
}

/// `None` when bytes are missing.
pub(crate) fn parse(received: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(received, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLong),
        Err(_) => return Err(Malformed::Syntax),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Malformed::Syntax);
    };
    let (mut accept_encoding, mut keep_alive) = ("", version == 1);
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("accept-encoding") {
            accept_encoding = value;
        } else if is("connection") {
            keep_alive &= !value.to_ascii_lowercase().contains("close");
        } else if is("transfer-encoding") || (is("content-length") && value != "0") {
            return Err(match method {
                "GET" | "HEAD" | "OPTIONS" => Malformed::Body,
                _ => Malformed::Method,
            });
        }
    }
    let target = without_authority(target);
    let (path, query) =
        target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let asked = Asked::new(method, path, query, accept_encoding);
    Ok(Some(Head { asked, length, keep_alive }))
}

/// A target in absolute form (RFC 9112 3.2.2), as proxies send it, from its path on; any other as it is.
fn without_authority(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((scheme, rest)) = target.split_once("://") else { return target };
    match rest.find('/') {
        Some(path) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            &rest[path..]
        }
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_once_it_is_complete_and_no_further() {
        let text =
            b"GET /live/demo/index.m3u8?a=1 HTTP/1.1\r\nhost: x\r\nconnection: Close\r\n\r\nGET";
        for end in 0..text.len() - 3 {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        let head = parse(text).unwrap().unwrap();
        assert_eq!((head.length, head.keep_alive), (text.len() - 3, false));
        assert!(parse(b"GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().keep_alive);
        assert!(!parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().keep_alive);
    }

    #[test]
    fn a_target_in_absolute_form_means_its_path() {
        assert_eq!(
            without_authority("http://host:8080/live/a/index.m3u8?x=1"),
            "/live/a/index.m3u8?x=1"
        );
        assert_eq!(without_authority("HTTPS://host/"), "/");
        for other in ["/watch/a?from=http://x/y", "ftp://host/a", "http://host", "*"] {
            assert_eq!(without_authority(other), other);
        }
    }

    #[test]
    fn what_could_hide_a_second_request_is_refused() {
        for (text, malformed) in [
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n", Malformed::Method),
            ("HEAD / HTTP/1.1\r\ncontent-length: 3\r\n\r\n", Malformed::Body),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::Body),
            ("GET / HTTP/1.1\r\n bad: folded\r\n\r\n", Malformed::Syntax),
            ("\x16\x03\x01\x02\x00\x01", Malformed::Syntax),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), Some(malformed), "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert_eq!(parse(many.as_bytes()).err(), Some(Malformed::TooLong));
    }
}
