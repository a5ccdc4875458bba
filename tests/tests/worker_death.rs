//! A worker may die at any moment: the publisher stays connected and no frame is lost, repeated or moved.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, Recording, Scratch, check};
use millrace_tests::{Farm, FarmOptions, discontinuities};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// One fault: when, and by which signal. Not SIGSEGV: a Rust program survives the first one that is only sent to it.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// After the stream's first part, milliseconds.
    at_ms: u64,
    signal: Signal,
}

/// What came of them.
struct Outcome {
    recording: Recording,
    struck: Vec<Instant>,
}

/// Publishes 24 s, strikes the worker at the given moments, and proves that nothing is missing.
async fn survive(before_first_part: bool, faults: &[Fault]) -> Outcome {
    let farm = Farm::start(FarmOptions::default()).await.unwrap();
    let channel = farm.channel();
    let clip = ClipSpec { seconds: 24, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    let mut struck = Vec::new();
    let mut pid = None;
    if before_first_part {
        let worker = farm.worker(&channel.stream, None).await.unwrap();
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        (pid, struck) = (Some(worker), vec![Instant::now()]);
    }
    player.media(0.3, Duration::from_secs(10)).await.unwrap();
    let start = tokio::time::Instant::now();
    for fault in faults {
        tokio::time::sleep_until(start + Duration::from_millis(fault.at_ms)).await;
        let worker = farm.worker(&channel.stream, pid).await.unwrap();
        kill(Pid::from_raw(worker), fault.signal).unwrap();
        struck.push(Instant::now());
        pid = Some(worker);
    }
    let status = publisher.wait(Duration::from_secs(40)).await.unwrap();
    assert!(status.success(), "the publisher was cut off: {}", publisher.log());
    player.media(f64::from(clip.seconds) - 0.2, Duration::from_secs(10)).await.unwrap();
    let recording = player.stop().await.unwrap();
    let restarts = farm.stream(&channel.stream).await.unwrap().restarts;
    assert_eq!(restarts, struck.len() as u64, "restarts counted are faults injected");
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
    Outcome { recording, struck }
}

impl Outcome {
    /// The longest time from a fault to the next part of any rung.
    fn longest_recovery(&self) -> Duration {
        let next = |at: &Instant| {
            let rungs = self.recording.renditions.iter();
            rungs.filter_map(|rung| rung.next_arrival_after(*at)).max().unwrap_or(Duration::MAX)
        };
        self.struck.iter().map(next).max().unwrap_or_default()
    }
}

const KILL: Signal = Signal::SIGKILL;

#[tokio::test]
async fn five_kills_lose_no_frame() {
    let at = |at_ms| Fault { at_ms, signal: KILL };
    // Inside a part, at a segment's boundary, during the recovery from that, and late.
    let outcome = survive(true, &[at(3_100), at(6_000), at(6_250), at(12_700)]).await;
    println!("longest recovery: {:?}", outcome.longest_recovery());
}

#[tokio::test]
async fn stopped_and_crashed_workers_are_replaced_without_a_lost_frame() {
    let faults = [
        Fault { at_ms: 2_500, signal: Signal::SIGSTOP },
        Fault { at_ms: 8_000, signal: Signal::SIGFPE },
        Fault { at_ms: 11_000, signal: Signal::SIGABRT },
        Fault { at_ms: 14_000, signal: Signal::SIGSTOP },
    ];
    survive(false, &faults).await;
}

#[tokio::test]
async fn faults_at_random_moments_lose_no_frame() {
    let seed = std::env::var("MILLRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("seed: MILLRACE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let signals = [KILL, Signal::SIGSTOP, Signal::SIGILL];
    let faults: Vec<_> = (0..5)
        .map(|round| Fault {
            at_ms: round * 3_600 + random.random_range(0..3_600),
            signal: signals[random.random_range(0..signals.len())],
        })
        .collect();
    println!("{faults:?}");
    survive(false, &faults).await;
}

/// A folder of workers whose first transcoding one is the usual, and every later one encodes otherwise: the example `other_encoder`.
fn workers_that_differ(scratch: &Scratch) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let (dir, build) = (scratch.path().join("workers"), test.ancestors().nth(2).unwrap());
    fs::create_dir(&dir).unwrap();
    symlink(build.join("millrace-worker"), dir.join("millrace-worker")).unwrap();
    let other = build.join("examples/other_encoder");
    assert!(other.is_file(), "{} is built with the workers' tests", other.display());
    let usual = build.join("millrace-worker-av").display().to_string();
    let begun = dir.join("begun").display().to_string();
    // `mkdir` succeeds once.
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = measure ] && exec {usual} measure\nmkdir {begun} && exec {usual} \"$1\"\nexec {} \"$1\"\n",
        other.display()
    );
    let program: &Path = &dir.join("millrace-worker-av");
    fs::write(program, script).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[tokio::test]
async fn a_successor_whose_encoder_differs_loses_no_frame_and_gets_its_map_with_the_next_segment() {
    let scratch = Scratch::new("differs").unwrap();
    let workers = workers_that_differ(&scratch);
    let arguments = vec!["--worker-dir".to_owned(), workers.display().to_string()];
    let farm = Farm::start(FarmOptions { arguments, ..FarmOptions::default() }).await.unwrap();
    let channel = farm.channel();
    let clip = ClipSpec::default();
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    // In the middle of a segment.
    player.media(4.7, Duration::from_secs(20)).await.unwrap();
    let worker = farm.worker(&channel.stream, None).await.unwrap();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    assert!(publisher.wait(Duration::from_secs(30)).await.unwrap().success());
    player.media(f64::from(clip.seconds) - 0.2, Duration::from_secs(10)).await.unwrap();
    let recording = player.stop().await.unwrap();
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
    for (rung, count) in discontinuities(&recording) {
        assert_eq!(count, 1, "discontinuities of {rung}");
    }
    for rung in &recording.renditions {
        let is_encoded = !["source", "audio"].contains(&rung.name.as_str());
        assert_eq!(rung.inits.len(), if is_encoded { 2 } else { 1 }, "maps of {}", rung.name);
    }
}
