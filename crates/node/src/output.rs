//! What one stream has published from this host: the window of everything its workers made, and the way to the origin.
//!
//! One task owns it; assignments speak to it through [`Output`], a bounded queue (policy `Block`). It outlives
//! assignments: a successor claims it under a higher epoch and continues from its marks. And it outlives origins: what is in
//! the window is given to the next one, or again to one that has lost its memory. What others published before is put before
//! it once it has come ([`Past`]).

mod handle;
mod past;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use millrace_hls::{Refusal, StreamOpen, Window, intake};
use millrace_telemetry::{Clock, SystemClock};
use millrace_types::{Epoch, Mark, RungId};
use millrace_wire::{Init, Part};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tracing::{debug, info, warn};

use self::handle::Change;
pub use self::handle::{Command, Heard, Output};
use crate::{
    delivery::{Announced, Delivery, Rung, Sender},
    gate::Claim,
    origin_client::{OriginClient, OriginError},
    past::Past,
    pusher::{Push, Pushed},
};

/// Media of one stream that is kept for another origin, bytes (policy: the oldest segments go first): a window of 17 Mbit/s, and
/// more than may be on its way to the origin.
pub const MAX_WINDOW_BYTES: u64 = 64 << 20;
/// How long the origin may take to say what it has, before the node's own window is believed.
const FENCE_PATIENCE: Duration = Duration::from_millis(700);
/// How long the origin may take to have everything, once the stream has ended.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// From one delivery of the whole window to the next, at least, when an origin forgets again.
const REDELIVER_EVERY: Duration = Duration::from_secs(1);

/// For so long the second writer of a stream leaves it to the first to restore it.
const YIELD: Duration = Duration::from_millis(500);

/// What the task hears besides commands.
struct Ears {
    hearing: mpsc::Receiver<Pushed>,
    changed: watch::Receiver<Option<Change>>,
    alone: watch::Receiver<()>,
}

struct Task {
    sender: Sender,
    clock: SystemClock,
    current: Option<Current>,
    /// What others published before the window begins, on its way here.
    past: Option<Past>,
    /// Another origin, which is given the window as soon as that has begun.
    postponed: Option<(tokio::time::Instant, OriginClient)>,
}

/// The state since the first claim.
struct Current {
    window: Window,
    /// The announcement in force at the origin. Its epoch may be above the window's, by changes of origin.
    open: watch::Sender<StreamOpen>,
    heard: mpsc::Sender<Heard>,
    delivery: Delivery,
    delivered_at: Instant,
    /// It was said that the delivery's origin is lost.
    said_lost: bool,
    /// Since when the origin has known nothing of the stream.
    forgotten_at: Option<Instant>,
    /// The writer that it was announced beside is gone.
    is_alone: bool,
}

