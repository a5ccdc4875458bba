//! A player's HTTP/1.1 request from hostile bytes, as the origin reads it on plain TCP: head, path, query.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_origin::read_request;

fuzz_target!(|received: &[u8]| {
    let Ok(Some(request)) = read_request(received) else { return };
    let length = request.bytes;
    assert!(length > 0 && length <= received.len(), "{length} of {}", received.len());
    let head = &received[..length];
    assert!(head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n"), "a head ends with an empty line");
    // What follows a request does not change it, and a part of it is none.
    assert_eq!(read_request(head), Ok(Some(request.clone())));
    assert!(!matches!(read_request(&head[..length - 1]), Ok(Some(_))));
    // An origin that does not have it asks another for the same, and that one would ask no differently.
    let Some(target) = request.relayed_as else { return };
    let relayed = read_request(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());
    assert_eq!(relayed.map(|again| again.and_then(|again| again.relayed_as)), Ok(Some(target)));
});
