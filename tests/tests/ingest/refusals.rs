//! What is refused: the encoder prints why, its connection is closed, and the operator finds a log line.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use millrace_publisher::{Due, Playout, PublishError, Publisher as OurPublisher, Tag, TagKind};
use millrace_testkit::{ClipSpec, Fps, HttpClient, Publisher, until, until_some};
use millrace_tests::{Channel, Farm};

use crate::ingest::stage::{PATIENCE, by_program, farm, farm_with, program, seconds, small, tags};

/// ffmpeg with a test picture, a tone and those output options is refused: it logs the `reason` and what was `said`, and ends.
async fn ffmpeg_is_refused(farm: &Farm, url: &str, output: &str, reason: &str, said: &str) {
    let source = "-hide_banner -nostats -nostdin -re -f lavfi -i testsrc2=s=320x180:r=30:d=20 \
        -f lavfi -i sine=r=44100:d=20";
    let command = program("ffmpeg", &format!("{source} {output} -f flv {url}"));
    is_refused(farm, Publisher::spawn(command).expect("ffmpeg"), reason, said).await;
}

async fn is_refused(farm: &Farm, mut publisher: Publisher, reason: &str, said: &str) {
    let status = publisher.wait(PATIENCE).await.expect("the connection is closed");
    let log = publisher.log();
    assert!(!status.success(), "{log}");
    assert!(log.contains(&format!("{reason}: {said}")), "{log}");
    operator_reads(farm, reason).await;
}

/// The publisher may be told a moment before the operator.
async fn operator_reads(farm: &Farm, reason: &str) {
    let is_said = || {
        let log = farm.log();
        let refusals = log.lines().filter(|line| line.contains("refused") && line.contains(reason));
        refusals.into_iter().any(|line| line.contains("WARN"))
    };
    let said = until(&format!("a warning about {reason}"), PATIENCE, is_said).await;
    said.unwrap_or_else(|late| panic!("{late}: {}", farm.log()));
}

const X264: &str = "-c:v libx264 -preset ultrafast -g 30 -c:a aac";

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let farm = farm().await;
    let url = format!("{}/{}_{}", farm.rtmp_url(), farm.channel().stream, "a".repeat(26));
    ffmpeg_is_refused(&farm, &url, X264, "bad_key", "stream key not accepted").await;
    assert!(!farm.log().contains(&"a".repeat(26)), "a key is never logged");
}

#[tokio::test]
async fn a_revoked_key_is_refused() {
    let farm = farm().await;
    let channel = farm.new_channel("dismissed").await.expect("a channel");
    let revoked = farm.api(Method::POST, "/v1/channels/dismissed/revoke", String::new()).await;
    revoked.expect("revoked");
    ffmpeg_is_refused(&farm, &channel.rtmp_url, X264, "bad_key", "stream key not accepted").await;
}

#[tokio::test]
async fn video_of_another_codec_is_refused() {
    let farm = farm().await;
    let output = "-c:v flv1 -c:a aac";
    ffmpeg_is_refused(
        &farm,
        &farm.channel().rtmp_url,
        output,
        "video_codec",
        "video must be H.264",
    )
    .await;
}

#[tokio::test]
async fn sound_of_another_codec_is_refused() {
    let farm = farm().await;
    let output = "-c:v libx264 -preset ultrafast -g 30 -c:a libmp3lame";
    ffmpeg_is_refused(&farm, &farm.channel().rtmp_url, output, "audio_codec", "audio must be AAC")
        .await;
    nothing_is_live(&farm).await;
    let unsaid = format!("{output} -flvflags no_metadata");
    ffmpeg_is_refused(&farm, &farm.channel().rtmp_url, &unsaid, "audio_codec", "audio must be AAC")
        .await;
    nothing_is_live(&farm).await;
    assert!(!farm.log().contains("stream placed"), "no node need know of it: {}", farm.log());

    // The same once the pictures play: those who watch are told that it is over, at once.
    let clip = tags(&ClipSpec { seconds: 3, ..small() }, &["-c", "copy", "-an"]).expect("tags");
    let body = Bytes::from_static(b"\x2f\xff\xfb\x90\x64");
    let mp3 = Tag { kind: TagKind::Audio, timestamp_ms: 3_000, body };
    let late = [Due { after: Duration::from_secs(3), tag: mp3 }];
    let channel = farm.new_channel("late").await.expect("a channel");
    let text = refusal(&channel, Playout::rounds(&clip, 1).chain(late)).await;
    assert!(text.contains("audio_codec: audio must be AAC"), "{text}");
    let refused = Instant::now();
    nothing_is_live(&farm).await;
    assert!(farm.log().contains("stream placed"), "{}", farm.log());
    let media = channel.playback_url.replace("index.m3u8", "source/index.m3u8");
    let playlist = HttpClient::default().get(&media, PATIENCE).await.expect("a playlist");
    assert!(playlist.text().contains("#EXT-X-ENDLIST"), "{}", playlist.text());
    assert!(refused.elapsed() < Duration::from_secs(10), "{:?}", refused.elapsed());
}

