//! The writing half of an async stream. It gathers what is ready and writes it vectored; it never waits to gather more.
//! Whoever uses it hands over all that it has before it writes: one system call for all of it.
//!
//! What goes at once lies in memory that all connections of a thread share. What has to wait is copied into memory of its own.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{Message, encode};

/// Most slices handed to the kernel at once; Linux takes 1024.
const MAX_SLICES: usize = 64;
/// Room for heads of messages, made at once.
const HEADS_BYTES: usize = 16 << 10;

/// A line that was longer is not kept for the next writer.
const LINE: usize = 1024;

thread_local! {
    /// Where the next messages' heads are written.
    static HEADS: RefCell<BytesMut> = RefCell::default();
    /// The line of whoever has something to write next: who has nothing has none.
    static EMPTY_LINE: Cell<VecDeque<Bytes>> = Cell::default();
}

/// The writing half of a connection.
#[derive(Debug)]
pub struct MessageWriter<W> {
    to: W,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    /// So many of the first in line lie in memory of their own.
    kept: usize,
    /// Something was written and may still wait in the stream, as TLS makes it wait.
    unflushed: bool,
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages to `to`.
    pub fn new(to: W) -> Self {
        Self { to, ready: VecDeque::new(), ready_bytes: 0, kept: 0, unflushed: false }
    }

    /// Puts a message in line; [`Self::flush`] writes it.
    pub fn push(&mut self, message: &Message) {
        let (head, payload) = HEADS.with_borrow_mut(|heads| {
            if heads.capacity() < HEADS_BYTES / 8 {
                heads.reserve(HEADS_BYTES);
            }
            let payload = encode(message, heads);
            (heads.split().freeze(), payload)
        });
        self.pass_on(head);
        if !payload.is_empty() {
            self.pass_on(payload);
        }
    }

    /// Puts whole frames in line as they are.
    pub fn pass_on(&mut self, frames: Bytes) {
        self.ready_bytes += frames.len();
        if self.ready.capacity() == 0 {
            self.ready = EMPTY_LINE.take();
        }
        self.ready.push_back(frames);
    }

    /// Writes to `to` what follows; what was written to until now.
    pub fn move_to(&mut self, to: W) -> W {
        std::mem::replace(&mut self.to, to)
    }

    /// Bytes in line.
    pub fn pending_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Whether [`Self::flush`] has something to do: bytes in line, or in a stream that has its own.
    pub fn wants_flush(&self) -> bool {
        self.unflushed || !self.ready.is_empty()
    }

    /// Writes all that is in line. Cancel-safe: what was not written stays in line.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.ready.is_empty() {
            let slices: Vec<_> =
                self.ready.iter().take(MAX_SLICES).map(|bytes| IoSlice::new(bytes)).collect();
            let mut count = self.to.write_vectored(&slices).await?;
            self.unflushed = true;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.ready_bytes -= count;
            while let Some(front) = self.ready.front_mut() {
                if count < front.len() {
                    front.advance(count);
                    break;
                }
                count -= front.len();
                self.ready.pop_front();
                self.kept = self.kept.saturating_sub(1);
            }
        }
        let line = std::mem::take(&mut self.ready);
        if (1..=LINE).contains(&line.capacity()) {
            EMPTY_LINE.set(line);
        }
        self.to.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    /// Writes as much of what is in line as goes without waiting; the rest stays for [`Self::flush`].
    ///
    /// # Errors
    /// Those of the stream.
    pub fn flush_now(&mut self) -> io::Result<()> {
        if !self.wants_flush() {
            return Ok(());
        }
        let flushed = pin!(self.flush()).poll(&mut Context::from_waker(Waker::noop()));
        match flushed {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => {
                self.keep();
                Ok(())
            }
        }
    }

    /// Lets go of shared memory.
    fn keep(&mut self) {
        for bytes in self.ready.iter_mut().skip(self.kept) {
            *bytes = Bytes::copy_from_slice(bytes);
        }
        self.kept = self.ready.len();
    }

    /// Puts a message in line and writes all.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn send(&mut self, message: &Message) -> io::Result<()> {
        self.push(message);
        self.flush().await
    }

    /// Closes the writing direction.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.to.shutdown().await
    }
}
