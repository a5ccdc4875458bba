//! The file of tokens: who may read and who may change something from other hosts. It holds hashes only, and is read again for
//! each request that shows a token, so that one that is taken out of it ends at once.
//!
//! ```text
//! # role  SHA-256 of the token  name
//! write   9f86d0…               ci
//! ```

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could add a token, or see the hashes.
    #[error("{path} may be read or written by others (mode {mode:o}): chmod 600 it", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
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

    /// What the token allows; `None` when the file does not know it.
    ///
    /// # Errors
    /// [`TokensError`]: nobody is let in by it.
    pub fn role_of(&self, token: &str) -> Result<Option<Role>, TokensError> {
        let digest = Sha256::digest(token.as_bytes());
        let found = self.lines()?.into_iter().filter(|line| line.hash == digest.as_slice());
        Ok(found.map(|line| line.role).max())
    }

    /// The line for a new token of that name, and the token itself, which is shown this once.
    pub fn new_token(role: Role, name: &str) -> (String, String) {
        let token = HEXLOWER.encode(&rand::random::<[u8; TOKEN_BYTES]>());
        let hash = HEXLOWER.encode(&Sha256::digest(token.as_bytes()));
        (format!("{:<5} {hash} {name}", role.as_str()), token)
    }

    fn lines(&self) -> Result<Vec<Line>, TokensError> {
        let path = || self.0.clone();
        let failed = |source| TokensError::Io { path: path(), source };
        let mode = fs::metadata(&self.0).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o027 != 0 {
            return Err(TokensError::Open { path: path(), mode });
        }
        let text = fs::read_to_string(&self.0).map_err(failed)?;
        let lines = text.lines().enumerate().filter(|(_, line)| is_entry(line));
        let read = |(at, line): (usize, &str)| {
            parse(line).ok_or_else(|| TokensError::Line { path: path(), line: at + 1 })
        };
        lines.map(read).collect()
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
    let is_named = words.next().is_some() && words.next().is_none();
    (is_named && hash.len() == Sha256::output_size()).then_some(Line { role, hash })
}

#[cfg(test)]
mod tests {
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
        let role = |token: &str| scratch.file().role_of(token).unwrap();
        assert_eq!((role(&read), role(&write)), (Some(Role::Read), Some(Role::Write)));
        assert_eq!((role("guess"), role(&reader)), (None, None));
        fs::write(&scratch.0, writer).unwrap();
        assert_eq!(role(&read), None);
    }

    #[test]
    fn a_file_that_others_can_read_or_that_cannot_be_understood_lets_nobody_in() {
        let (line, token) = TokenFile::new_token(Role::Write, "ci");
        for (name, text, mode, at_fault) in [
            ("open", line.as_str(), 0o644, "chmod 600"),
            ("group", line.as_str(), 0o620, "mode 620"),
            ("role", "admin 00 x", 0o600, "role:1: not `read`"),
            ("hash", "\nread 00 x", 0o600, "hash:2: not `read`"),
        ] {
            let scratch = Scratch::with(name, text, mode);
            let error = scratch.file().role_of(&token).unwrap_err().to_string();
            assert!(error.contains(at_fault), "{error}");
            assert_eq!(scratch.file().check().unwrap_err().to_string(), error);
        }
        let error = TokenFile::at("/nowhere/tokens").check().unwrap_err().to_string();
        assert!(error.contains("/nowhere/tokens"), "{error}");
    }
}
