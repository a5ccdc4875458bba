//! Messages of Link and worker socket: the bytes of the frame, hexadecimal.

use std::{collections::BTreeSet, fs};

use bytes::BytesMut;
use millrace_wire::{Decoder, Message, encode};

use super::{Form, samples};
use crate::{messages::kinds, tree};

pub const FORM: Form<Message> =
    Form { file: "messages", samples: samples::every_message, write, read };

fn write(message: &Message) -> String {
    let mut bytes = BytesMut::new();
    let payload = encode(message, &mut bytes);
    bytes.extend_from_slice(&payload);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(line: &str, _like: &Message) -> Message {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    let mut decoder = Decoder::default();
    decoder.buffer().extend((0..line.len()).step_by(2).map(byte));
    let message = decoder.next_message().unwrap().unwrap();
    assert!(decoder.buffer().is_empty(), "more than one message");
    message
}

#[test]
fn the_reference_has_every_kind_of_frame_that_the_sources_know() {
    let source = fs::read_to_string(tree::root().join("crates/wire/src/codec.rs")).unwrap();
    let written = super::lines(FORM.file, super::NEWEST);
    let written: BTreeSet<&str> = written.values().map(|line| &line[2..4]).collect();
    for (kind, name) in kinds(&source) {
        assert!(written.contains(format!("{kind:02x}").as_str()), "{name} is not written down");
    }
}
