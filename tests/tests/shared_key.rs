//! One key in two encoders at two routers: they take the stream from each other, three times a minute, and then who sends stays.

use std::time::Duration;

use millrace_testkit::{ClipSpec, Publisher, until, until_some};
use millrace_tests::{ManyFarm, ManyOptions};

#[tokio::test]
async fn encoders_that_share_a_key_take_it_from_each_other_across_routers_three_times_a_minute() {
    let options = ManyOptions { nodes: 1, routers: 2, ..ManyOptions::default() };
    let farm = ManyFarm::start(options).await.unwrap();
    let first = farm.address("router-1", "rtmp").unwrap();
    let channel = farm.new_channel("shared", first).await.unwrap();
    let file = ClipSpec { seconds: 60, ..ClipSpec::default() }.file().unwrap();
    let publish = |router: &str| {
        let url = channel
            .rtmp_url
            .replace(&first.to_string(), &farm.address(router, "rtmp").unwrap().to_string());
        Publisher::start(&file, &url).unwrap()
    };
    let sends = async |router: &str| {
        let view = farm.stream(router, "shared").await.ok()?;
        let connected = view.rest["publisher"]["connected"] == true;
        (view.state == "live" && connected).then_some(())
    };
    let mut encoders = Vec::new();
    for router in ["router-1", "router-2", "router-1", "router-2"] {
        encoders.push(publish(router));
        let what = format!("an encoder sends to {router}");
        until_some(&what, Duration::from_secs(15), async || sends(router).await).await.unwrap();
    }
    let mut fifth = publish("router-1");
    assert!(!fifth.wait(Duration::from_secs(10)).await.unwrap().success());
    let refused = || farm.log("router-1").contains("takeover_limit");
    until("the fifth is told why", Duration::from_secs(5), refused).await.unwrap();
    assert!(encoders[3].is_running() && sends("router-2").await.is_some());
}
