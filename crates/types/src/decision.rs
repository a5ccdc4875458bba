//! What a program decided, or found out and acted upon, as a value: kinds and reasons are closed sets, the rest says whom it is about.

use serde::{Deserialize, Serialize, Serializer};

use crate::{EndReason, Epoch, MoveEnd, NodeId, PairEnd, RefusalReason, StreamId, reason::reasons};

reasons!(
    /// What was decided.
    DecisionKind {
        /// A router has claimed the stream's session.
        Claimed = "claimed",
        /// An origin was chosen for the stream.
        OriginChosen = "origin_chosen",
        /// The stream's origin does not answer its node.
        OriginLost = "origin_lost",
        /// The stream goes on at another origin.
        OriginChanged = "origin_changed",
        /// A publisher was let in.
        PublisherJoined = "publisher_joined",
        /// The publisher has gone.
        PublisherLeft = "publisher_left",
        /// A publisher was turned away.
        PublisherRefused = "publisher_refused",
        /// A newer publisher or another router has the stream now.
        TakenOver = "taken_over",
        /// A node has taken the stream.
        Placed = "placed",
        /// No node takes the stream.
        Unplaced = "unplaced",
        /// The node or its worker is lost; the stream is placed again.
        PlacementLost = "placement_lost",
        /// The node's daemon goes and its workers stay: the same node is asked again before others.
        NodeRestarts = "node_restarts",
        /// Another node makes the stream from a segment on; nobody noticed.
        Moved = "moved",
        /// The stream should leave its node and stays: it is tried again.
        NotMoved = "not_moved",
        /// Two nodes make the stream: either alone would do.
        Paired = "paired",
        /// The second encoder is gone; the first goes on.
        Unpaired = "unpaired",
        /// The stream is to have a second encoder and has none: it is tried again.
        NotPaired = "not_paired",
        /// The first encoder is lost, or leaves its node; the second goes on alone.
        Promoted = "promoted",
        /// So many watch the stream that it is to have a second encoder.
        Hot = "hot",
        /// The stream is to have one encoder again.
        Cooled = "cooled",
        /// The stream goes on without encoders: they died of it, or no node had the capacity when it was placed.
        Unencoded = "unencoded",
        /// The stream has its ladder, which it was placed without.
        Encoded = "encoded",
        /// Input was dropped before it was published: a failure now would lose frames.
        Lossy = "lossy",
        /// The node is asked after all others for a while.
        BreakerOpened = "breaker_opened",
        /// The node has published something since it failed.
        BreakerClosed = "breaker_closed",
        /// The node has reserved capacity and has a worker.
        Admitted = "admitted",
        /// The node does not take the stream.
        Refused = "refused",
        /// A worker is gone.
        WorkerEnded = "worker_ended",
        /// The node has ended its worker: the stream is another's.
        LetGo = "let_go",
        /// The node leaves its worker to the daemon that follows.
        HandedOver = "handed_over",
        /// The node holds a worker of the daemon before for its router: it goes on, or ends.
        Adopted = "adopted",
        /// A writer has opened the stream at its origin.
        Opened = "opened",
        /// The origin refuses all older writers from now on.
        Fenced = "fenced",
        /// The origin has refused what an older writer still sent.
        WriterRefused = "writer_refused",
        /// The stream is over, as its origin sees it.
        Ended = "ended",
        /// A channel was made.
        ChannelCreated = "channel_created",
        /// A channel and its keys were forgotten.
        ChannelDeleted = "channel_deleted",
        /// A channel was pinned to two encoders, or is no longer.
        ChannelPinned = "channel_pinned",
        /// A channel has another latency or priority.
        ChannelChanged = "channel_changed",
        /// A channel has a new stream key.
        KeyRotated = "key_rotated",
        /// A channel's stream keys have ended.
        KeysRevoked = "keys_revoked",
        /// A node was told to drain or to take no new streams, or is free of such an order.
        OrderGiven = "order_given",
        /// A channel is as a backup has it.
        Restored = "restored",
    }
);

