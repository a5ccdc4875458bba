//! Answers players: from what was asked to an answer. Reading requests and writing answers is [`crate::http1`]'s and hyper's.
//!
//! A stream of this origin is answered from its window, any other by its owner. Which of the two it is may change while a
//! player waits: then it is looked at again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::StatusCode;
use millrace_hls::Query;
use millrace_telemetry::{Clock, DecisionLog, SystemClock};
use millrace_types::{StreamId, Versions};

use crate::{
    answer::Answer,
    awake::Awake,
    body::Body,
    metrics::OriginMetrics,
    owners::{Owner, Owners},
    pages,
    pipe::Pipes,
    relay::{Relay, Relayed},
    route::{Asset, Route},
    slab::Slabs,
    status,
    stream::{Missing, Stream},
    streams::Streams,
    writers::Writers,
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

/// How long a node may take to bring a stream whose record says that it is here.
const COMING: Duration = Duration::from_secs(3);
/// How often a stream may move while one player waits.
const MOVES: usize = 4;

/// What every connection of players shares.
pub(crate) struct Player {
    pub(crate) streams: Arc<Streams>,
    pub(crate) writers: Writers,
    pub(crate) metrics: OriginMetrics,
    pub(crate) decisions: DecisionLog,
    pub(crate) clock: SystemClock,
    pub(crate) owners: Owners,
    pub(crate) relay: Arc<Relay>,
    pub(crate) awake: Arc<Awake>,
    /// Where media lies.
    pub(crate) slabs: Slabs,
    /// How it leaves without a copy.
    pub(crate) pipes: Pipes,
    /// What this origin speaks.
    pub(crate) speaks: Versions,
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
            ("GET" | "HEAD", Some(route)) => match query.map_or(Ok(Query::default()), Query::parse)
            {
                Ok(query) => Target::Route(route, query),
                // Only a media playlist has directives; what else stands there is not ours.
                Err(error) if matches!(route, Route::Media(..)) => {
                    Target::Refused(StatusCode::BAD_REQUEST, error.to_string())
                }
                Err(_) => Target::Route(route, Query::default()),
            },
            _ => Target::Methods(StatusCode::METHOD_NOT_ALLOWED),
        };
        // Media is never packed.
        let is_playlist = matches!(&target, Target::Route(route, _) if route.is_playlist());
        let gzip = is_playlist && accepts_gzip(accept_encoding);
        Self { target, gzip, head_only: method == "HEAD" }
    }

    /// Path and query by which another origin is asked for the same; `None` for what each origin answers itself.
    pub(crate) fn relayed_as(&self) -> Option<String> {
        let Target::Route(route, query) = &self.target else { return None };
        route.stream().map(|_| route.target(*query))
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
        self.count(answer, head_only)
    }

    /// The answer to who asks for media that is here, as nearly all do: found without a future that could wait. `None`
    /// where [`Player::answer`] is needed.
    pub(crate) fn answer_at_once(&self, asked: &Asked) -> Option<Answer> {
        let Target::Route(route, query) = &asked.target else { return None };
        let Owner::Here(stream) = self.owners.of(route.stream()?) else { return None };
        let body: Body = match route {
            Route::Init(_, rung, hash) => stream.init(rung, *hash).ok()?.into(),
            Route::Segment(_, rung, msn) => stream.segment(rung, *msn).ok()?.into(),
            Route::Part(_, rung, msn, part) => stream.part_at_once(rung, *msn, *part)?.into(),
            _ => return None,
        };
        let counts = stream.is_restored() && !self.awake.is_unsure() && self.owners.has(&stream);
        let answer = counts.then(|| Answer::ok(MEDIA, cache(route, *query), body))?;
        Some(self.count(answer, asked.head_only))
    }

    fn count(&self, answer: Answer, head_only: bool) -> Answer {
        self.metrics.count_answer(answer.status);
        let answer = if head_only { answer.head_only() } else { answer };
        self.metrics.sent_bytes.inc_by(answer.body.len());
        answer
    }

    async fn serve(&self, route: Route, query: Query, gzip: bool) -> Result<Answer, Missing> {
        let Some(id) = route.stream() else { return Ok(self.page(&route)) };
        let _parked = self.parked();
        for _ in 0..MOVES {
            let answer = match self.owner(id).await {
                Owner::Here(stream) => self.window_answer(&stream, &route, query, gzip, 1).await,
                Owner::There(_) => match self.relay.ask(id, &route, query).await {
                    Relayed::Here => continue,
                    Relayed::Missing(missing) => return Err(missing),
                    Relayed::Playlist(text) => {
                        return Ok(Answer::playlist(&text, cache(&route, query), gzip));
                    }
                    Relayed::Bytes(bytes) => {
                        let content = if matches!(route, Route::Status(_)) { JSON } else { MEDIA };
                        return Ok(Answer::ok(content, cache(&route, query), bytes));
                    }
                },
                Owner::Coming => return Err(Missing::Late),
                Owner::Unknown => return Err(Missing::NotFound),
            };
            if self.still_owns(id) {
                return answer;
            }
        }
        Err(Missing::Late)
    }

    /// The same for another origin and so many of its players, which has to ask the owner: `None` if this one is not.
    pub(crate) async fn serve_own(&self, asked: Asked, players: u32) -> Option<Answer> {
        let Target::Route(route, query) = asked.target else { return None };
        let id = route.stream()?;
        let _parked = self.parked();
        let Owner::Here(stream) = self.owner(id).await else { return None };
        let answer = self.window_answer(&stream, &route, query, false, players).await;
        self.still_owns(id).then(|| answer.unwrap_or_else(Answer::from))
    }

    /// Who has the stream, once that is known for certain and nobody is on the way.
    async fn owner(&self, id: &StreamId) -> Owner {
        self.awake.sure().await;
        let mut owner = self.owners.of(id);
        if matches!(owner, Owner::Coming) {
            let _ = tokio::time::timeout(COMING, self.owners.changed(id, &owner)).await;
            owner = self.owners.of(id);
        }
        if let Owner::Here(stream) = &owner {
            stream.restored().await;
        }
        owner
    }

    /// What was found here counts: the stream has not moved meanwhile, nor could it have.
    fn still_owns(&self, id: &StreamId) -> bool {
        !self.awake.is_unsure() && !matches!(self.owners.of(id), Owner::There(_))
    }

    fn page(&self, route: &Route) -> Answer {
        match route {
            Route::Watch => Answer::ok(HTML, CURRENT, Bytes::from_static(pages::WATCH)),
            Route::Asset(Asset { content_type, bytes, .. }) => {
                Answer::ok(content_type, "public, max-age=3600", Bytes::from_static(bytes))
            }
            _ => Answer::ok(HTML, NEVER, Bytes::from(pages::list(&self.listed()))),
        }
    }

    /// Every stream of the farm that can be watched, and whether it has ended.
    fn listed(&self) -> BTreeMap<StreamId, bool> {
        let elsewhere = self.owners.elsewhere().into_iter().map(|id| (id, false));
        let here = self
            .streams
            .watchable()
            .into_iter()
            .map(|stream| (stream.id.clone(), stream.look(|window, _| window.is_ended())));
        here.chain(elsewhere).collect()
    }

    async fn window_answer(
        &self,
        stream: &Stream,
        route: &Route,
        query: Query,
        gzip: bool,
        players: u32,
    ) -> Result<Answer, Missing> {
        let cache = cache(route, query);
        Ok(match route {
            Route::List | Route::Watch | Route::Asset(_) => self.page(route),
            Route::Status(_) => {
                let status = status::of(stream, &self.clock);
                Answer::ok(JSON, cache, Bytes::from(status.to_string()))
            }
            Route::Multivariant(_) => Answer::playlist(&stream.multivariant().await?, cache, gzip),
            Route::Init(_, rung, hash) => Answer::ok(MEDIA, cache, stream.init(rung, *hash)?),
            Route::Segment(_, rung, msn) => Answer::ok(MEDIA, cache, stream.segment(rung, *msn)?),
            Route::Part(_, rung, msn, part) => {
                Answer::ok(MEDIA, cache, stream.part(rung, *msn, *part).await?)
            }
            Route::Media(_, rung) => {
                let texts = stream.media_playlist(self.clock.mono(), rung, query, players).await?;
                let text = texts.get(query.skip, || None).ok_or(Missing::NotFound)?;
                Answer::playlist(text, cache, gzip)
            }
        })
    }

    fn parked(&self) -> Parked<'_> {
        self.metrics.parked.inc();
        Parked(&self.metrics)
    }
}

/// For how long an answer is the right one, wherever it comes from.
fn cache(route: &Route, query: Query) -> &'static str {
    match route {
        Route::Init(..) | Route::Segment(..) | Route::Part(..) => FOREVER,
        Route::Media(..) if query.block.is_some() => BLOCKING,
        Route::Media(..) | Route::Multivariant(_) => CURRENT,
        Route::List | Route::Watch | Route::Asset(_) | Route::Status(_) => NEVER,
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
    use millrace_registry::Registry;
    use millrace_telemetry::Metrics;

    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn what_waits_holds_little() {
        let (registry, metrics) = (Registry::in_memory(), Metrics::new());
        let player = crate::run::player(&Config::default(), None, registry, &metrics);
        let asked = Asked::new("GET", "/live/demo/720p/index.m3u8", Some("_HLS_msn=7"), "gzip");
        let bytes = size_of_val(&player.answer(asked));
        assert!(bytes <= 2_048, "{bytes} bytes for each parked request");
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        assert!(accepts_gzip("gzip") && accepts_gzip("br, gzip;q=0.5"));
        assert!(!accepts_gzip("br") && !accepts_gzip("gzip;q=0") && !accepts_gzip("x-gzip"));
        assert!(!accepts_gzip(""));
    }
}
