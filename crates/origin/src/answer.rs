//! An answer to a player before it is written: status, headers, body. Both HTTP/1.1 and HTTP/2 are written from it.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{HeaderName, HeaderValue},
};

use crate::{body::Body, rendition_text::Text, stream::Missing};

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const PLAIN: &str = "text/plain; charset=utf-8";
const NEVER: &str = "no-store";
const METHODS: &str = "GET, HEAD, OPTIONS";

/// What a player is told.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    cache: &'static str,
    gzip: bool,
    varies: bool,
    says_methods: bool,
    /// Without those of the body when only the head was asked for.
    pub(crate) body: Body,
    length: u64,
}

impl Answer {
    pub(crate) fn new(
        status: StatusCode,
        content_type: &'static str,
        cache: &'static str,
        body: impl Into<Body>,
    ) -> Self {
        let body = body.into();
        let length = body.len();
        let (gzip, varies, says_methods) = (false, false, false);
        Self { status, content_type, cache, gzip, varies, says_methods, body, length }
    }

    pub(crate) fn ok(
        content_type: &'static str,
        cache: &'static str,
        body: impl Into<Body>,
    ) -> Self {
        Self::new(StatusCode::OK, content_type, cache, body)
    }

    pub(crate) fn playlist(text: &Text, cache: &'static str, gzip: bool) -> Self {
        let body = if gzip { text.gzip() } else { text.plain.clone() };
        Self { gzip, varies: true, ..Self::ok(PLAYLIST, cache, body) }
    }

    pub(crate) fn error(status: StatusCode, text: String) -> Self {
        Self::new(status, PLAIN, NEVER, Bytes::from(text + "\n"))
    }

    /// Says which methods there are: to a browser that asks first, or to one that used another.
    pub(crate) fn methods(status: StatusCode) -> Self {
        Self { says_methods: true, ..Self::new(status, PLAIN, NEVER, Bytes::new()) }
    }

    /// The answer to HEAD: the same but for the body.
    #[must_use]
    pub(crate) fn head_only(self) -> Self {
        Self { body: Body::default(), ..self }
    }

    /// Hands out each header, names in lower case.
    pub(crate) fn headers(&self, mut header: impl FnMut(&'static str, &str)) {
        header("content-type", self.content_type);
        if self.status != StatusCode::NO_CONTENT {
            header("content-length", decimal(self.length, &mut [0; 20]));
        }
        header("cache-control", self.cache);
        header("access-control-allow-origin", "*");
        if self.varies {
            header("vary", "accept-encoding");
        }
        if self.gzip {
            header("content-encoding", "gzip");
        }
        if self.says_methods {
            header("allow", METHODS);
            header("access-control-allow-methods", METHODS);
            header("access-control-allow-headers", "*");
            header("access-control-max-age", "86400");
        }
    }
}

/// `number` in digits, in `room`, which is enough for any.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &str {
    let mut from = room.len();
    loop {
        from -= 1;
        room[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&room[from..]).expect("invariant: digits are text");
        }
    }
}

impl From<Missing> for Answer {
    fn from(missing: Missing) -> Self {
        let (status, text) = match missing {
            Missing::NotFound => (StatusCode::NOT_FOUND, "not here"),
            Missing::TooFar => (StatusCode::BAD_REQUEST, "too far in the future"),
            Missing::Late => (StatusCode::SERVICE_UNAVAILABLE, "it did not come in time"),
        };
        Self::error(status, text.to_owned())
    }
}

impl From<Answer> for Response<Body> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::default();
        *response.status_mut() = answer.status;
        answer.headers(|name, value| {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        });
        *response.body_mut() = answer.body;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_in_digits() {
        for number in [0, 7, 10, 100_000, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
        }
    }
}
