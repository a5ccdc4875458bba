//! The session's one loop: waits for whatever comes first, passes it on, carries out what the machine decides.

use std::{io, time::Duration};

use millrace_lifecycle::{
    HandoverInput, LadderChoice, PairingInput, Stream, StreamInput, StreamOutput,
};
use millrace_media::{Input, Timeline};
use millrace_registry::StreamRecord;
use millrace_sched::{Constraints, following_ladder, passthrough_ladder, unencoded_ladder};
use millrace_telemetry::{Clock, Hurry};
use millrace_types::{Because, DecisionKind, Epoch, Mono, Reason, RefusalReason};
use millrace_wire::{Hello, Message};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use super::{
    Command, GivenUp, Joining, Session, Waiting, hot::Hot, moving::Moving, standby::StandbyEvent,
};
use crate::{
    claim::{Claimed, claim},
    ingest::{IngestEvent, Publication},
    placement::{Link, Unplaced},
};

/// From one heartbeat to the next.
pub const BEAT_EVERY: Duration = Duration::from_millis(200);
/// `PART-TARGET` where the timeline does not know better yet, milliseconds.
const PART_TARGET_MS: u32 = 376;
/// `PART-HOLD-BACK` by default, milliseconds: no stall through a worker's death.
const HOLD_BACK_MS: u32 = 1_500;

/// What the loop waits for.
pub enum Happened {
    Told(Option<Command>),
    Published(Option<IngestEvent>),
    Placed(Result<Link, Unplaced>),
    NodeSaid(io::Result<Option<Message>>),
    Written(io::Result<()>),
    Beat,
    Deadline,
    Moving(StandbyEvent),
    Second(StandbyEvent),
}

