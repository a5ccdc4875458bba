//! The frame: a fixed header of 12 bytes, a control part, a payload. Knows lengths and limits, not what they mean.
//!
//! ```text
//! 0        1      2         4             8             12
//! | format | kind | 0 0     | control_len | payload_len | control … payload …     (big endian)
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of the frame's layout.
pub const FORMAT: u8 = 1;
/// Bytes before the control part.
pub const HEADER_BYTES: usize = 12;
/// Longest control part taken in, bytes.
pub const MAX_CONTROL_BYTES: usize = 256 << 10;
/// Longest payload taken in, bytes: more than any access unit or part within the bitrate limits.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// The bytes are not a frame of ours; the connection is beyond repair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another layout.
    #[error(
        "frame format {0} is not {FORMAT}: is the peer a millrace program of a compatible version?"
    )]
    Format(u8),
    /// A length above its limit.
    #[error("frame of kind {kind} announces {bytes} bytes, above the limit of {limit}")]
    TooLong {
        /// Kind of the frame.
        kind: u8,
        /// Announced.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
}

/// One frame as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is; see `codec`.
    pub kind: u8,
    /// Protobuf.
    pub control: Bytes,
    /// Media bytes, often empty.
    pub payload: Bytes,
}

/// Writes a frame's header; the control part and the payload follow it on the wire.
pub fn put_header(out: &mut BytesMut, kind: u8, control_len: usize, payload_len: usize) {
    out.reserve(HEADER_BYTES + control_len);
    out.put_u8(FORMAT);
    out.put_u8(kind);
    out.put_u16(0);
    out.put_u32(u32::try_from(control_len).expect("invariant: control parts are small"));
    out.put_u32(u32::try_from(payload_len).expect("invariant: payloads are below 4 GiB"));
}

/// What a frame's header says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// What it is; see `codec`.
    pub kind: u8,
    control: usize,
    payload: usize,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes cannot be a frame.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(mut header) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
        let (format, kind) = (header.get_u8(), header.get_u8());
        header.advance(2);
        let (control, payload) = (header.get_u32() as usize, header.get_u32() as usize);
        if format != FORMAT {
            return Err(FrameError::Format(format));
        }
        for (bytes, limit) in [(control, MAX_CONTROL_BYTES), (payload, MAX_PAYLOAD_BYTES)] {
            if bytes > limit {
                return Err(FrameError::TooLong { kind, bytes, limit });
            }
        }
        Ok(Some(Self { kind, control, payload }))
    }

    /// Length of the whole frame.
    pub const fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.control + self.payload
    }

    /// Takes a whole frame apart.
    pub fn open(self, mut frame: Bytes) -> Frame {
        frame.advance(HEADER_BYTES);
        let control = frame.split_to(self.control);
        Frame { kind: self.kind, control, payload: frame }
    }
}

/// Takes one whole frame off the front of `buffer`, `None` when more bytes are needed.
///
/// # Errors
/// [`FrameError`] when the bytes cannot be a frame.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(header) = Header::read(buffer)? else { return Ok(None) };
    let total = header.frame_bytes();
    if buffer.len() < total {
        buffer.reserve(total - buffer.len());
        return Ok(None);
    }
    Ok(Some(header.open(buffer.split_to(total).freeze())))
}
