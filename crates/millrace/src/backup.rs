//! `millrace backup FILE` and `millrace restore FILE`: what only the registry knows, kept outside of it.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, bail};
use millrace_api::Ask;
use millrace_telemetry::{try_whole, write_whole};
use serde_json::{Value, json};

use crate::{
    api_client::{LONG, ask, send},
    arguments::{BackupArguments, RestoreArguments},
    prerequisite::Prerequisite,
    table::{items, show, table, text},
};

/// Writes the backup, whole or not at all, for its owner's eyes only.
///
/// # Errors
/// The API does not answer, or the file cannot be written.
pub async fn backup(arguments: &BackupArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.file;
    // Before the farm is asked: an answer that has no place to go is of no use.
    try_whole(path).map_err(|error| Prerequisite(format!("{}: {error}", path.display())))?;
    let document = ask(&arguments.farm, "/v1/backup").await?;
    let count = |what: &str| items(&document[what]).count();
    let (channels, orders) = (count("channels"), count("orders"));
    // A registry that was lost must not cost the backup, too.
    if channels == 0 && path.exists() {
        bail!(
            "{}: kept, since the registry has no channel now; delete the file first if that is as it should be",
            path.display()
        );
    }
    write_whole(path, &document).with_context(|| path.display().to_string())?;
    let at = text(&document["made_at"]);
    let written = json!({ "file": path, "channels": channels, "orders": orders, "made_at": at });
    show(&arguments.farm, &written, backed_up)
}

fn backed_up(written: &Value) -> String {
    let [file, channels, orders, at] =
        ["file", "channels", "orders", "made_at"].map(|key| text(&written[key]));
    format!("{file}: {channels} channels and {orders} orders to nodes, as of {at}\n")
}

/// Puts a backup's records back, or says what that would change.
///
/// # Errors
/// The file cannot be read, or the API does not answer or refuses it.
pub async fn restore(arguments: &RestoreArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.file;
    let wrong =
        |error: &dyn std::fmt::Display| Prerequisite(format!("{}: {error}", path.display()));
    let no_backup = |error: &dyn std::fmt::Display| {
        wrong(&format_args!("no backup: give a file that `millrace backup` wrote ({error})"))
    };
    let text = fs::read(path).map_err(|error| no_backup(&error))?;
    let document: Value = serde_json::from_slice(&text).map_err(|error| no_backup(&error))?;
    let path = format!("/v1/restore?dry_run={}", arguments.dry_run);
    let question = Ask { patience: LONG, ..Ask::post(&path, Some(document)) };
    show(&arguments.farm, &send(&arguments.farm, question).await?, restored)
}

fn restored(answer: &Value) -> String {
    let changes: Vec<_> = items(&answer["changes"]).collect();
    let count = |kind: &str| changes.iter().filter(|change| change["change"] == kind).count();
    let changed = changes.iter().filter(|change| change["change"] != "unchanged");
    let rows: Vec<_> =
        changed.map(|change| [text(&change["record"]), text(&change["change"])]).collect();
    let mut shown = match rows.is_empty() {
        true => String::new(),
        false => table(["RECORD", "CHANGE"], &rows),
    };
    let would = if answer["dry_run"] == true { "nothing was written; would be: " } else { "" };
    shown.push_str(&format!(
        "{would}{} added, {} replaced, {} unchanged; the backup is of {}\n",
        count("added"),
        count("replaced"),
        count("unchanged"),
        text(&answer["made_at"]),
    ));
    let kept: Vec<_> = items(&answer["not_in_backup"]).map(text).collect();
    if !kept.is_empty() {
        shown.push_str(&format!("not in the backup, and left as they are: {}\n", kept.join(", ")));
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::{io, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_backup_is_its_owners_alone_and_replaces_the_one_before_as_a_whole() {
        let dir = std::env::temp_dir().join(format!("millrace-backup-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("farm.json");
        fs::write(&path, "old").unwrap();
        write_whole(&path, &json!({ "millrace_backup": 1 })).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let files = fs::read_dir(&dir).unwrap().count();
        let read: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let missing = write_whole(&dir.join("nowhere/farm.json"), &json!({})).unwrap_err();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((mode, files, read), (0o600, 1, json!({ "millrace_backup": 1 })));
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_backup_says_where_it_is_and_what_it_holds() {
        let written = json!({ "file": "farm.json", "channels": 3, "orders": 0, "made_at": "2026" });
        let line = "farm.json: 3 channels and 0 orders to nodes, as of 2026\n";
        assert_eq!(backed_up(&written), line);
    }

    #[test]
    fn a_restore_says_what_it_changes_and_what_it_leaves() {
        let answer = json!({ "dry_run": true, "made_at": "2026", "not_in_backup": ["channels/z"],
            "changes": [{ "record": "channels/a", "change": "added" },
                { "record": "channels/b", "change": "unchanged" }] });
        let shown = restored(&answer);
        assert!(shown.contains("channels/a  added") && !shown.contains("channels/b"), "{shown}");
        let sums = "nothing was written; would be: 1 added, 0 replaced, 1 unchanged";
        assert!(shown.contains(sums) && shown.contains("left as they are: channels/z"), "{shown}");
    }
}
