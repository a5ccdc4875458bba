//! Where a publisher with a good key waits until it has shown that what it sends can be taken. Only then it is let into its stream's
//! session, in place of the publisher there: one of another codec must not cut a live stream.
//!
//! The judge is the stream's own clock, [`Timeline`], on trial: whoever's first unit it would give out may come in, once
//! the sound was heard too or there seems to be none. What was heard meanwhile goes in with the publisher, so nothing is lost
//! (`docs/adr/0023-a-publisher-shows-what-it-sends-before-it-takes-over.md`).

#[cfg(test)]
mod tests;

use std::time::Duration;

use millrace_media::{
    Input, Item, SourceError, SourceHints, SourceLimits, Timeline, TimelineStart,
};
use millrace_types::{Mono, Wall};

use crate::{
    ingest::{IngestEvent, PublisherMessage},
    source::source_input,
};

/// How long a publisher that sends may take to its first unit; then the session judges on. One that begins inside a group of
/// pictures sends none before its next keyframe.
const LONGEST_TRIAL: Duration = Duration::from_secs(2);
/// How long sound is waited for that may come or not. MP3 has no header that would come first.
const SOUND_WITHIN: Duration = Duration::from_millis(500);
/// What may be heard meanwhile, bytes; beyond that the session judges on.
const MAX_BYTES: usize = 8 << 20;

/// What is known of a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough.
    Wait,
    /// It may come in.
    Enter {
        /// UTC when its first message came.
        since: Wall,
    },
    /// What it sends cannot be taken.
    Refuse(SourceError),
    /// It is gone without having sent anything of use.
    Gone,
}

/// A publisher on trial.
#[derive(Debug)]
pub struct Doorstep {
    low_latency: bool,
    heard: Vec<IngestEvent>,
    bytes: usize,
    /// From its first message on.
    trial: Option<Trial>,
}

#[derive(Debug)]
struct Trial {
    /// A clock whose items go nowhere.
    timeline: Timeline,
    since: Wall,
    until: Mono,
    /// It has given out a unit.
    is_known: bool,
    /// Till when sound is waited for; `None`: it has come, or there is none.
    sound_until: Option<Mono>,
}

impl Doorstep {
    /// A publisher that has sent nothing yet, for a channel that asks for low latency or not.
    pub const fn new(low_latency: bool) -> Self {
        Self { low_latency, heard: Vec::new(), bytes: 0, trial: None }
    }

    /// Takes in what the publisher sent, or that it is gone (`None`: its connection's task was lost), at `now` and `utc`.
    pub fn hear(&mut self, now: Mono, utc: Wall, event: Option<IngestEvent>) -> Verdict {
        match event {
            Some(IngestEvent::Media(message)) => {
                self.bytes += message.body.len();
                self.heard.push(IngestEvent::Media(message.clone()));
                self.media(now, utc, message)
            }
            Some(IngestEvent::Ended(end)) => {
                self.heard.push(IngestEvent::Ended(end));
                self.expect_no_sound();
                match self.judge(now, Input::PublisherLeft) {
                    Verdict::Wait => Verdict::Gone,
                    verdict => verdict,
                }
            }
            None => Verdict::Gone,
        }
    }

    /// [`Self::deadline`] has passed.
    pub fn elapsed(&mut self, now: Mono) -> Verdict {
        let verdict = self.judge(now, Input::Elapsed);
        self.or_enough(now, verdict)
    }

    /// When [`Self::elapsed`] is due; `None` while nothing has come.
    pub fn deadline(&self) -> Option<Mono> {
        let trial = self.trial.as_ref()?;
        let sound = trial.sound_until.filter(|_| trial.is_known);
        [trial.timeline.deadline(), sound, Some(trial.until)].into_iter().flatten().min()
    }

    /// All that was heard, in order.
    pub fn into_heard(self) -> Vec<IngestEvent> {
        self.heard
    }

    fn media(&mut self, now: Mono, utc: Wall, message: PublisherMessage) -> Verdict {
        let low_latency = self.low_latency;
        self.trial.get_or_insert_with(|| Trial {
            timeline: Timeline::new(TimelineStart {
                utc,
                resume: None,
                low_latency,
                limits: SourceLimits::default(),
            }),
            since: utc,
            until: now + LONGEST_TRIAL,
            is_known: false,
            sound_until: Some(now + SOUND_WITHIN),
        });
        let verdict = match source_input(message) {
            Ok(Some((input, _))) => {
                if let Input::Audio { .. }
                | Input::Metadata(SourceHints { has_audio: Some(false), .. }) = &input
                {
                    self.expect_no_sound();
                }
                self.judge(now, input)
            }
            Ok(None) => Verdict::Wait,
            Err(error) => Verdict::Refuse(error.into()),
        };
        self.or_enough(now, verdict)
    }

    fn judge(&mut self, now: Mono, input: Input) -> Verdict {
        let Some(trial) = &mut self.trial else { return Verdict::Wait };
        if let Err(error) = trial.timeline.handle(now, input) {
            return Verdict::Refuse(error);
        }
        while let Some(item) = trial.timeline.poll() {
            trial.is_known |= matches!(item, Item::Unit(_));
        }
        match trial.is_known && trial.sound_until.is_none_or(|until| until <= now) {
            true => Verdict::Enter { since: trial.since },
            false => Verdict::Wait,
        }
    }

    fn expect_no_sound(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.sound_until = None;
        }
    }

    /// Nobody waits for ever, nor with more than is to be kept.
    fn or_enough(&self, now: Mono, verdict: Verdict) -> Verdict {
        match &self.trial {
            Some(Trial { since, until, .. })
                if verdict == Verdict::Wait && (*until <= now || self.bytes > MAX_BYTES) =>
            {
                Verdict::Enter { since: *since }
            }
            _ => verdict,
        }
    }
}
