//! SIGHUP: what the file says of limits and of the log holds from then on, and nobody who is in is turned away.

use std::time::Duration;

use millrace_testkit::{ClipSpec, Publisher, until, until_some};
use millrace_tests::{Farm, FarmOptions};

const WITHIN: Duration = Duration::from_secs(15);

fn with(toml: &str) -> FarmOptions {
    FarmOptions { toml: toml.to_owned(), rungs: Vec::new(), ..FarmOptions::default() }
}

/// Publishes under a key that no channel has, to the end.
async fn knock(farm: &Farm) {
    let clip = ClipSpec { seconds: 2, ..ClipSpec::default() };
    let url = format!("{}/nobody_aaaaaaaaaaaaaaaaaaaaaaaaaa", farm.rtmp_url());
    let mut stranger = Publisher::start(&clip.file().unwrap(), &url).unwrap();
    assert!(!stranger.wait(WITHIN).await.unwrap().success());
}

async fn reloaded(farm: &Farm, toml: &str, times: usize) {
    farm.reload(&with(toml)).unwrap();
    let said = || farm.log().matches("settings reloaded").count() >= times;
    until("the settings are read again", WITHIN, said).await.unwrap();
}

#[tokio::test]
async fn a_raised_bitrate_limit_lets_a_publisher_in_and_a_lowered_one_turns_nobody_away() {
    let (low, high) = ("[router]\nmax_bitrate_kbps = 20", "[router]\nmax_bitrate_kbps = 50000");
    let farm = Farm::start(with(low)).await.unwrap();
    let channel = farm.channel();
    let clip = ClipSpec { seconds: 14, ..ClipSpec::default() }.file().unwrap();
    let mut refused = Publisher::start(&clip, &channel.rtmp_url).unwrap();
    assert!(!refused.wait(WITHIN).await.unwrap().success());
    assert!(farm.log().contains("bitrate_limit"), "{}", farm.log());

    reloaded(&farm, high, 1).await;
    let mut publisher = Publisher::start(&clip, &channel.rtmp_url).unwrap();
    until_some("a publisher that is in", WITHIN, async || {
        let view = farm.stream(&channel.stream).await.ok()?;
        let is_in = view.rest["publisher"]["connected"] == true;
        (view.state == "live" && is_in).then_some(())
    })
    .await
    .unwrap();
    reloaded(&farm, low, 2).await;
    assert!(publisher.wait(WITHIN * 2).await.unwrap().success(), "{}", publisher.log());
    let mut late = Publisher::start(&clip, &channel.rtmp_url).unwrap();
    assert!(!late.wait(WITHIN).await.unwrap().success(), "the lowered limit holds for the next");
}

#[tokio::test]
async fn the_log_says_more_and_less_as_the_file_does_and_a_broken_file_changes_nothing() {
    let farm = Farm::start(with("log = 'error'")).await.unwrap();
    knock(&farm).await;
    assert!(!farm.log().contains("publisher refused"), "{}", farm.log());
    reloaded(&farm, "log = 'info'", 1).await;
    assert!(!farm.log().contains("need a new start"), "{}", farm.log());
    knock(&farm).await;
    let refusals = || farm.log().matches("publisher refused").count();
    until("the refusal is in the log", WITHIN, || refusals() == 1).await.unwrap();
    farm.reload(&with("log = 'error'\nlgo = 1")).unwrap();
    until("the mistake is in the log", WITHIN, || farm.log().contains("settings not reloaded"))
        .await
        .unwrap();
    knock(&farm).await;
    until("the log goes on", WITHIN, || refusals() == 2).await.unwrap();
    reloaded(&farm, "log = 'info'\n[router]\nname = 'other'\nmax_connections = 9", 2).await;
    let log = farm.log();
    let said = log.lines().find(|line| line.contains("need a new start")).expect(&log);
    assert!(said.contains("router.name") && !said.contains("max_connections"), "{said}");
}
