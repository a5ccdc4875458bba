//! The publisher's secret. Never logged: `Debug` prints `***`; only its SHA-256 is stored.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use crate::{ChannelId, IdError};

/// Characters of the secret half: 130 bits in base32.
const SECRET_CHARS: usize = 26;
/// Bytes of randomness that encode to at least [`SECRET_CHARS`] base32 characters.
const SECRET_BYTES: usize = 17;

/// The text cannot be a stream key. Holds nothing of the text, which may be a mistyped secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No `_` between channel and secret.
    #[error("a stream key has the form <channel>_<26 characters>")]
    Form,
    /// The half before the last `_` is no channel name.
    #[error(transparent)]
    Channel(#[from] IdError),
    /// The half after the last `_` is not 26 characters of base32.
    #[error("the secret of a stream key is 26 characters of a-z and 2-7")]
    Secret,
}

/// `<channel>_<26 base32 characters>`: names a channel and proves the right to publish on it.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey {
    channel: ChannelId,
    secret: Box<str>,
}

impl StreamKey {
    /// A new key for `channel` out of 17 random bytes.
    pub fn from_random(channel: ChannelId, random: [u8; SECRET_BYTES]) -> Self {
        let mut secret = BASE32_NOPAD.encode(&random).to_ascii_lowercase();
        secret.truncate(SECRET_CHARS);
        Self { channel, secret: secret.into() }
    }

    /// The channel it is a key of; not secret.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The whole key in clear, for the one place that shows it to its owner.
    pub fn reveal(&self) -> String {
        format!("{}_{}", self.channel, self.secret)
    }

    /// SHA-256 of the whole key in lower-case hex: the only form that is stored.
    pub fn hash(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.reveal()))
    }
}

impl FromStr for StreamKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (channel, secret) = text.rsplit_once('_').ok_or(KeyError::Form)?;
        let is_base32 = |c: char| matches!(c, 'a'..='z' | '2'..='7');
        if secret.len() != SECRET_CHARS || !secret.chars().all(is_base32) {
            return Err(KeyError::Secret);
        }
        Ok(Self { channel: channel.parse()?, secret: secret.into() })
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_***", self.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_reads_back_and_debug_hides_its_secret() {
        let key = StreamKey::from_random("demo_2".parse().unwrap(), [0xA5; SECRET_BYTES]);
        let text = key.reveal();
        assert_eq!(text.parse::<StreamKey>().as_ref(), Ok(&key));
        assert_eq!(text.len(), "demo_2_".len() + SECRET_CHARS);
        assert_eq!(format!("{key:?}"), "demo_2_***");
        assert_eq!(key.hash().len(), 64);
    }

    #[test]
    fn a_mistyped_key_is_refused_without_echoing_it() {
        for bad in ["", "demo", "demo_short", "demo_ABCDEFGHIJKLMNOPQRSTUVWXYZ", "_"] {
            let error = bad.parse::<StreamKey>().unwrap_err();
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }
}
