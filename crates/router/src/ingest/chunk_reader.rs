//! Reassembles messages from chunk streams (RTMP 1.0, section 5.3), within bounds.
//!
//! Takes bytes in any portions and copies each payload byte once, into its message. Chunks of different streams
//! may interleave. What it holds is bounded by [`MessageBounds`], whatever lengths a peer announces.

use std::collections::BTreeMap;

use super::message::{Message, kind};

/// Basic header of 3 bytes, message header of 11, extended timestamp of 4.
const MAX_HEADER_BYTES: usize = 18;
/// In a timestamp field: the real value follows in 4 bytes.
const EXTENDED: u32 = 0xFF_FFFF;
/// The protocol's initial chunk size.
const INITIAL_CHUNK_BYTES: u32 = 128;
/// No message is longer, so no chunk need be.
const MAX_CHUNK_BYTES: u32 = 0xFF_FFFF;
/// Room given to a message before its bytes have come.
const FIRST_ALLOCATION_BYTES: usize = 64 << 10;
/// Longer messages get room in steps of so much, the allocator's own words included: what one leaves fits others.
const STEP_BYTES: usize = 8 << 10;
/// What the allocator writes beside each piece.
const ALLOCATORS_BYTES: usize = 16;

/// A breach of the chunk protocol or of our bounds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A message announced as longer than its bound.
    #[error("message of type {kind} with {bytes} bytes, limit {limit}")]
    MessageTooLong { kind: u8, bytes: usize, limit: usize },
    /// Unfinished messages of all chunk streams together.
    #[error("{bytes} bytes of unfinished messages, limit {limit}")]
    TooMuchUnfinished { bytes: usize, limit: usize },
    /// More chunk streams than the bound.
    #[error("more than {limit} chunk streams")]
    TooManyStreams { limit: usize },
    /// A header that refers to an earlier one where there is none.
    #[error("chunk stream {csid} begins without a message header")]
    NoHeader { csid: u32 },
    /// A chunk size of zero.
    #[error("chunk size {0}")]
    ChunkSize(u32),
}

/// How much a peer may make the reader hold.
#[derive(Clone, Copy, Debug)]
pub struct MessageBounds {
    /// Longest message of any type but video and aggregate.
    pub command_bytes: usize,
    /// Longest video or aggregate message.
    pub video_bytes: usize,
    /// Chunk streams.
    pub streams: usize,
}

impl MessageBounds {
    fn of(&self, kind: u8) -> usize {
        match kind {
            kind::VIDEO | kind::AGGREGATE => self.video_bytes,
            _ => self.command_bytes,
        }
    }

    /// One long message and, interleaved with it, a few short ones.
    fn unfinished_bytes(&self) -> usize {
        self.video_bytes + 4 * self.command_bytes
    }
}

/// What a chunk stream remembers from header to header, and its unfinished message.
#[derive(Debug, Default)]
struct ChunkStream {
    kind: u8,
    stream_id: u32,
    length: usize,
    timestamp_ms: u32,
    delta_ms: u32,
    extended: bool,
    unfinished: Option<Vec<u8>>,
}

/// The chunk whose payload is being read.
#[derive(Debug)]
struct Chunk {
    csid: u32,
    missing: usize,
}

/// Turns received bytes into messages.
#[derive(Debug)]
pub struct ChunkReader {
    bounds: MessageBounds,
    chunk_bytes: u32,
    streams: BTreeMap<u32, ChunkStream>,
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    chunk: Option<Chunk>,
    unfinished_bytes: usize,
}

impl ChunkReader {
    pub fn new(bounds: MessageBounds) -> Self {
        Self {
            bounds,
            chunk_bytes: INITIAL_CHUNK_BYTES,
            streams: BTreeMap::new(),
            header: [0; MAX_HEADER_BYTES],
            header_bytes: 0,
            chunk: None,
            unfinished_bytes: 0,
        }
    }

    /// Replaces the bounds, for messages that begin from now on.
    pub fn set_bounds(&mut self, bounds: MessageBounds) {
        self.bounds = bounds;
    }

