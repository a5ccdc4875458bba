//! `millrace config check|show`: whether a file can be used, and what holds with it.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::{
    arguments::{ConfigArguments, ConfigCommand},
    settings::Settings,
    state_dir::StateDir,
};

/// Checks or shows.
///
/// # Errors
/// A [`crate::Prerequisite`] that names what is wrong with the file.
pub fn run(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        ConfigCommand::Check(file) => {
            let settings = Settings::load(file.config.as_deref())?;
            match settings.file() {
                Some(path) => println!("{}: ok", path.display()),
                None => println!("no file: the defaults hold"),
            }
        }
        ConfigCommand::Show(file) => {
            let mut settings = Settings::load(file.config.as_deref())?;
            settings.place(&StateDir::of_user(None));
            print!("{}", shown(&settings));
        }
    }
    Ok(ExitCode::SUCCESS)
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

    #[test]
    fn every_value_is_shown_with_its_source() {
        let text = shown(&Settings::default());
        assert!(text.contains("default  router.listen_rtmp = \"0.0.0.0:1935\"\n"), "{text}");
        assert!(text.contains("default  api.token = not set\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("default")), "{text}");
    }
}
