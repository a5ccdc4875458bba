//! ffmpeg and GStreamer publish; what they send is counted, and what we tell them is in their logs.

use std::process::{Output, Stdio};

use millrace_router::ingest::{IngestEnd, Refusal};
use millrace_types::RefusalReason;
use tokio::{process::Command, time::timeout};

use crate::farm::{Farm, PATIENCE, next_media, tally};

/// An encoder's run; killed if the test ends before it.
fn command(program: &str, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

pub fn ffmpeg(seconds: u32, more: &str, url: &str) -> Command {
    command(
        "ffmpeg",
        &format!(
            "-hide_banner -nostats -re -f lavfi -i testsrc2=size=320x180:rate=30:duration={seconds} \
             -f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds} \
             -c:v libx264 -preset ultrafast -g 30 -c:a aac {more} -f flv {url}"
        ),
    )
}

pub async fn finish(command: &mut Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("the encoder ends").expect("it runs")
}

pub fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn every_frame_that_ffmpeg_sends_arrives() {
    let mut farm = Farm::start().await;
    let mut encoder = ffmpeg(2, "", &farm.url());
    let (output, tally) =
        tokio::join!(finish(&mut encoder), async { tally(farm.publication().await).await });
    assert!(output.status.success(), "{}", log(&output));
    // Sixty frames, the codec's header, and the end-of-sequence that ffmpeg sends last.
    assert_eq!(tally.video, 62, "{tally:?}");
    assert!((90..=100).contains(&tally.audio), "{tally:?}");
    assert_eq!((tally.metadata, tally.end), (1, Some(IngestEnd::Unpublished)));
}

/// GStreamer with its own RTMP (`rtmp2sink`) or librtmp, which OBS builds upon (`rtmpsink`).
fn gstreamer(sink: &str, url: &str) -> Command {
    command(
        "gst-launch-1.0",
        &format!(
            "videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 \
             ! x264enc speed-preset=ultrafast tune=zerolatency key-int-max=30 ! h264parse \
             ! flvmux streamable=true ! {sink} location={url}"
        ),
    )
}

#[tokio::test]
async fn every_frame_that_gstreamer_and_librtmp_send_arrives() {
    let mut farm = Farm::start().await;
    for sink in ["rtmp2sink", "rtmpsink"] {
        let mut encoder = gstreamer(sink, &farm.url());
        let (output, tally) =
            tokio::join!(finish(&mut encoder), async { tally(farm.publication().await).await });
        assert!(output.status.success(), "{sink}: {}", log(&output));
        // The end of sequence is FLV's own and not sent by all versions.
        assert!((61..=62).contains(&tally.video), "{sink}: {tally:?}");
        assert!((1_966..=1_967).contains(&tally.last_video_ms), "{sink}: {tally:?}");
        assert_eq!(tally.end, Some(IngestEnd::Unpublished), "{sink}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_explained_in_the_encoders_logs() {
    let farm = Farm::start().await;
    let url = format!("rtmp://{}/live/demo_{}", farm.address, "a".repeat(26));
    let output = finish(&mut ffmpeg(2, "", &url)).await;
    assert!(!output.status.success());
    assert!(log(&output).contains("bad_key: stream key not accepted"), "{}", log(&output));
    let output = finish(&mut gstreamer("rtmp2sink", &url)).await;
    assert!(!output.status.success());
    assert!(log(&output).contains("stream key not accepted"), "{}", log(&output));
    farm.counted(RefusalReason::BadKey, 2).await;
}

#[tokio::test]
async fn a_wrong_application_is_explained_in_the_encoders_log() {
    let farm = Farm::start().await;
    let url = farm.url().replace("/live/", "/vod/");
    let output = finish(&mut ffmpeg(2, "", &url)).await;
    assert!(!output.status.success());
    assert!(log(&output).contains(RefusalReason::BadApp.advice()), "{}", log(&output));
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_the_stream_is_explained_in_the_encoders_log() {
    let mut farm = Farm::start().await;
    let mut encoder = ffmpeg(10, "", &farm.url());
    let refuse = async {
        let mut publication = farm.publication().await;
        next_media(&mut publication).await;
        publication.refuse(Refusal::with_detail(RefusalReason::VideoCodec, "a test"));
        tally(publication).await
    };
    let (output, tally) = tokio::join!(finish(&mut encoder), refuse);
    assert!(log(&output).contains("video_codec: video must be H.264"), "{}", log(&output));
    assert!(matches!(tally.end, Some(IngestEnd::Refused(_))), "{tally:?}");
}
