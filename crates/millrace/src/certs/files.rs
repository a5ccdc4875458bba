//! Files of certificates and keys: written whole, keys for their owner only, never over another by accident.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;

use crate::prerequisite::Prerequisite;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Everybody.
    Public,
    /// Its owner.
    Secret,
}

impl Secrecy {
    const fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Secret => 0o600,
        }
    }
}

/// Writes a file that is not there yet.
///
/// # Errors
/// [`Prerequisite`] when it is; `otherwise` says what to do then.
pub fn write_new(path: &Path, text: &str, secrecy: Secrecy, otherwise: &str) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(secrecy.mode()).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Prerequisite(format!("{} is there already: {otherwise}", path.display())).into()
        }
        _ => anyhow::Error::new(error).context(path.display().to_string()),
    })?;
    write(file, text).with_context(|| path.display().to_string())
}

/// Puts a file in the place of one that may be there; whoever reads it finds the old one or the new one whole.
///
/// # Errors
/// Those of the system.
pub fn replace(path: &Path, text: &str, secrecy: Secrecy) -> anyhow::Result<()> {
    let mut draft = path.file_name().unwrap_or_default().to_owned();
    draft.push(".new");
    let draft = path.with_file_name(draft);
    let named = || draft.display().to_string();
    // One that an interrupted run left could have another's mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(named);
        }
        _ => {}
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(secrecy.mode()).open(&draft);
    write(opened.with_context(named)?, text).with_context(named)?;
    fs::rename(&draft, path).with_context(|| path.display().to_string())
}

fn write(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
