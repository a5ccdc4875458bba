//! What every program needs to be seen: logs, metrics, health pages, words to the supervisor, and the only place that reads the real clocks.

mod admin;
mod build;
mod clock;
mod line_limit;
mod logs;
mod metrics;
mod supervisor;

pub use admin::{Readiness, admin_routes};
pub use build::{COMMIT, VERSION, version_line};
pub use clock::{Clock, SystemClock};
pub use line_limit::LineLimit;
pub use logs::{LogFormat, LogsError, init_logs, set_log_filter};
pub use metrics::Metrics;
pub use prometheus;
pub use supervisor::Supervisor;
