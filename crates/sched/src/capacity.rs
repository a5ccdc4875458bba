//! What a host has and what a stream needs, as vectors in the same units.

use serde::{Deserialize, Serialize};

/// One dimension of capacity; `as_str` is the metric label and the word in a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Decoded pixels per second.
    Decode,
    /// Encoded pixels per second.
    Encode,
    /// Worker processes.
    Workers,
    /// Resident memory.
    Memory,
}

impl Resource {
    /// Every dimension.
    pub const ALL: [Self; 4] = [Self::Decode, Self::Encode, Self::Workers, Self::Memory];

    /// Metric label and log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Encode => "encode",
            Self::Workers => "workers",
            Self::Memory => "memory",
        }
    }
}

/// What a host has in all: measured, or set by its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Pixels per second it can decode in real time.
    pub decode_pixels_per_second: u64,
    /// Pixels per second it can encode in real time.
    pub encode_pixels_per_second: u64,
    /// Worker processes.
    pub workers: u64,
    /// Memory for workers, bytes.
    pub memory_bytes: u64,
}

/// What one stream needs, in the units of [`Capacity`].
pub type Demand = Capacity;

impl Capacity {
    /// Nothing of anything.
    pub const ZERO: Self = Self {
        decode_pixels_per_second: 0,
        encode_pixels_per_second: 0,
        workers: 0,
        memory_bytes: 0,
    };

    /// The amount in one dimension.
    pub const fn amount(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Decode => self.decode_pixels_per_second,
            Resource::Encode => self.encode_pixels_per_second,
            Resource::Workers => self.workers,
            Resource::Memory => self.memory_bytes,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            decode_pixels_per_second: self
                .decode_pixels_per_second
                .saturating_add(other.decode_pixels_per_second),
            encode_pixels_per_second: self
                .encode_pixels_per_second
                .saturating_add(other.encode_pixels_per_second),
            workers: self.workers.saturating_add(other.workers),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// What remains without `other`, never below nothing.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self {
            decode_pixels_per_second: self
                .decode_pixels_per_second
                .saturating_sub(other.decode_pixels_per_second),
            encode_pixels_per_second: self
                .encode_pixels_per_second
                .saturating_sub(other.encode_pixels_per_second),
            workers: self.workers.saturating_sub(other.workers),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }
}
