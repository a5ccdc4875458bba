//! The rest of the command line, taken apart word by word. Knows no verb and no flag by name.

use anyhow::{Context as _, Result, bail};

/// What has not been taken yet.
pub struct Arguments(Vec<String>);

impl Arguments {
    /// The words after the program's name.
    pub fn new(words: impl Iterator<Item = String>) -> Self {
        Self(words.collect())
    }

    /// Takes the first word, unless it is a flag.
    pub fn word(&mut self) -> Option<String> {
        self.0.first().is_some_and(|word| !word.starts_with('-')).then(|| self.0.remove(0))
    }

    /// Takes `flag` wherever it stands; true when it was there.
    pub fn flag(&mut self, flag: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != flag);
        self.0.len() < before
    }

    /// Takes `option` and the number behind it. Fails when what follows is no number.
    pub fn number(&mut self, option: &str) -> Result<Option<u64>> {
        let Some(at) = self.0.iter().position(|word| word == option) else { return Ok(None) };
        let value = self.0.get(at + 1).with_context(|| format!("{option} needs a number"))?;
        let number = value.parse().with_context(|| format!("{option} {value:?} is no number"))?;
        self.0.drain(at..at + 2);
        Ok(Some(number))
    }

    /// All that is left, for the program that is started.
    pub fn rest(self) -> Vec<String> {
        self.0
    }

    /// Nothing may be left. Fails with the first word that is.
    pub fn end(self) -> Result<()> {
        match self.0.first() {
            Some(word) => bail!("unexpected argument {word:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_and_options_are_taken_wherever_they_stand_and_the_rest_keeps_its_order() {
        let mut given =
            arguments("run --demo --no-install --seconds 7 --listen-ingest 127.0.0.1:0");
        assert_eq!(given.word().as_deref(), Some("run"));
        assert!(given.flag("--no-install") && !given.flag("--full"));
        assert_eq!(given.number("--seconds").unwrap(), Some(7));
        assert_eq!(given.rest(), ["--demo", "--listen-ingest", "127.0.0.1:0"]);
    }

    #[test]
    fn a_flag_is_no_word_and_a_leftover_is_named() {
        let mut given = arguments("--seconds soon");
        assert_eq!(given.word(), None);
        assert!(given.number("--seconds").unwrap_err().to_string().contains("soon"));
        assert!(given.end().unwrap_err().to_string().contains("--seconds"));
    }
}
