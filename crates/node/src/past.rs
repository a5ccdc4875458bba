//! What other writers of a stream published before this node: fetched from the origin, while that is there.
//!
//! ```text
//! standby: fetched from when it is asked on ─┐
//! claim of what another node wrote ──────────┴─→ fetched until it comes to the first own parts → the window's beginning
//!                                                 or until the origin is lost: as far as it has come
//! ```
//! So a window can be given to another origin whole, whoever made it. The fetching ends after [`PATIENCE`]; by then the stream's own
//! window is almost as long. What is copied is bounded like a window ([`MAX_WINDOW_BYTES`], policy: the oldest segments go first).

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use millrace_hls::{Backlog, StreamOpen, Window};
use millrace_types::{RungId, StreamId};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug};

use crate::{origin_client::OriginClient, output::MAX_WINDOW_BYTES};

/// How long the past is fetched.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one question to the next, when there was nothing new.
const EVERY: Duration = Duration::from_millis(150);
/// The same when the origin does not answer, has nothing of the stream, or is of a build that does not tell.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// The past of one stream as far as it has come; dropped, nothing more is fetched.
#[derive(Debug)]
pub struct Past {
    copy: watch::Receiver<Window>,
    hurry: Arc<Notify>,
    generation: u64,
    _fetching: AbortOnDropHandle<()>,
}

impl Past {
    /// Begins to fetch what `origin` has of the rungs that are announced, on that runtime.
    pub fn fetch(
        runtime: &Handle,
        stream: StreamId,
        open: &StreamOpen,
        origin: OriginClient,
    ) -> Self {
        Self::fetch_behind(Window::for_copy(&open.rungs), runtime, stream, open, origin)
    }

    /// Goes on behind what has come at another origin, which is given the same by somebody else.
    pub fn go_on_at(
        &self,
        origin: OriginClient,
        runtime: &Handle,
        stream: StreamId,
        open: &StreamOpen,
    ) -> Self {
        let come = self.copy.borrow().clone();
        Self::fetch_behind(come, runtime, stream, open, origin)
    }

    fn fetch_behind(
        come: Window,
        runtime: &Handle,
        stream: StreamId,
        open: &StreamOpen,
        origin: OriginClient,
    ) -> Self {
        let (copied, copy) = watch::channel(come);
        let hurry = Arc::new(Notify::new());
        let fetching = fetch(stream, open.rungs.clone(), origin, copied, hurry.clone());
        let fetching = AbortOnDropHandle::new(runtime.spawn(fetching.in_current_span()));
        Self { copy, hurry, generation: open.epoch.generation, _fetching: fetching }
    }

    /// Asks again at once: the writer before has ended.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Whether it is that of a session of that generation.
    pub const fn is_of(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Whether something of every rung has come.
    pub fn has_come(&self) -> bool {
        self.copy.borrow().has_begun()
    }

    /// Waits until more has come; `false`: no more will. Cancel-safe.
    pub async fn grew(&mut self) -> bool {
        self.copy.changed().await.is_ok()
    }

    /// `own` with the past before it, if nothing is missing between.
    pub fn joined(&self, own: &Window) -> Option<Window> {
        let copy = self.copy.borrow();
        copy.comes_to(own).then(|| own.after(&copy))
    }

    /// `own` with as much of the past as has come.
    pub fn joined_as_it_is(&self, own: &Window) -> Window {
        own.after(&self.copy.borrow())
    }
}

async fn fetch(
    stream: StreamId,
    rungs: Vec<RungId>,
    origin: OriginClient,
    copied: watch::Sender<Window>,
    hurry: Arc<Notify>,
) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let (mut is_news, mut pause) = (false, EVERY);
        let asked = rungs.iter().map(|rung| {
            let after = copied.borrow().last(rung);
            origin.past(&stream, rung, after)
        });
        for answer in join_all(asked).await {
            match answer {
                Ok(records) if records.is_empty() => {}
                Ok(records) => {
                    is_news = true;
                    copied.send_modify(|copy| add(copy, records));
                }
                Err(error) => {
                    pause = AFTER_ERROR;
                    debug!(%error, "past not told");
                }
            }
        }
        if !is_news {
            let _ = timeout(pause, hurry.notified()).await;
        }
    }
}

fn add(copy: &mut Window, records: Vec<Backlog>) {
    for record in records {
        if let Err(refusal) = copy.copy(record) {
            debug!(%refusal, "record of the past not taken");
        }
    }
    copy.forget_beyond(MAX_WINDOW_BYTES);
}
