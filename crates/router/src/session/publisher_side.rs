//! From the publisher to the replay buffer: joins and departures, media onto the stream's clock.

use std::net::SocketAddr;

use millrace_lifecycle::StreamInput;
use millrace_media::{Input, Item, SourceLimits, Timeline, TimelineStart};
use millrace_types::{DecisionKind, RefusalReason, Wall};
use tracing::{info, warn};

use super::{Session, Waiting};
use crate::{
    ingest::{IngestEnd, IngestEvent, PublisherMessage, Refusal},
    source::source_input,
};

impl Session {
    /// Takes a publisher in place of the one there is.
    pub(super) fn join(&mut self, waiting: Waiting, peer: SocketAddr) {
        let Waiting { publication, since } = waiting;
        if let Some(mut old) = self.publisher.take() {
            old.refuse(Refusal::from(RefusalReason::TakenOver));
            self.timeline_input(Input::PublisherLeft);
            let taken = self.decision(DecisionKind::TakenOver).because(RefusalReason::TakenOver);
            self.note(taken.saying(format!("a publisher at {peer} has taken over")));
        }
        self.source_refused = false;
        self.rush.begins_again();
        info!(stream = %self.stream, %peer, "publisher joined");
        self.note(self.decision(DecisionKind::PublisherJoined).saying(format!("from {peer}")));
        self.context.metrics.publishers.inc();
        (self.publisher, self.peer, self.left_at) = (Some(publication), Some(peer), None);
        self.input(StreamInput::PublisherJoined);
        self.open_clock(since);
        self.show();
    }

    pub(super) fn publisher_said(&mut self, event: Option<IngestEvent>) {
        match event {
            Some(IngestEvent::Media(message)) => self.media(message),
            Some(IngestEvent::Ended(end)) => self.publisher_left(match end {
                IngestEnd::Unpublished => "stopped publishing".to_owned(),
                IngestEnd::Disconnected => "connection lost".to_owned(),
                IngestEnd::Refused(refusal) => format!("turned away: {}", refusal.reason.as_str()),
            }),
            None => self.publisher_left("connection's task lost".to_owned()),
        }
    }

    fn publisher_left(&mut self, why: String) {
        (self.publisher, self.left_at) = (None, Some(self.now()));
        self.takeovers.left();
        info!(stream = %self.stream, why, "publisher left");
        self.note(self.decision(DecisionKind::PublisherLeft).saying(why));
        self.timeline_input(Input::PublisherLeft);
        self.input(StreamInput::PublisherLeft);
        self.cut_while_away();
        self.show();
    }

    /// Ties the publisher's clock to UTC by its first message, not by its connection: some say nothing for a while.
    fn open_clock(&mut self, utc: Wall) {
        match self.timeline {
            Some(_) => self.timeline_input(Input::PublisherBack { utc }),
            None => {
                self.timeline = Some(Timeline::new(TimelineStart {
                    utc,
                    resume: self.resume.take(),
                    low_latency: self.low_latency,
                    limits: SourceLimits::default(),
                }));
            }
        }
    }

    fn media(&mut self, message: PublisherMessage) {
        if self.source_refused {
            return;
        }
        match source_input(message) {
            Ok(Some((input, announced))) => {
                if let Some(announced) = announced {
                    self.tracks.said = announced;
                    if !self.tracks.units_seen {
                        self.tracks.announced = announced;
                    }
                }
                self.timeline_input(input);
            }
            Ok(None) => {}
            Err(error) => self.refuse_source(error.refusal(), &error),
        }
    }

    /// Feeds the timeline, and what comes out of it to the replay buffer and the node.
    pub(super) fn timeline_input(&mut self, input: Input) {
        let now = self.now();
        let Some(timeline) = &mut self.timeline else { return };
        if let Err(error) = timeline.handle(now, input) {
            self.refuse_source(error.refusal(), &error);
        }
        while let Some(item) = self.timeline.as_mut().and_then(Timeline::poll) {
            self.item(item);
        }
    }

    /// The picture that waits for the next one's time waits in the replay buffer, where it is to lie anyway.
    pub(super) fn hold_last_picture(&mut self) {
        self.replay.hold(self.timeline.as_mut().and_then(Timeline::held_bytes));
    }

    /// What the publisher sends cannot be taken: it is told why, and nothing more of it is looked at.
    fn refuse_source(&mut self, reason: RefusalReason, error: &dyn std::fmt::Display) {
        self.source_refused = true;
        warn!(stream = %self.stream, %error, reason = reason.as_str(), "source refused");
        self.refuse(reason, error);
        let refused = self.decision(DecisionKind::PublisherRefused).because(reason);
        self.note(refused.saying(error.to_string()));
        self.input(StreamInput::SourceRefused(reason));
    }

    fn item(&mut self, item: Item) {
        match &item {
            Item::Config(config) => self.tracks.note(&config.track),
            Item::Unit(unit) => {
                self.rush.saw(self.now(), unit.stamp.segment.start);
                if !self.tracks.units_seen {
                    self.tracks.units_seen = true;
                    self.input(StreamInput::SourceKnown);
                }
            }
            Item::Tick(_) => {}
        }
        self.replay.push(&item);
        self.watch_for_cut(&item);
        if self.was_lossless && !self.replay.is_lossless() {
            self.was_lossless = false;
            self.context.metrics.lossy.inc();
            warn!(stream = %self.stream, "replay buffer full: a failure now would lose frames");
            let lossy = self.decision(DecisionKind::Lossy);
            self.note(lossy.saying("input was dropped before it was published"));
        }
        self.give(item);
    }
}
