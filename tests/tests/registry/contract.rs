//! What every store does, shown on each: two handles of one store, as two programs would have them.

use std::time::Duration;

use millrace_registry::{ChannelRecord, NodeRecord, Registry};
use millrace_testkit::{Etcd, EtcdVersion, until};

use crate::registry::{channel, connected, node, shows, workers};

/// News reaches the other handle within this time.
const NEWS: Duration = Duration::from_secs(5);

async fn whole_contract(first: &Registry, second: &Registry) -> anyhow::Result<()> {
    records_are_read_as_they_were_written_and_listed_in_order(first, second).await?;
    concurrent_updates_are_all_seen(first, second).await?;
    what_the_news_have_not_brought_yet_can_be_asked_for(first, second).await?;
    what_is_kept_stands_until_it_is_withdrawn(first, second).await?;
    a_later_keeper_of_a_name_is_not_undone_by_the_earlier_one(first, second).await
}

async fn records_are_read_as_they_were_written_and_listed_in_order(
    first: &Registry,
    second: &Registry,
) -> anyhow::Result<()> {
    let mut changes = second.changes();
    for name in ["b", "a", "c"] {
        let mut record = channel(name);
        record.key_hashes = vec![format!("hash of {name}")];
        first.put(&record).await?;
        assert_eq!(first.get::<ChannelRecord>(name)?, Some(record), "one's own write is seen");
    }
    let names = || -> Vec<String> {
        let channels = second.list::<ChannelRecord>();
        channels.iter().map(|record| record.channel.to_string()).collect()
    };
    until("three channels in order", NEWS, || names() == ["a", "b", "c"]).await?;
    assert!(changes.has_changed()?);
    changes.mark_unchanged();
    first.delete::<ChannelRecord>("b").await?;
    first.delete::<ChannelRecord>("never-was").await?;
    assert_eq!(first.get::<ChannelRecord>("b")?, None);
    until("the deletion", NEWS, || names() == ["a", "c"]).await?;
    assert!(changes.has_changed()?);
    assert_eq!(second.list::<NodeRecord>(), [], "another type's records are not listed");
    Ok(())
}

async fn concurrent_updates_are_all_seen(
    first: &Registry,
    second: &Registry,
) -> anyhow::Result<()> {
    const EACH: usize = 50;
    let add = async |registry: &Registry| -> anyhow::Result<()> {
        for _ in 0..EACH {
            let more = |old: Option<ChannelRecord>| {
                let mut record = old.unwrap_or_else(|| channel("shared"));
                record.key_hashes.push("h".to_owned());
                Some(record)
            };
            registry.update("shared", more).await?;
        }
        Ok(())
    };
    tokio::try_join!(add(first), add(second), add(second))?;
    let count = || {
        let record = first.get::<ChannelRecord>("shared").ok().flatten();
        record.map_or(0, |record| record.key_hashes.len())
    };
    until("every update", NEWS, || count() == 3 * EACH).await?;
    Ok(())
}

async fn what_the_news_have_not_brought_yet_can_be_asked_for(
    first: &Registry,
    second: &Registry,
) -> anyhow::Result<()> {
    for round in 0..100 {
        let mut record = channel("c");
        record.key_hashes = vec![round.to_string()];
        first.put(&record).await?;
        assert!(second.refresh_record::<ChannelRecord>("c", NEWS).await);
        assert_eq!(second.get::<ChannelRecord>("c")?, Some(record));
    }
    assert!(second.refresh_record::<ChannelRecord>("never-was", NEWS).await);
    assert_eq!(second.get::<ChannelRecord>("never-was")?, None);
    Ok(())
}

async fn what_is_kept_stands_until_it_is_withdrawn(
    first: &Registry,
    second: &Registry,
) -> anyhow::Result<()> {
    let kept = first.keep(&node("n", 0));
    assert!(kept.written(NEWS).await);
    shows(second, "n", Some(0), NEWS).await?;
    for workers in 1..=20 {
        kept.set(node("n", workers));
    }
    assert!(kept.written(NEWS).await);
    shows(second, "n", Some(20), NEWS).await?;
    kept.withdraw().await;
    assert_eq!(workers(first, "n"), None, "withdrawn means gone");
    shows(second, "n", None, NEWS).await?;
    let dropped = first.keep(&node("n", 3));
    shows(second, "n", Some(3), NEWS).await?;
    drop(dropped);
    shows(second, "n", None, NEWS).await?;
    Ok(())
}

async fn a_later_keeper_of_a_name_is_not_undone_by_the_earlier_one(
    first: &Registry,
    second: &Registry,
) -> anyhow::Result<()> {
    let earlier = first.keep(&node("twin", 1));
    shows(second, "twin", Some(1), NEWS).await?;
    let later = second.keep(&node("twin", 2));
    shows(first, "twin", Some(2), NEWS).await?;
    earlier.set(node("twin", 3));
    drop(earlier);
    later.set(node("twin", 4));
    shows(first, "twin", Some(4), NEWS).await?;
    later.withdraw().await;
    shows(first, "twin", None, NEWS).await?;
    Ok(())
}

async fn on_etcd(version: EtcdVersion) -> anyhow::Result<()> {
    let etcd = Etcd::start(version, 1)?;
    let (first, second) = (connected(&etcd).await, connected(&etcd).await);
    whole_contract(&first, &second).await?;
    a_record_that_cannot_be_read_hides_no_other(&etcd, &first).await
}

async fn a_record_that_cannot_be_read_hides_no_other(
    etcd: &Etcd,
    registry: &Registry,
) -> anyhow::Result<()> {
    let mut client = crate::registry::raw(etcd).await;
    client.put("/millrace/v1/channels/aa-garbage", "{", None).await?;
    let unreadable = || registry.get::<ChannelRecord>("aa-garbage").is_err();
    until("the garbage", NEWS, unreadable).await?;
    let channels = registry.list::<ChannelRecord>();
    let names: Vec<_> = channels.iter().map(|record| record.channel.as_str()).collect();
    assert_eq!(names, ["a", "c", "shared"]);
    Ok(())
}

#[tokio::test]
async fn the_registry_in_memory_keeps_the_contract() -> anyhow::Result<()> {
    let registry = Registry::in_memory();
    whole_contract(&registry, &registry.clone()).await
}

#[tokio::test]
async fn etcd_3_7_keeps_the_contract() -> anyhow::Result<()> {
    on_etcd(EtcdVersion::V3_7).await
}

#[tokio::test]
async fn the_etcd_of_the_system_keeps_the_contract() -> anyhow::Result<()> {
    on_etcd(EtcdVersion::System).await
}
