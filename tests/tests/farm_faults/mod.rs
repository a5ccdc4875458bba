//! One farm, everything in it that can die or be cut off, one after the other, under live streams whose frames are counted. Each
//! program has a host of its own where the machine allows it. Prints what each fault cost.

mod bench;
mod fault;
mod lateness;
mod measured;
mod outage;
mod router;
mod turns;

use millrace_tests::Cut;

use crate::farm_faults::{bench::Bench, fault::Fault, measured::Row};

/// Streams, and what happens to each.
const STREAMS: [(&str, &[Fault]); 3] = [
    (
        "workers",
        &[
            Fault::WorkerKilled,
            Fault::WorkerHung,
            Fault::DaemonUpgraded,
            Fault::NodeKilled,
            Fault::DaemonKilled,
            Fault::NodeFrozen,
            Fault::OriginKilled,
        ],
    ),
    (
        "ways",
        &[
            Fault::CutFromRouter(Cut::Both),
            Fault::CutFromOrigin(Cut::Both),
            Fault::CutFromRouter(Cut::Sent),
            Fault::CutFromOrigin(Cut::Sent),
            Fault::CutFromRouter(Cut::Received),
            Fault::CutFromOrigin(Cut::Received),
            Fault::CutFromOrigins(Cut::Both),
            Fault::CutFromOrigins(Cut::Received),
            Fault::CutFromAll,
        ],
    ),
    (
        "registry",
        &[
            Fault::CutFromEtcd,
            Fault::EtcdMemberKilled,
            Fault::EtcdLeaderKilled,
            Fault::EtcdGone,
            Fault::WorkerKilled,
            Fault::NodeKilled,
            Fault::Newcomer,
            Fault::EtcdBack,
        ],
    ),
];

#[tokio::test]
async fn whatever_dies_in_a_farm_no_frame_is_lost_and_the_next_part_comes_in_time() {
    let mut bench = Bench::start().await;
    let mut rows = Vec::new();
    for (name, faults) in STREAMS {
        rows.extend(bench.stream(name, faults).await);
    }
    // What missed its bound is done once more: the machine may have been busy.
    let missed = rows.iter().filter(|row| !row.is_in_time());
    let missed: Vec<Fault> = missed.flat_map(|row| row.fault.once_more()).copied().collect();
    let again = if missed.is_empty() { Vec::new() } else { bench.stream("again", &missed).await };
    let late: Vec<String> =
        again.iter().filter(|row| !row.is_in_time()).map(Row::to_string).collect();
    rows.extend(again);
    rows.push(router::killed(&mut bench, Fault::RouterKilled).await);
    bench.farm.start_again(bench::ROUTER).await.unwrap();
    rows.push(router::killed(&mut bench, Fault::DualRouterKilled).await);
    println!("{}", measured::table(&rows));
    assert!(late.is_empty(), "twice later than promised: {late:#?}");
}
