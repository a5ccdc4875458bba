//! When what others published before a window comes in front of it, and how long the next origin waits for that. What fetches it is
//! [`Past`].

use std::time::Duration;

use millrace_hls::StreamOpen;
use millrace_types::Mark;
use tokio::runtime::Handle;
use tracing::info;

use super::Task;
use crate::{
    delivery::Announced,
    origin_client::{OriginClient, OriginError},
    past::Past,
};

/// How long a new origin is kept waiting for the first own parts, where they are to follow what was fetched.
const POSTPONED: Duration = Duration::from_secs(1);

impl Task {
    /// Whether the claim is at another origin than the media goes to. What was fetched there is all that will come.
    pub(super) fn leaves_for(&mut self, origin: &OriginClient) -> bool {
        let left = self.current.as_ref().map(|current| current.delivery.origin.address());
        let leaves = left.is_some_and(|left| left != origin.address());
        if leaves {
            self.postponed = None;
            self.join_past();
        }
        leaves
    }

    /// The window begins with this claim, of which the origin has `said` what it has, if it has answered.
    pub(super) fn take_up_past(
        &mut self,
        past: Option<Past>,
        said: Option<&Result<Vec<Mark>, OriginError>>,
        open: &StreamOpen,
        origin: &OriginClient,
    ) {
        let ahead = past.or(self.past.take()).filter(|past| past.is_of(open.epoch.generation));
        let said = said.map(|said| said.as_deref());
        self.past = match said {
            Some(Err(OriginError::Fenced(_))) => None,
            // The next origin: it has nothing of what was fetched from the one before.
            Some(Ok([])) => ahead.filter(Past::has_come),
            _ => Some(ahead.unwrap_or_else(|| self.fetch_past(open, origin.clone()))),
        };
        if let (Some(_), Some(Ok([]))) = (&self.past, said) {
            self.postpone(origin.clone());
        }
        self.past.iter().for_each(Past::hurry);
    }

    pub(super) fn fetch_past(&self, open: &StreamOpen, origin: OriginClient) -> Past {
        Past::fetch(&Handle::current(), self.sender.stream.clone(), open, origin)
    }

    /// Puts the past before the window once nothing is missing between the two; `grew`: more may come.
    pub(super) fn past_grew(&mut self, grew: bool) {
        let Some((past, current)) = self.past.as_ref().zip(self.current.as_mut()) else {
            return self.past = self.past.take().filter(|_| grew);
        };
        let joined = past.joined(&current.window);
        let result = match (joined.is_some(), grew) {
            (true, _) => "whole",
            (false, true) => return,
            (false, false) => "none",
        };
        if let Some(window) = joined {
            current.take(window);
        }
        self.past_is_over(result);
    }

    /// The origin is lost: puts as much of the past before the window as has come.
    pub(super) fn join_past(&mut self) {
        if let Some((past, current)) = self.past.as_ref().zip(self.current.as_mut()) {
            current.take(past.joined_as_it_is(&current.window));
            self.past_is_over("in_part");
        }
    }

    /// An origin waits for the past until the window has begun: a hole before the first own parts would be waited for.
    pub(super) fn postpone(&mut self, origin: OriginClient) {
        self.postponed = Some((tokio::time::Instant::now() + POSTPONED, origin));
    }

    pub(super) fn deliver_postponed(&mut self) {
        if let Some((_, origin)) = self.postponed.take() {
            self.join_past();
            self.deliver(origin, Announced::After(Duration::ZERO));
        }
    }

    fn past_is_over(&mut self, result: &str) {
        self.past = None;
        info!(result, "what others published before");
        self.sender.metrics.pasts.with_label_values(&[result]).inc();
    }
}