    /// Obeys the peer's Set Chunk Size; its highest bit is reserved.
    pub fn set_chunk_bytes(&mut self, bytes: u32) -> Result<(), ChunkError> {
        match bytes & 0x7FFF_FFFF {
            0 => Err(ChunkError::ChunkSize(bytes)),
            bytes => {
                self.chunk_bytes = bytes.min(MAX_CHUNK_BYTES);
                Ok(())
            }
        }
    }

    /// Obeys the peer's Abort: forgets the unfinished message of a chunk stream.
    pub fn abort(&mut self, csid: u32) {
        if let Some(stream) = self.streams.get_mut(&csid) {
            let dropped = stream.unfinished.take().map_or(0, |body| body.len());
            self.unfinished_bytes -= dropped;
        }
    }

    /// Takes bytes off `input` up to the end of the next message; `None` once `input` is used up.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            if self.chunk.is_none() && !self.read_header(input)? {
                return Ok(None);
            }
            if let Some(message) = self.read_payload(input)? {
                return Ok(Some(message));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Whether a whole header has been read, and with it a chunk begun.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        loop {
            let wanted = self.wanted_header_bytes();
            if self.header_bytes == wanted {
                self.header_bytes = 0;
                self.begin_chunk(wanted)?;
                return Ok(true);
            }
            if input.is_empty() {
                return Ok(false);
            }
            let taken = input.len().min(wanted - self.header_bytes);
            self.header[self.header_bytes..][..taken].copy_from_slice(&input[..taken]);
            self.header_bytes += taken;
            *input = &input[taken..];
        }
    }

    /// How long the header is, as far as the bytes read of it tell.
    fn wanted_header_bytes(&self) -> usize {
        if self.header_bytes == 0 {
            return 1;
        }
        let basic = basic_header_bytes(self.header[0]);
        let format = self.header[0] >> 6;
        let fixed = basic + [11, 7, 3, 0][usize::from(format)];
        if self.header_bytes < fixed {
            return fixed;
        }
        let extended = match format {
            3 => self.streams.get(&self.csid()).is_some_and(|stream| stream.extended),
            _ => u24(&self.header[basic..]) == EXTENDED,
        };
        fixed + if extended { 4 } else { 0 }
    }

    fn csid(&self) -> u32 {
        let [first, second, third, ..] = self.header;
        match first & 0x3F {
            0 => 64 + u32::from(second),
            1 => 64 + u32::from(second) + 256 * u32::from(third),
            csid => u32::from(csid),
        }
    }

    /// Applies the header of `header_bytes` bytes to its chunk stream.
    fn begin_chunk(&mut self, header_bytes: usize) -> Result<(), ChunkError> {
        let csid = self.csid();
        let format = self.header[0] >> 6;
        let known = self.streams.contains_key(&csid);
        if !known && format >= 2 {
            return Err(ChunkError::NoHeader { csid });
        }
        if !known && self.streams.len() == self.bounds.streams {
            return Err(ChunkError::TooManyStreams { limit: self.bounds.streams });
        }
        let header = &self.header[..header_bytes];
        let fields = &header[basic_header_bytes(header[0])..];
        let stream = self.streams.entry(csid).or_default();
        if format < 3 {
            // A new message header in the middle of a message drops it, as an Abort would.
            self.unfinished_bytes -= stream.unfinished.take().map_or(0, |body| body.len());
            stream.read_fields(format, fields);
        }
        if stream.unfinished.is_none() {
            if format == 3 {
                stream.timestamp_ms = stream.timestamp_ms.wrapping_add(stream.delta_ms);
            }
            let limit = self.bounds.of(stream.kind);
            if stream.length > limit {
                let (kind, bytes) = (stream.kind, stream.length);
                return Err(ChunkError::MessageTooLong { kind, bytes, limit });
            }
            let room = room_for(stream.length.min(FIRST_ALLOCATION_BYTES));
            stream.unfinished = Some(Vec::with_capacity(room));
        }
        let read = stream.unfinished.as_ref().map_or(0, Vec::len);
        let missing = (stream.length - read).min(self.chunk_bytes as usize);
        self.chunk = Some(Chunk { csid, missing });
        Ok(())
    }

    /// Moves payload; returns the message if this ends it.
    fn read_payload(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        let (Some(chunk), limit) = (&mut self.chunk, self.bounds.unfinished_bytes()) else {
            return Ok(None);
        };
        let taken = input.len().min(chunk.missing);
        chunk.missing -= taken;
        let ended = chunk.missing == 0;
        let Some(stream) = self.streams.get_mut(&chunk.csid) else { return Ok(None) };
        let body = stream.unfinished.get_or_insert_default();
        if body.capacity() - body.len() < taken {
            // Twice as much as has come, but no more than will.
            let room = room_for(stream.length.min(2 * body.len().max(taken)));
            body.reserve_exact(room - body.len());
        }
        body.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.unfinished_bytes += taken;
        if self.unfinished_bytes > limit {
            return Err(ChunkError::TooMuchUnfinished { bytes: self.unfinished_bytes, limit });
        }
        if !ended {
            return Ok(None);
        }
        self.chunk = None;
        if body.len() < stream.length {
            return Ok(None);
        }
        self.unfinished_bytes -= body.len();
        let body = stream.unfinished.take().unwrap_or_default().into();
        let &mut ChunkStream { kind, stream_id, timestamp_ms, .. } = stream;
        Ok(Some(Message { kind, timestamp_ms, stream_id, body }))
    }
}

