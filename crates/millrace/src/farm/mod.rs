//! `millrace farm`: a small farm of all programs on one machine, and what can be done to it while it runs.

mod cuts;
mod folder;
mod place;
mod plan;
mod up;
mod welcome;

use std::process::ExitCode;

use crate::arguments::FarmCommand;

/// Does what is asked for.
///
/// # Errors
/// What [`up::run`], [`cuts::cut`] and [`cuts::heal`] say.
pub async fn run(command: &FarmCommand) -> anyhow::Result<ExitCode> {
    match command {
        FarmCommand::Up(arguments) => up::run(arguments).await,
        FarmCommand::Cut(arguments) => cuts::cut(arguments),
        FarmCommand::Heal(arguments) => cuts::heal(arguments),
    }
}
