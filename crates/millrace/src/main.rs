//! `millrace`: the operator's tools, and `millrace standalone`, the whole farm in one process.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or something missing that a person must provide.

mod arguments;
mod channels_file;
#[cfg(test)]
mod commands_page;
mod config_command;
mod demo;
mod doctor;
mod live;
mod orders;
mod prerequisite;
mod ready_file;
mod reload;
mod settings;
mod signals;
mod standalone;
mod state_dir;
mod table;
mod urls;
mod welcome;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    arguments::{Arguments, Command},
    prerequisite::Prerequisite,
};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Standalone(arguments) => standalone::run(&arguments).await,
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Streams(arguments) => live::streams(&arguments).await,
        Command::Nodes(arguments) => live::nodes(&arguments).await,
        Command::Drain(arguments) => orders::drain(&arguments).await,
        Command::Cordon(arguments) => orders::cordon(&arguments).await,
        Command::Uncordon(arguments) => orders::uncordon(&arguments).await,
        Command::Config(arguments) => config_command::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("millrace: {error:#}");
        match error.downcast_ref::<Prerequisite>() {
            Some(_) => ExitCode::from(2),
            None => ExitCode::FAILURE,
        }
    })
}
