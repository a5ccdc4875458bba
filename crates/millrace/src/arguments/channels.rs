//! `millrace channels …`, as clap reads it.

use clap::{Args, Subcommand, ValueEnum};
use millrace_types::ChannelId;

use super::FarmArguments;

/// `millrace channels …`
#[derive(Debug, Args)]
pub struct ChannelsArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ChannelsCommand,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// What to do with channels.
#[derive(Debug, Subcommand)]
pub enum ChannelsCommand {
    /// Show all channels and the beginnings of their keys' hashes.
    List,
    /// Make a channel, and print its first stream key.
    Create {
        /// Its name, also that of its stream.
        name: ChannelId,
        /// Its lane, kept and shown; this version treats all alike.
        #[arg(long, value_enum, default_value_t)]
        priority: ChannelPriority,
        /// 1 s less latency, stalls in a failover possible.
        #[arg(long)]
        low_latency: bool,
        /// Two nodes make its stream where there is capacity: one that dies costs half a second.
        #[arg(long)]
        dual: bool,
    },
    /// Change a channel; what is not named stays.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Set {
        /// Which channel.
        name: ChannelId,
        /// Whether two nodes make its stream where there is capacity; a live stream follows within a second.
        #[arg(long, value_name = "true|false", group = "what")]
        dual: Option<bool>,
        /// Whether it has 1 s less latency, stalls in a failover possible; from its next stream on.
        #[arg(long, value_name = "true|false", group = "what")]
        low_latency: Option<bool>,
        /// Its lane, kept and shown; this version treats all alike.
        #[arg(long, value_enum, group = "what")]
        priority: Option<ChannelPriority>,
    },
    /// Make a new stream key, and print it; the old ones end as the API's settings say.
    Rotate {
        /// Which channel.
        name: ChannelId,
        /// The old keys go on until they are revoked.
        #[arg(long, conflicts_with = "overlap")]
        keep_old: bool,
        /// The old keys go on for so many seconds; 0: not at all.
        #[arg(long, value_name = "SECONDS", value_parser = overlap)]
        overlap: Option<u64>,
    },
    /// End all keys of a channel, or one; whoever publishes by it is turned away.
    Revoke {
        /// Which channel.
        name: ChannelId,
        /// Only this key, as `list` shows it.
        #[arg(long, value_name = "ID", value_parser = key_id)]
        key: Option<String>,
    },
    /// Forget a channel and its keys.
    Delete {
        /// Which channel.
        name: ChannelId,
    },
}

/// Which lane a channel's streams go by. Kept and shown; this version treats all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ChannelPriority {
    /// Matters least.
    Small,
    /// The usual.
    #[default]
    Standard,
    /// Matters most.
    Partner,
}

impl ChannelPriority {
    /// As the API calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Standard => "standard",
            Self::Partner => "partner",
        }
    }
}

/// For how long old keys may go on.
fn overlap(text: &str) -> Result<u64, String> {
    let most = millrace_api::MAX_OVERLAP.as_secs();
    let seconds = text.parse().ok().filter(|seconds| *seconds <= most);
    seconds.ok_or_else(|| {
        format!(
            "give 0 to {most} seconds, a year; --keep-old keeps the old keys until they are revoked"
        )
    })
}

/// The beginning of a key's hash.
fn key_id(text: &str) -> Result<String, &'static str> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("give the id that `millrace channels list` shows under KEYS, never the key"),
    }
}
