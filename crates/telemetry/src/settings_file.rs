//! A program's TOML file: one section that every program shares by name, and the rest, which is its own. Strict: whoever
//! reads a part of it says which keys there are.

use std::{
    fmt, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// The settings cannot be used: a person must change them first.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl SettingsError {
    /// Settings that a part of the program refused, in its words.
    pub fn of(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Whether a number is one that a program can work with.
///
/// # Errors
/// [`SettingsError`] that names the setting and what it may be.
pub fn within<N: PartialOrd + fmt::Display>(
    setting: &str,
    value: N,
    may_be: RangeInclusive<N>,
) -> Result<(), SettingsError> {
    match may_be.contains(&value) {
        true => Ok(()),
        false => {
            let (least, most) = may_be.into_inner();
            Err(SettingsError(format!("{setting} = {value}: give {least} to {most}")))
        }
    }
}

/// What a file says, section by section.
#[derive(Debug, Default)]
pub struct SettingsFile {
    table: toml::Table,
    path: PathBuf,
}

impl SettingsFile {
    /// Reads `given`, or `/etc/millrace/<program>.toml` if that exists; else there are no settings.
    ///
    /// # Errors
    /// [`SettingsError`] for a file that cannot be read or is no TOML; it names the line.
    pub fn read(given: Option<&Path>, program: &str) -> Result<Self, SettingsError> {
        let usual = PathBuf::from(format!("/etc/millrace/{program}.toml"));
        let usual = Some(usual.as_path()).filter(|path| path.exists());
        let Some(path) = given.or(usual) else { return Ok(Self::default()) };
        let text = fs::read_to_string(path).map_err(|error| wrong(path, &error))?;
        let table = toml::from_str(&text).map_err(|error| wrong(path, &error))?;
        Ok(Self { table, path: path.to_path_buf() })
    }

    /// The same error with the file's name before it, where a file was read.
    pub fn named(&self, error: SettingsError) -> SettingsError {
        match self.path.as_os_str().is_empty() {
            true => error,
            false => wrong(&self.path, &error),
        }
    }

    /// Takes the section of that name out; its defaults when there is none.
    ///
    /// # Errors
    /// [`SettingsError`] for an unknown key or a value that cannot be.
    pub fn section<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
    ) -> Result<T, SettingsError> {
        match self.table.remove(name) {
            Some(value) => {
                let shown = if value.is_table() { format!("[{name}]") } else { name.to_owned() };
                value.try_into().map_err(|error: toml::de::Error| {
                    wrong(&self.path, &format_args!("{shown}: {}", error.to_string().trim_end()))
                })
            }
            None => Ok(T::default()),
        }
    }

    /// Everything that no section has taken.
    ///
    /// # Errors
    /// As [`Self::section`].
    pub fn rest<T: DeserializeOwned>(&mut self) -> Result<T, SettingsError> {
        let wrong = |error: toml::de::Error| wrong(&self.path, &error.to_string().trim_end());
        std::mem::take(&mut self.table).try_into().map_err(wrong)
    }
}

fn wrong(path: &Path, why: &dyn fmt::Display) -> SettingsError {
    SettingsError(format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        name: String,
    }

    fn file(text: &str) -> SettingsFile {
        SettingsFile { table: toml::from_str(text).unwrap(), path: "node.toml".into() }
    }

    #[test]
    fn a_section_is_read_apart_and_what_nobody_knows_is_an_error_that_names_it() {
        let mut good = file("name = 'a'\n[registry]\nname = 'b'");
        assert_eq!(good.section::<Own>("registry").unwrap().name, "b");
        assert_eq!(good.rest::<Own>().unwrap().name, "a");
        let error = file("nmae = 'a'").rest::<Own>().unwrap_err().to_string();
        assert!(error.contains("nmae") && error.contains("node.toml"), "{error}");
        assert!(file("[registry]\nx = 1").section::<Own>("registry").is_err());
        assert_eq!(file("").section::<Own>("registry").unwrap(), Own::default());
    }
}
