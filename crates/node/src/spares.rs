//! One warm worker of each kind, confined and waiting, so that a successor starts within milliseconds.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use millrace_sandbox::Limits;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::{
    cgroups::Cgroups,
    run_dir::RunDir,
    worker_process::{WorkerKind, WorkerProcess},
};

/// Pause after a worker could not be started; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause; a spare that died younger than this is not replaced without one.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How many may wait for a worker of one kind before the next has to wait for them.
const ASKERS: usize = 64;

/// How workers are started on this host.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// Where the executables are.
    pub worker_dir: PathBuf,
    /// Where sockets lie.
    pub run_dir: RunDir,
    /// What a worker may use.
    pub limits: Limits,
    /// Where its use is counted and limited by the kernel.
    pub cgroups: Cgroups,
}

/// Who asks for a worker.
type Asker = oneshot::Sender<WorkerProcess>;

/// The spare workers; clones share them.
#[derive(Clone, Debug)]
pub struct Spares {
    passthrough: mpsc::Sender<Asker>,
    transcode: mpsc::Sender<Asker>,
    keepers: TaskTracker,
}

impl Spares {
    /// Keeps one spare of each kind from now on until `stop`, which ends those there are.
    pub fn keep(plan: &WorkerPlan, stop: &CancellationToken) -> Self {
        let keepers = TaskTracker::new();
        let keep = |kind| {
            let (askers, asked) = mpsc::channel(ASKERS);
            keepers.spawn(refill(kind, plan.clone(), asked, stop.clone()));
            askers
        };
        let (passthrough, transcode) = (keep(WorkerKind::Passthrough), keep(WorkerKind::Transcode));
        keepers.close();
        Self { passthrough, transcode, keepers }
    }

    /// Waits until, after the `stop`, there is no spare any more: not one that was about to start either.
    pub async fn ended(&self) {
        self.keepers.wait().await;
    }

    /// A living worker, at once when the spare is ready. `None` when the node is shutting down.
    pub async fn take(&self, kind: WorkerKind) -> Option<WorkerProcess> {
        let spares = match kind {
            WorkerKind::Passthrough => &self.passthrough,
            WorkerKind::Transcode => &self.transcode,
        };
        let (asker, worker) = oneshot::channel();
        spares.send(asker).await.ok()?;
        worker.await.ok()
    }
}

/// What became of a spare.
enum Fate {
    Taken,
    Died,
    /// Nobody can ask for one any more.
    Unwanted,
}

async fn refill(
    kind: WorkerKind,
    plan: WorkerPlan,
    mut asked: mpsc::Receiver<Asker>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let WorkerPlan { worker_dir, run_dir, limits, cgroups } = &plan;
        match WorkerProcess::start(kind, worker_dir, run_dir, *limits, cgroups).await {
            Ok(worker) => match fate_of(worker, &mut asked, &stop).await {
                Fate::Unwanted => return,
                Fate::Died if started.elapsed() < MAX_PAUSE => {}
                Fate::Taken | Fate::Died => {
                    pause = FIRST_PAUSE;
                    continue;
                }
            },
            // Whoever stops us may have ended it as well.
            Err(_) if stop.is_cancelled() => return,
            Err(error) => error!(%error, program = kind.program(), "worker not started"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Keeps a spare until somebody takes it, it dies, or none is wanted any more, which ends it.
async fn fate_of(
    mut spare: WorkerProcess,
    asked: &mut mpsc::Receiver<Asker>,
    stop: &CancellationToken,
) -> Fate {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                spare.end().await;
                return Fate::Unwanted;
            }
            reason = spare.died() => {
                warn!(pid = spare.pid(), reason = reason.as_str(), "spare worker died");
                return Fate::Died;
            }
            asker = asked.recv() => {
                let Some(asker) = asker else { return Fate::Unwanted };
                match asker.send(spare) {
                    Ok(()) => return Fate::Taken,
                    // Whoever asked waits no longer.
                    Err(kept) => spare = kept,
                }
            }
        }
    }
}
