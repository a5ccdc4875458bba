//! The file of tokens: who may read and who may change something from other hosts. It holds hashes only, and is read again for
//! each request that shows a token, so that one that is taken out of it ends at once. While the file cannot be used, what it
//! said before counts: a slip of the pen locks nobody out, and lets nobody in.
//!
//! ```text
//! # role  SHA-256 of the token  name
//! write   9f86d0…               ci
//! ```

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::metrics::ApiMetrics;

/// Random bytes of a new token.
const TOKEN_BYTES: usize = 20;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Seeing everything but keys.
    Read,
    /// Changing something.
    Write,
}

impl Role {
    /// As it stands in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// Not there, or not readable.
    #[error("{path}: {why}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Others could add a token, or see the hashes.
    #[error("{path} may be read or written by others (mode {mode:o}): chmod 600 it, or 640 for the group of the API's user", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Who ends one of the two by deleting its line leaves the other.
    #[error("{path}:{line}: there is a token called {name:?} already: give one of the two another name", path = .path.display())]
    Twice {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What both are called.
        name: String,
    },
    /// A line that is none.
    #[error("{path}:{line}: not `read` or `write`, 64 hexadecimal digits, and a name", path = .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// One token as the file knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    role: Role,
    hash: Vec<u8>,
    name: String,
}

/// The file of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// A file at this path, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether the file can be used.
    ///
    /// # Errors
    /// [`TokensError`]
    pub fn check(&self) -> Result<(), TokensError> {
        self.lines().map(drop)
    }

    /// Whether a token of that name is in the file.
    ///
    /// # Errors
    /// [`TokensError`]
    pub fn has(&self, name: &str) -> Result<bool, TokensError> {
        Ok(self.lines()?.iter().any(|line| line.name == name))
    }

    /// The line for a new token of that name, and the token itself, which is shown this once.
    pub fn new_token(role: Role, name: &str) -> (String, String) {
        let token = HEXLOWER.encode(&rand::random::<[u8; TOKEN_BYTES]>());
        let hash = HEXLOWER.encode(&Sha256::digest(token.as_bytes()));
        (format!("{:<5} {hash} {name}", role.as_str()), token)
    }

    fn lines(&self) -> Result<Vec<Line>, TokensError> {
        let path = || self.0.clone();
        let failed = |why| TokensError::Io { path: path(), why };
        let mode = fs::metadata(&self.0).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o027 != 0 {
            return Err(TokensError::Open { path: path(), mode });
        }
        let text = fs::read_to_string(&self.0).map_err(failed)?;
        let mut lines: Vec<Line> = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| is_entry(line)) {
            let number = at + 1;
            let wrong = || TokensError::Line { path: path(), line: number };
            let line = parse(line).ok_or_else(wrong)?;
            if lines.iter().any(|before| before.name == line.name) {
                return Err(TokensError::Twice { path: path(), line: number, name: line.name });
            }
            lines.push(line);
        }
        Ok(lines)
    }
}

/// What a file of tokens said when it could last be used.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    file: TokenFile,
    known: Arc<Mutex<Known>>,
    metrics: ApiMetrics,
}

#[derive(Debug)]
struct Known {
    lines: Vec<Line>,
    /// Why the file cannot be used now.
    error: Option<String>,
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// [`TokensError`]: there is nothing yet to go on with.
    pub(crate) fn read(file: TokenFile, metrics: ApiMetrics) -> Result<Self, TokensError> {
        let lines = file.lines()?;
        let known = Arc::new(Mutex::new(Known { lines, error: None }));
        Ok(Self { file, known, metrics })
    }