impl Session {
    /// Lives until the stream is over. `commands` is its inbox; the session ends when it is closed and no publisher is left. A
    /// publisher that came too late for it is given back.
    pub async fn run(
        mut self: Box<Self>,
        mut commands: mpsc::Receiver<Command>,
    ) -> Option<Waiting> {
        self.hurry = Some(Hurry::here());
        // What runs once holds no memory for as long as the stream lives.
        self.own(Box::pin(claim(&self.context, &self.stream, &self.takeovers)).await);
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.obey() {
                break;
            }
            self.set_pace();
            self.feed_links();
            self.hold_last_picture();
            match self.wait(&mut commands, &mut beat).await {
                Happened::Told(Some(Command::Join(joining))) => {
                    let Joining { waiting, peer, takeovers } = *joining;
                    self.takeovers = takeovers;
                    self.join(waiting, peer);
                }
                Happened::Told(Some(Command::Refuse(reason))) => self.turn_away(reason),
                Happened::Told(Some(Command::End)) => {
                    self.turn_away(RefusalReason::BadKey);
                    self.input(StreamInput::ChannelGone);
                }
                Happened::Told(None) => self.refuse(RefusalReason::ShuttingDown, "router"),
                Happened::Told(Some(Command::MoveAway { from, to })) => {
                    self.move_away(&from, to);
                }
                Happened::Told(Some(Command::Regain)) => self.regain_ladder(),
                Happened::Moving(event) => self.move_event(event),
                Happened::Second(event) => self.second_event(event),
                Happened::Published(event) => {
                    self.publisher_said(event);
                    self.hear_out_publisher();
                }
                Happened::Placed(placed) => self.placed(placed),
                Happened::NodeSaid(message) => self.node_said(message),
                Happened::Written(Ok(())) => {}
                Happened::Written(Err(error)) => {
                    self.link.iter_mut().for_each(|state| state.broke(&error));
                }
                Happened::Beat => self.beat(),
                Happened::Deadline => self.deadline_passed(),
            }
        }
        let late = last_waiting(&mut commands);
        Box::pin(self.close()).await;
        late
    }

    /// The session is this router's from here on.
    fn own(&mut self, claimed: Claimed) {
        self.machine = Stream::new(self.now(), claimed.epoch);
        self.origin.now = claimed.origin;
        self.resume = claimed.resume;
        self.hot = claimed.was_hot.then(|| Hot::inherited(self.context.clock.wall()));
        for decision in claimed.decisions {
            self.note(decision);
        }
        self.show();
    }

    /// What came together goes on together.
    fn hear_out_publisher(&mut self) {
        while self.rush.wait_until().is_none()
            && let Some(event) = self.publisher.as_mut().and_then(Publication::ready)
        {
            self.publisher_said(Some(event));
        }
    }

    /// Nothing waits for a beat while a node is looked for, nor in a channel that asks for low latency for more than one.
    fn set_pace(&mut self) {
        let hurries = self.placing.is_some() || self.moving.is_some();
        if hurries != self.hurry.is_some() {
            self.hurry = hurries.then(Hurry::here);
        }
        let may_wait = self.link.is_some() && !hurries && !self.low_latency;
        let due = self.timeline.as_ref().and_then(Timeline::next_part_due);
        if let Some(publisher) = &self.publisher {
            let due = due.filter(|_| may_wait);
            publisher.expect(due.map(|due| self.context.clock.instant(due)));
        }
    }

    async fn wait(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        beat: &mut Interval,
    ) -> Happened {
        let clock = self.context.clock;
        let timeline = self.timeline.as_ref().and_then(|timeline| timeline.deadline());
        let moving = self.moving.as_ref().and_then(Moving::deadline);
        let pause = self.rush.wait_until().filter(|until| *until > clock.mono());
        let deadlines = [self.machine.deadline(), timeline, moving, self.second.deadline(), pause];
        let wake = deadlines.into_iter().flatten().min();
        let wake = clock.instant(wake.unwrap_or_else(|| clock.mono() + BEAT_EVERY));
        let placing = async {
            match &mut self.placing {
                Some(placing) => {
                    placing.await.unwrap_or_else(|error| Err(Unplaced::by_bug(&error)))
                }
                None => std::future::pending().await,
            }
        };
        let (said, written) = match &mut self.link {
            Some(state) => {
                let pending = state.wants_flush();
                (Some(state.link.reader.next()), pending.then(|| state.link.writer.flush()))
            }
            None => (None, None),
        };
        tokio::select! {
            command = commands.recv(), if !commands.is_closed() || !commands.is_empty() => {
                Happened::Told(command)
            }
            event = next_event(&mut self.publisher), if pause.is_none() => {
                Happened::Published(event)
            }
            placed = placing => {
                Happened::Placed(placed)
            }
            message = or_never(said) => Happened::NodeSaid(message),
            result = or_never(written) => Happened::Written(result),
            event = or_never(self.moving.as_mut().map(Moving::event)) => Happened::Moving(event),
            event = self.second.event() => Happened::Second(event),
            _ = beat.tick() => Happened::Beat,
            () = sleep_until(wake) => Happened::Deadline,
        }
    }

    fn deadline_passed(&mut self) {
        let now = self.context.clock.mono();
        if let Some(timeline) = &mut self.timeline
            && timeline.deadline().is_some_and(|at| at <= now)
        {
            self.timeline_input(Input::Elapsed);
        }
        self.move_input(HandoverInput::Tick);
        self.second_input(PairingInput::Tick);
        self.input(StreamInput::Tick);
    }

    /// Carries out the machine's orders; whether the session is over.
    fn obey(&mut self) -> bool {
        while let Some(output) = self.machine.poll() {
            match output {
                StreamOutput::Place { epoch, ladder } => self.place(epoch, ladder),
                StreamOutput::RefusePublisher(reason) => {
                    let detail = match reason {
                        RefusalReason::Undecodable => "no worker can decode the pictures",
                        RefusalReason::TakenOver => "another router has the session",
                        _ => "no node takes the stream",
                    };
                    let refused = self.decision(DecisionKind::PublisherRefused).because(reason);
                    self.note(refused.saying(detail));
                    self.refuse(reason, detail);
                }
                StreamOutput::Finish => self.finish_link(),
                StreamOutput::Close => return true,
            }
        }
        false
    }

    fn place(&mut self, epoch: Epoch, choice: LadderChoice) {
        self.replace_lost_origin();
        if self.machine.is_poison() && self.ladder.is_transcoded() {
            warn!(stream = %self.stream, "stream quarantined: its workers fail, it goes on unencoded");
        }
        let source = self.tracks.source();
        let was_encoded = self.ladder.is_transcoded();
        // Frozen from the first part on, until the picture becomes another.
        let is_open = self.published.is_empty() || self.reshape.is_some();
        if let Some(shown) = self.published.newest()
            && let Some(timeline) = &mut self.timeline
            && choice == LadderChoice::Passthrough
            && was_encoded
        {
            // Where all rungs change together, told before any of them comes there.
            let whole_from = timeline.break_at_next_keyframe(shown);
            self.given_up =
                GivenUp { marks: self.published.encoded(self.known_ladder()), whole_from };
        }
        self.ladder = match choice {
            LadderChoice::Full if !is_open => self.ladder.clone(),
            LadderChoice::Full => following_ladder(&self.ladder, &source, &self.context.ladder),
            LadderChoice::Passthrough if self.published.is_empty() => passthrough_ladder(&source),
            LadderChoice::Passthrough => unencoded_ladder(self.known_ladder()),
        };
        let because: Reason = match self.machine.is_poison() {
            true => Because::Poison.into(),
            false => RefusalReason::NoCapacity.into(),
        };
        self.unencoded_because = (choice == LadderChoice::Passthrough).then_some(because);
        if choice == LadderChoice::Passthrough && was_encoded {
            // Why there is no room even for that is another reason.
            self.is_unplaced = false;
            let unencoded = self.decision(DecisionKind::Unencoded).because(because);
            self.note(unencoded.saying(match self.published.is_empty() {
                true => "source and sound are passed through, no rung is encoded",
                false => "every rung is the source, passed through",
            }));
        }
        let hello = self.hello(epoch, false);
        self.link = None;
        let (fleet, last) = (self.context.fleet.clone(), self.last.clone());
        let place = async move { fleet.place(hello, last, Constraints::default()).await };
        self.placing = Some(tokio::spawn(place));
    }

    /// What a node is asked.
    pub(super) fn hello(&self, epoch: Epoch, standby: bool) -> Hello {
        let ticks = self.timeline.as_ref().and_then(|timeline| timeline.part_target());
        let part_target_ms = ticks
            .map_or(PART_TARGET_MS, |ticks| u32::try_from(ticks / 90).unwrap_or(PART_TARGET_MS));
        let three_parts = 3 * part_target_ms;
        let hold_back_ms =
            if self.low_latency { three_parts } else { HOLD_BACK_MS.max(three_parts) };
        Hello {
            stream: self.stream.clone(),
            epoch,
            ladder: self.ladder.clone(),
            part_target_ms,
            hold_back_ms,
            source_pixels_per_second: self.tracks.pixels_per_second(),
            origin_intake: self.origin.now.as_ref().map(|origin| origin.intake),
            replay_from: self.replay.oldest().filter(|_| !standby && !self.worker_lacks),
            standby,
            announced: self.tracks.announced,
            beside: None,
            speaks: self.context.fleet.speaks,
            given_up: self.given_up.marks.clone(),
            whole_from: self.given_up.whole_from,
        }
    }

    fn placed(&mut self, placed: Result<Link, Unplaced>) {
        self.placing = None;
        let results = &self.context.metrics.placements;
        match placed {
            Ok(link) => {
                results.with_label_values(&["admitted"]).inc();
                self.is_unplaced = false;
                self.machine.used(link.epoch);
                self.admitted(link);
            }
            Err(unplaced) => {
                results.with_label_values(&[unplaced.reason.as_str()]).inc();
                self.machine.used(unplaced.epoch);
                // It is asked again until a node takes it or the publisher is turned away: said once.
                if !std::mem::replace(&mut self.is_unplaced, true) {
                    let reason = unplaced.reason.as_str();
                    warn!(stream = %self.stream, reason, unplaced.text, "not placed");
                    let noted = self.decision(DecisionKind::Unplaced).because(unplaced.reason);
                    self.note(noted.instead_of(unplaced.others));
                }
                self.input(StreamInput::Refused(unplaced.reason));
            }
        }
    }

    async fn close(mut self: Box<Self>) {
        info!(stream = %self.stream, "session over");
        if let Some(placing) = self.placing.take() {
            placing.abort();
        }
        self.moving = None;
        self.count_replay(0);
        drop(self.publisher.take());
        let (ours, takeovers) = (self.machine.epoch().generation, self.takeovers);
        let unplaced = |record: Option<StreamRecord>| {
            record.map(|old| match old.epoch.generation == ours {
                true => StreamRecord { takeovers: takeovers.clone(), ..old }.over(),
                false => old,
            })
        };
        if let Err(error) = self.context.registry.update(self.stream.as_str(), unplaced).await {
            warn!(%error, "stream's record not updated");
        }
    }

    pub(super) fn now(&self) -> Mono {
        self.context.clock.mono()
    }
}

