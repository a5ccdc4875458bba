//! What only a store of its own can suffer: the reader's connection cut, the keeper's process paused or killed, a leader
//! killed, everything gone for long, its content lost or older than it was.

use std::time::{Duration, Instant};

use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
use millrace_registry::{ChannelRecord, Registry, RegistryConfig, RegistryError};
use millrace_testkit::{Etcd, EtcdVersion, FaultyLink, Flow, LinkState, until, until_some};
use millrace_tests::HostClock;
use nix::sys::signal::Signal;

use crate::registry::{
    PATIENCE, channel, config, connected, node,
    process::{Keeper, NODE},
    raw, shows, workers,
};

/// A record is gone so long after its process at the latest: the lease, what etcd adds, and a busy machine.
const GONE: Duration = Duration::from_secs(10);
/// A record is back so long after its process or its store.
const BACK: Duration = Duration::from_secs(10);

/// One test per version of etcd.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod etcd_3_7 {
            $(#[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                super::$name(millrace_testkit::EtcdVersion::V3_7).await
            })*
        }
        mod etcd_of_the_system {
            $(#[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                super::$name(millrace_testkit::EtcdVersion::System).await
            })*
        }
    };
}

on_both! {
    a_record_goes_with_its_process_and_comes_back_after_a_pause,
    who_wakes_up_after_a_successor_took_over_leaves_it_alone,
    a_reader_that_was_cut_off_sees_what_is_there_now,
    a_step_of_the_clock_changes_nothing,
    a_killed_leader_costs_seconds_and_no_record,
    a_long_outage_leaves_the_view_and_the_living_come_back,
    leases_that_all_are_lost_empty_no_view_while_the_store_grants_none,
    a_wiped_store_is_filled_by_the_living,
    a_store_set_back_to_an_old_copy_is_read_anew,
}

async fn a_record_goes_with_its_process_and_comes_back_after_a_pause(
    version: EtcdVersion,
) -> anyhow::Result<()> {
    let etcd = Etcd::start(version, 1)?;
    let registry = connected(&etcd).await;
    let keeper = Keeper::start(&etcd)?;
    shows(&registry, NODE.0, Some(NODE.1), PATIENCE).await?;
    keeper.signal(Signal::SIGSTOP)?;
    shows(&registry, NODE.0, None, GONE).await?;
    keeper.signal(Signal::SIGCONT)?;
    shows(&registry, NODE.0, Some(NODE.1), BACK).await?;
    drop(keeper);
    shows(&registry, NODE.0, None, GONE).await?;
    Ok(())
}

async fn who_wakes_up_after_a_successor_took_over_leaves_it_alone(
    version: EtcdVersion,
) -> anyhow::Result<()> {
    let etcd = Etcd::start(version, 1)?;
    let registry = connected(&etcd).await;
    let sleeper = Keeper::start(&etcd)?;
    shows(&registry, NODE.0, Some(NODE.1), PATIENCE).await?;
    sleeper.signal(Signal::SIGSTOP)?;
    let successor = registry.keep(&node(NODE.0, 77));
    assert!(successor.written(BACK).await);
    // The sleeper's lease is gone too when it wakes up.
    let mut client = raw(&etcd).await;
    until_some("the end of the sleeper's lease", GONE, async || {
        (client.leases().await.ok()?.leases().len() == 1).then_some(())
    })
    .await?;
    sleeper.signal(Signal::SIGCONT)?;
    until_some("the sleeper's new lease", BACK, async || {
        (client.leases().await.ok()?.leases().len() == 2).then_some(())
    })
    .await?;
    let unchanged =
        until("a change", Duration::from_secs(2), || workers(&registry, NODE.0) != Some(77));
    assert!(unchanged.await.is_err(), "the sleeper wrote over its successor's record");
    successor.withdraw().await;
    shows(&registry, NODE.0, Some(NODE.1), BACK).await?;
    Ok(())
}

/// A link to the first member, and a registry behind it.
async fn behind_a_link(etcd: &Etcd) -> anyhow::Result<(FaultyLink, Registry)> {
    let endpoint = etcd.endpoints().remove(0);
    let target = endpoint.trim_start_matches("http://").parse()?;
    let link = FaultyLink::start(target).await?;
    let endpoints = vec![format!("http://{}", link.address())];
    let registry = Registry::connect(&RegistryConfig { endpoints, ..config(etcd) })?;
    assert!(registry.synced(PATIENCE).await);
    Ok((link, registry))
}