reasons!(
    /// Why, where neither a refusal nor the end of a worker says it.
    Because {
        /// The largest share of what is scarce stays free on it.
        MostFree = "most_free",
        /// The stream is there already.
        WasHere = "was_here",
        /// Those that were to be asked before it did not take the stream.
        NextBest = "next_best",
        /// It was not asked: another was chosen before it.
        NotAsked = "not_asked",
        /// An encoder of the stream was lost there last: others are asked before it.
        LostThere = "lost_there",
        /// It was asked late, as it has just failed.
        JustFailed = "just_failed",
        /// Every program that sees the same origins chooses it by the stream's name.
        ByName = "by_name",
        /// The stream is at its beginning.
        Begins = "begins",
        /// The stream goes on where its origin says that it stands.
        Resumes = "resumes",
        /// The origin did not say where the stream stands.
        OriginSilent = "origin_silent",
        /// The connection to the node broke.
        LinkBroke = "link_broke",
        /// The other side says nothing any more.
        Silent = "silent",
        /// Its workers died again and again before they published anything.
        Poison = "poison",
        /// Nobody writes the stream any more.
        Idle = "idle",
        /// The publisher said so, or was away for too long.
        Finished = "finished",
        /// A node has room for it now.
        RoomAgain = "room_again",
        /// It works again.
        WorksAgain = "works_again",
        /// As many watch it as make a stream hot.
        Viewers = "viewers",
        /// Less than half as many watch it, and have for a while.
        FewViewers = "few_viewers",
        /// Other streams take all of the share of the farm that second encoders of hot streams may have.
        ShareUsed = "share_used",
        /// A person or a program asked for it.
        Ordered = "ordered",
    }
);

/// A closed reason of any of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(&'static str);

impl Reason {
    /// Metric label, log field and wire value.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

macro_rules! reason_from {
    ($($set:ty),*) => {
        $(impl From<$set> for Reason {
            fn from(reason: $set) -> Self {
                Self(reason.as_str())
            }
        })*
    };
}

reason_from!(Because, RefusalReason, EndReason, MoveEnd, PairEnd);

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// Another choice there was, and why it was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// Which program.
    pub name: NodeId,
    /// Why not.
    pub reason: Reason,
    /// More, for people; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Alternative {
    /// A choice that was not taken.
    pub fn new(name: NodeId, reason: impl Into<Reason>, text: impl Into<String>) -> Self {
        Self { name, reason: reason.into(), text: text.into() }
    }
}

/// One decision. Built up: `Decision::of(kind).stream(…).because(…)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What was decided.
    pub kind: DecisionKind,
    /// About which stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// The stream's epoch then; its generation is the session.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "epoch_text")]
    pub epoch: Option<Epoch>,
    /// The program that was chosen, lost, or is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<NodeId>,
    /// The worker's process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_pid: Option<u32>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What else was considered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// How many more alternatives there were than are kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub alternatives_left_out: usize,
    /// For people.
    pub text: String,
}

impl Decision {
    /// Most alternatives that are kept of one decision.
    pub const MAX_ALTERNATIVES: usize = 16;
    /// Most bytes of a text that are kept.
    pub const MAX_TEXT_BYTES: usize = 400;

    /// A decision about nothing yet.
    pub const fn of(kind: DecisionKind) -> Self {
        Self {
            kind,
            stream: None,
            epoch: None,
            subject: None,
            worker_pid: None,
            reason: None,
            alternatives: Vec::new(),
            alternatives_left_out: 0,
            text: String::new(),
        }
    }

    /// About this stream.
    #[must_use]
    pub fn stream(self, stream: &StreamId) -> Self {
        Self { stream: Some(stream.clone()), ..self }
    }

