//! `millrace config check|show`: whether a file can be used, and what holds with it.

use std::{path::Path, process::ExitCode};

use clap::ValueEnum as _;
use millrace_registry::RegistryConfig;
use millrace_telemetry::{LogFilter, SettingsError, SettingsFile};
use serde_json::{Value, json};

use crate::{
    arguments::{CheckArguments, ConfigArguments, ConfigCommand, Program},
    prerequisite::Prerequisite,
    settings::Settings,
    state_dir::StateDir,
};

/// Checks or shows.
///
/// # Errors
/// A [`crate::Prerequisite`] that names what is wrong with the file.
pub fn run(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        ConfigCommand::Check(wanted) => crate::output::say(format_args!("{}", check(wanted)?)),
        ConfigCommand::Show(file) => {
            let mut settings = Settings::load(file.config.as_deref())?;
            settings.place(&StateDir::of_user(None));
            crate::output::print(format_args!("{}", shown(&settings)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the file as its program would.
fn check(wanted: &CheckArguments) -> Result<String, Prerequisite> {
    let file = wanted.file.as_deref().or(wanted.config.as_deref());
    let by_name = file.and_then(Path::file_stem).and_then(|stem| stem.to_str());
    let by_name = by_name.and_then(|name| Program::from_str(name, false).ok());
    let program = wanted.program.or(by_name).unwrap_or(Program::Standalone);
    let Some(path) = file.filter(|_| program != Program::Standalone) else {
        let settings = Settings::load(file)?;
        return Ok(match settings.file() {
            Some(path) => format!("{}: ok", path.display()),
            None => "no file: the defaults hold".to_owned(),
        });
    };
    let wrong = |error: SettingsError| Prerequisite(error.to_string());
    let mut settings = SettingsFile::read(Some(path), "").map_err(wrong)?;
    let LogFilter(_) = settings.section("log").map_err(wrong)?;
    let mut registry: RegistryConfig = settings.section("registry").map_err(wrong)?;
    let farm_tls = match program {
        Program::Standalone => Ok(None),
        Program::Router => settings.rest().map(|own: millrace_router::Config| own.farm_tls),
        Program::Node => settings.rest().map(|own: millrace_node::Config| own.farm_tls),
        Program::Origin => settings.rest().map(|own: millrace_origin::Config| own.farm_tls),
        Program::Api => settings.rest().map(|own: millrace_api::Config| own.farm_tls),
    };
    if let Some(farm) = farm_tls.map_err(wrong)? {
        registry.identify(&farm.ca, &farm.certificate, &farm.key);
    }
    match registry.check() {
        Err(error) => Err(Prerequisite(format!("{}: {error}", path.display()))),
        Ok(()) => Ok(format!("{}: ok", path.display())),
    }
}

/// One line per value: `default  router.listen_rtmp = "0.0.0.0:1935"`.
fn shown(settings: &Settings) -> String {
    let mut values = Vec::new();
    flatten("", &json!(settings.sections), &mut values);
    let line =
        |(key, value): &(String, String)| format!("{:<7}  {key} = {value}\n", settings.source(key));
    values.iter().map(line).collect()
}

fn flatten(key: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if key.is_empty() { "" } else { "." };
                flatten(&format!("{key}{dot}{name}"), value, into);
            }
        }
        Value::Null => into.push((key.to_owned(), "not set".to_owned())),
        value => into.push((key.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, text: &str) -> Result<String, Prerequisite> {
        let path = std::env::temp_dir().join(format!("millrace-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let program = Program::from_str(name.split_once('.').unwrap().0, false).unwrap();
        let wanted =
            CheckArguments { file: Some(path.clone()), config: None, program: Some(program) };
        let said = check(&wanted);
        std::fs::remove_file(&path).unwrap();
        said
    }

    #[test]
    fn each_programs_file_is_read_with_its_registry_as_the_program_would() {
        for (name, shipped) in [
            ("router.toml", include_str!("../config/router.toml")),
            ("node.toml", include_str!("../config/node.toml")),
            ("origin.toml", include_str!("../config/origin.toml")),
            ("api.toml", include_str!("../config/api.toml")),
        ] {
            assert!(checked(name, shipped).unwrap().ends_with("ok"));
        }
        let wrong = |text: &str| checked("router.toml", text).unwrap_err().to_string();
        assert!(wrong("[registry]\nendpoint = []").contains("endpoint"));
        assert!(wrong("[registry]\nendpoints = ['etcd-1']").contains("etcd-1"));
        assert!(wrong("listen = 1").contains("listen"));
    }

    #[test]
    fn every_value_is_shown_with_its_source() {
        let text = shown(&Settings::default());
        assert!(text.contains("default  router.listen_rtmp = \"0.0.0.0:1935\"\n"), "{text}");
        assert!(text.contains("default  api.token = not set\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("default")), "{text}");
    }
}
