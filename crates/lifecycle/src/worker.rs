//! Supervises one worker process. Decides; never spawns, kills or sleeps.
//!
//! ```text
//! Starting --Ready--> Running --Stop--> Draining --Exited--> Done
//!     | deadline         | hung             | deadline         ^
//!     +--------------> Killing <------------+                  |
//!                         +-- Exited, or deadline: Unkillable -+
//! ```
//!
//! A running worker beats every 200 ms. After [`SILENCE`] without a beat the driver looks at the process: a stopped one is
//! hung; one that uses the processor is slow, not hung, up to [`SPIN_LIMIT`] of its own CPU time; one that uses none in
//! [`LOOKS_WITHOUT_CPU`] looks is hung, unless it waits for the host: then it has [`LOOKS_THAT_WAIT`]. Silence counts only
//! while the driver's own timer is on time, because a host that is too busy to look is too busy to beat.

use std::{collections::VecDeque, time::Duration};

use millrace_types::{EndReason, Mono};

/// How long a worker may take to report ready.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker that flushes its last segment may say nothing, and how long it may take in all: on a host that is short of
/// processors it gets on slowly.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
const WHOLE_DRAIN: Duration = Duration::from_secs(8);
/// How long SIGKILL may take; longer means that the process hangs inside a driver or on a disk, maybe for ever.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which the process is looked at.
const SILENCE: Duration = Duration::from_millis(500);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A tick later than this says that the observer is slow; the silence starts anew.
const LATE: Duration = Duration::from_millis(100);
/// Looks in a row that find no CPU time used before a silent worker is hung.
const LOOKS_WITHOUT_CPU: u32 = 3;
/// Looks that find it waiting for a processor or a disk before a silent worker is hung.
const LOOKS_THAT_WAIT: u32 = 25;
/// CPU time used without a beat after which a worker spins for ever.
const SPIN_LIMIT: Duration = Duration::from_secs(2);

/// What a look at the process found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// State `T`: stopped by a signal.
    pub stopped: bool,
    /// A thread of it would run if it had a processor, or waits for a disk: state `R` or `D`.
    pub waits: bool,
    /// CPU time it has used since it started.
    pub cpu: Duration,
}

/// What the driver observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerInput {
    /// It is confined and listens.
    Ready,
    /// It beat, or delivered something.
    Beat,
    /// It was looked at, as ordered.
    Looked(Look),
    /// Its stream is over, or goes elsewhere.
    Stop,
    /// It is gone.
    Exited(EndReason),
    /// Time has passed.
    Tick,
}

/// Why a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyKilled {
    /// Not ready in time.
    StartsTooLong,
    /// It was told to end and did not in time.
    DrainsTooLong,
    /// Silent, and stopped by a signal.
    Stopped,
    /// Silent, and asleep look by look.
    Sleeps,
    /// Silent, and look by look without the processor or the disk that it waits for.
    WaitsForHost,
    /// Silent, and has used the processor for too long.
    Spins,
}

impl WhyKilled {
    /// Word for the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartsTooLong => "starts too long",
            Self::DrainsTooLong => "drains too long",
            Self::Stopped => "stopped by a signal",
            Self::Sleeps => "silent and asleep",
            Self::WaitsForHost => "silent and waiting for a processor or a disk",
            Self::Spins => "silent and spinning",
        }
    }
}

/// What the driver must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutput {
    /// Look at the process and say what was found.
    Look,
    /// Tell it to flush and end.
    Drain,
    /// SIGKILL it.
    Kill(WhyKilled),
    /// It ended; nothing follows.
    Ended(EndReason),
    /// It was killed for this and is still there; nothing follows. It runs none of its code any more, so its stream goes on elsewhere;
    /// what it holds of the host is not free.
    Unkillable(EndReason),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Starting { until: Mono },
    Running(Silence),
    Draining { until: Mono, at_most_until: Mono },
    Killing { reason: EndReason, until: Mono },
    Done,
}

/// What is known of a running worker since its last beat.
#[derive(Clone, Copy, Debug)]
struct Silence {
    look_at: Mono,
    first_cpu: Option<Duration>,
    last_cpu: Duration,
    idle_looks: u32,
    waiting_looks: u32,
}

impl Silence {
    fn since(beat: Mono) -> Self {
        Self {
            look_at: beat + SILENCE,
            first_cpu: None,
            last_cpu: Duration::ZERO,
            idle_looks: 0,
            waiting_looks: 0,
        }
    }

