//! `millrace`: the operator's tools, and `millrace standalone`, the whole farm in one process.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or something missing that a person must provide.

mod api_client;
mod arguments;
mod backup;
mod certs;
mod channels;
mod channels_file;
#[cfg(test)]
mod commands_page;
mod config_command;
mod config_host;
mod demo;
mod doctor;
mod explain;
mod farm;
mod live;
mod moving;
mod orders;
mod output;
mod prerequisite;
mod ready_file;
mod reload;
mod settings;
mod standalone;
mod state_dir;
mod table;
mod tokens;
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
        Command::Explain(arguments) => explain::run(&arguments).await,
        Command::Farm(arguments) => farm::run(&arguments.command).await,
        Command::Channels(arguments) => channels::run(&arguments).await,
        Command::Tokens(arguments) => tokens::run(&arguments),
        Command::Backup(arguments) => backup::backup(&arguments).await,
        Command::Restore(arguments) => backup::restore(&arguments).await,
        Command::Drain(arguments) => orders::drain(&arguments).await,
        Command::Move(arguments) => moving::move_stream(&arguments).await,
        Command::Cordon(arguments) => orders::cordon(&arguments).await,
        Command::Uncordon(arguments) => orders::uncordon(&arguments).await,
        Command::Config(arguments) => config_command::run(&arguments),
        Command::Certs(arguments) => certs::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        crate::output::note(format_args!("millrace: {error:#}"));
        match error.downcast_ref::<Prerequisite>() {
            Some(_) => ExitCode::from(2),
            None => ExitCode::FAILURE,
        }
    })
}
