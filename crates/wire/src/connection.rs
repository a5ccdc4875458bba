//! Messages over an async stream: Link between router and node, and the node's end of a worker socket.
//!
//! One half reads, the other writes. The writer gathers what is ready and writes it vectored; it never waits to gather
//! more. Whoever uses it hands over all that it has before it writes: one system call for all of it.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{Decoder, Message, encode};

/// Most slices handed to the kernel at once; Linux takes 1024.
const MAX_SLICES: usize = 64;

/// Room for heads of messages, made at once.
const HEADS_BYTES: usize = 4 << 10;
/// Room for what is read at once: a picture of most streams.
const READ_BYTES: usize = 64 << 10;

/// The reading half of a connection.
#[derive(Debug)]
pub struct MessageReader<R> {
    from: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads messages from `from`.
    pub fn new(from: R) -> Self {
        Self { from, decoder: Decoder::default() }
    }

    /// The next message, `None` when the peer has closed. Cancel-safe: nothing read is lost.
    ///
    /// # Errors
    /// Those of the stream; [`io::ErrorKind::InvalidData`] when the bytes cannot be understood,
    /// [`io::ErrorKind::UnexpectedEof`] when it ends inside a message.
    pub async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.ready()? {
                return Ok(Some(message));
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(READ_BYTES);
            if self.from.read_buf(buffer).await? == 0 {
                return match buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The next message if it has been read already.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when the bytes cannot be understood.
    pub fn ready(&mut self) -> io::Result<Option<Message>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        self.decoder.next_message().map_err(invalid)
    }

    /// What is read from.
    pub const fn stream(&self) -> &R {
        &self.from
    }

    /// Reads from `from` what follows; what was read from until now.
    pub fn move_to(&mut self, from: R) -> R {
        std::mem::replace(&mut self.from, from)
    }
}

/// The writing half of a connection.
#[derive(Debug)]
pub struct MessageWriter<W> {
    to: W,
    /// Where the next messages' heads are written.
    heads: BytesMut,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    /// Something was written and may still wait in the stream, as TLS makes it wait.
    unflushed: bool,
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages to `to`.
    pub fn new(to: W) -> Self {
        let (heads, ready) = (BytesMut::new(), VecDeque::new());
        Self { to, heads, ready, ready_bytes: 0, unflushed: false }
    }

    /// Puts a message in line; [`Self::flush`] writes it.
    pub fn push(&mut self, message: &Message) {
        if self.heads.capacity() < HEADS_BYTES / 8 {
            self.heads.reserve(HEADS_BYTES);
        }
        let payload = encode(message, &mut self.heads);
        let head = self.heads.split().freeze();
        self.ready_bytes += head.len() + payload.len();
        self.ready.push_back(head);
        if !payload.is_empty() {
            self.ready.push_back(payload);
        }
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
            }
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
        match pin!(self.flush()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
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
