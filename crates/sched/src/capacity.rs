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
    /// The host's processors, for all that is done to a stream besides decoding, scaling and encoding.
    HostCpu,
    /// What leaves the host by its network.
    Egress,
}

impl Resource {
    /// Every dimension.
    pub const ALL: [Self; 6] =
        [Self::Decode, Self::Encode, Self::Workers, Self::Memory, Self::HostCpu, Self::Egress];

    /// Metric label and log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Encode => "encode",
            Self::Workers => "workers",
            Self::Memory => "memory",
            Self::HostCpu => "host_cpu",
            Self::Egress => "egress",
        }
    }
}

/// What a host has in all: measured, or set by its operator. A dimension that is `None` is not limited: nobody knows how much of
/// it there is, or there is no end to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Pixels per second it can decode in real time.
    pub decode_pixels_per_second: u64,
    /// Pixels per second it can encode in real time.
    pub encode_pixels_per_second: u64,
    /// Worker processes.
    pub workers: u64,
    /// Memory for workers, bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core, for all but pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_cpu_millicores: Option<u64>,
    /// Bits per second that may leave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bits_per_second: Option<u64>,
}

/// What one stream needs, or several together, in the units of [`Capacity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Pixels per second that are decoded.
    pub decode_pixels_per_second: u64,
    /// Pixels per second that are encoded.
    pub encode_pixels_per_second: u64,
    /// Worker processes.
    pub workers: u64,
    /// Memory of workers, bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core, for all but pixels.
    pub host_cpu_millicores: u64,
    /// Bits per second that leave the host.
    pub egress_bits_per_second: u64,
}

impl Demand {
    /// Nothing of anything.
    pub const ZERO: Self = Self {
        decode_pixels_per_second: 0,
        encode_pixels_per_second: 0,
        workers: 0,
        memory_bytes: 0,
        host_cpu_millicores: 0,
        egress_bits_per_second: 0,
    };

    /// The amount in one dimension.
    pub const fn amount(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Decode => self.decode_pixels_per_second,
            Resource::Encode => self.encode_pixels_per_second,
            Resource::Workers => self.workers,
            Resource::Memory => self.memory_bytes,
            Resource::HostCpu => self.host_cpu_millicores,
            Resource::Egress => self.egress_bits_per_second,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.each(|resource, amount| amount.saturating_add(other.amount(resource)))
    }

    /// What remains without `other`, never below nothing.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.each(|resource, amount| amount.saturating_sub(other.amount(resource)))
    }

    fn each(&self, change: impl Fn(Resource, u64) -> u64) -> Self {
        let of = |resource| change(resource, self.amount(resource));
        Self {
            decode_pixels_per_second: of(Resource::Decode),
            encode_pixels_per_second: of(Resource::Encode),
            workers: of(Resource::Workers),
            memory_bytes: of(Resource::Memory),
            host_cpu_millicores: of(Resource::HostCpu),
            egress_bits_per_second: of(Resource::Egress),
        }
    }
}

impl Capacity {
    /// Nothing of anything.
    pub const ZERO: Self = Self {
        decode_pixels_per_second: 0,
        encode_pixels_per_second: 0,
        workers: 0,
        memory_bytes: 0,
        host_cpu_millicores: Some(0),
        egress_bits_per_second: Some(0),
    };

    /// The amount in one dimension; `None`: it is not limited.
    pub const fn amount(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Decode => Some(self.decode_pixels_per_second),
            Resource::Encode => Some(self.encode_pixels_per_second),
            Resource::Workers => Some(self.workers),
            Resource::Memory => Some(self.memory_bytes),
            Resource::HostCpu => self.host_cpu_millicores,
            Resource::Egress => self.egress_bits_per_second,
        }
    }

    /// Whether so much fits into one dimension.
    pub fn has(&self, resource: Resource, needed: u64) -> bool {
        self.amount(resource).is_none_or(|amount| needed <= amount)
    }

    /// What both hosts have together: no limit where one has none.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let together = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
        Self {
            host_cpu_millicores: together(self.host_cpu_millicores, other.host_cpu_millicores),
            egress_bits_per_second: together(
                self.egress_bits_per_second,
                other.egress_bits_per_second,
            ),
            ..self.each(|resource, amount| {
                amount.saturating_add(other.amount(resource).unwrap_or_default())
            })
        }
    }

    /// What remains when `taken` is, never below nothing.
    #[must_use]
    pub fn minus(&self, taken: &Demand) -> Self {
        self.each(|resource, amount| amount.saturating_sub(taken.amount(resource)))
    }

    /// So many percent of each dimension, rounded down; 100 at most.
    #[must_use]
    pub fn percent(&self, percent: u8) -> Self {
        let percent = u64::from(percent.min(100));
        self.each(|_, amount| amount / 100 * percent + amount % 100 * percent / 100)
    }

    /// Changes each amount; what is not limited stays so.
    fn each(&self, change: impl Fn(Resource, u64) -> u64) -> Self {
        let limited = |resource| self.amount(resource).map(|amount| change(resource, amount));
        Self {
            decode_pixels_per_second: change(Resource::Decode, self.decode_pixels_per_second),
            encode_pixels_per_second: change(Resource::Encode, self.encode_pixels_per_second),
            workers: change(Resource::Workers, self.workers),
            memory_bytes: change(Resource::Memory, self.memory_bytes),
            host_cpu_millicores: limited(Resource::HostCpu),
            egress_bits_per_second: limited(Resource::Egress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_stays_so_whatever_is_taken_shared_or_added() {
        let open = Capacity { workers: 10, egress_bits_per_second: None, ..Capacity::ZERO };
        let one = Demand { workers: 1, egress_bits_per_second: u64::MAX, ..Demand::ZERO };
        assert!(open.has(Resource::Egress, u64::MAX) && !open.has(Resource::HostCpu, 1));
        assert_eq!(open.minus(&one), Capacity { workers: 9, ..open });
        assert_eq!(open.percent(50), Capacity { workers: 5, ..open });
        let limited = Capacity { egress_bits_per_second: Some(7), ..open };
        assert_eq!(open.plus(&limited).egress_bits_per_second, None);
        assert_eq!(limited.plus(&limited).egress_bits_per_second, Some(14));
        assert_eq!(limited.plus(&limited).workers, 20);
    }
}
