//! A worker that SIGKILL does not end, as one that sleeps in a driver: its stream goes on with another and loses no frame, and what it
//! holds of its host is promised to nobody else until it is gone.

use std::{
    sync::mpsc::{Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hyper::Method;
use millrace_testkit::{ClipSpec, RenditionRecording, until_some};
use millrace_tests::{Live, ManyFarm, ManyOptions};
use nix::{
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// From the fault to the next part of every rung: the verdict, a second of SIGKILL, and a successor.
const NEXT_PART: Duration = Duration::from_secs(6);

/// A process that was killed and stays, as the kernel lets a debugger see it off. Dropped, it is gone.
struct Unkillable {
    release: Option<Sender<()>>,
    debugger: Option<JoinHandle<()>>,
}

impl Unkillable {
    fn kill(pid: i32) -> Self {
        let ((release, released), (killed, is_killed)) = (channel::<()>(), channel());
        // Only the thread that holds a process lets it go.
        let debugger = std::thread::spawn(move || {
            let pid = Pid::from_raw(pid);
            ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).unwrap();
            kill(pid, Signal::SIGKILL).unwrap();
            killed.send(()).unwrap();
            let _ = released.recv();
            ptrace::detach(pid, None).unwrap();
        });
        is_killed.recv().unwrap();
        Self { release: Some(release), debugger: Some(debugger) }
    }
}

impl Drop for Unkillable {
    fn drop(&mut self) {
        drop(self.release.take());
        let _ = self.debugger.take().map(JoinHandle::join);
    }
}

#[tokio::test]
async fn a_worker_that_sigkill_does_not_end_costs_its_stream_no_frame_and_keeps_its_capacity() {
    let farm = ManyFarm::start(ManyOptions { nodes: 1, ..ManyOptions::default() }).await.unwrap();
    let live = Live::begin(&farm, "one", ClipSpec { seconds: 20, ..ClipSpec::default() }).await;
    let metrics = async || {
        let one = |metric| farm.metric("node-1", metric);
        let promised = one(r#"millrace_node_promised_units{engine="workers"}"#).await.unwrap();
        [one("millrace_node_unkillable_workers").await.unwrap(), promised]
    };
    let reach = async |expected| {
        let reached = until_some("the node's books", PATIENCE, async || {
            (metrics().await == expected).then_some(())
        });
        reached.await.unwrap_or_else(|error| panic!("{error}\n{}", farm.log("node-1")));
    };
    live.play(3.0).await;
    assert_eq!(metrics().await, [0.0, 1.0]);
    let (_, pid) = farm.made_by("router-1", "one", None).await.unwrap();

    let (struck, held) = (Instant::now(), Unkillable::kill(pid));
    farm.made_by("router-1", "one", Some(pid)).await.unwrap();
    reach([1.0, 2.0]).await;
    let events = farm.api(Method::GET, "/v1/decisions?kind=worker_ended", String::new()).await;
    let events = events.unwrap().to_string();
    assert!(events.contains("SIGKILL does not end it"), "{events}");

    live.play(12.0).await;
    drop(held);
    reach([0.0, 1.0]).await;
    let view = farm.stream("router-1", "one").await.unwrap();
    assert_eq!(view.restarts, 1);
    let ended = live.end().await;
    let next = |rung: &RenditionRecording| rung.next_arrival_after(struck).unwrap();
    let waited = ended.recording.renditions.iter().map(next).max().unwrap();
    println!("{waited:?} to the next part");
    assert!(waited < NEXT_PART, "{waited:?} to the next part");
    ended.assert_lossless();
}
