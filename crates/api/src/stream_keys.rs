//! Where new stream keys come from: the operating system's randomness.

use millrace_types::{ChannelId, StreamKey};

/// A new key of `channel`. It is shown once, to its owner; the registry keeps its hash.
pub fn new_stream_key(channel: ChannelId) -> StreamKey {
    StreamKey::from_random(channel, rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_alike() {
        let key = || new_stream_key("demo".parse().unwrap()).reveal();
        assert_ne!(key(), key());
    }
}
