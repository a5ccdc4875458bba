//! Messages over a blocking stream, for the worker, which has no runtime.

use std::io::{self, IoSlice, Read, Write};

use bytes::BytesMut;

use crate::{Decoder, Message, encode};

/// Bytes asked of the peer at a time.
const READ_BYTES: usize = 64 << 10;

/// Writes one message: head and payload in one call where the kernel allows it.
///
/// # Errors
/// Those of `to`.
pub fn write_message(to: &mut impl Write, message: &Message) -> io::Result<()> {
    let mut head = BytesMut::new();
    let payload = encode(message, &mut head);
    let whole = head.len() + payload.len();
    let mut written = 0;
    while written < head.len() && !payload.is_empty() {
        match to.write_vectored(&[IoSlice::new(&head[written..]), IoSlice::new(&payload)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if written < head.len() {
        return to.write_all(&head[written..]);
    }
    if written < whole { to.write_all(&payload[written - head.len()..]) } else { Ok(()) }
}

/// Reads the next message, `None` at the end of the stream.
///
/// # Errors
/// Those of `from`; [`io::ErrorKind::InvalidData`] when the bytes cannot be understood,
/// [`io::ErrorKind::UnexpectedEof`] when the stream ends inside a message.
pub fn read_message(from: &mut impl Read, decoder: &mut Decoder) -> io::Result<Option<Message>> {
    loop {
        match decoder.next_message() {
            Ok(Some(message)) => return Ok(Some(message)),
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        let buffer = decoder.buffer();
        let have = buffer.len();
        buffer.resize(have + READ_BYTES, 0);
        let count = loop {
            match from.read(&mut buffer[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        buffer.truncate(have + *count.as_ref().unwrap_or(&0));
        match (count?, have) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}
