//! A worker that turns on its host is stopped by its sandbox; the node lives, and other streams lose no frame.

use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, Scratch, check, until_some};
use millrace_tests::{Farm, FarmOptions};

/// What the hostile worker does after it has confined itself; see the sandbox's example `hostile`.
const DEEDS: &str = "socket open exec ptrace kill fork unshare mount allocate\\ 2147483648";

/// `target/<profile>`.
fn build_dir() -> PathBuf {
    std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_path_buf()
}

/// A folder of workers whose transcoding one is itself for the first stream and its measurement, hostile ever after.
fn hostile_workers(scratch: &Scratch) -> PathBuf {
    let (dir, build) = (scratch.path().join("workers"), build_dir());
    std::fs::create_dir(&dir).unwrap();
    symlink(build.join("millrace-worker"), dir.join("millrace-worker")).unwrap();
    let hostile = build.join("examples/hostile");
    assert!(hostile.is_file(), "{} is built with the sandbox's tests", hostile.display());
    let (count, hostile) = (dir.join("count"), hostile.display());
    let honest = build.join("millrace-worker-av");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = measure ] && exec {honest} measure\necho >> {count}\nread n rest <<E\n$(wc -l < {count})\nE\n\
         [ \"$n\" -le 1 ] && exec {honest} \"$1\"\nset -- {DEEDS}\nshift $(( (n - 2) % $# ))\nexec {hostile} \"$1\"\n",
        honest = honest.display(),
        count = count.display(),
    );
    let program = dir.join("millrace-worker-av");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[tokio::test]
async fn a_hostile_worker_harms_neither_the_node_nor_another_stream() {
    let scratch = Scratch::new("hostile").unwrap();
    let workers = hostile_workers(&scratch);
    let arguments = vec!["--worker-dir".to_owned(), workers.display().to_string()];
    let farm = Farm::start(FarmOptions { arguments, ..FarmOptions::default() }).await.unwrap();
    let channel = farm.channel();
    let clip = ClipSpec { seconds: 20, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file().unwrap(), &channel.rtmp_url).unwrap();
    let player = Player::start(&channel.playback_url, PlayerOptions::default());
    let honest = farm.worker(&channel.stream, None).await.unwrap();
    // From here on every spare worker is hostile, and so is each that a second stream would get.
    let second = farm.new_channel("second").await.unwrap();
    let mut victim = Publisher::start(&clip.file().unwrap(), &second.rtmp_url).unwrap();
    let tried = until_some(
        "several hostile workers have come and gone",
        Duration::from_secs(15),
        async || {
            let count = std::fs::read_to_string(workers.join("count")).ok()?.lines().count();
            (count > 6).then_some(count)
        },
    );
    println!("{} workers started", tried.await.unwrap());
    assert!(
        publisher.wait(Duration::from_secs(40)).await.unwrap().success(),
        "{}",
        publisher.log()
    );
    victim.kill().await.unwrap();
    player.media(f64::from(clip.seconds) - 0.2, Duration::from_secs(8)).await.unwrap();
    let view = farm.stream(&channel.stream).await.unwrap();
    assert_eq!((view.restarts, view.worker_pid), (0, Some(honest)), "the first stream's worker");
    let last = clip.frames().last().unwrap() - 2;
    check(&player.stop().await.unwrap(), &clip.expected().at_least(0..=last))
        .unwrap()
        .assert_lossless();
    let log = farm.log();
    for sign in ["memory allocation of 2147483648 bytes failed", "refused: Permission denied"] {
        assert!(log.contains(sign), "{sign}");
    }
    assert!(!log.contains("\"said\":\"done\""), "a deed succeeded");
}
