//! Aggregate messages: several FLV tags in one message (RTMP 1.0, section 7.1.6).

use bytes::{Buf, Bytes};

use super::message::Message;

/// Type, length, timestamp, stream id of a tag.
const TAG_HEADER_BYTES: usize = 11;
/// The length of the tag before, after each tag.
const BACK_POINTER_BYTES: usize = 4;
/// Most tags of one message; a flood of empty tags would cost many times its size in memory.
const MAX_TAGS: usize = 1_024;

/// The messages inside `aggregate`, their timestamps moved so that the first has the aggregate's. What does not
/// hold a whole tag, and what follows 1,024 of them, is left out.
pub fn split(aggregate: Message) -> Vec<Message> {
    let mut rest: Bytes = aggregate.body;
    let mut messages = Vec::new();
    let mut first_stamp_ms = None;
    while rest.len() >= TAG_HEADER_BYTES && messages.len() < MAX_TAGS {
        let kind = rest.get_u8();
        let length = rest.get_uint(3) as usize;
        let stamp_low = rest.get_uint(3) as u32;
        let stamp_ms = stamp_low | u32::from(rest.get_u8()) << 24;
        rest.advance(3);
        if rest.len() < length {
            break;
        }
        let first_ms = *first_stamp_ms.get_or_insert(stamp_ms);
        let timestamp_ms = aggregate.timestamp_ms.wrapping_add(stamp_ms.wrapping_sub(first_ms));
        let stream_id = aggregate.stream_id;
        messages.push(Message { kind, timestamp_ms, stream_id, body: rest.split_to(length) });
        rest.advance(BACK_POINTER_BYTES.min(rest.len()));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::message::kind;

    #[test]
    fn tags_keep_their_distance_and_a_cut_tag_is_left_out() {
        let mut body = Vec::new();
        for (kind, stamp, payload) in
            [(9_u8, 1_000_u32, "video"), (8, 1_021, "aac"), (8, 1_042, "cut")]
        {
            let stamp = stamp.to_be_bytes();
            body.extend([kind, 0, 0, payload.len() as u8, stamp[1], stamp[2], stamp[3], stamp[0]]);
            body.extend([0; 3]);
            body.extend(payload.as_bytes());
            body.extend([0; 4]);
        }
        body.truncate(body.len() - 5);
        let aggregate =
            Message { kind: kind::AGGREGATE, timestamp_ms: 50, stream_id: 1, body: body.into() };
        let parts = split(aggregate);
        let seen: Vec<_> = parts.iter().map(|m| (m.kind, m.timestamp_ms, &m.body[..])).collect();
        assert_eq!(seen, [(9, 50, &b"video"[..]), (8, 71, b"aac")]);
    }
}