/// Takes no more commands; the newest publisher among those that nobody has looked at.
fn last_waiting(commands: &mut mpsc::Receiver<Command>) -> Option<Waiting> {
    commands.close();
    let mut late: Option<Waiting> = None;
    while let Ok(command) = commands.try_recv() {
        if let Command::Join(joining) = command
            && let Some(mut older) = late.replace(joining.waiting)
        {
            older.publication.refuse(RefusalReason::TakenOver.into());
        }
    }
    late
}

async fn next_event(publisher: &mut Option<Publication>) -> Option<IngestEvent> {
    match publisher {
        Some(publisher) => publisher.next().await,
        None => std::future::pending().await,
    }
}

async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use millrace_lifecycle::Takeovers;
    use millrace_types::Wall;

    use super::*;
    use crate::ingest::IngestEnd;

    /// What a task takes that runs it.
    fn bytes_of<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_sessions_task_has_no_room_for_what_it_does_once() {
        let (session, task) = (size_of::<Session>(), bytes_of(Session::run));
        assert!(session <= 8 << 10, "session: {session} bytes");
        assert!(task <= 8 << 10, "its task: {task} bytes");
    }

    #[tokio::test]
    async fn of_publishers_who_came_too_late_the_newest_is_kept_and_nobody_comes_after_it() {
        let (commands, mut inbox) = mpsc::channel(4);
        let ends = [IngestEnd::Disconnected, IngestEnd::Unpublished];
        for end in ends {
            let (_granted, mut publication) = Publication::new(1);
            publication.put_back(vec![IngestEvent::Ended(end)]);
            let waiting = Waiting { publication, since: Wall(1) };
            let peer = ([127, 0, 0, 1], 1).into();
            let joining = Joining { waiting, peer, takeovers: Takeovers::default() };
            commands.try_send(Command::Join(Box::new(joining))).unwrap();
        }
        let from = "node-1".parse().unwrap();
        commands.try_send(Command::MoveAway { from, to: None }).unwrap();
        let mut kept = last_waiting(&mut inbox).unwrap();
        let heard = kept.publication.ready();
        assert_eq!(heard, Some(IngestEvent::Ended(IngestEnd::Unpublished)));
        assert!(commands.is_closed());
        assert!(last_waiting(&mut inbox).is_none());
    }
}
