//! Files for their owner's eyes only. Whoever looks finds the old one or the new one, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Writes a value under another name and renames it once it is on the disk; the new name is on the disk too when this returns.
///
/// # Errors
/// The folder cannot be written to; nothing is left of the try.
pub fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_line(path, &serde_json::to_string_pretty(value)?)
}

/// Writes a text and a line's end in the same way.
///
/// # Errors
/// As [`write_whole`].
pub fn write_line(path: &Path, text: &str) -> io::Result<()> {
    let draft = draft_of(path)?;
    let written = create(&draft).and_then(|mut file| {
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        folder_of(path).and_then(File::open)?.sync_all()
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

/// A draft that is there is of a process with the same id that was killed.
fn create(draft: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(draft)?;
            open()
        }
        opened => opened,
    }
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

fn draft_of(path: &Path) -> io::Result<PathBuf> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_also_after_a_draft_that_a_killed_process_left() {
        let dir = std::env::temp_dir().join(format!("millrace-whole-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("it.json");
        fs::write(draft_of(&path).unwrap(), "half of").unwrap();
        write_whole(&path, &["whole"]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let left = fs::read_dir(&dir).unwrap().count();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((text.as_str(), left), ("[\n  \"whole\"\n]\n", 1));
    }
}
