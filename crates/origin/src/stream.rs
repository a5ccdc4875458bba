//! One stream: its window, who waits for it, the texts made of it.
//!
//! The state lives inside a `watch` channel, which is the one owner: writers change it through `send_modify`, readers
//! look through `borrow`, and nobody can hold either across an await, since both are closures or end with the expression.
//! Each rung has a channel of its own beside it, so that a part wakes only those who wait for its rung.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use millrace_hls::{
    Accepted, BlockUntil, Hash, InitRecord, PARK_LIMIT, PartLookup, PartRecord, Query, Refusal,
    Reload, StreamOpen, TARGET_DURATION, Window,
};
use millrace_types::{Epoch, Mark, Mono, Msn, PartNo, RungId, StreamId};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    audience::Audience,
    rendition_text::{RenditionText, Text},
};

/// How long a node may take to restore what it keeps of a stream: as long as a player may be kept waiting. Who is told of less than
/// it has seen asks for parts that are not here.
const RESTORE_PATIENCE: Duration = PARK_LIMIT;
/// How long another writer may take to come behind one that said so: it leaves that one half a second.
pub(crate) const FOLLOWER_PATIENCE: Duration = Duration::from_millis(1_500);
/// A writer of whom something came within this time has more: parts come three times a second, less often from a host that is short of time.
const GETS_ON: Duration = Duration::from_secs(1);
/// A writer that has pushed nothing for so long has nothing to hand over.
const SILENT: Duration = Duration::from_secs(3);

type Feed = watch::Sender<Arc<RenditionText>>;

/// Why a player gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// 404.
    NotFound,
    /// 400.
    TooFar,
    /// 503.
    Late,
}

struct State {
    window: Window,
    feeds: BTreeMap<RungId, Arc<Feed>>,
    touched: Mono,
    ended: Option<Mono>,
    health: Option<serde_json::Value>,
    /// The newest writer that has handed over all it had, for another to go on.
    handed_over: Option<Epoch>,
    /// When a writer last announced itself.
    announced: Instant,
}

impl State {
    /// For how long after the last announcement players wait for what is to be restored.
    fn restore_patience(&self) -> Duration {
        match self.window.awaits_follower() {
            true => FOLLOWER_PATIENCE,
            false => RESTORE_PATIENCE,
        }
    }

    fn feed_every_rung(&mut self) {
        for rung in &self.window.announced().rungs {
            self.feeds.entry(rung.clone()).or_default();
        }
    }
}

/// One stream.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) audience: Audience,
    state: watch::Sender<State>,
    /// Up to which change of the registry it is known to be this origin's.
    owned_as_of: AtomicU64,
}

impl Stream {
    pub(crate) fn open(id: StreamId, open: StreamOpen, now: Mono) -> Self {
        let mut state = State {
            window: Window::open(open),
            feeds: BTreeMap::new(),
            touched: now,
            ended: None,
            health: None,
            handed_over: None,
            announced: Instant::now(),
        };
        state.feed_every_rung();
        let (audience, state) = (Audience::default(), watch::Sender::new(state));
        Self { id, audience, state, owned_as_of: AtomicU64::new(u64::MAX) }
    }

    /// Lets `change` change the window, then wakes those who wait: for `rung`, or for any.
    fn change<T>(
        &self,
        now: Mono,
        rung: Option<&RungId>,
        change: impl FnOnce(&mut Window) -> T,
    ) -> T {
        let mut result = None;
        self.state.send_modify(|state| {
            result = Some(change(&mut state.window));
            state.touched = now;
            state.ended = state.window.is_ended().then(|| state.ended.unwrap_or(now));
            state.feed_every_rung();
            // Inside, so that nobody finds the new window with the old text.
            let concerned = |id: &RungId| rung.is_none_or(|rung| rung == id);
            for (_, feed) in state.feeds.iter().filter(|(id, _)| concerned(id)) {
                feed.send_replace(Arc::default());
            }
        });
        result.expect("invariant: send_modify calls its closure")
    }

    pub(crate) fn reopen(&self, now: Mono, open: StreamOpen) -> Result<Vec<Mark>, Refusal> {
        // First, so that nobody finds what is to be restored with an old time.
        self.state.send_modify(|state| state.announced = Instant::now());
        self.change(now, None, |window| window.reopen(open))
    }

