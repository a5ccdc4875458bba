//! A move under every fault at every moment, with a driver that carries orders out as a router does. Time goes in steps of 10 ms, a
//! frame each; the sound of a frame comes 30 ms behind its picture, and what is made of a frame is published 200 ms after it came.

use std::time::Duration;

use millrace_types::Mono;

use super::{Handover, HandoverInput, HandoverOutput};

const STEP_MS: u64 = 10;
const SEGMENT_MS: u64 = 2_000;
const TRAILS_MS: u64 = 30;
const MAKING_MS: u64 = 200;
/// When the move begins, how long the standby takes to be there and to catch up, and how long any worker takes to begin anew.
const BEGINS_MS: u64 = 300;
const ADMITTED_MS: u64 = 150;
const CAUGHT_UP_MS: u64 = 500;
const STARTS_MS: u64 = 100;
/// The time that all of this is over by, deadlines and all.
const END_MS: u64 = 9_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    OldWorker,
    OldNode,
    /// The old node's daemon is replaced, and its worker may be gone on with.
    OldDaemon,
    NewWorker,
    NewNode,
    /// Nothing comes through any more, and nobody says so.
    NewLinkCut,
}

const FAULTS: [Fault; 6] = [
    Fault::OldWorker,
    Fault::OldNode,
    Fault::OldDaemon,
    Fault::NewWorker,
    Fault::NewNode,
    Fault::NewLinkCut,
];

/// An encoder: which frames it is given, and which of them it has made.
#[derive(Clone, Copy, Debug)]
struct Maker {
    lives: bool,
    /// The first frame that it makes.
    from: u64,
    /// Behind the last frame that it was given whole, and behind the last of which it was given the sound.
    pictures: u64,
    sounds: u64,
    told_to_end_at: Option<u64>,
}

impl Maker {
    fn new(from: u64) -> Self {
        Self { lives: true, from, pictures: from, sounds: from, told_to_end_at: None }
    }
}

struct World {
    now: u64,
    handover: Option<Handover>,
    writer: Option<Maker>,
    /// Being placed: when a worker is there.
    placed_at: Option<u64>,
    standby: Option<Maker>,
    standby_reachable: bool,
    cut: Option<u64>,
    published: u64,
    /// Facts on their way to the router.
    news: Vec<(u64, HandoverInput)>,
    orders: Vec<HandoverOutput>,
}

