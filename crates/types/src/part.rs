//! Where a stream's output stands: media sequence numbers, part numbers, and the mark a rung has reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{MediaTime, RungId};

/// Media sequence number of a segment (RFC 8216bis 4.4.3.2). The first of a session is its UTC second; it never goes back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Msn(pub u64);

impl Msn {
    /// The following segment's number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Msn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Index of a part within its segment and rendition, from 0 (RFC 8216bis 4.4.4.9).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartNo(pub u32);

impl fmt::Display for PartNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last part of a rung that is safe, and the media time its pictures or samples end at.
///
/// A successor encodes only what is presented at or after `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which rung.
    pub rung: RungId,
    /// Segment of the last safe part.
    pub msn: Msn,
    /// Number of the last safe part within that segment.
    pub part: PartNo,
    /// Presentation time at which the last safe part ends.
    pub end: MediaTime,
    /// Whether the last safe part closed its segment.
    pub closed: bool,
}