impl ChunkStream {
    /// Reads the message header of format 0, 1 or 2 and what extends its timestamp.
    fn read_fields(&mut self, format: u8, fields: &[u8]) {
        let mut stamp = u24(fields);
        self.extended = stamp == EXTENDED;
        if let (true, Some(tail)) = (self.extended, fields.last_chunk()) {
            stamp = u32::from_be_bytes(*tail);
        }
        if format < 2 {
            self.length = u24(&fields[3..]) as usize;
            self.kind = fields[6];
        }
        if let (0, Some(id)) = (format, fields[7.min(fields.len())..].first_chunk()) {
            self.stream_id = u32::from_le_bytes(*id);
        }
        self.timestamp_ms = if format == 0 { stamp } else { self.timestamp_ms.wrapping_add(stamp) };
        self.delta_ms = stamp;
    }
}

/// At least `bytes`.
fn room_for(bytes: usize) -> usize {
    match bytes {
        ..STEP_BYTES => bytes,
        _ => (bytes + ALLOCATORS_BYTES).next_multiple_of(STEP_BYTES) - ALLOCATORS_BYTES,
    }
}

fn basic_header_bytes(first: u8) -> usize {
    match first & 0x3F {
        0 => 2,
        1 => 3,
        _ => 1,
    }
}

