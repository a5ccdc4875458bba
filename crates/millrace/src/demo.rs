//! The channel `demo`: its key, made at first start and kept for the next, and its moving test picture.

use std::{fs, io, path::Path, time::Duration};

use anyhow::Context as _;
use millrace_publisher::{Clip, Playout, PublishError, Publisher};
use millrace_registry::{ChannelRecord, Priority, Registry};
use millrace_telemetry::write_line;
use millrace_types::StreamKey;
use tracing::{info, warn};

use crate::prerequisite::Prerequisite;

/// Name of the channel and of its stream.
pub const CHANNEL: &str = "demo";
/// The key's file in the state directory.
const KEY_FILE: &str = "demo.key";
/// Between two attempts to publish.
const PAUSE: Duration = Duration::from_secs(2);

/// Makes sure of the channel, and of a key that it accepts: that of an earlier start, unless it was rotated away, revoked, or
/// deleted with its channel since. What else was set of the channel stays. `is_first`: no earlier start has kept its channels.
///
/// # Errors
/// The key's file cannot be read or written, or does not hold a key.
pub async fn open_channel(
    registry: &Registry,
    state_dir: &Path,
    is_first: bool,
) -> anyhow::Result<StreamKey> {
    let file = state_dir.join(KEY_FILE);
    let (kept, record) = (kept_key(&file)?, registry.get::<ChannelRecord>(CHANNEL)?);
    let is_accepted = |key: &StreamKey| match &record {
        Some(record) => record.key_hashes.contains(&key.hash()),
        None => is_first,
    };
    let key = match kept.filter(is_accepted) {
        Some(key) => key,
        None => {
            let key = millrace_api::new_stream_key(CHANNEL.parse()?);
            write_line(&file, &key.reveal()).with_context(|| file.display().to_string())?;
            key
        }
    };
    let mut record = record.unwrap_or_else(|| ChannelRecord {
        channel: key.channel().clone(),
        key_hashes: Vec::new(),
        ending_keys: Vec::new(),
        priority: Priority::default(),
        low_latency: false,
        dual: false,
    });
    if !record.key_hashes.contains(&key.hash()) {
        record.key_hashes.push(key.hash());
        registry.put(&record).await?;
    }
    Ok(key)
}

fn kept_key(path: &Path) -> anyhow::Result<Option<StreamKey>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().parse().map_err(|error| {
            Prerequisite(format!("{}: {error}; delete it to get a new one", path.display()))
        })?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Publishes the checked-in clip again and again. Ends when the farm refuses it: somebody else has the channel.
pub async fn publish(url: String, key: StreamKey) {
    loop {
        match publish_once(&url, &key).await {
            Err(error @ PublishError::Refused { .. }) => {
                info!(%error, "demo picture ends");
                return;
            }
            Err(error) => warn!(%error, "demo picture interrupted"),
            Ok(()) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn publish_once(url: &str, key: &StreamKey) -> Result<(), PublishError> {
    let mut publisher = Publisher::connect(url, &key.reveal()).await?;
    publisher.play(Playout::endless(&Clip::demo())).await?;
    publisher.finish().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_key_is_made_once_and_only_its_owner_can_read_it() {
        let dir = std::env::temp_dir().join(format!("millrace-demo-key-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let registry = Registry::in_memory();
        let first = open_channel(&registry, &dir, true).await.unwrap();
        let again = open_channel(&registry, &dir, false).await.unwrap();
        let crashed = open_channel(&Registry::in_memory(), &dir, true).await.unwrap();
        let mode = fs::metadata(dir.join(KEY_FILE)).unwrap().permissions().mode();
        fs::write(dir.join(KEY_FILE), "scrambled").unwrap();
        let error = open_channel(&registry, &dir, false).await.unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(first == again && first == crashed);
        assert_eq!(mode & 0o777, 0o600);
        assert!(error.contains("delete it") && !error.contains("scrambled"), "{error}");
        let record: ChannelRecord = registry.get(CHANNEL).unwrap().unwrap();
        assert_eq!(record.key_hashes, [first.hash()]);
    }

    #[tokio::test]
    async fn a_key_that_was_revoked_does_not_come_back_and_what_was_set_stays() {
        let dir =
            std::env::temp_dir().join(format!("millrace-demo-revoked-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let registry = Registry::in_memory();
        let first = open_channel(&registry, &dir, true).await.unwrap();
        let mut record: ChannelRecord = registry.get(CHANNEL).unwrap().unwrap();
        (record.key_hashes, record.dual) = (vec!["of another key".to_owned()], true);
        registry.put(&record).await.unwrap();
        let second = open_channel(&registry, &dir, false).await.unwrap();
        let record: ChannelRecord = registry.get(CHANNEL).unwrap().unwrap();
        assert!(record.dual && record.key_hashes == ["of another key".to_owned(), second.hash()]);
        registry.delete::<ChannelRecord>(CHANNEL).await.unwrap();
        let third = open_channel(&registry, &dir, false).await.unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let all = [first.hash(), second.hash(), third.hash()];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }
}
