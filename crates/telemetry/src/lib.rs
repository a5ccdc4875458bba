//! What every program needs to be seen: logs, metrics, health pages, words to the supervisor, and the only place that reads the real clocks.

mod admin;
mod build;
mod clock;
mod logs;
mod metrics;
mod supervisor;

pub use admin::{Readiness, admin_routes};
pub use build::{COMMIT, VERSION, version_line};
pub use clock::{Clock, SystemClock};
pub use logs::{LogFormat, init_logs};
pub use metrics::Metrics;
pub use prometheus;
pub use supervisor::Supervisor;
