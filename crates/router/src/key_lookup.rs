//! Keys that this router does not know: the registry itself is asked once, since the view may be a moment behind a channel that
//! was just made. One task asks, one question at a time; strangers can cause no more than that.

use std::time::Duration;

use millrace_registry::{ChannelRecord, Registry};
use millrace_types::ChannelId;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

/// How long the registry may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// From one answer to the next question: at most 50 in a second.
const PAUSE: Duration = Duration::from_millis(20);
/// Publishers that wait; who finds it full is answered by what is known.
const QUEUE: usize = 16;

#[derive(Debug)]
struct Question {
    channel: ChannelId,
    asked: oneshot::Sender<()>,
}

/// Asks the registry for channels.
#[derive(Clone, Debug)]
pub(crate) struct KeyLookup {
    questions: mpsc::Sender<Question>,
}

impl KeyLookup {
    /// Starts the task that asks; it ends with the last handle.
    pub(crate) fn start(registry: Registry) -> Self {
        let (questions, mut inbox) = mpsc::channel::<Question>(QUEUE);
        tokio::spawn(async move {
            while let Some(Question { channel, asked }) = inbox.recv().await {
                if registry.is_reachable() && !asked.is_closed() {
                    registry.refresh_record::<ChannelRecord>(channel.as_str(), PATIENCE).await;
                }
                // Who asked may be gone.
                let _ = asked.send(());
                sleep(PAUSE).await;
            }
        });
        Self { questions }
    }

    /// Returns once the view knows the channel as the registry knew it, or at once where nobody can be asked.
    pub(crate) async fn ask(&self, channel: &ChannelId) {
        let (asked, answer) = oneshot::channel();
        if self.questions.try_send(Question { channel: channel.clone(), asked }).is_ok() {
            // Without the task what is known has to do.
            let _ = answer.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_are_put_one_after_the_other_and_who_finds_a_full_queue_does_not_wait() {
        let lookup = KeyLookup::start(Registry::in_memory());
        let channel: ChannelId = "live".parse().unwrap();
        let since = std::time::Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..2 * QUEUE {
            let (lookup, channel) = (lookup.clone(), channel.clone());
            asking.spawn(async move {
                lookup.ask(&channel).await;
                since.elapsed()
            });
        }
        let mut waits = asking.join_all().await;
        waits.sort_unstable();
        let paused = PAUSE * u32::try_from(QUEUE).unwrap();
        assert!(waits[2 * QUEUE - 1] >= paused - PAUSE, "{waits:?}");
        assert!(waits[QUEUE] < paused / 2, "half of them did not wait: {waits:?}");
    }
}
