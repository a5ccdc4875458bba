//! What makes the channels of standalone outlive it: one JSON file in the state directory, read at start and written before
//! a change of a channel takes place. Like the registry it holds the keys' hashes only.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use millrace_registry::{ChannelRecord, Registry};
use millrace_telemetry::write_whole;

use crate::prerequisite::Prerequisite;

/// Its name in the state directory.
const FILE: &str = "channels.json";

/// A registry with the channels of an earlier start, which refuses what cannot be written to their file; and whether there was no
/// such file: then nothing that it lacks was deleted.
///
/// # Errors
/// The file cannot be read, or is not a list of channels.
pub fn stored_registry(state_dir: &Path) -> anyhow::Result<(Registry, bool)> {
    let path = state_dir.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        text => Some(text.with_context(|| path.display().to_string())?),
    };
    let (is_new, text) = (text.is_none(), text.unwrap_or_else(|| b"[]".to_vec()));
    let stored: Vec<ChannelRecord> = serde_json::from_slice(&text).map_err(|error| {
        let todo = "repair it, or move it away and restore a backup (`millrace restore FILE`)";
        Prerequisite(format!("{}: {error}; {todo}", path.display()))
    })?;
    let store = move |channels: &[ChannelRecord]| {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        write_whole(&path, &channels).map_err(named)
    };
    Ok((Registry::in_memory_stored(&stored, store), is_new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_restored_and_a_broken_file_is_named() {
        let dir = std::env::temp_dir().join(format!("millrace-channels-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (registry, first) = stored_registry(&dir).unwrap();
        let key = millrace_api::new_stream_key("news".parse().unwrap());
        let record = ChannelRecord {
            channel: key.channel().clone(),
            key_hashes: vec![key.hash()],
            ending_keys: Vec::new(),
            priority: Default::default(),
            low_latency: true,
            dual: false,
        };
        registry.put(&record).await.unwrap();
        let (after, again) = stored_registry(&dir).unwrap();
        let text = fs::read_to_string(dir.join(FILE)).unwrap();
        fs::write(dir.join(FILE), "[{").unwrap();
        let broken = stored_registry(&dir).unwrap_err().to_string();
        fs::write(dir.join(FILE), [0xff, 0xfe]).unwrap();
        let scrambled = stored_registry(&dir).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((first, again), (true, false));
        assert_eq!(after.get::<ChannelRecord>("news").unwrap(), Some(record));
        assert!(!text.contains(&key.reveal()), "{text}");
        for wrong in [broken, scrambled] {
            assert!(wrong.contains(FILE) && wrong.contains("millrace restore"), "{wrong}");
        }
    }
}
