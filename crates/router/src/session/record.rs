//! The stream's record in the registry: written when the placement changes, again when it is not what it should be, and
//! read to find out that another router has claimed the stream.

use millrace_lifecycle::StreamInput;
use millrace_registry::StreamRecord;
use millrace_types::DecisionKind;
use tracing::{debug, info};

use super::Session;

impl Session {
    /// Writes the record, without waiting for it. A later claim stays.
    pub(super) fn record(&mut self) {
        let record = StreamRecord {
            stream: self.stream.clone(),
            router: self.context.router.clone(),
            epoch: self.machine.epoch(),
            node: self.link.as_ref().map(|state| state.link.node.clone()),
            origin: self.origin.now.as_ref().map(|origin| origin.origin.clone()),
            ladder: self.ladder.clone(),
            since: self.since,
            takeovers: self.takeovers.clone(),
            source_pixels_per_second: self.tracks.pixels_per_second(),
            hot: self.is_hot(),
        };
        let registry = self.context.registry.clone();
        self.recording = Some(tokio::spawn(async move {
            let key = record.stream.to_string();
            let newer = |old: Option<StreamRecord>| {
                let claimed = old.filter(|old| old.epoch.generation > record.epoch.generation);
                Some(claimed.unwrap_or_else(|| record.clone()))
            };
            if let Err(error) = registry.update(&key, newer).await {
                // Tried again when the view shows that it is not there.
                debug!(%error, "stream's record not written");
            }
        }));
    }

    /// Compares the record, as last seen, with what holds: the registry may have lost it, or another router owns the stream. One
    /// that nobody has written since the last look is left for an `anyway`.
    pub(super) fn look_at_record(&mut self, anyway: bool) {
        // A handle holds its task's memory, which is no less once the task has ended.
        self.recording.take_if(|task| task.is_finished());
        let revision = self.context.registry.revision::<StreamRecord>(self.stream.as_str());
        if std::mem::replace(&mut self.record_revision, revision) == revision && !anyway {
            return;
        }
        let seen = self.context.registry.get::<StreamRecord>(self.stream.as_str());
        let Ok(seen) = seen else { return };
        let epoch = self.machine.epoch();
        if let Some(seen) = &seen
            && seen.epoch.generation > epoch.generation
        {
            info!(stream = %self.stream, router = %seen.router, "another router owns the stream");
            let taken = self.decision(DecisionKind::TakenOver).subject(&seen.router);
            self.note(taken.saying(format!("router {} has claimed the stream", seen.router)));
            return self.input(StreamInput::TakenOver);
        }
        let Some(state) = &self.link else { return };
        let holds = seen.is_some_and(|seen| {
            seen.epoch == epoch
                && seen.node.as_ref() == Some(&state.link.node)
                && seen.takeovers == self.takeovers
                && seen.hot == self.is_hot()
                && seen.origin.as_ref() == self.origin.now.as_ref().map(|origin| &origin.origin)
        });
        if !holds && self.recording.is_none() {
            self.record();
        }
    }
}
