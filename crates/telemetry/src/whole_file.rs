//! Files of JSON for their owner's eyes only. Whoever looks finds the old one or the new one, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Writes a value under another name and renames it once it is on the disk.
///
/// # Errors
/// The folder cannot be written to; nothing is left of the try.
pub fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let draft = draft_of(path)?;
    let written = create(&draft).and_then(|mut file| {
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&draft, path)
    });
    if written.is_err() {
        // The draft of a full disk is of no use to anybody.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Finds out whether [`write_whole`] could write there, and leaves nothing behind.
///
/// # Errors
/// As [`write_whole`].
pub fn try_whole(path: &Path) -> io::Result<()> {
    let draft = draft_of(path)?;
    create(&draft).and_then(|_| fs::remove_file(&draft))
}

fn create(draft: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)
}

fn draft_of(path: &Path) -> io::Result<PathBuf> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(name))
}
