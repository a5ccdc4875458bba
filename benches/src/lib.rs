//! What the benchmarks share: a paired series, a report for people and machines, what a process used, and the
//! peers we are compared with. Each program in `src/bin` asks one question and names the line of
//! docs/SPECIFICATION.md that it watches; recorded answers are in docs/benchmarks.md.

mod arguments;
mod ffmpeg;
mod hard_source;
mod http;
mod judge;
mod nginx;
mod origin;
mod relay_farm;
mod report;
mod scrape;
mod series;
mod standalone;
mod usage;
mod worker;

pub use arguments::Common;
pub use ffmpeg::{ENCODED, copy_command, ladder_command, run};
pub use hard_source::HardSource;
pub use http::{Answer, Connection};
pub use judge::Judge;
pub use nginx::Nginx;
pub use origin::{Feed, Origin, RUNG, STREAM};
pub use relay_farm::RelayFarm;
pub use report::{Report, Row};
pub use scrape::Scrape;
pub use series::Series;
pub use standalone::{Ready, Standalone};
pub use usage::{
    Usage, children_cpu_seconds, last_core, load_average, own_cpu_seconds, own_program,
    sibling_program, stay_off,
};
pub use worker::{Rungs, Worker, collect, start_order};
