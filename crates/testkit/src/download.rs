//! The download of one rendition: where it stands, what to ask for next, what was listed and never came.
//!
//! One loop: reload, fetch what is new, in order. Fetches parts when they are listed, not when they are hinted.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::StatusCode;
use millrace_types::{Msn, PartNo};
use tokio::sync::watch;

use crate::{
    Chunk, HttpClient, Init, PlayerOptions, RenditionRecording, StartAt,
    http::resolve,
    player::{Board, Progress},
    playlist::{MediaPlaylist, Part, Segment},
};

/// Pause after a failure, and between reloads that did not block.
const PAUSE: Duration = Duration::from_millis(100);
/// A blocking reload may take three target durations (RFC 8216bis 6.2.5.2) and the network's share.
const RELOAD_WITHIN: Duration = Duration::from_secs(10);
/// Declared durations are rounded to microseconds or milliseconds per part.
const ROUNDING_S: f64 = 0.02;

pub(crate) struct Download {
    http: HttpClient,
    url: String,
    options: PlayerOptions,
    record: RenditionRecording,
    board: Board,
    stop: watch::Receiver<bool>,
    /// The part awaited next; `None` before the first playlist.
    next: Option<(Msn, usize)>,
    /// The newest playlist, if any.
    last: Option<MediaPlaylist>,
    /// `EXT-X-MAP` in force, for segments after skipped ones.
    map: Option<String>,
}

impl Download {
    pub(crate) fn new(
        http: HttpClient,
        url: String,
        options: PlayerOptions,
        record: RenditionRecording,
        board: Board,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { http, url, options, record, board, stop, next: None, last: None, map: None }
    }

