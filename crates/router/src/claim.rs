//! Claims a stream's session for this router: a generation above every other's, and where the stream stands.
//!
//! The registry decides between two routers by compare-and-swap. The stream's origin decides where the registry cannot: it
//! takes each generation from one router only. Whoever had the session is heard to the end first, so that what it still
//! flushes is not lost; then it is fenced.

use std::time::Duration;

use millrace_hls::intake::Marks;
use millrace_lifecycle::Takeovers;
use millrace_media::Resume;
use millrace_registry::{OriginRecord, StreamRecord};
use millrace_sched::choose_origin;
use millrace_telemetry::Clock;
use millrace_types::{
    Alternative, Because, Decision, DecisionKind, Epoch, MediaTime, RefusalReason, StreamId,
};
use tracing::{info, warn};

use crate::{origin_fence::FenceError, session::SessionContext};

/// How long the registry may take to answer.
const REGISTRY_PATIENCE: Duration = Duration::from_millis(700);
/// How often a claim is raised above another's before it goes on without the origin's word.
const ATTEMPTS: u32 = 4;
/// Ticks of 90 kHz in a millisecond.
const TICKS_PER_MS: i64 = 90;

/// A session that this router owns.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its generation is this claim; placements are counted from here.
    pub epoch: Epoch,
    /// The origin that owns the stream's window, if one is known.
    pub origin: Option<OriginRecord>,
    /// Where the stream stands; `None` when it begins.
    pub resume: Option<Resume>,
    /// The router before gave it a second encoder for its viewers.
    pub was_hot: bool,
    /// What was decided on the way.
    pub decisions: Vec<Decision>,
}

/// Claims the session for the publisher that is the last of `takeovers`. Without registry and origin the view must do, and the
/// node's fence is the last word.
pub async fn claim(context: &SessionContext, stream: &StreamId, takeovers: &Takeovers) -> Claimed {
    let known = context.registry.get::<StreamRecord>(stream.as_str()).ok().flatten();
    let (origin, chosen) = origin_of(context, stream, known.as_ref());
    let before = known.as_ref().map(|old| old.router.clone());
    let was_hot = known.as_ref().is_some_and(|old| old.hot);
    let claimed = |epoch, resume: Option<Resume>, reason: Because| {
        let claim = Decision::of(DecisionKind::Claimed).stream(stream).epoch(epoch);
        let claim = match &before {
            Some(router) => claim.subject(router).saying(format!("{router} had it before")),
            None => claim.saying("nobody had it before"),
        };
        let claim = claim.because(reason);
        let chosen = chosen.clone().map(|chosen| chosen.epoch(epoch));
        let decisions = chosen.into_iter().chain([claim]).collect();
        Claimed { epoch, origin: origin.clone(), resume, was_hot, decisions }
    };
    let least =
        known.map_or(Epoch { generation: 1, placement: 0 }, |old| old.epoch.next_generation());
    let write = async |least| {
        let claimed = |old: Option<StreamRecord>| {
            let next = old.map_or(least, |old| old.epoch.next_generation());
            Some(StreamRecord {
                stream: stream.clone(),
                router: context.router.clone(),
                epoch: next.max(least),
                node: None,
                origin: origin.as_ref().map(|origin| origin.origin.clone()),
                ladder: Default::default(),
                since: context.clock.wall(),
                takeovers: takeovers.clone(),
                source_pixels_per_second: 0,
                hot: was_hot,
            })
        };
        record(context, stream, least, claimed).await
    };
    let mut epoch = write(least).await;
    let Some(at) = origin.as_ref().map(|origin| origin.intake) else {
        return claimed(epoch, None, Because::OriginSilent);
    };
    for _ in 0..ATTEMPTS {
        match context.fence.claim(at, stream, epoch).await {
            Ok(marks) => {
                let resume = resume_of(&marks);
                info!(%stream, %epoch, resumes = resume.is_some(), "session claimed");
                let reason = if resume.is_some() { Because::Resumes } else { Because::Begins };
                return claimed(epoch, resume, reason);
            }
            Err(FenceError::Behind(fence)) => {
                epoch = write(fence.next_generation()).await;
            }
            Err(error @ FenceError::Unanswered { .. }) => {
                warn!(%stream, %error, "session claimed without the origin's word");
                break;
            }
        }
    }
    claimed(epoch, None, Because::OriginSilent)
}