impl Current {
    /// Goes on with another window of the same parts and more before them.
    fn take(&mut self, window: Window) {
        self.window = window;
        self.window.forget_beyond(MAX_WINDOW_BYTES);
    }
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut ears: Ears) {
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    // What happens once holds no memory for as long as the stream lives.
                    Some(Command::Claim(claim, reply)) => {
                        let _ = reply.send(Box::pin(self.claim(*claim)).await);
                    }
                    Some(Command::Init(epoch, init)) => {
                        Box::pin(self.init(epoch, *init, &mut ears)).await;
                    }
                    Some(Command::Part(epoch, part)) => {
                        Box::pin(self.part(epoch, *part, &mut ears)).await;
                    }
                    Some(Command::Health(json)) => self.health(json),
                    Some(Command::Past(past)) => self.past = self.past.take().or(Some(past)),
                    Some(Command::End(end, done)) => {
                        Box::pin(self.end(end, &mut ears)).await;
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(pushed) = ears.hearing.recv() => self.tell(pushed),
                Ok(()) = ears.changed.changed() => self.change_origin(&mut ears),
                Ok(()) = ears.alone.changed() => self.go_on_alone(),
                grew = grew(&mut self.past) => self.past_grew(grew),
                () = due(&self.postponed) => self.deliver_postponed(),
            }
        }
    }

    async fn claim(&mut self, claim: Claim) -> Result<Vec<Mark>, Refusal> {
        let Claim { open, origin, heard, past } = claim;
        let moves = self.leaves_for(&origin);
        let mut begins = self.current.is_none();
        // Whether no other node can have been asked since this one.
        let mut follows = true;
        let own = match &mut self.current {
            Some(current) => {
                let own = current.window.reopen(open.clone())?;
                let last = current.open.borrow().epoch;
                follows = open.epoch <= last.next_placement();
                current.open.send_replace(open.clone());
                (current.heard, current.is_alone) = (heard, false);
                own
            }
            None => {
                self.begin(&open, origin.clone(), heard);
                Vec::new()
            }
        };
        let Some(current) = &self.current else { return Ok(own) };
        let restores = if moves && follows { current.window.restorable() } else { Vec::new() };
        let announcement = StreamOpen { restores, ..open.clone() };
        let asked = origin.open(&self.sender.stream, &announcement);
        let asked = tokio::time::timeout(FENCE_PATIENCE, asked).await;
        let known = |theirs: &[Mark]| {
            own.iter().all(|own| theirs.iter().any(|theirs| theirs.rung == own.rung))
        };
        // Its announcer may have given up: an older epoch was fenced.
        let mut anew = moves || !current.delivery.is_announced();
        if let (Ok(Ok(theirs)), Some(current)) = (&asked, &mut self.current)
            && was_made_elsewhere(&own, theirs, follows)
        {
            // What is here has a hole, and begins before what players were shown meanwhile: no other origin may show it.
            current.window = Window::open(open.clone());
            (anew, begins) = (true, true);
        }
        if begins {
            self.take_up_past(past, asked.as_ref().ok(), &open, &origin);
        }
        match &asked {
            Ok(Ok(_)) if anew => self.deliver(origin, Announced::Already),
            Ok(Ok(theirs)) if known(theirs) => {}
            Ok(Err(OriginError::Fenced(_))) => {}
            Ok(_) | Err(_) => self.deliver(origin, Announced::After(Duration::ZERO)),
        }
        match asked {
            Ok(Ok(theirs)) => Ok(furthest(own, theirs)),
            Ok(Err(OriginError::Fenced(_))) => {
                Err(Refusal::Fenced { epoch: open.epoch, fence: open.epoch })
            }
            Ok(Err(error)) => {
                warn!(%error, "origin does not say what it has: continuing from the node's own window");
                Ok(own)
            }
            Err(_) => {
                warn!("origin is silent: continuing from the node's own window");
                Ok(own)
            }
        }
    }

    fn begin(&mut self, open: &StreamOpen, origin: OriginClient, heard: mpsc::Sender<Heard>) {
        let window = Window::open(open.clone());
        let open = watch::Sender::new(open.clone());
        // The claim announces it.
        let delivery =
            Delivery::begin(0, origin, &open, &window, Announced::Already, self.sender.clone());
        self.current = Some(Current {
            window,
            open,
            heard,
            delivery,
            delivered_at: Instant::now(),
            said_lost: false,
            forgotten_at: None,
            is_alone: false,
        });
    }

    /// Gives an origin everything that is kept, and from then on what is new.
    fn deliver(&mut self, origin: OriginClient, announced: Announced) {
        let Some(current) = &mut self.current else { return };
        let number = current.delivery.number + 1;
        let sender = self.sender.clone();
        let (open, window) = (&current.open, &current.window);
        current.delivery = Delivery::begin(number, origin, open, window, announced, sender);
        (current.delivered_at, current.said_lost) = (Instant::now(), false);
    }

    fn change_origin(&mut self, ears: &mut Ears) {
        let change = ears.changed.borrow_and_update().clone();
        let (Some(change), Some(current)) = (change, &mut self.current) else { return };
        if change.epoch <= current.open.borrow().epoch {
            return;
        }
        info!(origin = %change.origin.address(), epoch = %change.epoch, "origin changed");
        current.is_alone = false;
        current.open.send_modify(|open| {
            (open.epoch, open.beside) = (change.epoch, change.beside);
            open.followed = change.followed;
        });
        let has_begun = current.window.has_begun();
        let open = current.open.borrow().clone();
        match (change.beside, &self.past) {
            // The other restores it there.
            (Some(_), Some(past)) => {
                let (origin, stream) = (change.origin.clone(), self.sender.stream.clone());
                self.past = Some(past.go_on_at(origin, &Handle::current(), stream, &open));
            }
            (None, Some(_)) if !has_begun => {
                return self.postpone(change.origin);
            }
            _ => self.join_past(),
        }
        self.postponed = None;
        let announced = match change.beside {
            Some(_) => Announced::After(YIELD),
            None => Announced::After(Duration::ZERO),
        };
        self.deliver(change.origin, announced);
    }

    fn go_on_alone(&mut self) {
        if let Some(current) = &mut self.current {
            current.is_alone = true;
        }
    }

    async fn init(&mut self, epoch: Epoch, init: Init, ears: &mut Ears) {
        let Some(current) = &mut self.current else { return };
        match current.window.add_init(epoch, init.record.clone(), init.bytes.clone()) {
            Ok(_) if self.postponed.is_some() => {}
            Ok(_) => {
                let rung = init.record.rung.clone();
                self.push(&rung, Push::Init(init), ears).await;
            }
            Err(refusal) => self.left("init section", &refusal),
        }
    }

    async fn part(&mut self, epoch: Epoch, part: Part, ears: &mut Ears) {
        let Some(current) = &mut self.current else { return };
        self.sender.metrics.parts.inc();
        let now = self.clock.mono();
        match current.window.add_part(now, epoch, part.record.clone(), part.bytes.clone()) {
            Ok(_) => {
                current.window.forget_beyond(MAX_WINDOW_BYTES);
                if self.postponed.is_some() {
                    if current.window.has_begun() {
                        self.deliver_postponed();
                    }
                    return;
                }
                let rung = part.record.rung.clone();
                self.push(&rung, Push::Part(part), ears).await;
            }
            Err(refusal) => self.left("part", &refusal),
        }
    }

    /// Says what was not taken: what an old worker still says is usual, anything else is a worker that errs.
    fn left(&self, what: &str, refusal: &Refusal) {
        let reason = refusal.reason();
        match refusal {
            Refusal::Fenced { .. } | Refusal::TooOld { .. } => info!(what, reason, "not taken"),
            _ => warn!(what, reason, %refusal, "not taken"),
        }
    }

    /// Not waited for, and not tried again: the next report is a second away.
    fn health(&self, json: String) {
        let Some(current) = &self.current else { return };
        let (origin, stream) = (current.delivery.origin.clone(), self.sender.stream.clone());
        tokio::spawn(async move {
            if let Err(error) = origin.health(&stream, json).await {
                debug!(%error, "health not delivered");
            }
        });
    }

    /// Puts into a rung's queue; while that is full, hears the pushers, so that neither waits for the other. A change of
    /// origin takes it out of the queue's hands: it is in the window, which the new one gets.
    async fn push(&mut self, rung: &RungId, push: Push, ears: &mut Ears) {
        let current = self.current.as_mut().expect("invariant: pushing follows a claim");
        let delivery = current.delivery.number;
        let queue = current.delivery.queue(rung);
        let permit = queue.reserve();
        tokio::pin!(permit);
        loop {
            tokio::select! {
                permit = &mut permit => {
                    if let Ok(permit) = permit {
                        permit.send(push);
                    }
                    return;
                }
                Some(pushed) = ears.hearing.recv() => self.tell(pushed),
                Ok(()) = ears.changed.changed() => self.change_origin(ears),
                Ok(()) = ears.alone.changed() => self.go_on_alone(),
            }
            let is_delivery = |current: &Current| current.delivery.number == delivery;
            if self.postponed.is_some() || !self.current.as_ref().is_some_and(is_delivery) {
                return;
            }
        }
    }

    /// Passes on what came of a push. The assignment's queue never fills: it holds a window's worth, and losing a mark
    /// only makes the router keep input for longer, until the next mark.
    fn tell(&mut self, pushed: Pushed) {
        let Some(current) = &mut self.current else { return };
        let delivery = &current.delivery;
        let heard = match pushed {
            Pushed::Safe(mark) => {
                (current.said_lost, current.forgotten_at) = (false, None);
                Heard::Published(mark)
            }
            Pushed::Fenced(epoch) if epoch == current.open.borrow().epoch => Heard::Fenced,
            Pushed::Lost(number) if number == delivery.number && !current.said_lost => {
                current.said_lost = true;
                warn!(origin = %delivery.origin.address(), "origin lost");
                self.sender.metrics.origin_losses.inc();
                Heard::OriginLost(delivery.origin.address())
            }
            Pushed::Forgotten(number) => {
                if current.is_alone {
                    current.open.send_modify(|open| open.beside = None);
                }
                // The writer beside this one may have more of it.
                let since = current.forgotten_at.get_or_insert_with(Instant::now).elapsed();
                let yields = current.open.borrow().beside.is_some() && since < YIELD;
                let is_due = current.delivered_at.elapsed() >= REDELIVER_EVERY && !yields;
                if number == delivery.number && is_due {
                    info!("the origin has lost its memory: giving it the window again");
                    let origin = delivery.origin.clone();
                    self.join_past();
                    self.deliver(origin, Announced::After(Duration::ZERO));
                }
                return;
            }
            Pushed::Fenced(_) | Pushed::Lost(_) => return,
        };
        let _ = current.heard.try_send(heard);
    }

    async fn end(&mut self, end: intake::End, ears: &mut Ears) {
        self.deliver_postponed();
        let Some(current) = &mut self.current else { return };
        // A pusher ends once its queue is closed and empty.
        let rungs = current.delivery.take_rungs();
        let emptied = join_all(rungs.into_iter().map(Rung::emptied));
        tokio::pin!(emptied);
        let deadline = tokio::time::sleep(END_PATIENCE);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                _ = &mut emptied => break,
                Some(pushed) = ears.hearing.recv() => self.tell(pushed),
                () = &mut deadline => {
                    warn!("origin did not take everything before the end");
                    break;
                }
            }
        }
        while let Ok(pushed) = ears.hearing.try_recv() {
            self.tell(pushed);
        }
        let Some(current) = &self.current else { return };
        // Under the epoch that the origin knows.
        let epoch = end.epoch.max(current.open.borrow().epoch);
        let told = intake::End { epoch, ..end };
        if let Err(error) = current.delivery.origin.end(&self.sender.stream, told).await {
            warn!(%error, "origin was not told of the end");
        }
        if !end.continues {
            (self.current, self.past, self.postponed) = (None, None, None);
        }
    }
}

