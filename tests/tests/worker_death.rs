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
use serde_json::Value;

/// One fault: when, and by which signal. Not SIGSEGV: a Rust program survives the first one that is only sent to it.
#[derive(Clone, Copy, Debug)]
struct Fault {
    when: When,
    signal: Signal,
}

/// When a worker is struck.
#[derive(Clone, Copy, Debug)]
enum When {
    /// So many milliseconds after the stream's first part.
    At(u64),
    /// All renditions have just ended a segment, not before so many seconds of media: the worker has a keyframe and no part of it.
    AtBoundary(u64),
    /// As long after that, milliseconds, as leaves the segment's first part half made.
    InsidePart(u64),
    /// So many milliseconds after the fault before.
    Later(u64),
}

/// Segments of the usual clip, seconds.
const SEGMENT_S: u64 = 2;
/// Media of the next segment that no player may have yet for a moment to count as the boundary, seconds: less than a part.
const BOUNDARY_S: f64 = 0.2;
/// Half a part.
const HALF_PART: Duration = Duration::from_millis(170);

/// Waits until every rendition ends with a whole segment, the first time with `seconds` of media; a boundary that a busy machine
/// has missed is not taken for one.
async fn boundary(player: &Player, seconds: u64) {
    for boundary in (seconds..).step_by(usize::try_from(SEGMENT_S).unwrap()) {
        let boundary = boundary as f64;
        player.media(boundary - 0.05, Duration::from_secs(10)).await.unwrap();
        if player.progress().values().all(|one| one.media_s < boundary + BOUNDARY_S) {
            return;
        }
        println!("the boundary at {boundary} s was missed");
    }
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
        let last = struck.last().copied().unwrap_or_else(Instant::now);
        match fault.when {
            When::At(ms) => tokio::time::sleep_until(start + Duration::from_millis(ms)).await,
            When::AtBoundary(seconds) => boundary(&player, seconds).await,
            When::InsidePart(seconds) => {
                boundary(&player, seconds).await;
                tokio::time::sleep_until(tokio::time::Instant::now() + HALF_PART).await;
            }
            When::Later(ms) => {
                tokio::time::sleep_until((last + Duration::from_millis(ms)).into()).await;
            }
        }
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
    let faults = struck.len() as u64;
    assert_eq!(restarts, faults, "restarts counted are faults injected: {}", warnings(&farm.log()));
    let last = clip.frames().last().unwrap() - 2;
    let report = check(&recording, &clip.expected().at_least(0..=last)).unwrap();
    println!("{report}");
    report.assert_lossless();
    assert_told(&farm.log(), &channel.stream);
    Outcome { recording, struck }
}

/// What the farm found worth a warning.
fn warnings(log: &str) -> String {
    let is_warning =
        |line: &&str| line.contains(r#""level":"WARN""#) || line.contains(r#""ERROR""#);
    log.lines().filter(is_warning).collect::<Vec<_>>().join("\n")
}

/// Insists that the log, which no terminal reads, is JSON, and that its workers' own words say whose they are.
fn assert_told(log: &str, stream: &str) {
    // Besides, people are welcomed.
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_workers = lines.iter().filter(|line| line["message"] == "worker says");
    let of_stream: Vec<_> = of_workers.filter(|line| line["stream"] == stream).collect();
    assert!(!of_stream.is_empty(), "no word of a worker of {stream}: {log}");
    let has_epoch =
        |fields: &Value| fields["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty());
    let spans = |line: &Value| line["spans"].as_array().cloned().unwrap_or_default();
    for line in lines.iter().filter(|line| line["stream"] == stream) {
        assert!(has_epoch(line) || spans(line).iter().any(has_epoch), "without an epoch: {line}");
    }
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
    let at = |when| Fault { when, signal: KILL };
    // Before the first part, inside a part, at a segment's boundary, during the recovery from that, and late.
    let when = [When::InsidePart(2), When::AtBoundary(6), When::Later(250), When::At(13_700)];
    let outcome = survive(true, &when.map(at)).await;
    println!("longest recovery: {:?}", outcome.longest_recovery());
}

#[tokio::test]
async fn stopped_and_crashed_workers_are_replaced_without_a_lost_frame() {
    let faults = [
        Fault { when: When::At(2_500), signal: Signal::SIGSTOP },
        Fault { when: When::At(8_000), signal: Signal::SIGFPE },
        Fault { when: When::At(11_000), signal: Signal::SIGABRT },
        Fault { when: When::At(14_000), signal: Signal::SIGSTOP },
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
            when: When::At(round * 3_600 + random.random_range(0..3_600)),
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
