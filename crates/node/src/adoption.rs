//! The workers that outlived the daemon before this one: finds them, and decides whether a stream goes on with its own.
//!
//! ```text
//! run directory → process (pidfd, start time) → socket (peer credentials) → Ready{protocol, work} → Orphan
//! router's Hello, origin's marks → the orphan goes on | a new worker begins, and the orphan ends
//! ```
//! A worker that is no use ends here: nobody else would end it, and its stream loses nothing by that, because its router
//! still holds what is not published.

use futures_util::future::join_all;
use millrace_sandbox::Child;
use millrace_types::{Decision, DecisionKind, EndReason, Mark};
use millrace_wire::{Hello, PartAck, Work};
use tracing::{info, warn};

use crate::{
    cgroups::Cgroups,
    run_dir::{RunDir, WorkerFiles},
    worker_process::WorkerProcess,
};

/// A worker without a Link, and what it works on.
#[derive(Debug)]
pub struct Orphan {
    /// Connected; what it has not been acknowledged waits in its socket.
    pub worker: WorkerProcess,
    /// What it said of it.
    pub work: Work,
}

/// Why a stream does not go on with the worker that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another router, or another session of this one, counts its records anew.
    #[error("it was fed by another session")]
    OtherSession,
    /// Other rungs are asked for.
    #[error("another ladder is asked for")]
    OtherLadder,
    /// The router cannot feed what comes next, or does not say that it can.
    #[error("the router has not kept its next record")]
    NotKept,
    /// It has been told to end.
    #[error("it was told to end")]
    Ending,
    /// It was let go of a part that the origin does not have.
    #[error("the origin lacks parts that it does not have any more")]
    Hole,
    /// It has died since it was found.
    #[error("it is dead")]
    Dead,
}

impl Unfit {
    /// Metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtherSession => "other_session",
            Self::OtherLadder => "other_ladder",
            Self::NotKept => "not_kept",
            Self::Ending => "ending",
            Self::Hole => "hole",
            Self::Dead => "dead",
        }
    }
}

impl Orphan {
    /// That it was found and is held for its stream, for operators.
    pub fn decision(&self) -> Decision {
        self.of(DecisionKind::Adopted)
    }

    /// That its stream does not go on with it, for operators.
    pub fn ended(&self, why: Unfit) -> Decision {
        let ended = self.of(DecisionKind::WorkerEnded).because(EndReason::Stopped);
        ended.saying(format!("not gone on with: {why}"))
    }

    fn of(&self, kind: DecisionKind) -> Decision {
        let decision = Decision::of(kind).stream(&self.work.hello.stream);
        decision.epoch(self.work.hello.epoch).worker(self.worker.pid())
    }

    /// Whether it can be fed what this router offers.
    pub fn fits(&mut self, hello: &Hello) -> Result<(), Unfit> {
        match self.worker.child.get_mut().try_wait() {
            Ok(None) => fits(&self.work, hello),
            _ => Err(Unfit::Dead),
        }
    }

    /// Whether nothing lies between what the origin has and what the worker still holds.
    pub fn follows(&self, marks: &[Mark]) -> Result<(), Unfit> {
        follows(&self.work.acked, marks)
    }

    /// Ends it.
    pub fn end(self, why: Unfit) {
        info!(pid = self.worker.pid(), %why, stream = %self.work.hello.stream, "worker not gone on with");
        let mut worker = self.worker;
        tokio::spawn(async move { worker.end().await });
    }
}

fn fits(work: &Work, hello: &Hello) -> Result<(), Unfit> {
    if work.ended.is_some() {
        return Err(Unfit::Ending);
    }
    if work.hello.epoch.generation != hello.epoch.generation {
        return Err(Unfit::OtherSession);
    }
    if work.hello.ladder != hello.ladder {
        return Err(Unfit::OtherLadder);
    }
    let kept = hello.replay_from.is_some_and(|oldest| oldest <= work.next_seq);
    if kept { Ok(()) } else { Err(Unfit::NotKept) }
}

/// An origin that has nothing of a rung begins wherever it is given something.
fn follows(acked: &[PartAck], marks: &[Mark]) -> Result<(), Unfit> {
    let behind = |mark: &Mark| {
        let acked = acked.iter().find(|acked| acked.rung == mark.rung);
        acked.is_some_and(|acked| (mark.msn, mark.part) < (acked.msn, acked.part))
    };
    if marks.iter().any(behind) { Err(Unfit::Hole) } else { Ok(()) }
}

