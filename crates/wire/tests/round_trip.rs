//! Every message survives the wire, in pieces of any size; garbage is an error, never a panic.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by failing")]

mod samples;

use bytes::BytesMut;
use millrace_types::Versions;
use millrace_wire::{Decoder, Message, MessageReader, MessageWriter, blocking, encode};
use proptest::prelude::*;

fn every_message() -> Vec<Message> {
    samples::every_message(Versions::OURS.newest).into_iter().map(|(_, message)| message).collect()
}

fn bytes_of(messages: &[Message]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        let payload = encode(message, &mut bytes);
        bytes.extend_from_slice(&payload);
    }
    bytes
}

#[test]
fn every_message_survives_the_wire_byte_by_byte() {
    let mut decoder = Decoder::default();
    let mut heard = Vec::new();
    for byte in bytes_of(&every_message()) {
        decoder.buffer().extend_from_slice(&[byte]);
        heard.extend(decoder.next_message().unwrap());
    }
    assert_eq!(heard, every_message());
}

#[test]
fn a_kind_of_a_newer_version_is_skipped() {
    let mut bytes = BytesMut::from(&[1, 200, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9][..]);
    bytes.extend_from_slice(&bytes_of(&every_message()[..1]));
    let mut decoder = Decoder::default();
    decoder.buffer().extend_from_slice(&bytes);
    assert_eq!(decoder.next_message().unwrap().as_ref(), every_message().first());
}

#[test]
fn a_field_of_a_newer_version_is_ignored_in_every_message() {
    for message in every_message() {
        let mut bytes = BytesMut::new();
        let payload = encode(&message, &mut bytes);
        // Field 1000, a text: "newer".
        bytes.extend_from_slice(b"\xc2\x3e\x05newer");
        let control_len = u32::try_from(bytes.len() - 12).unwrap();
        bytes[4..8].copy_from_slice(&control_len.to_be_bytes());
        bytes.extend_from_slice(&payload);
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&bytes);
        assert_eq!(decoder.next_message(), Ok(Some(message)));
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_before_it_is_buffered() {
    let mut decoder = Decoder::default();
    decoder.buffer().extend_from_slice(&[1, 5, 0, 0, 0, 0, 0, 1, 0xFF, 0, 0, 0]);
    let error = decoder.next_message().unwrap_err();
    assert!(error.to_string().contains("4278190080 bytes"), "{error}");
}

#[test]
fn the_blocking_and_the_async_halves_speak_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let written = runtime.block_on(async {
        let mut writer = MessageWriter::new(std::io::Cursor::new(Vec::new()));
        every_message().iter().for_each(|message| writer.push(message));
        writer.flush().await.unwrap();
        assert_eq!(writer.pending_bytes(), 0);
        bytes_of(&every_message())
    });
    let (mut from, mut decoder) = (&written[..], Decoder::default());
    let mut heard = Vec::new();
    while let Some(message) = blocking::read_message(&mut from, &mut decoder).unwrap() {
        heard.push(message);
    }
    assert_eq!(heard, every_message());
    let mut again = Vec::new();
    heard.iter().for_each(|message| blocking::write_message(&mut again, message).unwrap());
    assert_eq!(again, written);
    runtime.block_on(async {
        let mut reader = MessageReader::new(&written[..]);
        for message in every_message() {
            assert_eq!(reader.next().await.unwrap(), Some(message));
        }
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

proptest! {
    #[test]
    fn garbage_is_an_error_or_silence_never_a_panic(
        index in 0..20_usize, at in 0..200_usize, byte: u8, tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = bytes_of(&every_message()[index..=index]);
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.extend_from_slice(&tail);
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&bytes);
        while let Ok(Some(_)) = decoder.next_message() {}
    }
}