async fn a_reader_that_was_cut_off_sees_what_is_there_now(
    version: EtcdVersion,
) -> anyhow::Result<()> {
    let etcd = Etcd::start(version, 1)?;
    let writer = connected(&etcd).await;
    let (link, reader) = behind_a_link(&etcd).await?;
    let has = |name: &str| matches!(reader.get::<ChannelRecord>(name), Ok(Some(_)));
    let mut client = raw(&etcd).await;
    let cut = LinkState { refusing: true, ..LinkState::default() };
    let silent = LinkState { from_target: Flow::Held, ..LinkState::default() };
    for (number, (fault, compacted)) in
        [(cut, false), (cut, true), (silent, false)].into_iter().enumerate()
    {
        let (old, new) = (format!("old-{number}"), format!("new-{number}"));
        writer.put(&channel(&old)).await?;
        until("the old record", BACK, || has(&old)).await?;
        link.set(fault);
        if fault.refusing {
            link.reset_all();
        }
        writer.delete::<ChannelRecord>(&old).await?;
        writer.put(&channel(&new)).await?;
        if compacted {
            let now = client.get("x", None).await?.header().map_or(0, |header| header.revision());
            client.compact(now, None).await?;
        }
        until("the reader's notice", BACK, || !reader.is_reachable()).await?;
        assert!(has(&old) && !has(&new), "the view stays as it was last known");
        link.set(LinkState::default());
        until("the reader's return", BACK, || !has(&old) && has(&new)).await?;
    }
    Ok(())
}

async fn leader(etcd: &Etcd) -> Option<usize> {
    for (member, endpoint) in etcd.endpoints().into_iter().enumerate() {
        let mut client = etcd_client::Client::connect([endpoint], None).await.ok()?;
        let status = client.status().await.ok()?;
        if status.header()?.member_id() == status.leader() {
            return Some(member);
        }
    }
    None
}

async fn a_killed_leader_costs_seconds_and_no_record(version: EtcdVersion) -> anyhow::Result<()> {
    let mut etcd = Etcd::start(version, 3)?;
    let (keeper, observer) = (connected(&etcd).await, connected(&etcd).await);
    let kept = keeper.keep(&node("n", 1));
    shows(&observer, "n", Some(1), BACK).await?;
    let leader = until_some("a leader", PATIENCE, async || leader(&etcd).await).await?;
    etcd.kill_member(leader);
    let killed = Instant::now();
    let writing = until_some("a write", Duration::from_secs(15), async || {
        observer.put(&channel("after")).await.ok()
    });
    let watching = until("a vanished record", Duration::from_secs(9), || {
        workers(&observer, "n").is_none() || workers(&keeper, "n").is_none()
    });
    let (written, vanished) =
        tokio::join!(async { written_after(killed, writing.await) }, watching);
    println!("first write {:?} after the leader's death", written?);
    assert!(vanished.is_err(), "a kept record vanished with the leader");
    kept.set(node("n", 2));
    shows(&observer, "n", Some(2), BACK).await?;
    Ok(())
}

async fn a_step_of_the_clock_changes_nothing(version: EtcdVersion) -> anyhow::Result<()> {
    const HOUR: i64 = 3600;
    const LONGER_THAN_A_LEASE: Duration = Duration::from_millis(3500);
    let (etcd, clock) = (Etcd::start(version, 1)?, HostClock::new()?);
    let registry = connected(&etcd).await;
    let _keeper = Keeper::start_by(&etcd, &clock)?;
    shows(&registry, NODE.0, Some(NODE.1), PATIENCE).await?;
    for offset in [HOUR, -HOUR] {
        clock.step_to(offset)?;
        let vanished =
            until("a loss", LONGER_THAN_A_LEASE, || workers(&registry, NODE.0) != Some(NODE.1));
        assert!(
            vanished.await.is_err(),
            "the record went when the clock was stepped to {offset} s"
        );
    }
    Ok(())
}

fn written_after<T, E>(killed: Instant, written: Result<T, E>) -> Result<Duration, E> {
    written.map(|_| killed.elapsed())
}

async fn a_long_outage_leaves_the_view_and_the_living_come_back(
    version: EtcdVersion,
) -> anyhow::Result<()> {
    const LEASE_SECONDS: u64 = 2;
    let mut etcd = Etcd::start(version, 1)?;
    let short = RegistryConfig { lease_seconds: LEASE_SECONDS, ..config(&etcd) };
    let (keeper, observer) = (Registry::connect(&short)?, connected(&etcd).await);
    let kept = keeper.keep(&node("n", 1));
    observer.put(&channel("stays")).await?;
    shows(&observer, "n", Some(1), PATIENCE).await?;
    etcd.kill_member(0);
    let down = Instant::now();
    until("the notice", BACK, || !keeper.is_reachable() && !observer.is_reachable()).await?;
    let asked = Instant::now();
    let refused = observer.put(&channel("late")).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable { .. })), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(7), "refused after {:?}", asked.elapsed());
    kept.set(node("n", 2));
    let outage = Duration::from_secs(10 * LEASE_SECONDS).saturating_sub(down.elapsed());
    let vanished = until("a loss", outage, || {
        workers(&observer, "n") != Some(1) || observer.list::<ChannelRecord>().is_empty()
    });
    assert!(vanished.await.is_err(), "the view forgot what it knew");
    etcd.start_member(0)?;
    shows(&observer, "n", Some(2), PATIENCE).await?;
    until("the return", BACK, || observer.is_reachable() && keeper.is_reachable()).await?;
    observer.put(&channel("later")).await?;
    Ok(())
}

