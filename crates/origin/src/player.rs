//! Answers players: from what was asked to an answer. Reading requests and writing answers is [`crate::http1`]'s and hyper's.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use millrace_hls::Query;
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_types::StreamId;

use crate::{
    answer::Answer,
    metrics::OriginMetrics,
    pages,
    route::{Asset, Route},
    status,
    stream::{Missing, Stream},
    streams::Streams,
};

const MEDIA: &str = "video/mp4";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Names never change their meaning: numbers are never used again, an init section's name is its hash.
const FOREVER: &str = "public, max-age=86400, immutable";
/// A blocking reload's URL names what the answer holds: six target durations (RFC 8216bis, appendix on caching).
const BLOCKING: &str = "public, max-age=12";
/// Half a target duration.
const CURRENT: &str = "public, max-age=1";
const NEVER: &str = "no-store";

/// What every connection of players shares.
pub(crate) struct Player {
    pub(crate) streams: Arc<Streams>,
    pub(crate) metrics: OriginMetrics,
    pub(crate) decisions: DecisionLog,
    pub(crate) clock: SystemClock,
}

/// What is kept of a request while it waits.
pub(crate) struct Asked {
    target: Target,
    gzip: bool,
    head_only: bool,
}

enum Target {
    Route(Route, Query),
    Refused(StatusCode, String),
    Methods(StatusCode),
}

impl Asked {
    /// Reads what matters of a request.
    pub(crate) fn new(
        method: &str,
        path: &str,
        query: Option<&str>,
        accept_encoding: &str,
    ) -> Self {
        let target = match (method, Route::parse(path)) {
            ("OPTIONS", _) => Target::Methods(StatusCode::NO_CONTENT),
            ("GET" | "HEAD", None) => Target::Refused(StatusCode::NOT_FOUND, "not here".to_owned()),
            ("GET" | "HEAD", Some(route)) => match Query::parse(query.unwrap_or_default()) {
                Ok(query) => Target::Route(route, query),
                // Only a media playlist has directives; what else stands there is not ours.
                Err(error) if matches!(route, Route::Media(..)) => {
                    Target::Refused(StatusCode::BAD_REQUEST, error.to_string())
                }
                Err(_) => Target::Route(route, Query::default()),
            },
            _ => Target::Methods(StatusCode::METHOD_NOT_ALLOWED),
        };
        Self { target, gzip: accepts_gzip(accept_encoding), head_only: method == "HEAD" }
    }
}

impl Player {
    /// Answers one request.
    pub(crate) async fn answer(&self, asked: Asked) -> Answer {
        let Asked { target, gzip, head_only } = asked;
        let answer = match target {
            Target::Route(route, query) => {
                self.serve(route, query, gzip).await.unwrap_or_else(Answer::from)
            }
            Target::Refused(status, text) => Answer::error(status, text),
            Target::Methods(status) => Answer::methods(status),
        };
        self.metrics.count_answer(answer.status);
        let answer = if head_only { answer.head_only() } else { answer };
        self.metrics.sent_bytes.inc_by(answer.body.len());
        answer
    }

    async fn serve(&self, route: Route, query: Query, gzip: bool) -> Result<Answer, Missing> {
        Ok(match route {
            Route::List => {
                Answer::ok(HTML, NEVER, Bytes::from(pages::list(&self.streams.watchable())))
            }
            Route::Watch => Answer::ok(HTML, CURRENT, Bytes::from_static(pages::WATCH)),
            Route::Asset(Asset { content_type, bytes, .. }) => {
                Answer::ok(content_type, "public, max-age=3600", Bytes::from_static(bytes))
            }
            Route::Status(stream) => {
                let status = status::of(&*self.stream(&stream)?, &self.clock);
                Answer::ok(JSON, NEVER, Bytes::from(status.to_string()))
            }
            Route::Multivariant(stream) => {
                let stream = self.stream(&stream)?;
                let _parked = self.parked();
                Answer::playlist(&stream.multivariant().await?, CURRENT, gzip)
            }
            Route::Init(stream, rung, hash) => {
                Answer::ok(MEDIA, FOREVER, self.stream(&stream)?.init(&rung, hash)?)
            }
            Route::Segment(stream, rung, msn) => {
                Answer::ok(MEDIA, FOREVER, self.stream(&stream)?.segment(&rung, msn)?)
            }
            Route::Part(stream, rung, msn, part) => {
                let stream = self.stream(&stream)?;
                let _parked = self.parked();
                Answer::ok(MEDIA, FOREVER, stream.part(&rung, msn, part).await?)
            }
            Route::Media(stream, rung) => {
                let stream = self.stream(&stream)?;
                let _parked = self.parked();
                let texts = stream.media_playlist(self.clock.mono(), &rung, query).await?;
                let text = texts.get(query.skip, || None).ok_or(Missing::NotFound)?;
                let cache = if query.block.is_some() { BLOCKING } else { CURRENT };
                Answer::playlist(text, cache, gzip)
            }
        })
    }

    fn stream(&self, id: &StreamId) -> Result<Arc<Stream>, Missing> {
        self.streams.get(id).filter(|stream| stream.is_known()).ok_or(Missing::NotFound)
    }

    fn parked(&self) -> Parked<'_> {
        self.metrics.parked.inc();
        Parked(&self.metrics)
    }
}

/// Counts a request as parked while it lives.
struct Parked<'a>(&'a OriginMetrics);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.dec();
    }
}

/// Whether `gzip` is named and not with `q=0` (RFC 9110 12.5.3).
fn accepts_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let mut words = coding.split(';').map(str::trim);
        words.next() == Some("gzip")
            && !words.any(|word| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        assert!(accepts_gzip("gzip") && accepts_gzip("br, gzip;q=0.5"));
        assert!(!accepts_gzip("br") && !accepts_gzip("gzip;q=0") && !accepts_gzip("x-gzip"));
        assert!(!accepts_gzip(""));
    }
}