/// Its recorded origin while that lives, else the one that everybody chooses alike; and the decision for it.
fn origin_of(
    context: &SessionContext,
    stream: &StreamId,
    known: Option<&StreamRecord>,
) -> (Option<OriginRecord>, Option<Decision>) {
    let mut origins = context.registry.list::<OriginRecord>();
    origins.retain(|origin| context.fleet.speaks.common(origin.speaks).is_ok());
    let recorded = known.and_then(|record| record.origin.as_ref());
    let living = recorded.filter(|name| origins.iter().any(|origin| origin.origin == **name));
    let names = origins.iter().map(|origin| &origin.origin);
    let Some(chosen) = living.or_else(|| choose_origin(stream, names.clone())) else {
        return (None, None);
    };
    let reason = if living.is_some() { Because::WasHere } else { Because::ByName };
    let gone = recorded.filter(|name| living != Some(*name)).map(|name| {
        Alternative::new(name.clone(), RefusalReason::NodeUnavailable, "not registered any more")
    });
    let others = names.filter(|name| *name != chosen);
    let others = others.map(|name| Alternative::new(name.clone(), Because::NotAsked, ""));
    let decision = Decision::of(DecisionKind::OriginChosen).stream(stream).subject(chosen);
    let decision = decision.because(reason).instead_of(gone.into_iter().chain(others));
    (origins.iter().find(|origin| origin.origin == *chosen).cloned(), Some(decision))
}

/// Writes the claim, at least under `least`; what was written, or `least` when the registry does not answer.
async fn record(
    context: &SessionContext,
    stream: &StreamId,
    least: Epoch,
    claimed: impl Fn(Option<StreamRecord>) -> Option<StreamRecord> + Send,
) -> Epoch {
    let written = context.registry.update(stream.as_str(), claimed);
    match tokio::time::timeout(REGISTRY_PATIENCE, written).await {
        Ok(Ok(record)) => record.map_or(least, |record| record.epoch),
        Ok(Err(error)) => {
            warn!(%stream, %error, "claim not recorded");
            least
        }
        Err(_) => {
            warn!(%stream, "claim not recorded: the registry is silent");
            least
        }
    }
}

/// Where a stream goes on that has come as far as `marks`: a new generation begins a new segment.
fn resume_of(marks: &Marks) -> Option<Resume> {
    let newest = marks.marks.iter().map(|mark| mark.msn).max()?;
    let last_end = marks.marks.iter().map(|mark| mark.end).max().unwrap_or(MediaTime(0));
    let part_target = i64::from(marks.part_target_ms) * TICKS_PER_MS;
    Some(Resume {
        next_msn: newest.next(),
        discontinuity: marks.discontinuity,
        last_end,
        part_target: (part_target > 0).then_some(part_target),
    })
}

#[cfg(test)]
mod tests {
    use millrace_types::{Mark, Msn, PartNo};

    use super::*;

    #[test]
    fn a_claimed_stream_goes_on_behind_the_furthest_rung() {
        let mark = |rung: &str, msn, end| Mark {
            rung: rung.parse().unwrap(),
            msn: Msn(msn),
            part: PartNo(0),
            end: MediaTime(end),
            closed: true,
        };
        let epoch = Epoch { generation: 2, placement: 0 };
        let none =
            Marks { epoch, marks: Vec::new(), discontinuity: 0, part_target_ms: 334, version: 2 };
        assert_eq!(resume_of(&none), None);
        let marks = vec![mark("source", 8, 500), mark("audio", 7, 600)];
        let resume = resume_of(&Marks { marks, discontinuity: 3, ..none }).unwrap();
        assert_eq!((resume.next_msn, resume.last_end), (Msn(9), MediaTime(600)));
        assert_eq!((resume.discontinuity, resume.part_target), (3, Some(30_060)));
    }
}
