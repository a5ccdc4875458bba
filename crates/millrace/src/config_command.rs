//! `millrace config check|show`: whether a file can be used, and what holds with it.

use std::{path::Path, process::ExitCode};

use clap::ValueEnum as _;
use millrace_registry::{OwnSettings, ProgramSettings};
use millrace_telemetry::{LogFormat, SettingsError, SettingsFile, init_logs};
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
        ConfigCommand::Check(wanted) => {
            // What a program would write into its log at start, such as that a certificate expires soon.
            let _ = init_logs(&"warn".parse()?, LogFormat::Text);
            crate::output::say(format_args!("{}", check(wanted)?));
        }
        ConfigCommand::Show(file) => {
            let mut settings = Settings::load(file.config.as_deref())?;
            settings.place(&StateDir::of_user(None));
            crate::output::print(format_args!("{}", shown(&settings)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the file as its program would, and all that it names.
fn check(wanted: &CheckArguments) -> Result<String, Prerequisite> {
    let file = wanted.file.as_deref().or(wanted.config.as_deref());
    let by_name = file.and_then(Path::file_stem).and_then(|stem| stem.to_str());
    let by_name = by_name.and_then(|name| Program::from_str(name, false).ok());
    let program = wanted.program.or(by_name).unwrap_or(Program::Standalone);
    let Some(path) = file.filter(|_| program != Program::Standalone) else {
        let mut settings = Settings::load(file)?;
        settings.place(&StateDir::of_user(None));
        let Some(path) = settings.file().map(Path::to_path_buf) else {
            settings.check()?;
            return Ok("no file: the defaults hold".to_owned());
        };
        let named = |error| Prerequisite(format!("{}: {error}", path.display()));
        return settings.check().map(|()| format!("{}: ok", path.display())).map_err(named);
    };
    let checked = match program {
        Program::Standalone => Ok(()),
        Program::Router => checked::<millrace_router::Config>(path),
        Program::Node => checked::<millrace_node::Config>(path),
        Program::Origin => checked::<millrace_origin::Config>(path),
        Program::Api => checked::<millrace_api::Config>(path),
    };
    checked.map_err(|error| Prerequisite(error.to_string()))?;
    Ok(format!("{}: ok", path.display()))
}

fn checked<C: OwnSettings>(path: &Path) -> Result<(), SettingsError> {
    let settings = ProgramSettings::<C>::read(SettingsFile::read(Some(path), "")?)?;
    settings.check().map_err(|error| SettingsError::of(format_args!("{}: {error}", path.display())))
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
            // The workers' programs lie beside a program, not beside its tests.
            match checked(name, shipped) {
                Ok(said) => assert!(said.ends_with("ok"), "{said}"),
                Err(error) => assert!(error.to_string().contains("worker_dir: "), "{error}"),
            }
        }
        let wrong = |text: &str| checked("router.toml", text).unwrap_err().to_string();
        assert!(wrong("[registry]\nendpoint = []").contains("endpoint"));
        assert!(wrong("[registry]\nendpoints = ['etcd-1']").contains("etcd-1"));
        assert!(wrong("listen = 1").contains("listen"));
    }

    #[test]
    fn what_a_program_would_refuse_at_its_start_is_found_before() {
        let registry = "[registry]\nendpoints = ['http://127.0.0.1:1']\n";
        let missing = "{ certificate = '/nowhere/a.pem', key = '/nowhere/a.key' }";
        let farm =
            "{ ca = '/nowhere/ca.pem', certificate = '/nowhere/b.pem', key = '/nowhere/b.key' }";
        let long = format!("run_dir = '/{}'", "x".repeat(100));
        let of_registry = "\nca = '/nowhere/ca.pem'\n";
        for (program, text, found) in [
            ("router", "log = 'a=b=c['".to_owned(), "log filter \"a=b=c[\""),
            ("node", "log = 'verbose'".to_owned(), "\"verbose\" is no level"),
            ("router", format!("tls = {missing}"), "tls: /nowhere/a.pem: "),
            ("origin", format!("tls = {missing}"), "tls: /nowhere/a.pem: "),
            ("api", format!("tls = {missing}"), "tls: /nowhere/a.pem: "),
            ("node", format!("farm_tls = {farm}"), "farm_tls: /nowhere/ca.pem: "),
            ("api", "tokens = '/nowhere/tokens'".to_owned(), "tokens: /nowhere/tokens: "),
            (
                "node",
                "worker_dir = '/nowhere'".to_owned(),
                "worker_dir: /nowhere/millrace-worker is",
            ),
            ("node", long, "101 bytes are too long for a directory of sockets"),
            ("node", "listen_link = '0.0.0.0:7001'".to_owned(), "listen_link 0.0.0.0:7001 is not"),
            ("origin", "listen_intake = '0.0.0.0:1'".to_owned(), "listen_intake 0.0.0.0:1 is not"),
            ("api", "listen_admin = '127.0.0.1:8090'".to_owned(), "the same address"),
            ("origin", "max_connections = 0".to_owned(), "max_connections = 0: give 1"),
        ] {
            let file = format!("{program}.toml");
            let own = checked(&file, &format!("{text}\n{registry}")).unwrap_err().to_string();
            assert!(own.contains(&file) && own.contains(found), "{own}");
            let text = match text.strip_prefix("log") {
                Some(_) => text,
                None => format!("[{program}]\n{text}"),
            };
            let all = checked("standalone.toml", &text).unwrap_err().to_string();
            // Standalone has no use for a certificate of the farm, whatever it is.
            let found = if text.contains("farm_tls") { "farm_tls" } else { found };
            assert!(all.contains("standalone.toml") && all.contains(found), "{all}");
        }
        let registry = registry.replace("http", "https") + of_registry;
        let error = checked("router.toml", &registry).unwrap_err().to_string();
        assert!(error.contains("registry: /nowhere/ca.pem: "), "{error}");
    }

    #[test]
    fn every_value_is_shown_with_its_source() {
        let text = shown(&Settings::default());
        assert!(text.contains("default  router.listen_rtmp = \"0.0.0.0:1935\"\n"), "{text}");
        assert!(text.contains("default  api.token = not set\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("default")), "{text}");
    }
}