    /// Takes a look in; why the worker is hung, if it is.
    fn looked(&mut self, now: Mono, look: Look) -> Option<WhyKilled> {
        let still = self.first_cpu.is_some() && look.cpu == self.last_cpu;
        match (still, look.waits) {
            (false, _) => (self.idle_looks, self.waiting_looks) = (0, 0),
            (true, false) => self.idle_looks += 1,
            (true, true) => self.waiting_looks += 1,
        }
        let spun = look.cpu.saturating_sub(*self.first_cpu.get_or_insert(look.cpu));
        self.last_cpu = look.cpu;
        self.look_at = now + LOOK_EVERY;
        let verdicts = [
            (look.stopped, WhyKilled::Stopped),
            (self.idle_looks >= LOOKS_WITHOUT_CPU, WhyKilled::Sleeps),
            (self.waiting_looks >= LOOKS_THAT_WAIT, WhyKilled::WaitsForHost),
            (spun >= SPIN_LIMIT, WhyKilled::Spins),
        ];
        verdicts.into_iter().find_map(|(holds, why)| holds.then_some(why))
    }
}

/// One worker process, from spawn to exit.
#[derive(Debug)]
pub struct Worker {
    state: State,
    out: VecDeque<WorkerOutput>,
}

impl Worker {
    /// A process that was spawned `now`.
    pub fn new(now: Mono) -> Self {
        Self { state: State::Starting { until: now + START_TIMEOUT }, out: VecDeque::new() }
    }

