//! The flags that every benchmark has.

use clap::Args;

/// How often, and for whom.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How many times each side is measured, alternating; at least 5 for a number worth recording.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}
