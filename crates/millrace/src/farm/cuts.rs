//! `millrace farm cut` and `heal`: hosts of the small farm that runs are cut off from each other, and joined again.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use millrace_hosts::{Network, NetworkError, OUTSIDE};

use super::{folder, place};
use crate::{
    arguments::{FarmCutArguments, FarmHealArguments},
    output::say,
    prerequisite::Prerequisite,
};

/// Cuts.
///
/// # Errors
/// No farm runs on hosts of its own, or more than one, or none has that name.
pub fn cut(wanted: &FarmCutArguments) -> anyhow::Result<ExitCode> {
    let FarmCutArguments { host, others, one_way, .. } = wanted;
    let network = network(wanted.farm.as_deref())?;
    check(&network, host, others)?;
    if others.is_empty() {
        network.plug(host, false)?;
        say(format_args!("{host} is cut off from everybody; `millrace farm heal` ends it"));
        return Ok(ExitCode::SUCCESS);
    }
    for other in others {
        network.cut(host, other)?;
        // What this machine sends stays: its network is not the farm's.
        if !one_way && other != OUTSIDE {
            network.cut(other, host)?;
        }
    }
    let others = others.join(", ");
    match one_way {
        true => {
            say(format_args!("what {host} sends to {others} is lost; `millrace farm heal` ends it"))
        }
        false => say(format_args!("{host} is cut off from {others}; `millrace farm heal` ends it")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends cuts.
///
/// # Errors
/// As [`cut`].
pub fn heal(wanted: &FarmHealArguments) -> anyhow::Result<ExitCode> {
    let network = network(wanted.farm.as_deref())?;
    let Some(host) = &wanted.host else {
        network.heal_all()?;
        say(format_args!("all hosts reach each other"));
        return Ok(ExitCode::SUCCESS);
    };
    check(&network, host, &wanted.others)?;
    let mut others = wanted.others.clone();
    if others.is_empty() {
        network.plug(host, true)?;
        others = network.hosts().filter(|other| other != host).map(str::to_owned).collect();
        others.push(OUTSIDE.to_owned());
    }
    for other in &others {
        network.heal(host, other)?;
        if other != OUTSIDE {
            network.heal(other, host)?;
        }
    }
    say(format_args!("{host} and {} reach each other", others.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// Whether all are hosts, and no two of them the same.
fn check(network: &Network, host: &str, others: &[String]) -> Result<(), Prerequisite> {
    let known = |name: &String| match name == OUTSIDE {
        true => Ok(()),
        false => network.enter(name).map(drop),
    };
    let of_a_person = |error: NetworkError| Prerequisite(error.to_string());
    network.enter(host).map_err(of_a_person)?;
    others.iter().try_for_each(known).map_err(of_a_person)?;
    match others.iter().any(|other| other == host) {
        true => Err(Prerequisite(format!("{host} is not cut off from itself"))),
        false => Ok(()),
    }
}

/// That of the farm in a folder, or of the one that runs.
fn network(farm: Option<&Path>) -> anyhow::Result<Network> {
    let folder = match farm {
        Some(folder) => folder.to_owned(),
        None => only(folder::running(&env::temp_dir()))?,
    };
    place::read(&folder)
}

fn only(mut running: Vec<PathBuf>) -> Result<PathBuf, Prerequisite> {
    match running.pop() {
        Some(farm) if running.is_empty() => Ok(farm),
        Some(other) => {
            running.push(other);
            let named: Vec<_> = running.iter().map(|farm| farm.display().to_string()).collect();
            let farms = named.join(", ");
            Err(Prerequisite(format!("more than one farm runs here: give --farm, one of {farms}")))
        }
        None => {
            let why = "no farm of this user is found here: `millrace farm up`, as root, and this in another terminal (with --farm FOLDER where TMPDIR is another there)";
            Err(Prerequisite(why.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_the_only_farm_that_runs_is_meant() {
        let farm = |name: &str| PathBuf::from(format!("/tmp/{name}"));
        assert_eq!(only(vec![farm("a")]).unwrap(), farm("a"));
        assert!(only(Vec::new()).unwrap_err().to_string().contains("farm up"));
        let several = only(vec![farm("a"), farm("b")]).unwrap_err().to_string();
        assert!(several.contains("/tmp/a, /tmp/b"), "{several}");
    }
}
