//! Certificates: of public TLS listeners, replaced while connections are open; and of the farm's own programs, which know
//! each other by them ([`FarmTls`]).

mod admin;
mod certificate;
mod config;
mod connector;
mod farm;
mod http;
mod identity;
mod listener;
mod metrics;
mod pages;
mod public;
mod refusal;
mod secured;
mod session;
mod socket;
mod stream;
mod verifier;

pub use admin::serve_admin;
pub use certificate::{Certificate, TlsError};
pub use config::{FarmTlsConfig, TlsConfig};
pub use connector::{FarmConnector, http_client};
pub use farm::{FarmTls, check_authorities, connect};
pub use http::serve_http;
pub use identity::{Expected, Identity, IdentityError, Role};
pub use listener::{Admit, FarmListener, Gate, Peer};
pub use pages::serve_pages;
pub use public::{NotTls, PublicGate, WebConnector};
pub use refusal::PeerRefusal;
pub use secured::Secured;
pub use socket::Socket;
pub use stream::{FarmReader, FarmStream, FarmWriter};
