//! Low-Latency HLS without I/O: the window of records, the playlists made of it, the blocking-reload decision.
//!
//! Knows records, never opens media. Specification: RFC 8216bis (draft-pantos-hls-rfc8216bis).
//!
//! A [`Window`] takes records from writers and answers players: [`Window::multivariant_playlist`],
//! [`Window::media_playlist`], [`Window::reload`], [`Window::part`], [`Window::segment`], [`Window::init`].
//!
//! | URL, relative to the stream | what |
//! |---|---|
//! | `index.m3u8` | multivariant playlist |
//! | `<rung>/index.m3u8` | media playlist |
//! | `<rung>/init-<hash>.mp4` | init section |
//! | `<rung>/<msn>.m4s` | segment: its parts, concatenated |
//! | `<rung>/<msn>.<part>.m4s` | part |

pub mod intake;
mod media_playlist;
mod multivariant;
mod query;
mod record;
mod reload;
mod rung;
mod segment;
mod splice;
mod window;

pub use query::{BlockUntil, Query, QueryError};
pub use record::{Hash, HashError, InitRecord, PartRecord, RenditionKind};
pub use reload::{PARK_LIMIT, Reload};
pub use rung::LISTED_SEGMENTS;
pub use window::{
    Accepted, Backlog, PartLookup, Refusal, RungStatus, StreamOpen, TARGET_DURATION, Window,
};