    /// Waits until everything is here that the writer said it would restore, or has had time to be.
    pub(crate) async fn restored(&self) {
        let mut changes = self.state.subscribe();
        loop {
            // Another announcement begins another time.
            let deadline = {
                let state = changes.borrow_and_update();
                if state.window.is_restored() {
                    return;
                }
                state.announced + state.restore_patience()
            };
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Whether nobody waits for what is to be restored.
    pub(crate) fn is_restored(&self) -> bool {
        let state = self.state.borrow();
        state.window.is_restored() || state.announced.elapsed() >= state.restore_patience()
    }

    /// Whether the second of two writers may come: both at once where the first says so, else once that has restored what it has.
    pub(crate) fn takes_second(&self) -> bool {
        self.state.borrow().window.awaits_follower() || self.is_restored()
    }

    pub(crate) fn is_owned_as_of(&self, change: u64) -> bool {
        self.owned_as_of.load(Relaxed) == change
    }

    pub(crate) fn owned_as_of(&self, change: u64) {
        self.owned_as_of.store(change, Relaxed);
    }

    pub(crate) fn fence(&self, now: Mono, epoch: Epoch) -> Result<Vec<Mark>, Refusal> {
        self.change(now, None, |window| window.fence(epoch))
    }

    pub(crate) fn claim(&self, now: Mono, epoch: Epoch) -> Result<Vec<Mark>, Refusal> {
        self.change(now, None, |window| window.claim(epoch))
    }

    /// The writer of `epoch` has handed over everything it made.
    pub(crate) fn hand_over(&self, epoch: Epoch) {
        self.state.send_modify(|state| state.handed_over = state.handed_over.max(Some(epoch)));
    }

    /// Waits until the writer in force has handed over, or `patience` has passed; whether it has. One that has been silent for
    /// longer than a segment takes has nothing any more.
    pub(crate) async fn handed_over(&self, now: Mono, patience: Duration) -> bool {
        let mut changes = self.state.subscribe();
        let over = |state: &State| {
            state.ended.is_some()
                || state.handed_over >= Some(state.window.announced().epoch)
                || now.since(state.touched) > SILENT
        };
        timeout(patience, changes.wait_for(over)).await.is_ok()
    }

    /// Whether anything has come of late, as of a writer that hands over.
    pub(crate) fn gets_on(&self, now: Mono) -> bool {
        now.since(self.state.borrow().touched) < GETS_ON
    }

    pub(crate) fn end(&self, now: Mono, epoch: Epoch) -> Result<(), Refusal> {
        self.change(now, None, |window| window.end(epoch))
    }

    pub(crate) fn add_init(
        &self,
        now: Mono,
        writer: Epoch,
        record: InitRecord,
        bytes: Bytes,
    ) -> Result<Accepted, Refusal> {
        self.change(now, None, |window| window.add_init(writer, record, bytes))
    }

    pub(crate) fn add_part(
        &self,
        now: Mono,
        writer: Epoch,
        record: PartRecord,
        bytes: Bytes,
    ) -> Result<Accepted, Refusal> {
        let rung = record.rung.clone();
        // A newer writer fences, which may close segments of every rung.
        let newer = writer > self.fenced_at();
        self.change(now, (!newer).then_some(&rung), |window| {
            window.add_part(now, writer, record, bytes)
        })
    }

    /// When [`Stream::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.state.borrow().window.deadline()
    }

    /// Goes on with what the other encoder made, where the one that is shown is late.
    pub(crate) fn tick(&self, now: Mono) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.change(now, None, |window| window.tick(now));
        }
    }

    pub(crate) fn set_health(&self, health: serde_json::Value) {
        self.state.send_modify(|state| state.health = Some(health));
    }

    /// Forgets the media of an ended stream; its fence stays.
    pub(crate) fn release(&self) {
        self.state.send_modify(|state| {
            state.window.release();
            state.feeds.clear();
            state.health = None;
        });
    }

    pub(crate) fn fenced_at(&self) -> Epoch {
        self.state.borrow().window.announced().epoch
    }

    /// When it ended, and when a node last wrote.
    pub(crate) fn ages(&self) -> (Option<Mono>, Mono) {
        let state = self.state.borrow();
        (state.ended, state.touched)
    }

    /// Whether a player finds it: announced and not released.
    pub(crate) fn is_known(&self) -> bool {
        !self.state.borrow().window.announced().rungs.is_empty()
    }

    /// Looks at the window.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Window, Option<&serde_json::Value>) -> T) -> T {
        let state = self.state.borrow();
        look(&state.window, state.health.as_ref())
    }

    /// The multivariant playlist, once every rung has shown its init section.
    pub(crate) async fn multivariant(&self) -> Result<Text, Missing> {
        let deadline = Instant::now() + PARK_LIMIT;
        let mut changes = self.state.subscribe();
        loop {
            let (text, open) = {
                let state = changes.borrow_and_update();
                let open = !state.window.announced().rungs.is_empty() && !state.window.is_ended();
                (state.window.multivariant_playlist(), open)
            };
            match text {
                Some(text) => return Ok(Text::new(text)),
                None if !open => return Err(Missing::NotFound),
                None => park(deadline, &mut changes).await?,
            }
        }
    }

    /// A rung's media playlist for so many players, once it holds what the query asks for.
    pub(crate) async fn media_playlist(
        &self,
        now: Mono,
        rung: &RungId,
        query: Query,
        players: u32,
    ) -> Result<Arc<RenditionText>, Missing> {
        self.settled(rung, |window| match window.reload(rung, query.block) {
            Reload::Ready => Some(Ok(())),
            Reload::Wait => None,
            Reload::TooFar => Some(Err(Missing::TooFar)),
            Reload::NoRung => Some(Err(Missing::NotFound)),
        })
        .await?;
        let state = self.state.borrow();
        let feed = state.feeds.get(rung).ok_or(Missing::NotFound)?;
        let text = feed.borrow().clone();
        text.get(query.skip, || state.window.media_playlist(rung, query.skip))
            .ok_or(Missing::NotFound)?;
        if counts_as_viewer(&state.window, rung) {
            let each = asks_again_after(&state.window, query.block);
            self.audience.watched(now, each.saturating_mul(players));
        }
        Ok(text)
    }

    /// A part; waits for the one that the preload hint names.
    pub(crate) async fn part(
        &self,
        rung: &RungId,
        msn: Msn,
        part: PartNo,
    ) -> Result<Bytes, Missing> {
        self.settled(rung, |window| match window.part(rung, msn, part) {
            PartLookup::Here(bytes) => Some(Ok(bytes)),
            PartLookup::Hinted => None,
            PartLookup::Absent => Some(Err(Missing::NotFound)),
        })
        .await
    }

    /// A part that is here.
    pub(crate) fn part_at_once(&self, rung: &RungId, msn: Msn, part: PartNo) -> Option<Bytes> {
        match self.state.borrow().window.part(rung, msn, part) {
            PartLookup::Here(bytes) => Some(bytes),
            PartLookup::Hinted | PartLookup::Absent => None,
        }
    }

    /// The parts of a full segment.
    pub(crate) fn segment(&self, rung: &RungId, msn: Msn) -> Result<Vec<Bytes>, Missing> {
        self.state.borrow().window.segment(rung, msn).ok_or(Missing::NotFound)
    }

    /// An init section.
    pub(crate) fn init(&self, rung: &RungId, hash: Hash) -> Result<Bytes, Missing> {
        self.state.borrow().window.init(rung, hash).ok_or(Missing::NotFound)
    }

    /// Asks `decide` now and after each change of `rung`, until it knows.
    async fn settled<T>(
        &self,
        rung: &RungId,
        decide: impl Fn(&Window) -> Option<Result<T, Missing>>,
    ) -> Result<T, Missing> {
        let look = || decide(&self.state.borrow().window);
        if let Some(decided) = look() {
            return decided;
        }
        let feed = self.state.borrow().feeds.get(rung).map(|feed| feed.subscribe());
        let mut feed = feed.ok_or(Missing::NotFound)?;
        let deadline = Instant::now() + PARK_LIMIT;
        loop {
            if let Some(decided) = look() {
                return decided;
            }
            park(deadline, &mut feed).await?;
        }
    }
}

async fn park<T>(deadline: Instant, changes: &mut watch::Receiver<T>) -> Result<(), Missing> {
    match timeout_at(deadline, changes.changed()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Missing::NotFound),
        Err(_) => Err(Missing::Late),
    }
}

/// A viewer loads one video rung, or audio when there is no video.
fn counts_as_viewer(window: &Window, rung: &RungId) -> bool {
    let any_video =
        || window.announced().rungs.iter().any(|rung| window.is_video(rung) == Some(true));
    window.is_video(rung).is_some_and(|video| video || !any_video())
}

fn asks_again_after(window: &Window, block: Option<BlockUntil>) -> Duration {
    match block {
        Some(BlockUntil { part: Some(_), .. }) => {
            Duration::from_millis(window.announced().part_target_ms.into())
        }
        _ => TARGET_DURATION,
    }
}