/// No stream waits for a publisher that can only come back with the same codec.
async fn nothing_is_live(farm: &Farm) {
    let gone = until_some("no stream is live", Duration::from_secs(8), async || {
        let answer = farm.api(Method::GET, "/v1/streams", String::new()).await.ok()?;
        answer["streams"].as_array()?.is_empty().then_some(())
    });
    gone.await.unwrap_or_else(|late| panic!("{late}: {}", farm.log()));
}

#[tokio::test]
async fn a_bitrate_above_the_limit_is_refused() {
    let farm = farm_with("max_bitrate_kbps = 500").await;
    let output = format!("{X264} -b:v 6M -minrate 6M -maxrate 6M -bufsize 1M -nal-hrd cbr");
    ffmpeg_is_refused(
        &farm,
        &farm.channel().rtmp_url,
        &output,
        "bitrate_limit",
        "bitrate is above",
    )
    .await;
}

#[tokio::test]
async fn a_picture_or_a_rate_above_the_limit_is_refused() {
    let large =
        ClipSpec { width: 4_608, height: 2_592, fps: Fps::whole(5), gop: Some(5), ..small() };
    let fast = ClipSpec { fps: Fps::whole(240), gop: Some(480), ..small() };
    for clip in [large, fast] {
        let farm = farm().await;
        let url = farm.channel().rtmp_url;
        let publisher = Publisher::start(&clip.file().expect("a clip"), &url).expect("ffmpeg");
        is_refused(&farm, publisher, "source_limit", "resolution or frame rate is above").await;
    }
}

#[tokio::test]
async fn timestamps_that_stand_still_are_refused() {
    let farm = farm().await;
    let clip = tags(&ClipSpec { seconds: 12, ..small() }, &["-c", "copy"]).expect("tags");
    let still = |due: Due| Due { tag: Tag { timestamp_ms: 0, ..due.tag }, ..due };
    let text = refusal(&farm.channel(), Playout::rounds(&clip, 1).map(still)).await;
    assert!(text.contains("timestamps: the stream's timestamps stand still"), "{text}");
    operator_reads(&farm, "timestamps").await;
    nothing_is_live(&farm).await;
}

/// Sends messages until we are refused; what we are told.
async fn refusal(channel: &Channel, messages: impl IntoIterator<Item = Due>) -> String {
    let (url, key) = channel.rtmp_url.rsplit_once('/').expect("a key");
    let mut publisher = OurPublisher::connect(url, key).await.expect("let in");
    let listen = Due {
        after: Duration::from_secs(20),
        tag: Tag { kind: TagKind::Audio, timestamp_ms: 0, body: Bytes::new() },
    };
    match publisher.play(messages.into_iter().chain([listen])).await {
        Err(PublishError::Refused { text, .. }) => text,
        other => panic!("not refused: {other:?}"),
    }
}

/// Enhanced RTMP's sequence start of a codec by its four characters.
async fn enhanced_video_is_refused(farm: &Farm, fourcc: &[u8; 4]) {
    let body = Bytes::from([&[0x90], &fourcc[..], &[1, 1, 0x60, 0, 0, 0]].concat());
    let tag = Tag { kind: TagKind::Video, timestamp_ms: 0, body };
    let text = refusal(&farm.channel(), [Due { after: Duration::ZERO, tag }]).await;
    assert!(text.contains("video_codec: video must be H.264"), "{text}");
    operator_reads(farm, "video_codec").await;
}

