//! One Link of a session: what is on its way to the node, and when the node was last heard.

use std::{io, time::Duration};

use millrace_media::{AccessUnit, Item, Replay};
use millrace_types::{Epoch, Mono};
use millrace_wire::{ChangeOrigin, End, Health, Heartbeat, Message};
use tracing::debug;

use crate::{
    feed::{Feed, TooFarBehind},
    placement::Link,
    report::HealthReport,
};

/// Silence of the node after which the Link is lost.
const LINK_SILENCE: Duration = Duration::from_secs(1);
/// From one health report to the next that says nothing new: each costs the node a request to the origin.
const HEALTH_EVERY: Duration = Duration::from_secs(10);
/// Bytes that may wait in the Link's writer; the rest waits in the feed.
const WRITER_BYTES: usize = 1 << 20;

/// A node that makes the stream, or is ready to.
pub(super) struct LinkState {
    pub(super) link: Link,
    /// What it writes under: the epoch it was asked under, or a later one by a change of origin.
    pub(super) writes_as: Epoch,
    feed: Feed,
    heard_at: Mono,
    sent_seq: u64,
    /// What follows the last item.
    end: Option<End>,
    /// Something of it was published.
    pub(super) progressed: bool,
    /// An item was sent since the last beat.
    has_spoken: bool,
    /// It can be written to. If not, what it has said before is still to be heard: it may say why.
    hears: bool,
    /// What those on the watch page know of the source, and since when.
    health: Option<(HealthReport, Mono)>,
}

impl LinkState {
    pub(super) fn new(link: Link, now: Mono) -> Self {
        Self {
            writes_as: link.epoch,
            link,
            feed: Feed::default(),
            heard_at: now,
            sent_seq: 0,
            end: None,
            progressed: false,
            has_spoken: false,
            hears: true,
            health: None,
        }
    }

    /// Its media goes elsewhere, where nothing is known of it.
    pub(super) fn change_origin(&mut self, change: ChangeOrigin) {
        self.health = None;
        self.writes_as = change.epoch;
        self.link.writer.push(&Message::ChangeOrigin(change));
    }

    /// Puts an item in line: in the writer's, while that has room.
    pub(super) fn give(&mut self, item: Item) -> Result<(), TooFarBehind> {
        if !self.feed.is_empty() || self.link.writer.pending_bytes() >= WRITER_BYTES {
            return self.feed.push(item);
        }
        self.send(item);
        Ok(())
    }

    /// Puts a picture in line whose bytes are the ones that the replay buffer holds; `false`: others are to be written before it.
    pub(super) fn lend(&mut self, unit: &AccessUnit, bytes: usize) -> bool {
        let writer = &mut self.link.writer;
        let may =
            self.feed.is_empty() && writer.pending_bytes() < WRITER_BYTES && writer.may_be_lent();
        if may {
            writer.push_lent(unit, bytes);
            self.sent(unit.seq);
        }
        may
    }

    /// Puts items in line; how many.
    pub(super) fn give_all(
        &mut self,
        items: impl Iterator<Item = Item>,
    ) -> Result<usize, TooFarBehind> {
        self.feed.fill(items)
    }

    /// `end` follows the last item.
    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Moves items to the writer, as many as it may hold.
    pub(super) fn fill(&mut self) {
        while self.link.writer.pending_bytes() < WRITER_BYTES {
            let Some(item) = self.feed.pop() else { break };
            self.send(item);
        }
        if self.feed.is_empty()
            && let Some(end) = self.end.take()
        {
            self.link.writer.push(&Message::End(end));
        }
    }

    fn send(&mut self, item: Item) {
        self.sent(item.seq());
        self.link.writer.push(&Message::Item(item));
    }

    fn sent(&mut self, seq: u64) {
        (self.sent_seq, self.has_spoken) = (seq, true);
    }

    /// The node said something. That is no sign of life any more once it takes nothing.
    pub(super) fn heard(&mut self, now: Mono) {
        if self.hears {
            self.heard_at = now;
        }
    }

    /// Whether something waits for the node to take it.
    pub(super) fn wants_flush(&self) -> bool {
        self.hears && self.link.writer.wants_flush()
    }

