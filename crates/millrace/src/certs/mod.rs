//! `millrace certs`: a farm's own authority and the certificates by which its programs, etcd and people know each other.
//!
//! The authority is files in one folder, for whoever has no other. What it signs, any authority can: a certificate counts by
//! its signature and its common name, `role/name`.

mod arguments;
mod authority;
mod files;
mod issue;
mod rights;
mod show;

use std::process::ExitCode;

pub use arguments::CertsArguments;
use arguments::CertsCommand;

/// Does what is asked for.
///
/// # Errors
/// A file that is there already, is missing or cannot be used; a [`crate::Prerequisite`] where a person must decide.
pub fn run(arguments: &CertsArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        CertsCommand::Init(wanted) => authority::init(wanted)?,
        CertsCommand::Issue(wanted) => issue::issue(wanted)?,
        CertsCommand::Show(wanted) => show::show(wanted)?,
        CertsCommand::Rights(wanted) => rights::print(wanted)?,
    }
    Ok(ExitCode::SUCCESS)
}