#[tokio::test]
async fn hevc_in_enhanced_rtmp_is_refused() {
    enhanced_video_is_refused(&farm().await, b"hvc1").await;
}

#[tokio::test]
async fn vp9_in_enhanced_rtmp_is_refused() {
    enhanced_video_is_refused(&farm().await, b"vp09").await;
}

#[tokio::test]
async fn a_garbled_codec_header_is_refused() {
    let farm = farm().await;
    garbled_header_is_refused(&farm.channel()).await;
    operator_reads(&farm, "undecodable").await;
}

async fn garbled_header_is_refused(channel: &Channel) {
    let mut clip = tags(&small(), &["-c", "copy"]).expect("tags");
    for tag in clip.tags.iter_mut().filter(|tag| tag.kind == TagKind::Video && tag.is_header()) {
        tag.body = Bytes::from([&tag.body[..5], &garbage(1, 40)[..]].concat());
    }
    let text = refusal(channel, Playout::rounds(&clip, 1)).await;
    assert!(text.contains("undecodable: the stream's codec headers cannot be read"), "{text}");
}

/// A key is good, what comes with it is not: the publisher that is live loses nothing, and is not cut off.
#[tokio::test]
async fn who_sends_what_cannot_be_taken_takes_no_live_stream_over() {
    let farm = farm().await;
    let channel = farm.channel();
    let clip = ClipSpec { seconds: 12, ..small() };
    let live = Publisher::start(&clip.file().expect("a clip"), &channel.rtmp_url).expect("ffmpeg");
    let strangers = async {
        farm.worker(&channel.stream, None).await.expect("live");
        enhanced_video_is_refused(&farm, b"hvc1").await;
        let mp3 = "-c:v libx264 -preset ultrafast -g 30 -c:a libmp3lame -flvflags no_metadata";
        ffmpeg_is_refused(&farm, &channel.rtmp_url, mp3, "audio_codec", "audio must be AAC").await;
        garbled_header_is_refused(&channel).await;
    };
    let expected = clip.expected();
    tokio::join!(by_program(&channel, live, seconds(&clip), &expected), strangers);
    let view = farm.stream(&channel.stream).await.expect("still there");
    let events = view.rest["events"].as_array().expect("events");
    let joined = events.iter().filter(|event| event["kind"] == "publisher_joined").count();
    assert_eq!((joined, view.restarts), (1, 0), "{events:#?}");
}

/// A clip's pictures, with `rest` in place of all but their first `kept` bytes, are refused.
async fn pictures_are_refused(kept: usize, rest: impl Fn(u32, usize) -> Vec<u8>) {
    let farm = farm().await;
    let clip = ClipSpec { seconds: 20, ..small() };
    let mut clip = tags(&clip, &["-c", "copy"]).expect("tags");
    let frame = |tag: &&mut Tag| tag.kind == TagKind::Video && !tag.is_header();
    for (number, tag) in (0..).zip(clip.tags.iter_mut().filter(frame)) {
        let rest = rest(number, tag.body.len() - kept);
        tag.body = Bytes::from([&tag.body[..kept], &rest[..]].concat());
    }
    let text = refusal(&farm.channel(), Playout::rounds(&clip, 1)).await;
    assert!(text.contains("undecodable"), "{text}");
    operator_reads(&farm, "undecodable").await;
}

/// Garbage behind the FLV tag's header: not even NAL units can be told apart.
#[tokio::test]
async fn pictures_of_garbage_are_refused() {
    pictures_are_refused(5, garbage).await;
}

/// Nothing behind the first NAL unit's length and type: only a decoder can tell.
#[tokio::test]
async fn slices_that_no_decoder_reads_are_refused() {
    pictures_are_refused(10, |_, length| vec![0; length]).await;
}

/// Bytes that mean nothing, the same for the same seed.
fn garbage(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..length).map(|_| next()).collect()
}