    /// The connection takes nothing more. It is lost once all that the node has said is heard, or after [`LINK_SILENCE`].
    pub(super) fn broke(&mut self, error: &io::Error) {
        debug!(node = %self.link.node, %error, "node cannot be written to");
        self.hears = false;
    }

    /// Writes as much as goes without waiting. `replay` lends what [`Self::lend`] has put in line.
    pub(super) fn write(&mut self, replay: &Replay) {
        if self.hears
            && let Err(error) = self.try_write(replay)
        {
            self.broke(&error);
        }
    }

    fn try_write(&mut self, replay: &Replay) -> io::Result<()> {
        loop {
            self.fill();
            self.link.writer.flush_lent(replay.held())?;
            if self.link.writer.wants_flush() || (self.feed.is_empty() && self.end.is_none()) {
                return Ok(());
            }
        }
    }

    /// Says that this router lives, unless items have said so; whether the node does. `is_late`: this router was slow itself, and has not listened.
    pub(super) fn beat(&mut self, now: Mono, is_late: bool) -> bool {
        if is_late {
            self.heard(now);
        }
        if now.since(self.heard_at) > LINK_SILENCE {
            return false;
        }
        if !std::mem::take(&mut self.has_spoken) {
            let beat = Heartbeat { seq: self.sent_seq, lag_ms: 0 };
            self.link.writer.push(&Message::Heartbeat(beat));
        }
        true
    }

    /// Sends the health report along, for those who only know the watch page, if it is news to them or old.
    pub(super) fn tell_health(&mut self, health: &HealthReport, now: Mono) {
        let is_known = |(told, at): &(HealthReport, Mono)| {
            now.since(*at) < HEALTH_EVERY && !health.is_news_after(told)
        };
        if self.health.as_ref().is_some_and(is_known) {
            return;
        }
        let Ok(json) = serde_json::to_string(health) else { return };
        self.health = Some((health.clone(), now));
        self.link.writer.push(&Message::Health(Health { json }));
    }
}

#[cfg(test)]
mod tests {
    use millrace_media::Tick;
    use millrace_tls::FarmStream;
    use millrace_types::{Because, EndReason, MediaTime, Versions};
    use millrace_wire::{Admitted, Ended, MessageReader, MessageWriter};
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::placement::Chosen;

    fn state(socket: TcpStream) -> LinkState {
        let (reader, writer) = FarmStream::Plain(socket).into_split();
        let admitted = Admitted {
            resume: Vec::new(),
            worker_pid: 1,
            next_seq: None,
            standby: false,
            beside: false,
            version: Versions::OURS.newest,
        };
        let chosen = Chosen { reason: Because::MostFree.into(), others: Vec::new() };
        let link = Link {
            node: "a".parse().unwrap(),
            epoch: Epoch::default(),
            admitted,
            reader: MessageReader::new(reader),
            writer: MessageWriter::new(writer),
            chosen,
        };
        LinkState::new(link, Mono::default())
    }

    fn tick(seq: u64) -> Item {
        Item::Tick(Tick { seq, to: MediaTime(0) })
    }

    #[tokio::test]
    async fn what_a_node_said_before_it_took_no_more_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut node, _) = listener.accept().await.unwrap();
        let (mut state, replay) = (state(router), Replay::new(1 << 20));
        let ended = Ended { reason: EndReason::KilledSignal, text: "signal 9".to_owned() };

        state.give(tick(1)).unwrap();
        state.write(&replay);
        // It leaves with input that it has not looked at, so that what is sent to it from now on is refused.
        node.read_u8().await.unwrap();
        MessageWriter::new(&mut node).send(&Message::Ended(ended.clone())).await.unwrap();
        drop(node);
        let refused = async {
            for seq in 2.. {
                state.give(tick(seq)).unwrap();
                state.write(&replay);
                if !state.hears {
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), refused).await.expect("it is told that nobody reads");
        assert!(!state.wants_flush(), "nothing is tried again");
        let later = Mono(LINK_SILENCE + Duration::from_millis(1));
        state.heard(later);
        assert!(!state.beat(later, false), "what it still says does not keep it");
        assert_eq!(state.link.reader.next().await.unwrap(), Some(Message::Ended(ended)));
        assert!(!matches!(state.link.reader.next().await, Ok(Some(_))));
    }
}
