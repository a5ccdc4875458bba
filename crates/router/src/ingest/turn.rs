//! In which order a thread's connections read when many of them have something at once: when enough was read, the others go behind
//! the sessions that it is for. What was read does not pile up before it is passed on, and the processor's cache still holds it then.
//!
//! ```text
//! A and B have read enough; a and b are their sessions:
//! run queue  C D E a b ──C, D and E stand back──▶ a b C D E ──a and b pass it on──▶ C D E, which read
//! ```
//! Nobody waits for anybody: who stands back is in the run queue.

use std::{cell::Cell, task::Context};

/// Half of what a core's own cache holds, so that the other half can take copies.
const ENOUGH_BYTES: usize = 256 << 10;

thread_local! {
    /// The round that a thread is in, and what was read in it.
    static ROUND: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

/// One connection's.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The round in which it stood back last.
    stood_back_in: Option<u64>,
}

impl Turn {
    /// Whether it may read now. If not, its task is woken again at once, behind those that were woken before.
    pub(super) fn has_come(&mut self, context: &Context<'_>) -> bool {
        let (round, bytes) = ROUND.get();
        if bytes < ENOUGH_BYTES {
            return true;
        }
        if self.stood_back_in == Some(round) {
            // The first that comes back.
            ROUND.set((round + 1, 0));
            return true;
        }
        self.stood_back_in = Some(round);
        context.waker().wake_by_ref();
        false
    }

    /// It has read so many bytes, for somebody to pass on.
    pub(super) fn has_read(bytes: usize) {
        let (round, before) = ROUND.get();
        ROUND.set((round, before + bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll};

    use tokio::{sync::mpsc, task::LocalSet};

    use super::*;

    #[tokio::test]
    async fn what_many_read_at_once_is_passed_on_before_more_than_enough_lies_there() {
        const READ: usize = ENOUGH_BYTES / 4;
        let (begun, _) = tokio::sync::broadcast::channel::<()>(1);
        let lies = Rc::new(RefCell::new((0, 0, 0)));
        let tasks = LocalSet::new();
        for _ in 0..40 {
            let (to_session, mut from_connection) = mpsc::channel(1);
            let (mut begins, mut turn) = (begun.subscribe(), Turn::default());
            let (read, passed) = (Rc::clone(&lies), Rc::clone(&lies));
            tasks.spawn_local(async move {
                let _ = begins.recv().await;
                let has_come = |context: &mut Context<'_>| match turn.has_come(context) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                };
                poll_fn(has_come).await;
                Turn::has_read(READ);
                let (now, most, _) = &mut *read.borrow_mut();
                *now += READ;
                *most = (*most).max(*now);
                to_session.try_send(()).unwrap();
            });
            tasks.spawn_local(async move {
                let _ = from_connection.recv().await;
                let (now, _, all) = &mut *passed.borrow_mut();
                (*now, *all) = (*now - READ, *all + 1);
            });
        }
        tasks.run_until(tokio::task::yield_now()).await;
        begun.send(()).unwrap();
        tasks.await;
        let (left, most, all) = *lies.borrow();
        assert_eq!((left, all), (0, 40), "everybody had a turn");
        assert!(
            (ENOUGH_BYTES..=2 * ENOUGH_BYTES).contains(&most),
            "{most} bytes lay there at once"
        );
    }
}
