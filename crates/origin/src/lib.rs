//! The origin: takes records and media from nodes, keeps a window of each stream, serves it as Low-Latency HLS.
//!
//! What exists and what a playlist says is decided in `millrace-hls`; here are the listeners and the waiting.

mod answer;
mod audience;
mod awake;
mod body;
mod config;
mod http1;
mod intake;
mod kept;
mod listener;
mod metrics;
mod owners;
mod pages;
mod peer;
mod pipe;
mod places;
mod player;
mod relay;
mod rendition_text;
mod request_head;
mod route;
mod run;
mod slab;
mod status;
mod stream;
mod streams;
mod writers;

pub use config::Config;
pub use millrace_tls::{TlsConfig, TlsError};
pub use request_head::{Malformed, Request, read_request};
pub use run::{Addresses, Running, StartError, start};
