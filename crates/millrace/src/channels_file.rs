//! What makes the channels of standalone outlive it: one JSON file in the state directory, read at start and written when
//! a channel changes. Like the registry it holds the keys' hashes only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use millrace_registry::{ChannelRecord, Registry};
use millrace_telemetry::write_whole;
use tracing::error;

use crate::prerequisite::Prerequisite;

/// From one try to write it to the next, while the disk takes nothing.
const AGAIN: Duration = Duration::from_secs(5);
/// Its name in the state directory.
const FILE: &str = "channels.json";

/// The file, and what it holds.
#[derive(Debug)]
pub struct ChannelsFile {
    path: PathBuf,
    written: Vec<ChannelRecord>,
    /// There was none: nothing that it lacks was deleted.
    pub is_new: bool,
}

impl ChannelsFile {
    /// Puts the channels of an earlier start into the registry.
    ///
    /// # Errors
    /// The file cannot be read, or is not a list of channels.
    pub async fn restore(state_dir: &Path, registry: &Registry) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let named = || path.display().to_string();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => Some(text.with_context(named)?),
        };
        let (is_new, text) = (text.is_none(), text.unwrap_or_else(|| "[]".to_owned()));
        let written: Vec<ChannelRecord> = serde_json::from_str(&text).map_err(|error| {
            Prerequisite(format!("{}: {error}; repair it, or move it away", path.display()))
        })?;
        for record in &written {
            registry.put(record).await?;
        }
        Ok(Self { path, written, is_new })
    }

    /// Writes the file whenever a channel changes. Never ends.
    pub async fn keep(mut self, registry: Registry) {
        let mut changes = registry.changes();
        loop {
            let written = self.write_changes(&registry).await;
            if let Err(error) = &written {
                let path = self.path.display();
                error!(%error, %path, "channels not written: a restart forgets the last change; trying on");
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if written.is_err() => {}
            }
        }
    }

    async fn write_changes(&mut self, registry: &Registry) -> anyhow::Result<()> {
        let now = registry.list::<ChannelRecord>();
        if now == self.written {
            return Ok(());
        }
        write_whole(&self.path, &now)?;
        self.written = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_restored_and_a_broken_file_is_named() {
        let dir = std::env::temp_dir().join(format!("millrace-channels-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (before, after) = (Registry::in_memory(), Registry::in_memory());
        let mut file = ChannelsFile::restore(&dir, &before).await.unwrap();
        let key = millrace_api::new_stream_key("news".parse().unwrap());
        let record = ChannelRecord {
            channel: key.channel().clone(),
            key_hashes: vec![key.hash()],
            ending_keys: Vec::new(),
            priority: Default::default(),
            low_latency: true,
            dual: false,
        };
        before.put(&record).await.unwrap();
        file.write_changes(&before).await.unwrap();
        ChannelsFile::restore(&dir, &after).await.unwrap();
        let text = fs::read_to_string(dir.join(FILE)).unwrap();
        fs::write(dir.join(FILE), "[{").unwrap();
        let broken = ChannelsFile::restore(&dir, &after).await.unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(after.get::<ChannelRecord>("news").unwrap(), Some(record));
        assert!(!text.contains(&key.reveal()), "{text}");
        assert!(broken.contains(FILE), "{broken}");
    }
}
