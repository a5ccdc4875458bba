//! Closed sets of reasons. One string each is metric label, log field and wire value.

use serde::{Deserialize, Serialize};

/// Whose fault an error is, so that an alert reaches the right person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the publisher sent or asked for.
    Publisher,
    /// One of our programs or hosts.
    Farm,
    /// Something the farm leans on: etcd, a driver, the network.
    Upstream,
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Metric label, log field and wire value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The reason with that wire value, `None` for one of a newer version.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
            }
        }
    };
}

pub(crate) use reasons;

reasons!(
    /// Why a publisher or a stream was refused.
    RefusalReason {
        /// The stream key is unknown, malformed or revoked.
        BadKey = "bad_key",
        /// The RTMP application is not `live`.
        BadApp = "bad_app",
        /// A newer publisher of the same key has taken over.
        TakenOver = "taken_over",
        /// Too many takeovers of one key within a minute.
        TakeoverLimit = "takeover_limit",
        /// Video that is not H.264.
        VideoCodec = "video_codec",
        /// Audio that is not AAC.
        AudioCodec = "audio_codec",
        /// Codec headers or frames that cannot be read.
        Undecodable = "undecodable",
        /// Timestamps that do not advance while frames come.
        Timestamps = "timestamps",
        /// Width, height or frame rate above the limit.
        SourceLimit = "source_limit",
        /// Sustained bitrate above the limit.
        BitrateLimit = "bitrate_limit",
        /// A chunk or message above its size limit, or a breach of RTMP.
        Protocol = "protocol",
        /// Too many connections from one address, or in all.
        ConnectionLimit = "connection_limit",
        /// No publish, or no media, within the time allowed.
        Timeout = "timeout",
        /// No node has the capacity, not even to pass the stream through; without capacity to encode only, it is passed through.
        NoCapacity = "no_capacity",
        /// The node takes no new work: draining, cordoned or quarantined.
        NodeUnavailable = "node_unavailable",
        /// The program is shutting down.
        ShuttingDown = "shutting_down",
        /// An epoch below the fence.
        Fenced = "fenced",
        /// The peer speaks no common protocol version.
        Version = "version",
        /// Ours: a bug, a full disk, a failed spawn.
        Internal = "internal",
    }
);

reasons!(
    /// Why a worker ended.
    EndReason {
        /// It was told to and flushed everything.
        Stopped = "stopped",
        /// No encoder could be opened.
        NoEncoder = "no_encoder",
        /// The driver's session cap or the device's memory.
        DeviceFull = "device_full",
        /// The device fell off the bus or was reset.
        DeviceLost = "device_lost",
        /// The driver is older than the oldest we support.
        DriverTooOld = "driver_too_old",
        /// The stream cannot be decoded.
        BadInput = "bad_input",
        /// It panicked or broke an invariant.
        Bug = "bug",
        /// It stopped making progress and was killed.
        Hung = "hung",
        /// It did not report ready in time.
        StartTimeout = "start_timeout",
        /// It did not flush in time.
        DrainTimeout = "drain_timeout",
        /// The kernel killed it for its memory limit.
        KilledMemory = "killed_memory",
        /// It made a system call that the sandbox forbids.
        KilledSeccomp = "killed_seccomp",
        /// Another signal killed it.
        KilledSignal = "killed_signal",
    }
);

reasons!(
    /// What came of an attempt to move a live stream to another node.
    MoveEnd {
        /// It is made there, and nothing was lost.
        Moved = "moved",
        /// No other node takes it: it stays.
        Refused = "refused",
        /// The other node's worker died or did not keep up: it stays, or is placed again.
        StandbyLost = "standby_lost",
        /// The node that made it lost it meanwhile: it is placed again.
        WriterLost = "writer_lost",
        /// No segment began where two encoders agree: it stays.
        NoCleanPoint = "no_clean_point",
        /// The node that made it did not publish all it had: it is placed again, from what is published.
        Incomplete = "incomplete",
        /// The stream ended, or another router owns it.
        Cancelled = "cancelled",
    }
);

reasons!(
    /// Why a stream has no second encoder, or none any more.
    PairEnd {
        /// No other node takes it.
        Refused = "refused",
        /// The second's node, its worker or the way there is lost, or it does not keep up.
        SecondLost = "second_lost",
        /// The first was lost before the second would do alone.
        FirstLost = "first_lost",
        /// The second's node is to be empty.
        Drained = "drained",
        /// It did not come into step with the first in time.
        NotInStep = "not_in_step",
        /// The stream is to have one encoder: neither pinned nor hot any longer, or it ends or moves.
        Unwanted = "unwanted",
    }
);

impl EndReason {
    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::BadInput => Fault::Publisher,
            Self::NoEncoder | Self::DeviceFull | Self::DeviceLost | Self::DriverTooOld => {
                Fault::Upstream
            }
            _ => Fault::Farm,
        }
    }
}

impl RefusalReason {
    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::NoCapacity
            | Self::NodeUnavailable
            | Self::ShuttingDown
            | Self::Fenced
            | Self::Version
            | Self::Internal => Fault::Farm,
            _ => Fault::Publisher,
        }
    }

    /// One sentence for the person at the encoder: what is wrong and what to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::BadKey => "stream key not accepted: copy it again from your channel",
            Self::BadApp => "publish to rtmp://HOST/live with your stream key",
            Self::TakenOver => "another encoder publishes with this key: stop one of the two",
            Self::TakeoverLimit => "two encoders fight over this key: stop one and wait a minute",
            Self::VideoCodec => "video must be H.264: choose an H.264 (x264, NVENC) encoder",
            Self::AudioCodec => "audio must be AAC: choose AAC in the encoder's audio settings",
            Self::Undecodable => "the stream's codec headers cannot be read: restart the encoder",
            Self::Timestamps => "the stream's timestamps stand still: restart the encoder",
            Self::SourceLimit => "resolution or frame rate is above this farm's limit",
            Self::BitrateLimit => "bitrate is above this channel's limit: lower it in the encoder",
            Self::Protocol => "the connection broke the rules of RTMP: restart the encoder",
            Self::ConnectionLimit => "too many connections from your address: close some",
            Self::Timeout => "nothing was published in time: start the encoder again",
            Self::NoCapacity => "the farm is full: try again in a few minutes",
            Self::NodeUnavailable | Self::ShuttingDown => "maintenance: connect again",
            Self::Fenced | Self::Version | Self::Internal => {
                "an error on our side: connect again, and tell the operator if it stays"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_from_its_wire_value() {
        for &reason in RefusalReason::ALL {
            assert_eq!(RefusalReason::parse(reason.as_str()), Some(reason));
        }
        for &reason in EndReason::ALL {
            assert_eq!(EndReason::parse(reason.as_str()), Some(reason));
        }
    }
}
