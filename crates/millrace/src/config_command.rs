//! `millrace config check|show`: whether a file can be used, and what holds with it.

use std::{path::Path, process::ExitCode};

use clap::ValueEnum as _;
use millrace_registry::{OwnSettings, ProgramSettings};
use millrace_telemetry::{LogFormat, SettingsError, SettingsFile, init_few_logs};
use serde_json::{Value, json};

use crate::{
    arguments::{CheckArguments, ConfigArguments, ConfigCommand, Program},
    config_host,
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
            let _ = init_few_logs(&"warn".parse()?, LogFormat::Text);
            let Checked { said, notes } = check(wanted)?;
            notes.iter().for_each(|note| crate::output::note(format_args!("warning: {note}")));
            crate::output::say(format_args!("{said}"));
        }
        ConfigCommand::Show(file) => {
            let mut settings = Settings::load(file.config.as_deref())?;
            settings.place(&StateDir::of_user(None));
            crate::output::print(format_args!("{}", shown(&settings)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file by which its program would start.
struct Checked {
    said: String,
    /// What is odd on this host.
    notes: Vec<String>,
}

/// Reads the file as its program would, and all that it names.
fn check(wanted: &CheckArguments) -> Result<Checked, Prerequisite> {
    let file = wanted.file.as_deref().or(wanted.config.as_deref());
    let by_name = file.and_then(Path::file_stem).and_then(|stem| stem.to_str());
    // Also one of several on a host, such as router-1.toml.
    let by_name = by_name.and_then(|name| name.split('-').next());
    let by_name = by_name.and_then(|name| Program::from_str(name, false).ok());
    let program = wanted.program.or(by_name).unwrap_or(Program::Standalone);
    let Some(path) = file.filter(|_| program != Program::Standalone) else {
        let is_guess = wanted.program.is_none() && by_name.is_none();
        let asked = file.filter(|file| is_guess && file.is_file());
        let mut settings = Settings::load(file).map_err(|error| whose(error, asked))?;
        settings.place(&StateDir::of_user(None));
        let path = settings.file().map(Path::to_path_buf);
        let named = |error: SettingsError| match &path {
            Some(path) => Prerequisite(error.after(&format!("{}: ", path.display())).to_string()),
            None => Prerequisite(error.to_string()),
        };
        let listeners = settings.listeners();
        let mut notes = config_host::foreign(listeners.iter().map(|it| (it.key, it.address)));
        let sockets = config_host::sockets_in(&settings.sections.node.run_dir);
        let sockets = sockets.map_err(|error| SettingsError::of(error).after("node."));
        let (sockets, found) = match sockets {
            Ok(sockets) => (sockets, Ok(())),
            Err(error) => (None, Err(error)),
        };
        SettingsError::all([settings.check(), found]).map_err(named)?;
        notes.extend(sockets.map(|note| format!("node.{note}")));
        let said = path.as_ref().map(|path| format!("{}: ok", path.display()));
        let said = said.unwrap_or_else(|| "no file: the defaults hold".to_owned());
        return Ok(Checked { said, notes });
    };
    let named =
        |error: &dyn std::fmt::Display| Prerequisite(format!("{}: {error}", path.display()));
    let notes = match program {
        Program::Standalone => Vec::new(),
        Program::Router => checked::<millrace_router::Config>(path)?.1,
        Program::Node => {
            let (node, mut notes) = checked::<millrace_node::Config>(path)?;
            let sockets = config_host::sockets_in(&node.run_dir);
            notes.extend(sockets.map_err(|error| named(&error))?);
            notes
        }
        Program::Origin => checked::<millrace_origin::Config>(path)?.1,
        Program::Api => checked::<millrace_api::Config>(path)?.1,
    };
    Ok(Checked { said: format!("{}: ok", path.display()), notes })
}

/// A file whose name says nothing was taken for standalone's: it may be another program's.
fn whose(error: Prerequisite, asked: Option<&Path>) -> Prerequisite {
    let Some(stem) = asked.and_then(Path::file_stem).and_then(|stem| stem.to_str()) else {
        return error;
    };
    let names = ["router", "node", "origin", "api"];
    let likely = names.iter().find(|name| stem.starts_with(**name));
    let likely = likely.map_or_else(|| names.join("|"), |name| (*name).to_owned());
    let hint = "it was read as that of `millrace standalone`; if it is another program's, give";
    Prerequisite(format!("{error}\n{hint} --program {likely}"))
}

/// What the program reads in the file, and what is odd about its listeners on this host.
fn checked<C: OwnSettings>(path: &Path) -> Result<(C, Vec<String>), Prerequisite> {
    let read = |file| ProgramSettings::<C>::read(file);
    let settings = SettingsFile::read(Some(path), "").and_then(read);
    let settings = settings.map_err(|error| Prerequisite(error.to_string()))?;
    let named = |error: SettingsError| error.after(&format!("{}: ", path.display()));
    settings.check().map_err(|error| Prerequisite(named(error).to_string()))?;
    let mut notes = config_host::foreign(settings.own.listeners());
    notes.extend(settings.own.doubts());
    Ok((settings.own, notes))
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
        let checked = check(&wanted);
        std::fs::remove_file(&path).unwrap();
        checked.map(|Checked { said, .. }| said)
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
            ("router", "advertise = '0.0.0.0'".to_owned(), "advertise = 0.0.0.0: nobody can"),
            ("node", "advertise = '::'".to_owned(), "advertise = ::: nobody can"),
            ("origin", "advertise = '224.0.0.1'".to_owned(), "advertise = 224.0.0.1: nobody can"),
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
    fn all_mistakes_of_a_file_are_told_at_once() {
        let told = |name: &str, text: &str| {
            let error = checked(name, text).unwrap_err().to_string();
            // The workers' programs lie beside a program, not beside its tests.
            let lines = error.lines().filter(|line| !line.contains("worker_dir"));
            lines.map(|line| line.split_once(".toml: ").unwrap().1.to_owned()).collect()
        };
        let has = |told: Vec<String>, wanted: &[&str]| {
            assert!(told.len() == wanted.len(), "{told:?}");
            for (told, wanted) in told.iter().zip(wanted) {
                assert!(told.starts_with(wanted), "{told}, not {wanted}");
            }
        };
        let text = "[api]\nrotation_overlap_s = 9223372036854775807\n[origin]\nlisten_playback = '8081'\n\
            max_conections = 3\n[ruoter]\n[router]\nname = 1";
        let wanted = [
            "[api]: rotation_overlap_s = ",
            "[origin]: listen_playback: ",
            "[origin]: max_conections: ",
            "[router]: name: ",
            "ruoter: ",
        ];
        has(told("standalone.toml", text), &wanted);
        let text = "[origin]\nmax_connections = 0\nidle_end_s = 1\n[api]\nrotation_overlap_s = 9223372036854775807";
        let wanted =
            ["origin.max_connections = 0", "origin.idle_end_s = 1", "api.rotation_overlap_s"];
        has(told("standalone.toml", text), &wanted);
        let text = "nmae = 'a'\nmax_bitrate_kbps = 'x'\n[registry]\nendpoint = 1\nlease = 'x'";
        let wanted =
            ["[registry]: endpoint: ", "[registry]: lease: ", "max_bitrate_kbps: ", "nmae: "];
        has(told("router.toml", text), &wanted);
        let tls = "tls = { certificate = '/nowhere/a.pem', key = '/nowhere/a.key' }";
        has(
            told("standalone.toml", &format!("[origin]\n{tls}\n[api]\n{tls}")),
            &["origin.tls: ", "api.tls: "],
        );
    }

    #[test]
    fn a_file_of_another_program_that_its_name_does_not_tell_is_led_to_the_flag() {
        let path = std::env::temp_dir().join(format!("router_{}.toml", std::process::id()));
        let told = path.with_file_name(format!("router-{}.toml", std::process::id()));
        let registry = "[registry]\nendpoints = ['http://127.0.0.1:1']\n";
        let text = format!("name = 'router-1'\nlisten_rtmp = '192.0.2.7:1935'\n{registry}");
        std::fs::write(&path, &text).unwrap();
        std::fs::write(&told, text).unwrap();
        let named = CheckArguments { file: Some(told.clone()), config: None, program: None };
        assert!(check(&named).unwrap().said.ends_with("ok"), "one of several on a host");
        std::fs::remove_file(&told).unwrap();
        let wanted = |program| CheckArguments { file: Some(path.clone()), config: None, program };
        let error = check(&wanted(None)).map(|checked| checked.said).unwrap_err().to_string();
        let Checked { said, notes } = check(&wanted(Some(Program::Router))).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(error.ends_with("if it is another program's, give --program router"), "{error}");
        assert!(said.ends_with("ok"), "{said}");
        assert!(notes[0].starts_with("listen_rtmp 192.0.2.7:1935: this host has no"), "{notes:?}");
    }

    #[test]
    fn every_value_is_shown_with_its_source() {
        let text = shown(&Settings::default());
        assert!(text.contains("default  router.listen_rtmp = \"0.0.0.0:1935\"\n"), "{text}");
        assert!(text.contains("default  api.token = not set\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("default")), "{text}");
    }
}
