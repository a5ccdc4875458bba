//! The server's half of the simple RTMP handshake (RTMP 1.0, section 5.2).
//!
//! Holds at most one packet of 1,536 bytes. C2 is read and not compared: encoders exist that echo nothing.

/// Bytes of C1, C2, S1 and S2.
const PACKET_BYTES: usize = 1_536;
/// The only version in use; 6 would be the encrypted variant that no encoder needs.
const VERSION: u8 = 3;

/// The first byte is not RTMP's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("rtmp version {0}, not 3")]
pub struct HandshakeError(u8);

#[derive(Debug)]
enum State {
    Version,
    C1,
    C2,
    Done,
}

/// Reads C0, C1, C2 and answers S0, S1, S2.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    packet: Vec<u8>,
}

impl Handshake {
    pub fn new() -> Self {
        Self { state: State::Version, packet: Vec::new() }
    }

    /// Whether C2 has been read whole.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes what belongs to the handshake off `input`; returns what must be sent.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, HandshakeError> {
        let mut answer = None;
        while !input.is_empty() {
            match self.state {
                State::Version => {
                    let version = input[0];
                    *input = &input[1..];
                    if version != VERSION {
                        return Err(HandshakeError(version));
                    }
                    self.state = State::C1;
                }
                State::C1 => {
                    if self.fill(input) {
                        answer = Some(answer_to(&self.packet));
                        self.packet.clear();
                        self.state = State::C2;
                    }
                }
                State::C2 => {
                    if self.fill(input) {
                        self.packet = Vec::new();
                        self.state = State::Done;
                    }
                }
                State::Done => break,
            }
        }
        Ok(answer)
    }

    /// Moves bytes from `input` until a packet is whole.
    fn fill(&mut self, input: &mut &[u8]) -> bool {
        let taken = input.len().min(PACKET_BYTES - self.packet.len());
        self.packet.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.packet.len() == PACKET_BYTES
    }
}

/// S0, S1 and S2, the latter an echo of C1. The bytes that the specification wants random only have to
/// differ from other connections' for peers that look for loops; they protect nothing.
fn answer_to(c1: &[u8]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(1 + 2 * PACKET_BYTES);
    answer.push(VERSION);
    answer.extend_from_slice(&[0; 8]);
    answer.extend(c1[8..].iter().map(|byte| byte.wrapping_mul(167).wrapping_add(13)));
    answer.extend_from_slice(c1);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_ends_after_c2_and_leaves_what_follows() {
        let mut sent = vec![VERSION];
        sent.extend((0..2 * PACKET_BYTES).map(|at| at as u8));
        sent.extend_from_slice(b"chunk");
        let (mut handshake, mut rest, mut answer) = (Handshake::new(), &sent[..], Vec::new());
        while !handshake.is_done() {
            let mut piece = &rest[..rest.len().min(100)];
            let before = piece.len();
            answer.extend(handshake.read(&mut piece).unwrap().unwrap_or_default());
            rest = &rest[before - piece.len()..];
        }
        assert_eq!(rest, b"chunk");
        assert_eq!(answer.len(), 1 + 2 * PACKET_BYTES);
        assert_eq!(answer[1 + PACKET_BYTES..], sent[1..=PACKET_BYTES]);
    }

    #[test]
    fn a_web_browser_or_a_tls_client_is_told_apart_by_its_first_byte() {
        for first in [b'G', 0x16, 6] {
            assert_eq!(Handshake::new().read(&mut &[first][..]), Err(HandshakeError(first)));
        }
    }
}
