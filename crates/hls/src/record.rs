//! The records that say what exists: an init section, a part. Immutable once accepted; everything a playlist says follows from them.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use millrace_types::{Epoch, FrameRate, MediaTime, Msn, PartNo, RungId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes kept of a SHA-256.
const HASH_BYTES: usize = 16;

/// The first 128 bits of the SHA-256 of some media bytes. Text form: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&Sha256::digest(bytes)[..HASH_BYTES]);
        Self(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hex digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 32 lower-case hex digits, not {0:?}")]
pub struct HashError(String);

impl FromStr for Hash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| HashError(text.to_owned()))
    }
}

impl TryFrom<String> for Hash {
    type Error = HashError;
    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// An init section (EXT-X-MAP) of one rung, and what a multivariant playlist says about that rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRecord {
    /// Which rung.
    pub rung: RungId,
    /// Hash of the section's bytes, part of its URL.
    pub hash: Hash,
    /// RFC 6381 `CODECS` of this rung alone.
    pub codecs: String,
    /// Peak bits per second, packaging included: the cap of an encoder; of a publisher's own track an assumption that holds
    /// until it is measured.
    pub bandwidth_bps: u64,
    /// Bits per second of a publisher's own track, as the publisher says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_bps: Option<u64>,
    /// What the rung carries.
    pub kind: RenditionKind,
}

/// What a rung carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenditionKind {
    /// Pictures.
    Video {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Nominal.
        frame_rate: FrameRate,
        /// Encoded by us, with an IDR at every segment start: `EXT-X-INDEPENDENT-SEGMENTS` holds.
        transcoded: bool,
    },
    /// Sound.
    Audio {
        /// Channels.
        channels: u8,
    },
}

/// One part: a CMAF chunk sequence `moof mdat`, the smallest thing a player fetches. Without bytes its maker has nothing to show in that
/// time; where no part of a segment has any, the segment is a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Which rung.
    pub rung: RungId,
    /// Segment.
    pub msn: Msn,
    /// Number within the segment and rung, from 0.
    pub part: PartNo,
    /// Who made it.
    pub epoch: Epoch,
    /// Where the segment starts.
    pub segment_start: MediaTime,
    /// How many discontinuities lie before the segment.
    pub discontinuity: u64,
    /// Where the part starts.
    pub start: MediaTime,
    /// Where it ends: the next part's start.
    pub end: MediaTime,
    /// Begins with an IDR (`INDEPENDENT=YES`).
    pub independent: bool,
    /// Closes its segment.
    pub last: bool,
    /// Closes it because its maker was told to end, maybe before the segment was over: nothing to show while another encoder
    /// goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
    /// The init section it needs.
    pub init: Hash,
    /// Hash of its bytes.
    pub hash: Hash,
    /// Bytes.
    pub length: u32,
}

impl PartRecord {
    /// Duration in seconds.
    pub fn duration_seconds(&self) -> f64 {
        MediaTime(self.end - self.start).seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_and_rubbish_is_named() {
        let hash = Hash::of(b"part");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("zz".parse::<Hash>().is_err());
    }
}