    /// Reads the file again; why it cannot be used, if it cannot. Says so when that changes.
    pub(crate) fn look(&self) -> Option<String> {
        let read = self.file.lines();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match read {
            Ok(lines) => {
                known.lines = lines;
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if known.error != error {
            match &error {
                Some(error) => {
                    tracing::error!(error, "tokens not read: those that were known before count");
                }
                None => tracing::info!(file = %self.file, "tokens are read again"),
            }
            known.error.clone_from(&error);
        }
        self.metrics.tokens_stale(error.is_some());
        error
    }

    /// What the token allows, and what it is called; `None` when it is not known.
    pub(crate) fn role_of(&self, token: &str) -> Option<(Role, String)> {
        self.look();
        let digest = Sha256::digest(token.as_bytes());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.lines.iter().filter(|line| line.hash == digest.as_slice());
        found.map(|line| (line.role, line.name.clone())).max()
    }
}

impl AsRef<Path> for TokenFile {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

fn is_entry(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let role = match words.next()? {
        "read" => Role::Read,
        "write" => Role::Write,
        _ => return None,
    };
    let hash = HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
    let (name, is_alone) = (words.next()?.to_owned(), words.next().is_none());
    (is_alone && hash.len() == Sha256::output_size()).then_some(Line { role, hash, name })
}

#[cfg(test)]
mod tests {
    use millrace_telemetry::Metrics;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn with(name: &str, text: &str, mode: u32) -> Self {
            let file = format!("millrace-tokens-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Self(path)
        }

        fn file(&self) -> TokenFile {
            TokenFile::at(&self.0)
        }

        fn tokens(&self) -> Result<Tokens, TokensError> {
            Tokens::read(self.file(), ApiMetrics::new(&Metrics::new()))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_token_has_the_role_of_its_line_until_the_line_is_gone() {
        let (reader, read) = TokenFile::new_token(Role::Read, "wall");
        let (writer, write) = TokenFile::new_token(Role::Write, "ci");
        assert!(!reader.contains(&read) && !writer.contains(&write), "hashes only");
        let scratch = Scratch::with("roles", &format!("# ours\n{reader}\n\n{writer}\n"), 0o600);
        let tokens = scratch.tokens().unwrap();
        let role = |token: &str| tokens.role_of(token).map(|(role, _)| role);
        assert_eq!(tokens.role_of(&write).unwrap().1, "ci");
        assert_eq!((role(&read), role(&write)), (Some(Role::Read), Some(Role::Write)));
        assert_eq!((role("guess"), role(&reader)), (None, None));
        fs::write(&scratch.0, writer).unwrap();
        assert_eq!(role(&read), None);
    }

    #[test]
    fn two_tokens_of_one_name_are_refused_with_the_second_line() {
        let [first, second] = ["ci", "ci"].map(|name| TokenFile::new_token(Role::Read, name).0);
        let scratch = Scratch::with("twice", &format!("{first}\n\n{second}\n"), 0o600);
        let error = scratch.file().check().unwrap_err().to_string();
        assert!(error.contains(":3: there is a token called \"ci\" already"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_used_any_more_locks_nobody_out_and_lets_nobody_in() {
        let (reader, read) = TokenFile::new_token(Role::Read, "wall");
        let (writer, write) = TokenFile::new_token(Role::Write, "ci");
        let scratch = Scratch::with("kept", &reader, 0o600);
        let tokens = scratch.tokens().unwrap();
        let role = |token: &str| tokens.role_of(token).map(|(role, _)| role);
        let roles = || (role(&read), role(&write));
        fs::write(&scratch.0, format!("{writer}\n{reader} twice\n")).unwrap();
        assert_eq!(roles(), (Some(Role::Read), None));
        let error = tokens.look().unwrap();
        assert!(error.contains("kept:2: not `read`"), "{error}");
        fs::write(&scratch.0, &writer).unwrap();
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(roles(), (Some(Role::Read), None), "anybody may have added the other");
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!((roles(), tokens.look()), ((None, Some(Role::Write)), None));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_cannot_be_understood_is_none_to_start_with() {
        let (line, _) = TokenFile::new_token(Role::Write, "ci");
        for (name, text, mode, at_fault) in [
            ("open", line.as_str(), 0o644, "chmod 600"),
            ("group", line.as_str(), 0o620, "mode 620"),
            ("role", "admin 00 x", 0o600, "role:1: not `read`"),
            ("hash", "\nread 00 x", 0o600, "hash:2: not `read`"),
        ] {
            let scratch = Scratch::with(name, text, mode);
            let error = scratch.tokens().unwrap_err().to_string();
            assert!(error.contains(at_fault), "{error}");
            assert_eq!(scratch.file().check().unwrap_err().to_string(), error);
        }
        let error = TokenFile::at("/nowhere/tokens").check().unwrap_err().to_string();
        assert!(error.contains("/nowhere/tokens"), "{error}");
    }
}
