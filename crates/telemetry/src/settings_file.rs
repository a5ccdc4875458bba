//! A program's TOML file: one section that every program shares by name, and the rest, which is its own. Strict: whoever
//! reads a part of it says which keys there are.

use std::{
    fmt, fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::listen::EXAMPLE;

/// How serde says that a table lacks a key.
const MISSING: &str = "missing field";

/// The settings cannot be used: a person must change them first. Says each mistake, one below the other.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(Vec<String>);

impl SettingsError {
    /// Settings that a part of the program refused, in its words.
    pub fn of(why: impl fmt::Display) -> Self {
        Self(vec![why.to_string()])
    }

    /// Everything that is wrong, if anything is.
    ///
    /// # Errors
    /// All the mistakes.
    pub fn all(found: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        let mistakes: Vec<_> =
            found.into_iter().filter_map(Result::err).flat_map(|error| error.0).collect();
        if mistakes.is_empty() { Ok(()) } else { Err(Self(mistakes)) }
    }

    /// How many mistakes there are, one at least.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Each mistake with these words before it.
    #[must_use]
    pub fn after(self, words: &str) -> Self {
        Self(self.0.into_iter().map(|mistake| format!("{words}{mistake}")).collect())
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
            Err(SettingsError::of(format_args!("{setting} = {value}: give {least} to {most}")))
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
        let text = read_text(path)?;
        let table = toml::from_str(&text).map_err(|error| wrong(path, &error))?;
        Ok(Self { table, path: path.to_path_buf() })
    }

    /// The same error with the file's name before it, where a file was read.
    pub fn named(&self, error: SettingsError) -> SettingsError {
        match self.path.as_os_str().is_empty() {
            true => error,
            false => error.after(&format!("{}: ", self.path.display())),
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
                let table = match value {
                    toml::Value::Table(table) => sifted(table),
                    value => value.try_into().map_err(|error| SettingsError::of(said(&error))),
                };
                table.map_err(|error| self.named(error.after(&format!("{shown}: "))))
            }
            None => Ok(T::default()),
        }
    }

    /// Everything that no section has taken.
    ///
    /// # Errors
    /// As [`Self::section`].
    pub fn rest<T: DeserializeOwned>(&mut self) -> Result<T, SettingsError> {
        sifted(std::mem::take(&mut self.table)).map_err(|error| self.named(error))
    }
}

/// Reads a table of which each key may be missing.
///
/// # Errors
/// What is wrong with each key that cannot be read.
pub fn sifted<T: DeserializeOwned>(table: toml::Table) -> Result<T, SettingsError> {
    let whole = match table.clone().try_into() {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let mistakes: Vec<String> =
        table.iter().flat_map(|(key, value)| mistakes::<T>(&[key], value)).collect();
    Err(if mistakes.is_empty() { SettingsError::of(said(&whole)) } else { SettingsError(mistakes) })
}

/// What is wrong with the value at `path` when nothing stands beside it, of a table with each of its keys.
fn mistakes<T: DeserializeOwned>(path: &[&str], value: &toml::Value) -> Vec<String> {
    let alone = path.iter().rev().fold(value.clone(), |value, key| {
        toml::Value::Table(toml::Table::from_iter([((*key).to_owned(), value)]))
    });
    let Err(error) = alone.try_into::<T>() else { return Vec::new() };
    let deeper =
        |(key, value): (&String, &toml::Value)| mistakes::<T>(&[path, &[key]].concat(), value);
    let of_keys: Vec<_> = value.as_table().into_iter().flatten().flat_map(deeper).collect();
    // A key without the others that its table must have is no mistake of its own.
    let of_keys: Vec<_> = of_keys.into_iter().filter(|it| !it.contains(MISSING)).collect();
    match of_keys.is_empty() {
        true => vec![format!("{}: {}", path.join("."), with_example(error.message()))],
        false => of_keys,
    }
}

/// What is wrong with a file's text, and an example where the words of the standard library give none.
pub fn said(error: &toml::de::Error) -> String {
    with_example(error.to_string().trim_end())
}

fn with_example(text: &str) -> String {
    match text.contains("invalid socket address syntax") {
        true => format!("{text}: {EXAMPLE}"),
        false => text.to_owned(),
    }
}

/// The text of a file of settings.
///
/// # Errors
/// [`SettingsError`] that names the file and says what to do.
pub fn read_text(path: &Path) -> Result<String, SettingsError> {
    fs::read_to_string(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
            _ => error.to_string(),
        };
        wrong(path, &format_args!("{why}: mend it, or give another with --config"))
    })
}

fn wrong(path: &Path, why: &dyn fmt::Display) -> SettingsError {
    SettingsError::of(format_args!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        name: String,
        listen: std::net::SocketAddr,
    }

    impl Default for Own {
        fn default() -> Self {
            Self { name: String::new(), listen: ([127, 0, 0, 1], 1).into() }
        }
    }

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        own: Own,
        pair: Option<Pair>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        certificate: String,
        key: String,
    }

    #[test]
    fn every_mistake_within_a_table_is_told_by_its_way() {
        let told = |text: &str| file(text).rest::<Outer>().unwrap_err().to_string();
        let both = told("[own]\nname = 1\nlisten = '8081'\n[pair]\ncertificate = 2\nkey = 'b'");
        let ways: Vec<_> = both.lines().filter_map(|line| line.split(": ").nth(1)).collect();
        assert_eq!(ways, ["own.listen", "own.name", "pair.certificate"], "{both}");
        let lacks = told("[pair]\ncertificate = 'a'");
        assert!(lacks.contains("pair: missing field `key`"), "{lacks}");
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

    #[test]
    fn every_mistake_is_told_at_once_and_of_an_address_how_one_looks() {
        let said = |error: SettingsError| error.to_string();
        let own = said(file("nmae = 'a'\nlisten = '8081'\nport = 2").rest::<Own>().unwrap_err());
        for (line, wanted) in own.lines().zip(["listen: ", "nmae: ", "port: "]) {
            assert!(line.starts_with(&format!("node.toml: {wanted}")), "{own}");
        }
        assert!(own.contains("such as 0.0.0.0:8080"), "{own}");
        assert_eq!(own.lines().filter(|line| line.starts_with("node.toml: ")).count(), 3, "{own}");
        let section = file("[registry]\nx = 1\ny = 2").section::<Own>("registry").unwrap_err();
        assert_eq!(said(section).matches("node.toml: [registry]: ").count(), 2);
        let both = SettingsError::all([within("a", 0, 1..=2), Ok(()), within("b", 3, 1..=2)]);
        let both = said(both.unwrap_err().after("origin."));
        assert_eq!(both, "origin.a = 0: give 1 to 2\norigin.b = 3: give 1 to 2");
        assert!(SettingsError::all([Ok(())]).is_ok());
    }
}
