//! What every program needs to be seen: logs, metrics, its decision log, health pages, words to the supervisor; and the only place
//! that reads the real clocks, by which it also beats.

mod address;
mod admin;
mod build;
mod clock;
mod connection_limit;
mod decisions;
mod in_force;
mod line_limit;
mod listen;
mod log_lines;
mod logs;
mod metrics;
mod open_files;
mod program;
mod readiness;
mod relay_threads;
mod settings_file;
mod signals;
mod spare_memory;
mod supervisor;
mod whole_file;

pub use address::{reachable, reached_at, reached_from_here_only};
pub use admin::{Insider, admin_routes};
pub use build::{COMMIT, VERSION, version_line};
pub use clock::{Clock, SystemClock};
pub use connection_limit::{ConnectionLimit, Place};
pub use decisions::{DecisionLog, DecisionPage, DecisionQuery, Moment, Recorded, decision_routes};
pub use in_force::InForce;
pub use line_limit::LineLimit;
pub use listen::{ListenError, apart, listen, listen_address, why_not};
pub use logs::{
    LogFilter, LogFormat, LogThread, LogsError, init_few_logs, init_logs, set_log_filter,
};
pub use metrics::Metrics;
pub use open_files::{files_for_pages, files_for_players, files_for_publishers, raise_open_files};
pub use program::{Program, ProgramArguments, ReadyFileError, reloaded};
pub use prometheus;
pub use readiness::Readiness;
pub use relay_threads::{Hurry, RelayThreads};
pub use settings_file::{SettingsError, SettingsFile, read_text, said, sifted, within};
pub use signals::{Signals, Told};
pub use spare_memory::give_back_spare_memory;
pub use supervisor::Supervisor;
pub use whole_file::{try_whole, write_line, write_whole};
