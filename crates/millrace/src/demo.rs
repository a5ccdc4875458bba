//! The channel `demo`: its key, made at first start and kept for the next, and its moving test picture.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use millrace_publisher::{Clip, Playout, PublishError, Publisher};
use millrace_registry::{ChannelRecord, Priority, Registry};
use millrace_types::{ChannelId, StreamKey};
use tracing::{info, warn};

use crate::prerequisite::Prerequisite;

/// Name of the channel and of its stream.
pub const CHANNEL: &str = "demo";
/// The key's file in the state directory.
const KEY_FILE: &str = "demo.key";
/// Between two attempts to publish.
const PAUSE: Duration = Duration::from_secs(2);

/// Makes the channel, with the key of an earlier start if there was one.
///
/// # Errors
/// The key's file cannot be read or written, or does not hold a key.
pub async fn open_channel(registry: &Registry, state_dir: &Path) -> anyhow::Result<StreamKey> {
    let key = kept_key(&state_dir.join(KEY_FILE))?;
    let record = ChannelRecord {
        channel: key.channel().clone(),
        key_hashes: vec![key.hash()],
        ending_keys: Vec::new(),
        priority: Priority::default(),
        low_latency: false,
        dual: false,
    };
    registry.put(&record).await?;
    Ok(key)
}

fn kept_key(path: &Path) -> anyhow::Result<StreamKey> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().map_err(|error| {
            Prerequisite(format!("{}: {error}; delete it to get a new one", path.display()))
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let channel: ChannelId = CHANNEL.parse()?;
            let key = millrace_api::new_stream_key(channel);
            write_key(path, &key).with_context(|| path.display().to_string())?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn write_key(path: &Path, key: &StreamKey) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", key.reveal())
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
        let first = open_channel(&registry, &dir).await.unwrap();
        let again = open_channel(&registry, &dir).await.unwrap();
        let mode = fs::metadata(dir.join(KEY_FILE)).unwrap().permissions().mode();
        fs::write(dir.join(KEY_FILE), "scrambled").unwrap();
        let error = open_channel(&registry, &dir).await.unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(first, again);
        assert_eq!(mode & 0o777, 0o600);
        assert!(error.contains("delete it") && !error.contains("scrambled"), "{error}");
        let record: ChannelRecord = registry.get(CHANNEL).unwrap().unwrap();
        assert_eq!(record.key_hashes, [first.hash()]);
    }
}
