//! Messages of a Link or a worker socket from hostile bytes; what is understood survives being written and read again.
//! The first byte chooses what follows: a stream of bytes, which comes in portions of the second byte; or frames,
//! whose lengths are right: kind, length of the control part (2), length of the payload, both.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use millrace_wire::{Decoder, Message, encode};

const FORMAT: u8 = 1;

fuzz_target!(|data: &[u8]| {
    let [mode, portion, rest @ ..] = data else { return };
    let bytes = if mode % 2 == 0 { rest.to_vec() } else { frames(rest) };
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(usize::from(*portion) * 8 + 1) {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => round_trip(&message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});

fn round_trip(message: &Message) {
    let mut decoder = Decoder::default();
    let payload = encode(message, decoder.buffer());
    decoder.buffer().extend_from_slice(&payload);
    assert_eq!(decoder.next_message().as_ref(), Ok(&Some(message.clone())));
    assert!(decoder.buffer().is_empty());
}

/// Reads `data` as kind, lengths and bodies, and so on, and frames each.
fn frames(mut data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    while let [kind, high, low, payload, rest @ ..] = data {
        let control = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let payload = usize::from(*payload).min(rest.len() - control);
        out.extend_from_slice(&[FORMAT, *kind, 0, 0]);
        out.extend_from_slice(&(control as u32).to_be_bytes());
        out.extend_from_slice(&(payload as u32).to_be_bytes());
        let (body, next) = rest.split_at(control + payload);
        out.extend_from_slice(body);
        data = next;
    }
    out.into()
}
