//! The writing half of an async stream. It gathers what is ready and writes it vectored; it never waits to gather more.
//! Whoever uses it hands over all that it has before it writes: one system call for all of it.
//!
//! What goes at once lies in memory that all connections of a thread share, or is lent by who writes. What has to wait is copied into
//! memory of its own.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use millrace_media::AccessUnit;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{Message, codec::encode_unit_head, encode};

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
    lent: Option<Lent>,
    /// Something was written and may still wait in the stream, as TLS makes it wait.
    unflushed: bool,
}

/// A payload that is not in line itself.
#[derive(Clone, Copy, Debug)]
struct Lent {
    /// So many of those in line come before it.
    after: usize,
    bytes: usize,
}

/// What is written of a message's head, and what that returns.
fn head_of<T>(write: impl FnOnce(&mut BytesMut) -> T) -> (Bytes, T) {
    HEADS.with_borrow_mut(|heads| {
        if heads.capacity() < HEADS_BYTES / 8 {
            heads.reserve(HEADS_BYTES);
        }
        let written = write(heads);
        (heads.split().freeze(), written)
    })
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages to `to`.
    pub fn new(to: W) -> Self {
        Self { to, ready: VecDeque::new(), ready_bytes: 0, kept: 0, lent: None, unflushed: false }
    }

    /// Puts a message in line; [`Self::flush`] writes it.
    pub fn push(&mut self, message: &Message) {
        let (head, payload) = head_of(|heads| encode(message, heads));
        self.pass_on(head);
        if !payload.is_empty() {
            self.pass_on(payload);
        }
    }

    /// Puts a unit in line whose bytes, so many, lie elsewhere: whoever does so writes with [`Self::flush_lent`] next.
    pub fn push_lent(&mut self, unit: &AccessUnit, bytes: usize) {
        self.pass_on(head_of(|heads| encode_unit_head(unit, bytes, heads)).0);
        self.lent = Some(Lent { after: self.ready.len(), bytes });
        self.ready_bytes += bytes;
    }

    /// Whether [`Self::push_lent`] may be called: for one unit at a time.
    pub const fn may_be_lent(&self) -> bool {
        self.lent.is_none()
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
        if self.lent.is_some() {
            return Err(gone());
        }
        while !self.ready.is_empty() {
            let slices: Vec<_> =
                self.ready.iter().take(MAX_SLICES).map(|bytes| IoSlice::new(bytes)).collect();
            let count = self.to.write_vectored(&slices).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written(count);
        }
        let line = std::mem::take(&mut self.ready);
        if (1..=LINE).contains(&line.capacity()) {
            EMPTY_LINE.set(line);
        }
        self.to.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    /// So many bytes of those in line are gone.
    fn written(&mut self, mut count: usize) {
        self.unflushed = true;
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

    /// Does what [`Self::flush_now`] does; `lent` are the bytes of the unit whose bytes are not in line, if there is one.
    ///
    /// # Errors
    /// Those of the stream; `lent` is not what was announced.
    pub fn flush_lent<'a>(&mut self, lent: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let Some(Lent { after, bytes }) = self.lent.take() else { return self.flush_now() };
        let lent: Vec<_> = lent.collect();
        if lent.iter().map(|slice| slice.len()).sum::<usize>() != bytes {
            return Err(gone());
        }
        let (before, behind) = (self.ready.iter().take(after), self.ready.iter().skip(after));
        let slices = before.map(|bytes| &bytes[..]).chain(lent.iter().copied());
        let slices = slices.chain(behind.map(|bytes| &bytes[..])).map(IoSlice::new);
        let slices: Vec<_> = slices.take(MAX_SLICES).collect();
        let context = &mut Context::from_waker(Waker::noop());
        let count = match Pin::new(&mut self.to).poll_write_vectored(context, &slices)? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        };
        // All of it, most of the time: then it need not be copied.
        if count < self.ready_bytes {
            self.ready.insert(after, lent.concat().into());
        }
        self.written(count);
        self.flush_now()
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

fn gone() -> io::Error {
    io::Error::other("a unit's bytes were not lent")
}

#[cfg(test)]
mod tests {
    use millrace_media::{Cut, Item, SegmentStamp, Stamp, Track};
    use millrace_types::{MediaTime, Msn, PartNo};
    use proptest::prelude::*;

    use super::*;
    use crate::{Decoder, Heartbeat};

    /// A socket that takes so many bytes at a time, one after the other, and nothing where that is none.
    #[derive(Default)]
    struct Socket {
        portions: VecDeque<usize>,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let portion = self.portions.pop_front().unwrap_or(usize::MAX).min(bytes.len());
            self.taken.extend_from_slice(&bytes[..portion]);
            if portion == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(portion))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<_> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(context, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn unit(seq: u64, bytes: usize) -> AccessUnit {
        let segment = SegmentStamp { msn: Msn(1), discontinuity: 0, start: MediaTime(0) };
        let stamp = Stamp { segment, part: PartNo(0), starts: Cut::None, ends: None };
        let (track, idr) = (Track::Video, false);
        let bytes = (0..bytes).map(|at| (at / 7) as u8).collect::<Vec<_>>().into();
        AccessUnit { seq, track, dts: 0, pts: 0, duration: 1, idr, stamp, bytes }
    }

    fn beat(seq: u64) -> Message {
        Message::Heartbeat(Heartbeat { seq, lag_ms: 0 })
    }

    proptest! {
        #[test]
        fn what_is_lent_comes_in_its_turn_however_little_the_socket_takes(
            looks in prop::collection::vec((0_u64..50, 1_usize..20_000, 1_usize..9_000, 0_u64..3), 1..6),
            portions in prop::collection::vec(prop_oneof![Just(0), 1_usize..30_000], 0..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let socket = Socket { portions: portions.into(), taken: Vec::new() };
            let (mut writer, mut sent) = (MessageWriter::new(socket), Vec::new());
            for (before, bytes, piece, behind) in looks {
                let push = |writer: &mut MessageWriter<_>, sent: &mut Vec<_>| {
                    let next = beat(sent.len() as u64);
                    writer.push(&next);
                    sent.push(next);
                };
                (0..before).for_each(|_| push(&mut writer, &mut sent));
                let unit = unit(sent.len() as u64, bytes);
                prop_assert!(writer.may_be_lent());
                writer.push_lent(&AccessUnit { bytes: Bytes::new(), ..unit.clone() }, bytes);
                prop_assert!(!writer.may_be_lent());
                sent.push(Message::Item(Item::Unit(unit.clone())));
                (0..behind).for_each(|_| push(&mut writer, &mut sent));
                writer.flush_lent(unit.bytes.chunks(piece)).unwrap();
            }
            runtime.block_on(writer.flush()).unwrap();
            prop_assert_eq!(writer.pending_bytes(), 0);
            let mut decoder = Decoder::default();
            decoder.buffer().extend_from_slice(&writer.to.taken);
            let got: Vec<_> = std::iter::from_fn(|| decoder.next_message().unwrap()).collect();
            prop_assert_eq!(got, sent);
        }
    }

    #[tokio::test]
    async fn nothing_is_written_in_the_place_of_what_was_not_lent() {
        let unit = unit(1, 10);
        let mut writer = MessageWriter::new(Socket::default());
        writer.push_lent(&unit, 10);
        assert!(writer.flush_lent([&unit.bytes[..9]].into_iter()).is_err());
        let mut writer = MessageWriter::new(Socket::default());
        writer.push_lent(&unit, 10);
        assert!(writer.flush().await.is_err());
        assert!(writer.to.taken.is_empty());
    }
}
