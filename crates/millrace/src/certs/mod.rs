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

use std::{io, net::IpAddr, path::Path, process::ExitCode};

use millrace_tls::Identity;

use crate::prerequisite::Prerequisite;

pub use arguments::CertsArguments;
use arguments::{CertsCommand, IssueArguments};

/// A farm that is started to try it out has ended long before.
const DAYS: u32 = 365;

/// Does what is asked for.
///
/// # Errors
/// A file that is there already, is missing or cannot be used; a [`crate::Prerequisite`] where a person must decide.
pub fn run(arguments: &CertsArguments) -> anyhow::Result<ExitCode> {
    let done = match &arguments.command {
        CertsCommand::Init(wanted) => authority::init(wanted),
        CertsCommand::Issue(wanted) => issue::issue(wanted),
        CertsCommand::Show(wanted) => show::show(wanted),
        CertsCommand::Rights(wanted) => rights::print(wanted),
    };
    done.map_err(of_a_person)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an authority in a folder that has none, and a certificate for each program, at its address.
///
/// # Errors
/// A file is there already or cannot be written.
pub fn of_farm(dir: &Path, programs: Vec<(Identity, IpAddr)>) -> anyhow::Result<()> {
    authority::create(dir, "small farm", DAYS)?;
    for (Identity { role, name }, address) in programs {
        let addresses = vec![address.to_string()];
        let dir = dir.to_owned();
        issue::write(&IssueArguments { role, name, addresses, days: DAYS, renew: false, dir })?;
    }
    Ok(())
}

/// All that can go wrong here lies in the files and folders that a person named, but for the disk under them.
fn of_a_person(error: anyhow::Error) -> anyhow::Error {
    let of_disk = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    };
    match error.chain().any(|cause| cause.downcast_ref().is_some_and(of_disk)) {
        true => error,
        false => Prerequisite(format!("{error:#}")).into(),
    }
}
