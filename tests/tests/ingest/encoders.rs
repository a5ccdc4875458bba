//! Programs that people publish with, as they come.

use millrace_publisher::Playout;
use millrace_testkit::{ClipSpec, Publisher};

use crate::ingest::stage::{
    by_ffmpeg, by_ourselves, by_program, farm, plays, program, seconds, small, tags,
};

#[tokio::test]
async fn ffmpeg_with_its_default_keyframes_eight_seconds_apart_plays() {
    plays(ClipSpec { seconds: 10, gop: None, bframes: 3, ..small() }).await;
}

#[tokio::test]
async fn ffmpeg_with_b_frames_plays() {
    plays(ClipSpec { bframes: 3, ..small() }).await;
}

#[tokio::test]
async fn ffmpeg_without_metadata_plays() {
    let (farm, clip) = (farm().await, small());
    let output = ["-c", "copy", "-flvflags", "no_metadata"];
    by_ffmpeg(&farm.channel(), &clip, &output, &clip.expected()).await;
}

#[tokio::test]
async fn gstreamer_with_rtmp2sink_plays() {
    let (farm, clip) = (farm().await, small());
    let (file, channel) = (clip.file().expect("a clip"), farm.channel());
    let pipeline = format!(
        "-q filesrc location={} ! qtdemux name=d \
         d.video_0 ! queue ! h264parse ! m.video d.audio_0 ! queue ! aacparse ! m.audio \
         flvmux name=m streamable=true ! clocksync ! rtmp2sink location={}",
        file.display(),
        channel.rtmp_url
    );
    let publisher = Publisher::spawn(program("gst-launch-1.0", &pipeline)).expect("gstreamer");
    by_program(&channel, publisher, seconds(&clip), &clip.expected()).await;
}

#[tokio::test]
async fn our_own_publisher_plays() {
    let (farm, clip) = (farm().await, small());
    let playout = Playout::rounds(&tags(&clip, &["-c", "copy"]).expect("tags"), 1);
    by_ourselves(&farm.channel(), playout, seconds(&clip), &clip.expected()).await;
}
