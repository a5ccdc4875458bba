//! One stream's session: owns its clock, its replay buffer, its publisher and its Link, for as long as the stream lives.
//!
//! ```text
//! Publication ─media→ Timeline ─items→ Replay ─┬─→ Feed ─→ Link ─→ node
//!                                              └── what is Published is released
//! ```
//! Decisions are `millrace_lifecycle::Stream`'s; this is its driver. Nothing here waits for a node: while there is none, or
//! it is slow, items wait in the replay buffer and the publisher goes on.

mod driver;
mod hot;
mod left_node;
mod link_side;
mod link_state;
mod moving;
mod origin_side;
mod publisher_side;
mod record;
mod reshape;
mod rush;
#[cfg(test)]
mod scripted_nodes;
mod second;
mod standby;
mod status;

use std::net::SocketAddr;

use millrace_lifecycle::{Stream, StreamInput, Takeovers};
use millrace_media::{Replay, Resume, Timeline, TrackConfig};
use millrace_registry::Registry;
use millrace_sched::{LadderConfig, Source};
use millrace_telemetry::{Clock, DecisionLog, Hurry, SystemClock};
use millrace_types::{
    Announced, DecisionKind, Epoch, Ladder, Mark, Mono, NodeId, Reason, RefusalReason, StreamId,
    Wall,
};
use tokio::{sync::watch, task::JoinHandle};

use self::{
    hot::Hot,
    left_node::LeftNode,
    link_state::LinkState,
    moving::{CutWatch, Moving},
    origin_side::OriginSide,
    reshape::Reshape,
    rush::Rush,
    second::Second,
};
use crate::{
    hot::Heats,
    ingest::Publication,
    metrics::RouterMetrics,
    origin_fence::OriginFence,
    placement::{Fleet, Last, Link, Unplaced},
    published::PublishedMarks,
    report::{Events, StreamReport},
};

/// What a session is told.
#[derive(Debug)]
pub enum Command {
    /// A publisher was let in; it replaces the one there is. Boxed: a queue has room for 32 commands from the beginning.
    Join(Box<Joining>),
    /// The publisher is turned away: its key was revoked, or the router is going down.
    Refuse(RefusalReason),
    /// Its channel was deleted: the publisher is turned away, and the stream ends.
    End,
    /// The stream is to leave that node, if another takes it; that one, where it is said which.
    MoveAway { from: NodeId, to: Option<NodeId> },
    /// There is room for the ladder that the stream was placed without.
    Regain,
}

/// A publisher on its way into a session.
#[derive(Debug)]
pub struct Joining {
    /// What it sends.
    pub waiting: Waiting,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Who has sent with the stream's keys, itself the last.
    pub takeovers: Takeovers,
}

/// A publisher that was let in and waits for its session.
#[derive(Debug)]
pub struct Waiting {
    /// Its media.
    pub publication: Publication,
    /// When the first of it came.
    pub since: Wall,
}

/// What every session works with.
#[derive(Clone, Debug)]
pub struct SessionContext {
    /// Where the stream is recorded.
    pub registry: Registry,
    /// The nodes.
    pub fleet: Fleet,
    /// The origins, as far as sessions are claimed there.
    pub fence: OriginFence,
    /// This router.
    pub router: NodeId,
    /// The rungs below `source`.
    pub ladder: LadderConfig,
    /// Bytes of input that may be kept for a successor.
    pub replay_bytes: usize,
    /// What is counted.
    pub metrics: RouterMetrics,
    /// What the viewers of this router's streams are worth.
    pub heats: watch::Receiver<Heats>,
    /// Where this router's decisions are kept.
    pub decisions: DecisionLog,
    /// Real time.
    pub clock: SystemClock,
}