    /// Takes a fact in.
    pub fn handle(&mut self, now: Mono, input: WorkerInput) {
        use WorkerInput as I;
        self.state = match (self.state, input) {
            (State::Starting { .. }, I::Ready) => State::Running(Silence::since(now)),
            (State::Running(_), I::Beat) => State::Running(Silence::since(now)),
            (State::Running(silence), I::Tick) if now >= silence.look_at => {
                self.silent(now, silence)
            }
            (State::Running(mut silence), I::Looked(look)) => match silence.looked(now, look) {
                Some(why) => self.kill(now, EndReason::Hung, why),
                None => State::Running(silence),
            },
            (State::Starting { .. } | State::Running(_), I::Stop) => {
                self.out.push_back(WorkerOutput::Drain);
                State::Draining { until: now + DRAIN_TIMEOUT, at_most_until: now + WHOLE_DRAIN }
            }
            (State::Draining { at_most_until, .. }, I::Beat) => {
                State::Draining { until: at_most_until.min(now + DRAIN_TIMEOUT), at_most_until }
            }
            (State::Starting { until }, I::Tick) if now >= until => {
                self.kill(now, EndReason::StartTimeout, WhyKilled::StartsTooLong)
            }
            (State::Draining { until, .. }, I::Tick) if now >= until => {
                self.kill(now, EndReason::DrainTimeout, WhyKilled::DrainsTooLong)
            }
            (State::Killing { reason, until }, I::Tick) if now >= until => {
                self.out.push_back(WorkerOutput::Unkillable(reason));
                State::Done
            }
            (State::Killing { reason, .. }, I::Exited(_)) => self.end(reason),
            (State::Done, _) => State::Done,
            (_, I::Exited(reason)) => self.end(reason),
            (state, _) => state,
        };
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<WorkerOutput> {
        self.out.pop_front()
    }

    /// When the next [`WorkerInput::Tick`] is due.
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Starting { until }
            | State::Draining { until, .. }
            | State::Killing { until, .. } => Some(until),
            State::Running(silence) => Some(silence.look_at),
            State::Done => None,
        }
    }

    fn silent(&mut self, now: Mono, silence: Silence) -> State {
        if now.since(silence.look_at) > LATE {
            return State::Running(Silence::since(now));
        }
        self.out.push_back(WorkerOutput::Look);
        State::Running(Silence { look_at: now + LOOK_EVERY, ..silence })
    }

    fn kill(&mut self, now: Mono, reason: EndReason, why: WhyKilled) -> State {
        self.out.push_back(WorkerOutput::Kill(why));
        State::Killing { reason, until: now + KILL_TIMEOUT }
    }

    fn end(&mut self, reason: EndReason) -> State {
        self.out.push_back(WorkerOutput::Ended(reason));
        State::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn said(worker: &mut Worker) -> Vec<WorkerOutput> {
        std::iter::from_fn(|| worker.poll()).collect()
    }

    fn running() -> Worker {
        let mut worker = Worker::new(at(0));
        worker.handle(at(0), WorkerInput::Ready);
        worker
    }

    /// Ticks on time for `millis`, answering each look with `look(now)`; what was ordered besides looking.
    fn watch(
        worker: &mut Worker,
        millis: u64,
        look: impl Fn(u64) -> Look,
    ) -> Option<(u64, WorkerOutput)> {
        for now in 0..millis {
            if worker.deadline() == Some(at(now)) {
                worker.handle(at(now), WorkerInput::Tick);
            }
            while let Some(output) = worker.poll() {
                match output {
                    WorkerOutput::Look => worker.handle(at(now), WorkerInput::Looked(look(now))),
                    other => return Some((now, other)),
                }
            }
        }
        None
    }

    #[test]
    fn a_stopped_process_is_hung_at_the_first_look() {
        let stopped = |_| Look { stopped: true, waits: false, cpu: Duration::ZERO };
        assert_eq!(
            watch(&mut running(), 1000, stopped),
            Some((500, WorkerOutput::Kill(WhyKilled::Stopped)))
        );
    }

    #[test]
    fn a_silent_process_that_uses_no_cpu_is_hung_within_a_second_and_a_busy_one_is_only_slow() {
        let asleep = |_| Look { stopped: false, waits: false, cpu: Duration::from_secs(7) };
        assert_eq!(
            watch(&mut running(), 2000, asleep),
            Some((1100, WorkerOutput::Kill(WhyKilled::Sleeps)))
        );
        let busy = |now| Look { stopped: false, waits: false, cpu: Duration::from_millis(now) };
        assert_eq!(watch(&mut running(), 2000, busy), None);
        assert_eq!(
            watch(&mut running(), 9000, busy),
            Some((2500, WorkerOutput::Kill(WhyKilled::Spins)))
        );
    }

    #[test]
    fn a_silent_process_that_waits_for_the_host_has_longer_than_one_that_sleeps() {
        let waits = |now| Look { stopped: false, waits: now < 5_000, cpu: Duration::from_secs(7) };
        assert_eq!(watch(&mut running(), 5_100, waits), None);
        let sleeps_then = watch(&mut running(), 9_000, waits);
        let asleep = WorkerOutput::Kill(WhyKilled::Sleeps);
        assert_eq!(sleeps_then, Some((5_500, asleep)), "it sleeps from 5 s on");
        let stuck = |_| Look { stopped: false, waits: true, cpu: Duration::from_secs(7) };
        let waits = WorkerOutput::Kill(WhyKilled::WaitsForHost);
        assert_eq!(watch(&mut running(), 9_000, stuck), Some((5_500, waits)));
    }

    #[test]
    fn silence_does_not_count_while_the_observer_is_late() {
        let mut worker = running();
        worker.handle(at(5000), WorkerInput::Tick);
        assert_eq!(said(&mut worker), []);
        assert_eq!(worker.deadline(), Some(at(5500)));
    }

    #[test]
    fn a_worker_that_never_reports_ready_is_killed_once_and_reported_once() {
        let mut worker = Worker::new(at(0));
        worker.handle(at(5000), WorkerInput::Tick);
        worker.handle(at(5900), WorkerInput::Tick);
        worker.handle(at(5950), WorkerInput::Exited(EndReason::KilledSignal));
        let ended = WorkerOutput::Ended(EndReason::StartTimeout);
        assert_eq!(said(&mut worker), [WorkerOutput::Kill(WhyKilled::StartsTooLong), ended]);
    }

    #[test]
    fn a_worker_that_a_second_after_sigkill_is_still_there_is_given_up_once() {
        let mut worker = running();
        worker.handle(at(0), WorkerInput::Stop);
        worker.handle(at(3000), WorkerInput::Tick);
        worker.handle(at(3999), WorkerInput::Tick);
        let kill = WorkerOutput::Kill(WhyKilled::DrainsTooLong);
        assert_eq!(said(&mut worker), [WorkerOutput::Drain, kill]);
        assert_eq!(worker.deadline(), Some(at(4000)));
        worker.handle(at(4000), WorkerInput::Tick);
        worker.handle(at(60_000), WorkerInput::Exited(EndReason::KilledSignal));
        assert_eq!(said(&mut worker), [WorkerOutput::Unkillable(EndReason::DrainTimeout)]);
        assert_eq!(worker.deadline(), None);
    }

    #[test]
    fn a_worker_that_goes_on_saying_what_it_flushes_has_longer_than_one_that_does_not() {
        let killed_at = |says_every: Option<u64>| {
            let mut worker = running();
            worker.handle(at(0), WorkerInput::Stop);
            let says = |now| says_every.is_some_and(|every| now > 0 && now % every == 0);
            for now in 0.. {
                if says(now) {
                    worker.handle(at(now), WorkerInput::Beat);
                }
                worker.handle(at(now), WorkerInput::Tick);
                if said(&mut worker).contains(&WorkerOutput::Kill(WhyKilled::DrainsTooLong)) {
                    return now;
                }
            }
            unreachable!()
        };
        assert_eq!([None, Some(2_900), Some(3_500)].map(killed_at), [3_000, 8_000, 3_000]);
    }

    #[test]
    fn an_exit_nobody_asked_for_keeps_its_reason() {
        let mut worker = running();
        worker.handle(at(10), WorkerInput::Exited(EndReason::KilledSignal));
        assert_eq!(said(&mut worker), [WorkerOutput::Ended(EndReason::KilledSignal)]);
        worker.handle(at(11), WorkerInput::Exited(EndReason::Bug));
        assert_eq!(said(&mut worker), []);
    }
}