/// Takes every worker on that the daemon before has left, all at once; those that cannot say what they work on end.
pub async fn adopt_all(run_dir: &RunDir, cgroups: &Cgroups) -> Vec<Orphan> {
    let all = run_dir.living().into_iter().map(|(files, child)| adopt(files, child, cgroups));
    let mut orphans: Vec<Orphan> = join_all(all).await.into_iter().flatten().collect();
    // A stream that was just being placed anew may have two: the later one is in force.
    orphans.sort_by(|a, b| {
        let key = |orphan: &Orphan| (orphan.work.hello.stream.clone(), orphan.work.hello.epoch);
        key(b).cmp(&key(a))
    });
    let mut kept: Vec<Orphan> = Vec::new();
    for orphan in orphans {
        match kept.last() {
            // Another node writes the stream.
            _ if orphan.work.hello.standby => orphan.end(Unfit::OtherSession),
            Some(last) if last.work.hello.stream == orphan.work.hello.stream => {
                orphan.end(Unfit::OtherSession);
            }
            _ => kept.push(orphan),
        }
    }
    kept
}

async fn adopt(files: WorkerFiles, child: Child, cgroups: &Cgroups) -> Option<Orphan> {
    let (pid, again) = (child.pid(), files.clone());
    match WorkerProcess::adopt(files, child, cgroups).await {
        Ok(mut worker) => match worker.ready.work.take() {
            Some(work) => {
                let (stream, epoch) = (work.hello.stream.clone(), work.hello.epoch);
                info!(%stream, %epoch, pid, next_seq = work.next_seq, "worker adopted");
                worker.serves.send_replace(Some((stream, epoch)));
                Some(Orphan { worker, work })
            }
            // A spare, which ends by itself, or of a build that cannot be adopted.
            None => {
                worker.end().await;
                None
            }
        },
        Err(error) => {
            warn!(pid, %error, "worker not adopted");
            if let Some(child) = again.process() {
                let _ = child.kill();
            }
            again.remove();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{Epoch, Ladder, MediaTime, Msn, PartNo, Rung, RungKind};
    use millrace_wire::End;

    use super::*;

    fn hello(generation: u64, placement: u64, replay_from: Option<u64>) -> Hello {
        Hello {
            stream: "live".parse().unwrap(),
            epoch: Epoch { generation, placement },
            ladder: Ladder::default(),
            part_target_ms: 334,
            hold_back_ms: 1_500,
            source_pixels_per_second: 0,
            origin_intake: None,
            replay_from,
            standby: false,
            announced: Default::default(),
            beside: None,
            speaks: Default::default(),
            given_up: Vec::new(),
            whole_from: 0,
        }
    }

    fn work() -> Work {
        Work { hello: hello(2, 1, Some(0)), next_seq: 100, acked: Vec::new(), ended: None }
    }

    #[test]
    fn a_stream_goes_on_with_its_worker_if_the_same_session_still_has_its_next_record() {
        assert_eq!(fits(&work(), &hello(2, 2, Some(60))), Ok(()));
        assert_eq!(fits(&work(), &hello(2, 2, Some(100))), Ok(()));
        assert_eq!(fits(&work(), &hello(2, 2, Some(101))), Err(Unfit::NotKept));
        assert_eq!(fits(&work(), &hello(2, 2, None)), Err(Unfit::NotKept));
        assert_eq!(fits(&work(), &hello(3, 0, Some(0))), Err(Unfit::OtherSession));
        let rung = Rung { id: "source".parse().unwrap(), kind: RungKind::Source };
        let other = Hello { ladder: Ladder { rungs: vec![rung] }, ..hello(2, 2, Some(60)) };
        assert_eq!(fits(&work(), &other), Err(Unfit::OtherLadder));
        let ending = Work { ended: Some(End { continues: true }), ..work() };
        assert_eq!(fits(&ending, &hello(2, 2, Some(60))), Err(Unfit::Ending));
    }

    #[test]
    fn a_worker_that_has_let_go_of_what_the_origin_lacks_is_not_gone_on_with() {
        let acked = |part| PartAck { rung: "source".parse().unwrap(), msn: Msn(7), part };
        let mark = |rung: &str, part| Mark {
            rung: rung.parse().unwrap(),
            msn: Msn(7),
            part,
            end: MediaTime(0),
            closed: false,
        };
        let acked = [acked(PartNo(3))];
        for (marks, expected) in [
            (vec![mark("source", PartNo(3)), mark("audio", PartNo(0))], Ok(())),
            (vec![mark("source", PartNo(5))], Ok(())),
            (vec![mark("source", PartNo(2))], Err(Unfit::Hole)),
            (Vec::new(), Ok(())),
        ] {
            assert_eq!(follows(&acked, &marks), expected);
        }
    }
}