    /// Downloads until the playlist ends, is gone for longer than the player's patience, or the player is stopped.
    pub(crate) async fn run(mut self) -> RenditionRecording {
        let mut stop = self.stop.clone();
        let mut lost_since = None;
        while !*stop.borrow() && !self.record.ended {
            let reload = tokio::select! {
                reload = self.reload() => reload,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let news = match reload {
                Some(list) => {
                    lost_since = None;
                    let asked = self.blocking().zip(self.next);
                    let news = self.take(list).await;
                    if let Some((_, (msn, part))) = asked.filter(|_| !news && !self.record.ended) {
                        self.violation(format!("reload for {msn}.{part} came back without it"));
                    }
                    news
                }
                None => {
                    self.record.failed_reloads += 1;
                    let since = *lost_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.options.patience {
                        let patience = self.options.patience;
                        self.violation(format!("playlist not to be had for {patience:?}"));
                        break;
                    }
                    false
                }
            };
            if !news {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.record
    }

    fn violation(&mut self, what: String) {
        self.record.violations.push(what);
    }

    /// The query that makes the server wait for what is awaited next, where it can.
    fn blocking(&self) -> Option<String> {
        let last = self.last.as_ref().filter(|last| last.can_block_reload)?;
        let (msn, part) = self.next?;
        let by_parts = last.part_target_s.is_some() && !self.options.whole_segments;
        Some(if by_parts {
            format!("_HLS_msn={msn}&_HLS_part={part}")
        } else {
            format!("_HLS_msn={msn}")
        })
    }

    async fn reload(&self) -> Option<MediaPlaylist> {
        let mut query = Vec::new();
        if let (Some((msn, part)), Some(last)) = (self.next, &self.last) {
            if last.can_block_reload && last.part_target_s.is_some() && !self.options.whole_segments
            {
                query.push(format!("_HLS_msn={msn}&_HLS_part={part}"));
            } else if last.can_block_reload {
                query.push(format!("_HLS_msn={msn}"));
            }
            if last.can_skip_until_s.is_some() && self.options.delta_updates {
                query.push("_HLS_skip=YES".to_owned());
            }
        }
        let mut url = self.url.clone();
        if !query.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&query.join("&"));
        }
        let body = self.http.get_ok(&url, RELOAD_WITHIN).await.ok()?;
        MediaPlaylist::parse(&String::from_utf8_lossy(&body)).ok()
    }

    /// Fetches what is new in `list`; whether there was any.
    async fn take(&mut self, list: MediaPlaylist) -> bool {
        let before = self.next;
        self.judge(&list);
        self.record.part_target_s = list.part_target_s;
        let start = *self.next.get_or_insert_with(|| first(&list, self.options.start_at));
        for segment in list.segments.iter().filter(|segment| segment.msn >= start.0) {
            self.map = segment.map.clone().or(self.map.take());
            self.take_segment(segment, &list).await;
        }
        self.record.ended = list.ended;
        self.show();
        self.last = Some(list);
        before != self.next
    }

    /// What may never change for the worse from one playlist to the next.
    fn judge(&mut self, list: &MediaPlaylist) {
        let end = |list: &MediaPlaylist| {
            let end = list.segments.last();
            end.map(|segment| (segment.msn, segment.parts.len()))
        };
        let Some(last) = &self.last else { return };
        let mut wrong = Vec::new();
        if list.media_sequence < last.media_sequence {
            wrong.push(format!(
                "media sequence {} after {}",
                list.media_sequence, last.media_sequence
            ));
        }
        if list.discontinuity_sequence < last.discontinuity_sequence {
            let (new, old) = (list.discontinuity_sequence, last.discontinuity_sequence);
            wrong.push(format!("discontinuity sequence {new} after {old}"));
        }
        if end(list).map(|(msn, _)| msn) < end(last).map(|(msn, _)| msn) {
            wrong.push(format!("playlist ends at {:?} after {:?}", end(list), end(last)));
        }
        if list.target_duration_s != last.target_duration_s {
            let (new, old) = (list.target_duration_s, last.target_duration_s);
            wrong.push(format!("target duration {new} after {old}"));
        }
        if let (Some((msn, number)), Some(hint)) = (self.next, &last.part_hint) {
            let awaited = list.segments.iter().find(|segment| segment.msn == msn);
            let part = awaited.and_then(|segment| segment.parts.get(number));
            // Who takes whole segments never moves on inside one: an older hint is compared with nothing.
            let by_parts = !self.options.whole_segments;
            if let Some(part) = part.filter(|part| by_parts && part.uri != *hint) {
                wrong.push(format!("part {msn}.{number} is {}, hinted as {hint}", part.uri));
            }
        }
        self.record.violations.append(&mut wrong);
    }

    async fn take_segment(&mut self, segment: &Segment, list: &MediaPlaylist) {
        let Some((msn, taken)) = self.next else { return };
        if segment.msn < msn {
            return;
        }
        let taken = if segment.msn > msn { 0 } else { taken };
        let closed = segment.duration_s.zip(segment.uri.as_deref());
        let by_parts = !segment.parts.is_empty() && !self.options.whole_segments;
        if by_parts {
            for (number, part) in segment.parts.iter().enumerate().skip(taken) {
                self.take_part(segment, number, part).await;
            }
            self.next = Some((segment.msn, segment.parts.len().max(taken)));
        }
        if let Some((duration_s, uri)) = closed {
            if by_parts {
                self.close(segment, duration_s);
            } else {
                self.take_whole(segment, duration_s, uri).await;
            }
            if duration_s.round() > list.target_duration_s as f64 {
                let target = list.target_duration_s;
                self.violation(format!(
                    "segment {}: {duration_s} s with target duration {target} s",
                    segment.msn
                ));
            }
            self.next = Some((segment.msn.next(), 0));
        }
        self.show();
    }

    /// The segment is complete: its last part is known, and the parts must add up.
    fn close(&mut self, segment: &Segment, duration_s: f64) {
        let sum_s: f64 = segment.parts.iter().map(|part| part.duration_s).sum();
        if (sum_s - duration_s).abs() > ROUNDING_S {
            let msn = segment.msn;
            self.violation(format!(
                "segment {msn}: {duration_s} s, but its parts have {sum_s:.3} s"
            ));
        }
        if let Some(chunk) = self.record.chunks.last_mut() {
            chunk.ends_segment = chunk.msn == segment.msn;
        }
    }

    async fn take_part(&mut self, segment: &Segment, number: usize, part: &Part) {
        let mut chunk = self.chunk(segment, &part.uri).await;
        chunk.part = Some(PartNo(u32::try_from(number).unwrap_or(u32::MAX)));
        chunk.declared_s = part.duration_s;
        chunk.independent = part.independent;
        chunk.gap |= part.gap;
        self.fetch_and_keep(chunk).await;
    }

    /// Also when some of its parts were fetched before they left the playlist: the whole replaces them.
    async fn take_whole(&mut self, segment: &Segment, duration_s: f64, uri: &str) {
        self.record.chunks.retain(|chunk| chunk.msn != segment.msn);
        let mut chunk = self.chunk(segment, uri).await;
        chunk.declared_s = duration_s;
        chunk.independent = true;
        chunk.ends_segment = true;
        self.fetch_and_keep(chunk).await;
    }

    async fn chunk(&mut self, segment: &Segment, uri: &str) -> Chunk {
        Chunk {
            msn: segment.msn,
            part: None,
            url: resolve(&self.url, uri),
            declared_s: 0.0,
            independent: false,
            gap: segment.gap,
            discontinuity: segment.discontinuity,
            ends_segment: false,
            init: self.init().await,
            backlog: self.last.is_none(),
            arrived: Instant::now(),
            bytes: None,
        }
    }

    async fn fetch_and_keep(&mut self, mut chunk: Chunk) {
        if !chunk.gap {
            chunk.bytes = self.fetch(&chunk.url).await;
        }
        chunk.arrived = Instant::now();
        self.record.chunks.push(chunk);
        self.show();
    }

    /// The index of the init section in force, fetched when it is new.
    async fn init(&mut self) -> Option<usize> {
        let url = resolve(&self.url, self.map.as_deref()?);
        let known = self.record.inits.iter().rposition(|init| init.url == url);
        if known.is_some() {
            return known;
        }
        let bytes = self.fetch(&url).await;
        self.record.inits.push(Init { url, bytes });
        Some(self.record.inits.len() - 1)
    }

    /// Tries again while the server is away; a listed piece that the server denies is a violation.
    async fn fetch(&mut self, url: &str) -> Option<Bytes> {
        let began = Instant::now();
        loop {
            let why = match self.http.get(url, self.options.patience).await {
                Ok(answer) if answer.status == StatusCode::OK => return Some(answer.body),
                Ok(answer) if answer.status.is_server_error() => answer.status.to_string(),
                Ok(answer) => {
                    self.violation(format!("{url} is listed but answers {}", answer.status));
                    return None;
                }
                Err(error) => format!("{error:#}"),
            };
            if began.elapsed() > self.options.patience || *self.stop.borrow() {
                self.violation(format!("{url} is listed but not to be had: {why}"));
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn show(&self) {
        let progress = Progress {
            chunks: self.record.chunks.len(),
            media_s: self.record.media_s(),
            last_arrival: self.record.chunks.last().map(|chunk| chunk.arrived),
            ended: self.record.ended,
        };
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.insert(self.record.name.clone(), progress);
    }
}

/// The first part to fetch.
fn first(list: &MediaPlaylist, start_at: StartAt) -> (Msn, usize) {
    let oldest = list.segments.first().map_or((list.media_sequence, 0), |segment| (segment.msn, 0));
    let newest = list.segments.iter().rev().find_map(|segment| {
        let part = segment.parts.iter().rposition(|part| part.independent)?;
        Some((segment.msn, part))
    });
    match start_at {
        StartAt::Oldest => oldest,
        StartAt::Live => newest.unwrap_or(oldest),
    }
}
