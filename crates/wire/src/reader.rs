//! The reading half of an async stream: messages of a Link or a worker socket, and items that are only passed on.
//!
//! Each thread has room for what is read at once, and all its connections share it: one that waits holds no memory. What has
//! to wait for more is copied into memory of its own size; so is what a [`MessageReader`] reads. A [`RelayReader`] hands items
//! out where they were read.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    DecodeError, Decoder, Message,
    codec::{is_item, message_of},
    frame::Header,
};

/// The most that is read at once: any picture of a stream within its limits, but for a few.
const READ_BYTES: usize = 256 << 10;

thread_local! {
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// Reads what is there; nothing at the end of the stream.
fn poll_bytes(
    from: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    ROOM.with_borrow_mut(|room| {
        // Costs nothing once what was read before has gone its way.
        room.reserve(READ_BYTES);
        ready!(pin!(from.read_buf(room)).poll(context))?;
        Poll::Ready(Ok(room.split().freeze()))
    })
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

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
            if let Some(message) = self.decoder.next_message().map_err(invalid)? {
                return Ok(Some(message));
            }
            let buffer = self.decoder.buffer();
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
            let read = poll_fn(|context| poll_bytes(&mut self.from, context)).await?;
            let buffer = self.decoder.buffer();
            match (read.is_empty(), buffer.is_empty()) {
                (false, _) => buffer.extend_from_slice(&read),
                (true, true) => return Ok(None),
                (true, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// What is read from.
    pub const fn stream(&self) -> &R {
        &self.from
    }

    /// Reads from `from` what follows; what was read from until now.
    pub fn move_to(&mut self, from: R) -> R {
        std::mem::replace(&mut self.from, from)
    }

    /// The same connection, whose items are passed on from here on.
    pub fn into_relay(mut self) -> RelayReader<R> {
        let rest = std::mem::take(self.decoder.buffer());
        RelayReader {
            from: self.from,
            frames: Frames { rest: BytesMut::new(), read: rest.freeze() },
        }
    }
}

/// What a [`RelayReader`] reads.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub enum Relayed {
    /// Whole frames of items, as they came: for [`crate::MessageWriter::pass_on`]. They lie in memory that is not to be held.
    Items(Bytes),
    /// Anything else.
    Message(Message),
}

/// The reading half of a Link whose items are passed on as they are.
#[derive(Debug)]
pub struct RelayReader<R> {
    from: R,
    frames: Frames,
}

impl<R: AsyncRead + Unpin> RelayReader<R> {
    /// What comes next, `None` when the peer has closed. Cancel-safe: nothing read is lost.
    ///
    /// # Errors
    /// As [`MessageReader::next`]; of items only the frames are looked at.
    pub async fn next(&mut self) -> io::Result<Option<Relayed>> {
        loop {
            if let Some(relayed) = self.ready()? {
                return Ok(Some(relayed));
            }
            let read = poll_fn(|context| poll_bytes(&mut self.from, context)).await?;
            match (read.is_empty(), self.frames.rest.is_empty()) {
                (false, _) => self.frames.read = read,
                (true, true) => return Ok(None),
                (true, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// What comes next if it has been read already. Once it is `None`, what was read at once is no longer held.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when the bytes cannot be understood.
    pub fn ready(&mut self) -> io::Result<Option<Relayed>> {
        self.frames.next().map_err(invalid)
    }
}

/// Takes what was read apart, into messages and runs of items.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of a frame, in memory of its own.
    rest: BytesMut,
    /// What follows.
    read: Bytes,
}

impl Frames {
    fn next(&mut self) -> Result<Option<Relayed>, DecodeError> {
        loop {
            let Some((header, frame)) = self.next_frame()? else { return Ok(None) };
            if is_item(header.kind) {
                return Ok(Some(Relayed::Items(frame)));
            }
            // It may be held, and would hold what was read with it.
            let frame = header.open(Bytes::copy_from_slice(&frame));
            if let Some(message) = message_of(frame)? {
                return Ok(Some(Relayed::Message(message)));
            }
        }
    }

    /// The next frame, or all frames of items up to the next that is none.
    fn next_frame(&mut self) -> Result<Option<(Header, Bytes)>, DecodeError> {
        if !self.rest.is_empty() {
            return self.complete();
        }
        let (mut first, mut run) = (None, 0);
        while let Some(header) = Header::read(&self.read[run..])?
            && first.is_none_or(|first: Header| is_item(first.kind) && is_item(header.kind))
            && self.read.len() - run >= header.frame_bytes()
        {
            first.get_or_insert(header);
            run += header.frame_bytes();
        }
        let Some(first) = first else {
            self.keep_rest();
            return Ok(None);
        };
        Ok(Some((first, self.read.split_to(run))))
    }

    /// The frame whose beginning was kept.
    fn complete(&mut self) -> Result<Option<(Header, Bytes)>, DecodeError> {
        loop {
            let header = Header::read(&self.rest)?;
            let whole = header.map_or(crate::frame::HEADER_BYTES, |header| header.frame_bytes());
            let missing = whole - self.rest.len();
            if let (Some(header), 0) = (header, missing) {
                return Ok(Some((header, std::mem::take(&mut self.rest).freeze())));
            }
            if self.read.is_empty() {
                return Ok(None);
            }
            self.rest.reserve(missing);
            self.rest.extend_from_slice(&self.read.split_to(missing.min(self.read.len())));
        }
    }

    fn keep_rest(&mut self) {
        self.rest = BytesMut::from(&std::mem::take(&mut self.read)[..]);
    }
}

#[cfg(test)]
mod tests {
    use millrace_media::{Item, Tick};
    use millrace_types::MediaTime;
    use proptest::prelude::*;

    use super::*;
    use crate::{End, Heartbeat, encode, frame};

    /// A tick, one of a stream; or something that is for whoever passes it on; or a frame of a later version.
    fn frame_of(number: u64, kind: u8) -> (Option<Message>, Vec<u8>) {
        let message = match kind {
            0 => Message::Heartbeat(Heartbeat { seq: number, lag_ms: 0 }),
            1 => Message::End(End { continues: true }),
            2 => {
                let mut bytes = BytesMut::new();
                frame::put_header(&mut bytes, 255, 0, 3);
                return (None, [&bytes, &b"new"[..]].concat());
            }
            _ => Message::Item(Item::Tick(Tick { seq: number, to: MediaTime(1 << kind) })),
        };
        let mut bytes = BytesMut::new();
        encode(&message, &mut bytes);
        (Some(message), bytes.to_vec())
    }

    /// The items of whole frames.
    fn items(frames: &Bytes) -> Vec<Message> {
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(frames);
        let items = std::iter::from_fn(|| decoder.next_message().unwrap()).collect();
        assert!(decoder.buffer().is_empty(), "a frame was cut");
        items
    }

    proptest! {
        #[test]
        fn whatever_the_portions_items_pass_in_whole_frames_and_everything_keeps_its_order(
            kinds in prop::collection::vec(0_u8..20, 1..40),
            portions in prop::collection::vec(1_usize..200, 1..20),
        ) {
            let frames = kinds.iter().zip(0..).map(|(kind, number)| frame_of(number, *kind));
            let (sent, bytes): (Vec<_>, Vec<_>) = frames.unzip();
            let mut bytes = Bytes::from(bytes.concat());
            let (mut reader, mut got) = (Frames::default(), Vec::new());
            for portion in portions.into_iter().cycle() {
                reader.read = bytes.split_to(portion.min(bytes.len()));
                while let Some(relayed) = reader.next().unwrap() {
                    match relayed {
                        Relayed::Items(frames) => got.extend(items(&frames)),
                        Relayed::Message(message) => got.push(message),
                    }
                }
                prop_assert!(reader.read.is_empty(), "what was read at once is held");
                if bytes.is_empty() {
                    break;
                }
            }
            prop_assert!(reader.rest.is_empty());
            prop_assert_eq!(got, sent.into_iter().flatten().collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_link_whose_peer_closes_within_a_frame_is_broken() {
        let (_, bytes) = frame_of(1, 4);
        let mut reader = MessageReader::new(&bytes[..bytes.len() - 1]).into_relay();
        let error = reader.next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let mut reader = MessageReader::new(&bytes[..]).into_relay();
        assert!(matches!(reader.next().await, Ok(Some(Relayed::Items(_)))));
        assert!(matches!(reader.next().await, Ok(None)));
    }
}
