//! The API of a farm: what is live and why, channels and their stream keys, the operators' console.
//!
//! It decides nothing about streams: it asks the routers and nodes that the registry names and puts their words together.
//! Nothing live notices when it is gone.

mod access;
mod assets;
mod backup;
mod channels;
mod config;
mod decisions;
mod farm;
mod faults;
mod http_client;
mod metrics;
mod moves;
mod orders;
mod problem;
mod reports;
mod routes;
mod run;
mod stream_keys;
mod tokens;

pub use access::{Token, TokenError};
pub use channels::MAX_OVERLAP;
pub use config::Config;
pub use farm::reachable;
pub use http_client::{Ask, FetchError, HttpClient};
pub use run::{Addresses, Api, StartError, start};
pub use stream_keys::new_stream_key;
pub use tokens::{Role, TokenFile, TokensError};
