//! Cuts our answers into chunks. Always writes full headers: answers are few and short.

use super::message::kind;

/// The chunk size we announce first; no answer is longer than a few of them.
pub const CHUNK_BYTES: u32 = 4_096;
/// Protocol control messages travel on chunk stream 2 (RTMP 1.0, section 5.4).
const CONTROL_CSID: u8 = 2;
/// Where encoders expect commands.
const COMMAND_CSID: u8 = 3;

/// Collects messages into the bytes to send.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_bytes: usize,
}

impl ChunkWriter {
    pub fn new() -> Self {
        Self { chunk_bytes: 128 }
    }

    /// Announces [`CHUNK_BYTES`] and uses it from then on.
    pub fn announce_chunk_bytes(&mut self, out: &mut Vec<u8>) {
        self.control(kind::SET_CHUNK_SIZE, &CHUNK_BYTES.to_be_bytes(), out);
        self.chunk_bytes = CHUNK_BYTES as usize;
    }

    /// Appends a protocol control message.
    pub fn control(&self, kind: u8, body: &[u8], out: &mut Vec<u8>) {
        self.write(CONTROL_CSID, kind, 0, body, out);
    }

    /// Appends an AMF0 command on a message stream.
    pub fn command(&self, stream_id: u32, body: &[u8], out: &mut Vec<u8>) {
        self.write(COMMAND_CSID, kind::COMMAND_AMF0, stream_id, body, out);
    }

    fn write(&self, csid: u8, kind: u8, stream_id: u32, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[csid, 0, 0, 0]);
        out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        out.push(kind);
        out.extend_from_slice(&stream_id.to_le_bytes());
        for (at, chunk) in body.chunks(self.chunk_bytes).enumerate() {
            if at > 0 {
                out.push(0xC0 | csid);
            }
            out.extend_from_slice(chunk);
        }
    }
}
