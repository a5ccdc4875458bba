//! A player's HTTP/1.1 request from hostile bytes, as the origin reads it on plain TCP: head, path, query.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_origin::request_head_bytes;

fuzz_target!(|received: &[u8]| {
    let Ok(Some(length)) = request_head_bytes(received) else { return };
    assert!(length > 0 && length <= received.len(), "{length} of {}", received.len());
    let head = &received[..length];
    assert!(head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n"), "a head ends with an empty line");
    // What follows a request does not change it, and a part of it is none.
    assert_eq!(request_head_bytes(head), Ok(Some(length)));
    assert!(!matches!(request_head_bytes(&head[..length - 1]), Ok(Some(_))));
});
