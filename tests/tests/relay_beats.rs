//! What a stream's way through router and node costs, in counts that do not depend on how busy the machine is: writes, and threads
//! that wake up. Their time is `relay_cost`'s, a benchmark.

use std::{fs, time::Duration};

use millrace_publisher::{Clip, Playout, Publisher};
use millrace_testkit::until_some;
use millrace_tests::{ManyFarm, ManyOptions};
use tokio::time::{Instant, sleep_until};

/// As many as the test farm's node takes.
const STREAMS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(3);
const COUNTED: Duration = Duration::from_secs(5);

/// What a process has done so far.
#[derive(Clone, Copy, Debug)]
struct Done {
    /// `write`, `writev` and the like, those that wake a thread included.
    writes: u64,
    /// Times that a thread of its waited for something, and was woken up.
    wake_ups: u64,
}

impl Done {
    fn by(pid: u32) -> Self {
        let number = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        let writes = number(&fs::read_to_string(format!("/proc/{pid}/io")).unwrap(), "syscw:");
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        // One that has ended since takes its count along; those that carry media do not end.
        let statuses =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        let wake_ups = statuses.map(|status| number(&status, "voluntary_ctxt_switches:")).sum();
        Self { writes, wake_ups }
    }
}

#[tokio::test]
async fn a_streams_way_through_router_and_node_takes_few_writes_and_wakes_few_threads() {
    let options = ManyOptions { nodes: 1, rungs: Vec::new(), ..ManyOptions::default() };
    let farm = ManyFarm::start(options).await.unwrap();
    let rtmp = farm.address("router-1", "rtmp").unwrap();
    let clip = Clip::demo();
    let mut publishers = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let channel = farm.new_channel(&format!("beat{number}"), rtmp).await.unwrap();
        let (url, key) = channel.rtmp_url.rsplit_once('/').unwrap();
        let mut publisher = Publisher::connect(url, key).await.unwrap();
        let playout = Playout::endless(&clip);
        publishers.spawn(async move { publisher.play(playout).await });
    }
    until_some("every stream is live", PATIENCE, async || {
        let workers = farm.metric("node-1", "millrace_node_workers").await.ok()?;
        (workers >= STREAMS as f64).then_some(())
    })
    .await
    .unwrap();
    let pids = ["router-1", "node-1"].map(|name| farm.pid(name).unwrap());
    let begin = Instant::now() + SETTLE;
    sleep_until(begin).await;
    let before = pids.map(Done::by);
    sleep_until(begin + COUNTED).await;
    let after = pids.map(Done::by);
    assert_eq!(publishers.len(), STREAMS, "nobody was turned away");
    let stream_seconds = STREAMS as f64 * begin.elapsed().as_secs_f64();
    let per_stream_second = |count: fn(Done) -> u64| {
        let all = |done: [Done; 2]| done.into_iter().map(count).sum::<u64>();
        (all(after) - all(before)) as f64 / stream_seconds
    };
    let (writes, wake_ups) =
        (per_stream_second(|it| it.writes), per_stream_second(|it| it.wake_ups));
    println!("per stream-second: {writes:.0} writes, {wake_ups:.0} wake-ups");
    assert!(writes <= 90.0, "{writes:.0} writes per stream-second");
    assert!(wake_ups <= 80.0, "{wake_ups:.0} wake-ups per stream-second");
}