/// One stream's session; [`Session::run`] drives it to its end.
pub struct Session {
    stream: StreamId,
    context: SessionContext,
    low_latency: bool,
    machine: Stream,
    timeline: Option<Timeline>,
    replay: Replay,
    tracks: Tracks,
    publisher: Option<Publication>,
    peer: Option<SocketAddr>,
    /// As it is to stand in the stream's record.
    takeovers: Takeovers,
    /// Since when there is no publisher; `None` before the first.
    left_at: Option<Mono>,
    /// What the publisher sends cannot be taken: what is still under way is not looked at.
    source_refused: bool,
    ladder: Ladder,
    /// The origin of the stream.
    origin: OriginSide,
    /// Where the stream stood when this router claimed it, until its clock is opened.
    resume: Option<Resume>,
    placing: Option<JoinHandle<Result<Link, Unplaced>>>,
    /// The stream's record on its way to the registry.
    recording: Option<JoinHandle<()>>,
    /// Of the record that was looked at last.
    record_revision: Option<i64>,
    link: Option<LinkState>,
    last: Option<Last>,
    moving: Option<Moving>,
    /// Where it was before it was moved, for a moment.
    left_node: Option<LeftNode>,
    /// The worker that there was lacks items before its newest: nobody may go on with it.
    worker_lacks: bool,
    /// The picture has become another, and the ladder is about to follow.
    reshape: Option<Reshape>,
    second: Second,
    /// So many watch it that it is to have a second encoder.
    hot: Option<Hot>,
    /// Why nothing is encoded, if so.
    unencoded_because: Option<Reason>,
    /// The rungs that it was last given up to encode.
    given_up: GivenUp,
    /// There is room for its ladder: it changes to it at the next point where it may.
    is_regaining: bool,
    /// Why it was not moved, when it last should be.
    stays: Option<String>,
    cut_watch: CutWatch,
    /// No node takes the stream, and that has been said.
    is_unplaced: bool,
    published: PublishedMarks,
    restarts: u64,
    was_lossless: bool,
    since: Wall,
    events: Events,
    beat_at: Mono,
    beats: u64,
    hurry: Option<Hurry>,
    rush: Rush,
    /// What this session has added to the bytes that are counted as kept.
    counted_bytes: i64,
    report: watch::Sender<StreamReport>,
}

/// Rungs that were encoded and no longer are.
#[derive(Clone, Debug, Default)]
struct GivenUp {
    /// Where their encoders left them.
    marks: Vec<Mark>,
    /// How many discontinuities lie before what they show next, at least.
    whole_from: u64,
}

/// What the publisher's tracks are.
#[derive(Clone, Debug, Default)]
struct Tracks {
    video: Option<millrace_media::VideoConfig>,
    /// As announced before the first frame; later words would change the ladder under its players.
    announced: Announced,
    /// As announced last.
    said: Announced,
    units_seen: bool,
}

impl Tracks {
    fn note(&mut self, config: &TrackConfig) {
        if let TrackConfig::Video(video) = config {
            self.video = Some(video.clone());
        }
    }

    fn source(&self) -> Source {
        let video = self.video.as_ref().map(|video| (video.width, video.height, video.frame_rate));
        Source { video, announced: self.announced }
    }

    fn pixels_per_second(&self) -> u64 {
        self.video.as_ref().map_or(0, |video| {
            let area = f64::from(video.width) * f64::from(video.height);
            (area * video.frame_rate.fps()) as u64
        })
    }
}

impl Session {
    /// A session that is not claimed yet; it waits for its first publisher, the last of `takeovers`. Boxed: a future that
    /// takes it by value has room for it at each step.
    pub fn new(
        stream: StreamId,
        low_latency: bool,
        takeovers: Takeovers,
        context: SessionContext,
    ) -> (Box<Self>, watch::Receiver<StreamReport>) {
        let (now, since) = (context.clock.mono(), context.clock.wall());
        let report = watch::Sender::new(StreamReport::new(stream.clone(), since));
        let shown = report.subscribe();
        let session = Self {
            machine: Stream::new(now, Epoch::default()),
            replay: Replay::new(context.replay_bytes),
            stream,
            context,
            low_latency,
            timeline: None,
            tracks: Tracks::default(),
            publisher: None,
            peer: None,
            takeovers,
            left_at: None,
            source_refused: false,
            ladder: Ladder::default(),
            origin: OriginSide::default(),
            resume: None,
            placing: None,
            recording: None,
            record_revision: None,
            link: None,
            last: None,
            moving: None,
            left_node: None,
            worker_lacks: false,
            reshape: None,
            second: Second::default(),
            hot: None,
            unencoded_because: None,
            given_up: GivenUp::default(),
            is_regaining: false,
            stays: None,
            cut_watch: CutWatch::default(),
            is_unplaced: false,
            published: PublishedMarks::default(),
            restarts: 0,
            was_lossless: true,
            since,
            events: Events::default(),
            beat_at: now,
            beats: 0,
            hurry: None,
            rush: Rush::new(now),
            counted_bytes: 0,
            report,
        };
        (Box::new(session), shown)
    }

    fn input(&mut self, input: StreamInput) {
        self.machine.handle(self.context.clock.mono(), input);
    }

    /// Turns the publisher away while it is live, if it is there.
    fn turn_away(&mut self, reason: RefusalReason) {
        if self.publisher.is_some() {
            let refused = self.decision(DecisionKind::PublisherRefused).because(reason);
            self.note(refused.saying("turned away while it was live"));
            self.refuse(reason, "ended while it was live");
        }
    }

    fn refuse(&mut self, reason: RefusalReason, detail: impl std::fmt::Display) {
        if let Some(publisher) = &mut self.publisher {
            publisher.refuse(crate::ingest::Refusal::with_detail(reason, detail));
        }
    }
}