/// A big-endian number of 3 bytes at the beginning of `bytes`.
fn u24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: MessageBounds =
        MessageBounds { command_bytes: 1_000, video_bytes: 10_000, streams: 8 };

    fn header0(csid: u8, stamp: u32, length: u32, kind: u8) -> Vec<u8> {
        let mut bytes = vec![csid];
        bytes.extend_from_slice(&stamp.min(EXTENDED).to_be_bytes()[1..]);
        bytes.extend_from_slice(&length.to_be_bytes()[1..]);
        bytes.extend_from_slice(&[kind, 1, 0, 0, 0]);
        if stamp >= EXTENDED {
            bytes.extend_from_slice(&stamp.to_be_bytes());
        }
        bytes
    }

    /// All messages of `bytes`, fed in portions of `portion` bytes.
    fn messages(bytes: &[u8], portion: usize) -> Result<Vec<Message>, ChunkError> {
        let mut reader = ChunkReader::new(BOUNDS);
        let mut messages = Vec::new();
        for mut piece in bytes.chunks(portion) {
            while let Some(message) = reader.read(&mut piece)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn audio_between_two_chunks_of_a_video_message_is_a_message_of_its_own() {
        let mut bytes = header0(6, 40, 200, kind::VIDEO);
        bytes.extend([7; 128]);
        bytes.extend(header0(4, 41, 3, kind::AUDIO));
        bytes.extend(*b"aac");
        bytes.push(0xC6);
        bytes.extend([8; 72]);
        for portion in [1, 7, bytes.len()] {
            let got = messages(&bytes, portion).unwrap();
            assert_eq!(got.iter().map(|m| m.kind).collect::<Vec<_>>(), [kind::AUDIO, kind::VIDEO]);
            assert_eq!(got[1].body.len(), 200);
            assert_eq!((got[0].timestamp_ms, got[1].timestamp_ms), (41, 40));
        }
    }

    #[test]
    fn extended_timestamps_are_read_on_every_chunk_and_wrap() {
        let mut bytes = header0(6, 0xFFFF_FFF0, 130, kind::VIDEO);
        bytes.extend([7; 128]);
        bytes.extend([0xC6, 0xFF, 0xFF, 0xFF, 0xF0, 7, 7]);
        bytes.extend([0x86, 0, 0, 33]);
        bytes.extend([7; 128]);
        bytes.extend([0xC6, 7, 7]);
        bytes.push(0xC6);
        bytes.extend([7; 128]);
        bytes.extend([0xC6, 7, 7]);
        let got = messages(&bytes, 1).unwrap();
        let stamps: Vec<_> = got.iter().map(|m| m.timestamp_ms).collect();
        assert_eq!(stamps, [0xFFFF_FFF0, 17, 50]);
        assert!(got.iter().all(|m| m.body.len() == 130 && m.body.iter().all(|&b| b == 7)));
    }

    #[test]
    fn long_chunk_stream_ids_are_told_apart() {
        let mut bytes = vec![0x00, 10, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, b'a'];
        bytes.extend([0x01, 10, 1, 0, 0, 2, 0, 0, 1, 8, 1, 0, 0, 0, b'b']);
        bytes.extend([0xC0, 10, b'c']);
        let got = messages(&bytes, 1).unwrap();
        let stamps: Vec<_> = got.iter().map(|m| (m.timestamp_ms, &m.body[..])).collect();
        assert_eq!(stamps, [(1, &b"a"[..]), (2, b"b"), (2, b"c")]);
    }

    #[test]
    fn announced_lengths_streams_and_missing_headers_are_refused_before_memory_is_spent() {
        let long = header0(6, 0, 10_001, kind::VIDEO);
        assert!(matches!(messages(&long, 64), Err(ChunkError::MessageTooLong { .. })));
        let command = header0(3, 0, 1_001, kind::COMMAND_AMF0);
        assert!(matches!(messages(&command, 64), Err(ChunkError::MessageTooLong { .. })));
        let many: Vec<u8> = (2..12).flat_map(|csid| header0(csid, 0, 0, kind::AUDIO)).collect();
        assert!(matches!(messages(&many, 64), Err(ChunkError::TooManyStreams { limit: 8 })));
        assert_eq!(messages(&[0xC4], 1), Err(ChunkError::NoHeader { csid: 4 }));
    }

    #[test]
    fn unfinished_messages_are_bounded_together() {
        let bounds = MessageBounds { command_bytes: 10, video_bytes: 200, streams: 8 };
        let mut reader = ChunkReader::new(bounds);
        let mut bytes = Vec::new();
        for csid in 3..6 {
            bytes.extend(header0(csid, 0, 200, kind::VIDEO));
            bytes.extend([0; 128]);
        }
        let refused = reader.read(&mut &bytes[..]);
        assert_eq!(refused, Err(ChunkError::TooMuchUnfinished { bytes: 256, limit: 240 }));
    }

    #[test]
    fn an_aborted_message_leaves_nothing_behind() {
        let mut reader = ChunkReader::new(BOUNDS);
        let mut begun = header0(6, 0, 200, kind::VIDEO);
        begun.extend([7; 128]);
        assert_eq!(reader.read(&mut &begun[..]), Ok(None));
        reader.abort(6);
        reader.abort(60);
        let mut next = header0(6, 9, 2, kind::VIDEO);
        next.extend(*b"ok");
        let message = reader.read(&mut &next[..]).unwrap().unwrap();
        assert_eq!(&message.body[..], b"ok");
        assert_eq!(reader.unfinished_bytes, 0);
    }
}