async fn leases_that_all_are_lost_empty_no_view_while_the_store_grants_none(
    version: EtcdVersion,
) -> anyhow::Result<()> {
    const LEASE_SECONDS: u64 = 2;
    let etcd = Etcd::start(version, 1)?;
    let short = RegistryConfig { lease_seconds: LEASE_SECONDS, ..config(&etcd) };
    let (keeper, observer) = (Registry::connect(&short)?, Registry::connect(&short)?);
    let kept = keeper.keep(&node("n", 1));
    shows(&observer, "n", Some(1), PATIENCE).await?;
    let mut client = raw(&etcd).await;
    let member = client.status().await?.header().map_or(0, |header| header.member_id());
    let mut of_it = AlarmOptions::new();
    of_it.with_member(member);
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(of_it.clone())).await?;
    etcd.pause_member(0, true)?;
    // Nobody was heard for longer than a lease: all have run out.
    until("silence", BACK, || !keeper.is_reachable() && !observer.is_reachable()).await?;
    etcd.pause_member(0, false)?;
    until_some("the record's end", GONE, async || {
        let found = client.get("/millrace/v1/nodes/n", None).await.ok()?;
        found.kvs().is_empty().then_some(())
    })
    .await?;
    let vanished = until("a loss", Duration::from_secs(2 * LEASE_SECONDS), || {
        workers(&observer, "n") != Some(1) || workers(&keeper, "n") != Some(1)
    });
    assert!(vanished.await.is_err(), "the view believed that everybody is gone");
    assert!(!observer.is_reachable());
    kept.set(node("n", 2));
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_it)).await?;
    shows(&observer, "n", Some(2), BACK).await?;
    until("the return", BACK, || observer.is_reachable() && keeper.is_reachable()).await?;
    drop(kept);
    shows(&observer, "n", None, GONE).await?;
    Ok(())
}

async fn a_wiped_store_is_filled_by_the_living(version: EtcdVersion) -> anyhow::Result<()> {
    let mut etcd = Etcd::start(version, 1)?;
    let (keeper, observer) = (connected(&etcd).await, connected(&etcd).await);
    let _kept = keeper.keep(&node("n", 1));
    for number in 0..20 {
        observer.put(&channel(&format!("lost-{number}"))).await?;
    }
    shows(&observer, "n", Some(1), BACK).await?;
    etcd.kill_member(0);
    etcd.wipe_member(0)?;
    etcd.start_member(0)?;
    until("the loss", PATIENCE, || observer.list::<ChannelRecord>().is_empty()).await?;
    shows(&observer, "n", Some(1), PATIENCE).await?;
    let was = observer.get_or_lost::<ChannelRecord>("lost-7")?;
    assert!(was.is_some(), "whoever needs it until it is written again has it as it was");
    assert!(observer.get::<ChannelRecord>("lost-7")?.is_none());
    let fresh = connected(&etcd).await;
    assert!(fresh.get_or_lost::<ChannelRecord>("lost-7")?.is_none());
    shows(&fresh, "n", Some(1), BACK).await?;
    Ok(())
}

async fn a_store_set_back_to_an_old_copy_is_read_anew(version: EtcdVersion) -> anyhow::Result<()> {
    let mut etcd = Etcd::start(version, 1)?;
    let (keeper, observer) = (connected(&etcd).await, connected(&etcd).await);
    let kept = keeper.keep(&node("n", 1));
    observer.put(&channel("old")).await?;
    shows(&observer, "n", Some(1), BACK).await?;
    etcd.kill_member(0);
    etcd.copy_data(0, "copy", false)?;
    etcd.start_member(0)?;
    kept.set(node("n", 2));
    shows(&observer, "n", Some(2), PATIENCE).await?;
    for number in 0..20 {
        observer.put(&channel(&format!("new-{number}"))).await?;
    }
    observer.delete::<ChannelRecord>("old").await?;
    etcd.kill_member(0);
    etcd.copy_data(0, "copy", true)?;
    etcd.start_member(0)?;
    let names = || -> Vec<String> {
        let channels = observer.list::<ChannelRecord>();
        channels.iter().map(|record| record.channel.to_string()).collect()
    };
    until("the old records", PATIENCE, || names() == ["old"]).await?;
    shows(&observer, "n", Some(2), PATIENCE).await?;
    observer.put(&channel("next")).await?;
    assert_eq!(names(), ["next", "old"]);
    Ok(())
}