fn mono(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

impl World {
    fn new() -> Self {
        Self {
            now: 0,
            handover: None,
            writer: Some(Maker::new(0)),
            placed_at: None,
            standby: None,
            standby_reachable: true,
            cut: None,
            published: 0,
            news: Vec::new(),
            orders: Vec::new(),
        }
    }

    fn input(&mut self, input: HandoverInput) {
        let Some(handover) = &mut self.handover else { return };
        handover.handle(mono(self.now), input);
        while let Some(order) = self.handover.as_mut().and_then(Handover::poll) {
            self.orders.push(order);
            match order {
                HandoverOutput::Ask => {
                    self.news.push((self.now + ADMITTED_MS, HandoverInput::Admitted));
                }
                HandoverOutput::Begin => self.cut = Some(self.now),
                HandoverOutput::EndWriter => {
                    if let Some(writer) = &mut self.writer {
                        writer.told_to_end_at = Some(self.now);
                    }
                }
                HandoverOutput::Promote => {
                    let cut = self.cut.expect("told to begin");
                    assert!(self.published >= cut, "published before all before it was");
                    (self.writer, self.handover) = (self.standby.take(), None);
                    if !self.standby_reachable {
                        self.lose_writer();
                    }
                }
                HandoverOutput::Drop(_) => (self.standby, self.handover) = (None, None),
                HandoverOutput::PlaceAnew(_) => {
                    (self.standby, self.handover) = (None, None);
                    self.lose_writer();
                }
            }
        }
    }

    /// The stream is placed again, from what is published.
    fn lose_writer(&mut self) {
        self.writer = None;
        self.placed_at.get_or_insert(self.now + STARTS_MS);
    }

    fn strike(&mut self, fault: Fault) {
        let soon = self.now + STEP_MS;
        match fault {
            Fault::OldWorker | Fault::OldNode | Fault::OldDaemon => {
                let Some(writer) = self.writer else { return };
                let has_all = self.handover.as_ref().is_none_or(Handover::writer_has_all);
                let ends = writer.told_to_end_at.is_some();
                self.input(HandoverInput::WriterLost);
                self.lose_writer();
                // The next daemon offers the worker; the router goes on with it behind the newest item that it has.
                if fault == Fault::OldDaemon && has_all && !ends {
                    let newest = writer.pictures.max(writer.sounds + TRAILS_MS);
                    assert_eq!(writer.pictures, newest, "pictures that nobody is given");
                    (self.placed_at, self.writer) = (None, Some(writer));
                }
            }
            Fault::NewWorker | Fault::NewNode | Fault::NewLinkCut => {
                self.standby_reachable = false;
                let silent = if fault == Fault::NewLinkCut { 1_000 } else { STEP_MS };
                match &mut self.standby {
                    Some(standby) => {
                        standby.lives = fault == Fault::NewLinkCut;
                        self.news.push((self.now + silent, HandoverInput::StandbyLost));
                    }
                    None if self.handover.is_some() => {
                        self.news.retain(|(_, news)| *news != HandoverInput::Admitted);
                        self.news.push((soon, HandoverInput::Refused));
                    }
                    None => {}
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        if self.now == BEGINS_MS {
            self.handover = Some(Handover::new(mono(self.now)));
            self.input(HandoverInput::Tick);
        }
        let due: Vec<_> = self.news.iter().filter(|(at, _)| *at <= self.now).copied().collect();
        self.news.retain(|(at, _)| *at > self.now);
        for (_, news) in due {
            self.hear(news);
        }
        if self.now.is_multiple_of(SEGMENT_MS) {
            self.input(HandoverInput::SegmentBegan { clean: true });
        }
        self.feed();
        self.make();
        if self.placed_at.is_some_and(|at| self.now >= at) {
            (self.placed_at, self.writer) = (None, Some(Maker::new(self.published)));
        }
        self.input(HandoverInput::Tick);
    }

    fn hear(&mut self, news: HandoverInput) {
        match news {
            HandoverInput::Admitted if self.handover.is_some() => {
                self.standby = Some(Maker::new(self.now));
                self.news.push((self.now + CAUGHT_UP_MS, HandoverInput::CaughtUp));
            }
            // It was promoted meanwhile: the loss of any writer.
            HandoverInput::StandbyLost if self.handover.is_none() => {
                if self.orders.contains(&HandoverOutput::Promote) && self.placed_at.is_none() {
                    self.lose_writer();
                }
                return;
            }
            _ => {}
        }
        self.input(news);
    }

    /// Gives out what has come: the pictures until now, the sound until a little before.
    fn feed(&mut self) {
        let (pictures, sounds) = (self.now, self.now.saturating_sub(TRAILS_MS));
        let cut = if self.handover.is_some() { self.cut } else { None };
        if let Some(writer) = &mut self.writer {
            let until = cut.unwrap_or(u64::MAX);
            writer.pictures = writer.pictures.max(pictures.min(until));
            writer.sounds = writer.sounds.max(sounds.min(until));
        }
        if let (Some(standby), Some(cut)) = (&mut self.standby, cut) {
            (standby.from, standby.pictures, standby.sounds) = (cut, pictures, sounds.max(cut));
        }
        if cut.is_some_and(|cut| sounds >= cut) {
            self.input(HandoverInput::Crossed);
        }
    }

    /// The one that writes publishes; who was told to end does so once everything is.
    fn make(&mut self) {
        let Some(writer) = self.writer.filter(|writer| writer.lives) else { return };
        let made = writer.pictures.min(writer.sounds);
        let made = match writer.told_to_end_at {
            Some(told) if self.now >= told + MAKING_MS => made,
            _ => made.min(self.now.saturating_sub(MAKING_MS + TRAILS_MS)),
        };
        if made > self.published {
            assert!(writer.from <= self.published, "frames between are nobody's: {writer:?}");
            self.published = made;
        }
        if writer.told_to_end_at.is_some_and(|told| self.now >= told + MAKING_MS) {
            let complete = self.cut.is_some_and(|cut| self.published >= cut);
            self.input(HandoverInput::WriterEnded { complete });
        }
    }
}

/// Everything is published, somebody makes the stream, and the move is over.
fn assert_survived(world: &World, what: &str) {
    let behind = world.now - world.published;
    assert!(behind <= 500, "{what}: {behind} ms are not published: {:?}", world.orders);
    assert!(world.writer.is_some_and(|writer| writer.lives), "{what}: nobody makes it");
    assert!(world.standby.is_none() && world.handover.is_none(), "{what}: the move is not over");
    let is_end = |order: &&HandoverOutput| {
        !matches!(order, HandoverOutput::Ask | HandoverOutput::Begin | HandoverOutput::EndWriter)
    };
    assert_eq!(world.orders.iter().filter(is_end).count(), 1, "{what}: {:?}", world.orders);
}

#[test]
fn without_a_fault_the_stream_moves() {
    let mut world = World::new();
    (0..END_MS / STEP_MS).for_each(|_| world.step());
    assert_survived(&world, "nothing");
    assert_eq!(world.orders.last(), Some(&HandoverOutput::Promote));
}

#[test]
fn whoever_dies_at_whatever_moment_of_a_move_every_frame_is_made_by_one_and_the_move_ends() {
    for fault in FAULTS {
        for at in (BEGINS_MS..4_000).step_by(STEP_MS as usize) {
            let mut world = World::new();
            while world.now < END_MS {
                world.step();
                if world.now == at {
                    world.strike(fault);
                }
            }
            assert_survived(&world, &format!("{fault:?} at {at} ms"));
        }
    }
}
