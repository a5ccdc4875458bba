//! A publisher's RTMP session from hostile bytes. The first byte chooses how far a well-behaved encoder gets before
//! they begin, the second in what portions they come; most inputs reach the publishing state.
//!
//! | first byte, modulo 4 | what follows |
//! |---|---|
//! | 0 | everything, from the first byte of the handshake |
//! | 1 | chunks, after a valid handshake |
//! | 2 | chunks, after a valid `publish` |
//! | 3 | messages in valid chunks, after a valid `publish`: type, timestamp, length (2), body |
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use millrace_router::ingest::{Input, Limits, MessageKind, Output, Session, StreamMetadata};
use millrace_types::Mono;

const CHUNK_BYTES: usize = 128;
const COMMAND: u8 = 20;

fuzz_target!(|data: &[u8]| {
    let [mode, portion, rest @ ..] = data else { return };
    let bytes = match mode % 4 {
        0 => rest.to_vec(),
        1 => [hello(), rest.to_vec()].concat(),
        2 => [hello(), publish(), rest.to_vec()].concat(),
        _ => [hello(), publish(), messages(rest)].concat(),
    };
    run(&bytes, usize::from(*portion) * 16 + 1);
});

/// Feeds a session, lets every publisher in, and checks what must always hold.
fn run(bytes: &[u8], portion: usize) {
    let mut session = Session::new(Mono::default(), Limits::default());
    let (mut media_bytes, mut ends) = (0, 0);
    let mut now = Mono::default();
    for piece in bytes.chunks(portion) {
        now = now + Duration::from_millis(1);
        session.handle(now, Input::Received(piece));
        while let Some(output) = session.poll() {
            match output {
                Output::PublishRequested { .. } => session.handle(now, Input::Accepted),
                Output::Media(message) => {
                    assert_eq!(ends, 0, "media after the end");
                    media_bytes += message.body.len();
                    if message.kind == MessageKind::Metadata {
                        let metadata = StreamMetadata::parse(&message.body).unwrap_or_default();
                        let rates = [metadata.video_kbps, metadata.audio_kbps];
                        assert!(rates.iter().flatten().all(|kbps| (1..=1_000_000).contains(kbps)));
                    }
                }
                Output::Ended(_) => ends += 1,
                Output::Send(_) | Output::Close => {}
            }
        }
    }
    assert!(ends <= 1, "ended {ends} times");
    assert!(media_bytes <= bytes.len(), "{media_bytes} bytes of media out of {}", bytes.len());
}

fn hello() -> Vec<u8> {
    let mut hello = vec![3];
    hello.resize(1 + 2 * 1_536, 0);
    hello
}

/// `connect` and `publish`, as chunks.
fn publish() -> Vec<u8> {
    let connect: &[u8] =
        b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live\0\0\x09";
    let publish: &[u8] = b"\x02\x00\x07publish\x00\x40\0\0\0\0\0\0\0\x05\x02\x00\x03key";
    [chunks(COMMAND, 0, connect), chunks(COMMAND, 0, publish)].concat()
}

/// Reads `data` as type, timestamp, length, body, and so on, and chunks each as an encoder would.
fn messages(mut data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, stamp, high, low, rest @ ..] = data {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (body, next) = rest.split_at(length);
        out.extend(chunks(*kind, *stamp, body));
        data = next;
    }
    out
}

fn chunks(kind: u8, stamp: u8, body: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = body.len().to_be_bytes();
    let mut out = vec![3, 0, 0, stamp, high, middle, low, kind, 1, 0, 0, 0];
    for (at, chunk) in body.chunks(CHUNK_BYTES).enumerate() {
        if at > 0 {
            out.push(0xC3);
        }
        out.extend_from_slice(chunk);
    }
    out
}
