//! Publishes the demo picture until the server ends it.

use millrace_publisher::{Clip, Playout, PublishError, Publisher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), PublishError> {
    let mut publisher = Publisher::connect("rtmp://127.0.0.1:1935/live", "demo_key").await?;
    publisher.play(Playout::endless(&Clip::demo())).await?;
    publisher.finish().await
}