    /// Under this epoch.
    #[must_use]
    pub fn epoch(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    /// This program is meant.
    #[must_use]
    pub fn subject(self, subject: &NodeId) -> Self {
        Self { subject: Some(subject.clone()), ..self }
    }

    /// This worker is meant.
    #[must_use]
    pub fn worker(self, pid: u32) -> Self {
        Self { worker_pid: Some(pid), ..self }
    }

    /// For this reason.
    #[must_use]
    pub fn because(self, reason: impl Into<Reason>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// These were considered too. Beyond [`Self::MAX_ALTERNATIVES`] they are only counted.
    #[must_use]
    pub fn instead_of(mut self, alternatives: impl IntoIterator<Item = Alternative>) -> Self {
        for mut alternative in alternatives {
            if self.alternatives.len() == Self::MAX_ALTERNATIVES {
                self.alternatives_left_out += 1;
                continue;
            }
            shorten(&mut alternative.text);
            self.alternatives.push(alternative);
        }
        self
    }

    /// In these words, [`Self::MAX_TEXT_BYTES`] of them.
    #[must_use]
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        shorten(&mut self.text);
        self
    }

    /// Whether `other` says the same again, be it in other words. A refusal that is asked for again and again, under a higher
    /// epoch each time, stays one. A breaker opens for another time each time.
    pub fn is_repeated_by(&self, other: &Self) -> bool {
        use DecisionKind::{BreakerOpened, PublisherRefused, Refused, Unplaced, WriterRefused};
        let refuses = matches!(self.kind, Refused | PublisherRefused | WriterRefused | Unplaced);
        let same_try = (self.epoch, self.worker_pid) == (other.epoch, other.worker_pid);
        (self.kind, &self.stream, &self.subject, self.reason)
            == (other.kind, &other.stream, &other.subject, other.reason)
            && (refuses || same_try)
            && self.kind != BreakerOpened
    }
}

fn shorten(text: &mut String) {
    if text.len() > Decision::MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(Decision::MAX_TEXT_BYTES));
        text.push('…');
    }
}

fn epoch_text<S: Serializer>(epoch: &Option<Epoch>, serializer: S) -> Result<S::Ok, S::Error> {
    match epoch {
        Some(epoch) => serializer.collect_str(epoch),
        None => serializer.serialize_none(),
    }
}

const fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_told_a_decision_stays_small() {
        let names = (0..1_000).map(|number| format!("node-{number}").parse().unwrap());
        let others = names.map(|name| Alternative::new(name, Because::NotAsked, "é".repeat(9_999)));
        let decision = Decision::of(DecisionKind::Placed).instead_of(others);
        let decision = decision.saying("é".repeat(9_999));
        assert_eq!(decision.alternatives.len(), Decision::MAX_ALTERNATIVES);
        assert_eq!(decision.alternatives_left_out, 1_000 - Decision::MAX_ALTERNATIVES);
        let longest = decision.alternatives.iter().map(|other| other.text.len()).max().unwrap();
        assert!(longest.max(decision.text.len()) <= Decision::MAX_TEXT_BYTES + '…'.len_utf8());
    }

    #[test]
    fn a_breaker_that_opens_again_says_for_how_long_and_other_words_for_the_same_are_a_repetition()
    {
        let said = |kind, text: &str| Decision::of(kind).saying(text);
        let opened = |text| said(DecisionKind::BreakerOpened, text);
        assert!(!opened("asked last for 1 s").is_repeated_by(&opened("asked last for 2 s")));
        let placed = |text| said(DecisionKind::Unplaced, text);
        assert!(placed("1 is free").is_repeated_by(&placed("2 are free")));
    }

    #[test]
    fn a_reason_is_one_word_of_a_closed_set_and_what_is_not_known_is_left_out() {
        let decision = Decision::of(DecisionKind::WorkerEnded)
            .epoch(Epoch { generation: 3, placement: 1 })
            .because(EndReason::KilledSignal);
        let json = serde_json::to_string(&decision).unwrap();
        let expected =
            r#"{"kind":"worker_ended","epoch":"3.1","reason":"killed_signal","text":""}"#;
        assert_eq!(json, expected);
    }
}
