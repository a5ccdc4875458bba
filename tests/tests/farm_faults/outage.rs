//! All of etcd is away for an hour under a live stream: another stream begins and ends meanwhile, a worker dies, then a node, and
//! one more stream begins that goes on beyond the return. The long form of the ten lease times in [`super`].
//!
//! ```text
//! away ------ 1/4 ------------ 1/2 ----------- 3/4 -------- 30 s before ------- back
//!       a stream begins,   worker killed   node killed    a stream begins    all is known,
//!       and ends                                                             and takes what is new
//! ```
//!
//! For minutes before, the same is measured with etcd: what is late then too is not the outage's. Each part that is late is told
//! with what the machine did meanwhile ([`lateness`]).

use std::{
    fs,
    time::{Duration, Instant},
};

use hyper::Method;
use millrace_testkit::{ClipAudio, ClipSpec, until_some};
use millrace_tests::{Live, Pressure};

use crate::farm_faults::{
    bench::{Bench, PATIENCE, ROUTER},
    fault::Fault,
    lateness::{self, waits},
    measured::{self, Moment, Row},
    turns::Turns,
};

/// How long etcd is away; `MILLRACE_OUTAGE_MINUTES` says otherwise, 2 at least.
const OUTAGE: Duration = Duration::from_secs(3_600);
/// How long the stream goes on beyond the outage at most: it begins before, and the return takes a while.
const BEYOND: Duration = Duration::from_secs(150);
/// So long before the return the last stream begins.
const LAST_BEGINS: Duration = Duration::from_secs(30);
/// The same is measured before, half as long as the outage, so long at most.
const CONTROL: Duration = Duration::from_secs(300);
const STREAM: &str = "outage";

fn outage() -> Duration {
    let minutes = std::env::var("MILLRACE_OUTAGE_MINUTES").ok();
    let minutes = minutes.map(|text| text.parse::<u64>().unwrap().max(2));
    minutes.map_or(OUTAGE, |minutes| Duration::from_secs(minutes * 60))
}

/// Two rungs lie below it, and an hour of it is 200 MB.
fn clip(length: Duration) -> ClipSpec {
    ClipSpec {
        width: 480,
        height: 270,
        kbps: 300,
        seconds: u32::try_from(length.as_secs()).unwrap(),
        audio: Some(ClipAudio { sample_rate: 48_000, channels: 1, kbps: 64 }),
        ..ClipSpec::default()
    }
}

#[tokio::test]
#[ignore = "an hour: `cargo xtask test --full`"]
async fn an_hour_without_etcd_delays_no_part_and_loses_no_frame() {
    let outage = outage();
    let control = CONTROL.min(outage / 2);
    let clip = clip(control + outage + BEYOND);
    let file = clip.file().unwrap();
    // Made now, so that making it takes no processor from what is measured.
    let late_clip = ClipSpec { seconds: 100, ..ClipSpec::default() };
    late_clip.file().unwrap();
    let mut bench = Bench::start().await;
    let newcomers = bench.newcomers_to_come(&[Fault::Newcomer]).await;
    let late_channel = bench.channel("late").await;
    let live = Live::begin_at(bench.channel(STREAM).await, clip).await;
    // Its publisher has it, and nobody else will want it.
    fs::remove_file(file).unwrap();
    let mut turns = Turns::of(live);
    turns.watch_until(Instant::now() + Duration::from_secs(10)).await;
    let (pressure, before) = (Pressure::default(), Moment::now());
    turns.watch_until(before.at + control).await;

    let mut struck = vec![bench.survive(Fault::EtcdGone, &turns.live, &[]).await];
    let gone = struck[0].began.at;
    let meanwhile = [Fault::Newcomer, Fault::WorkerKilled, Fault::NodeKilled];
    for (quarter, fault) in (1..).zip(meanwhile) {
        turns.watch_until(gone + outage * quarter / 4).await;
        struck.push(bench.survive(fault, &turns.live, &newcomers).await);
    }
    turns.watch_until(gone + outage - LAST_BEGINS).await;
    let late = Live::begin_at(late_channel, late_clip).await;
    turns.watch_until(gone + outage).await;
    struck.push(bench.survive(Fault::EtcdBack, &turns.live, &[]).await);
    let away = struck.last().unwrap().began.at - gone;
    for stream in [STREAM, "late"] {
        reconciled(&bench, stream).await;
    }
    let newcomers = bench.newcomers_to_come(&[Fault::Newcomer]).await;
    struck.push(bench.survive(Fault::Newcomer, &turns.live, &newcomers).await);
    let until = Instant::now();

    let decisions = bench.decisions(STREAM).await;
    let late = late.stop().await;
    let arrivals = turns.stop(30 * u32::try_from((control + away).as_secs()).unwrap()).await;
    late.assert_lossless();
    bench.judge_ended();
    let rows = struck.iter().map(|struck| Row::new(struck, &arrivals, &decisions));
    let rows: Vec<Row> = rows.collect();
    println!("{}", measured::table(&rows));
    let mut with_etcd = waits(&arrivals, before.at, gone, &[]);
    with_etcd.retain(|wait| wait.to() < gone);
    lateness::tell("with etcd", &with_etcd, before, &pressure);
    let without = waits(&arrivals, gone, until, &struck);
    let late = lateness::tell("without etcd", &without, before, &pressure);
    let misses: Vec<String> =
        rows.iter().filter(|row| !row.is_in_time()).map(Row::to_string).collect();
    let timeline = || measured::timeline(&struck, &decisions);
    assert!(late == 0 && misses.is_empty(), "{late} parts late, {misses:#?}:{}", timeline());
}

/// Waits until the registry says of the stream what its router says, and no program misses anything.
async fn reconciled(bench: &Bench, stream: &str) {
    let node = bench.farm.stream(ROUTER, stream).await.unwrap().rest["node"].clone();
    let known = until_some("the registry knows it", PATIENCE, async || {
        let path = format!("/v1/streams/{stream}");
        let view = bench.farm.api(Method::GET, &path, String::new()).await.ok()?;
        let all = bench.farm.api(Method::GET, "/v1/streams", String::new()).await.ok()?;
        (view["node"] == node && all["faults"].as_array()?.is_empty()).then_some(())
    });
    known.await.unwrap();
}
