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

/// Writes a frame's header and control part; the payload follows it on the wire.
pub fn put_head(out: &mut BytesMut, kind: u8, control: &[u8], payload_len: usize) {
    out.reserve(HEADER_BYTES + control.len());
    out.put_u8(FORMAT);
    out.put_u8(kind);
    out.put_u16(0);
    out.put_u32(u32::try_from(control.len()).expect("invariant: control parts are small"));
    out.put_u32(u32::try_from(payload_len).expect("invariant: payloads are below 4 GiB"));
    out.put_slice(control);
}

/// Takes one whole frame off the front of `buffer`, `None` when more bytes are needed.
///
/// # Errors
/// [`FrameError`] when the bytes cannot be a frame.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    if buffer.len() < HEADER_BYTES {
        return Ok(None);
    }
    let mut header = &buffer[..HEADER_BYTES];
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
    let total = HEADER_BYTES + control + payload;
    if buffer.len() < total {
        buffer.reserve(total - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(total).freeze();
    frame.advance(HEADER_BYTES);
    let control = frame.split_to(control);
    Ok(Some(Frame { kind, control, payload: frame }))
}
