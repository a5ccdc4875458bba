//! Publishes 20 s to a running farm and counts what a player got: `lossless RTMP_URL PLAYBACK_URL`.

use std::time::Duration;

use anyhow::Context as _;
use millrace_testkit::{ClipSpec, Player, PlayerOptions, Publisher, check};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut urls = std::env::args().skip(1);
    let rtmp_url = urls.next().context("RTMP_URL is missing")?;
    let playback_url = urls.next().context("PLAYBACK_URL is missing")?;

    let clip = ClipSpec { seconds: 20, ..ClipSpec::default() };
    let mut publisher = Publisher::start(&clip.file()?, &rtmp_url)?;
    let player = Player::start(&playback_url, PlayerOptions::default());
    publisher.wait(Duration::from_secs(30)).await?;
    player.ended(Duration::from_secs(60)).await?;
    let report = check(&player.stop().await?, &clip.expected())?;
    println!("{report}");
    report.assert_lossless();
    Ok(())
}