/// Waits until more of the past has come; `false`: no more will.
async fn grew(past: &mut Option<Past>) -> bool {
    match past {
        Some(past) => past.grew().await,
        None => std::future::pending().await,
    }
}

async fn due(postponed: &Option<(tokio::time::Instant, OriginClient)>) {
    match postponed {
        Some((until, _)) => tokio::time::sleep_until(*until).await,
        None => std::future::pending().await,
    }
}

/// Whether another node wrote the stream meanwhile: the origin has more of a rung than this node made, or it has nothing and
/// this node's epoch does not `follow` its last one.
fn was_made_elsewhere(own: &[Mark], theirs: &[Mark], follows: bool) -> bool {
    let is_behind = |own: &Mark| {
        let same = theirs.iter().find(|theirs| theirs.rung == own.rung);
        same.map_or(theirs.is_empty() && !follows, |theirs| {
            (theirs.msn, theirs.part) > (own.msn, own.part)
        })
    };
    own.iter().any(is_behind)
}

/// The further of two marks for each rung.
fn furthest(own: Vec<Mark>, theirs: Vec<Mark>) -> Vec<Mark> {
    let mut best = BTreeMap::new();
    for mark in own.into_iter().chain(theirs) {
        let further = best
            .get(&mark.rung)
            .is_none_or(|best: &Mark| (mark.msn, mark.part) > (best.msn, best.part));
        if further {
            best.insert(mark.rung.clone(), mark);
        }
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests {
    use millrace_types::{MediaTime, Msn, PartNo};

    use super::*;

    fn mark(rung: &str, msn: u64, part: u32) -> Mark {
        Mark {
            rung: rung.parse().unwrap(),
            msn: Msn(msn),
            part: PartNo(part),
            end: MediaTime(0),
            closed: false,
        }
    }

    #[test]
    fn a_window_has_a_hole_once_another_node_has_made_more_of_any_rung() {
        let own = [mark("source", 7, 3), mark("audio", 7, 1)];
        let theirs = |source, audio| [mark("source", 7, source), mark("audio", 7, audio)];
        assert!(!was_made_elsewhere(&own, &theirs(3, 1), false));
        assert!(!was_made_elsewhere(&own, &theirs(2, 0), false));
        assert!(was_made_elsewhere(&own, &theirs(2, 2), true));
        assert!(was_made_elsewhere(&own, &[mark("source", 8, 0)], true));
        // An origin that knows nothing: it was restarted, or is not the one that another node wrote to.
        assert!(!was_made_elsewhere(&own, &[], true));
        assert!(was_made_elsewhere(&own, &[], false));
        assert!(!was_made_elsewhere(&[], &theirs(3, 1), false), "there is nothing to have a hole");
    }

    #[test]
    fn a_successor_continues_from_the_further_of_both_windows() {
        let own = vec![mark("source", 7, 3), mark("audio", 7, 1)];
        let theirs = vec![mark("source", 7, 2), mark("audio", 8, 0), mark("360p", 6, 6)];
        assert_eq!(
            furthest(own, theirs),
            [mark("360p", 6, 6), mark("audio", 8, 0), mark("source", 7, 3)]
        );
    }
}
