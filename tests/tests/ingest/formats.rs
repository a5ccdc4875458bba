//! Sound and pictures of every shape and rate that encoders send.

use bytes::Bytes;
use millrace_publisher::{Playout, TagKind};
use millrace_testkit::{ClipAudio, ClipSpec, Expected, Fps, Report};

use crate::ingest::stage::{by_ffmpeg, by_ourselves, farm, plays, seconds, small, tags};

fn with_sound(sample_rate: u32, channels: u32) -> ClipSpec {
    ClipSpec { audio: Some(ClipAudio { sample_rate, channels, kbps: 64 }), ..small() }
}

#[tokio::test]
async fn sound_of_44_100_hz_plays() {
    plays(with_sound(44_100, 2)).await;
}

#[tokio::test]
async fn mono_sound_plays() {
    plays(with_sound(48_000, 1)).await;
}

/// An `AudioSpecificConfig` of explicit SBR (ISO/IEC 14496-3 1.6.2.1): type 5 at 24 kHz, stereo, extended to 48 kHz, over AAC-LC.
const HE_AAC: [u8; 4] = [0x2B, 0x11, 0x88, 0x00];

/// No free encoder makes HE-AAC here, so frames of AAC-LC at 24 kHz are announced as HE-AAC with no band to replicate.
#[tokio::test]
async fn he_aac_plays() {
    let (farm, clip) = (farm().await, with_sound(24_000, 2));
    let mut tags = tags(&clip, &["-c", "copy"]).expect("tags");
    let header = |tag: &&mut millrace_publisher::Tag| tag.kind == TagKind::Audio && tag.is_header();
    for tag in tags.tags.iter_mut().filter(header) {
        tag.body = Bytes::from([&tag.body[..2], &HE_AAC].concat());
    }
    let playout = Playout::rounds(&tags, 1);
    // A decoder of SBR delays by 962 samples, which only an encoder that knows of it makes up for.
    let expected = Expected { max_av_offset_ms: 60.0, ..clip.expected() };
    by_ourselves(&farm.channel(), playout, seconds(&clip), &expected).await;
}

#[tokio::test]
async fn pictures_without_sound_play_with_silence() {
    let report = plays(ClipSpec { audio: None, ..small() }).await;
    let silence = report.rendition("audio").and_then(|rendition| rendition.audio.as_ref());
    let silence = silence.expect("an audio rendition");
    assert!(silence.seconds > 5.9 && silence.clicks == 0, "{silence:?}");
}

#[tokio::test]
async fn sound_that_stops_midway_is_followed_by_silence() {
    let (farm, clip) = (farm().await, small());
    let tags = tags(&clip, &["-c", "copy"]).expect("tags");
    let sent = Playout::rounds(&tags, 1)
        .filter(|due| due.tag.kind != TagKind::Audio || due.tag.timestamp_ms < 2_500);
    let expected = Expected { clicks: false, ..clip.expected() };
    let report = by_ourselves(&farm.channel(), sent, seconds(&clip), &expected).await;
    let sound = report.rendition("audio").and_then(|rendition| rendition.audio.as_ref());
    let sound = sound.expect("an audio rendition");
    assert!(sound.seconds > 5.9 && (2..=3).contains(&sound.clicks), "{sound:?}");
}

#[tokio::test]
async fn sound_without_pictures_plays() {
    let (farm, clip) = (farm().await, small());
    let mut expected = clip.expected();
    expected.clips.clear();
    let output = ["-vn", "-c:a", "copy"];
    let report = by_ffmpeg(&farm.channel(), &clip, &output, &expected).await;
    let names: Vec<_> = report.renditions.iter().map(|rendition| &rendition.name).collect();
    assert_eq!(names, ["audio"]);
    let sound = report.renditions[0].audio.as_ref().expect("sound");
    assert!((5..=6).contains(&sound.clicks), "{sound:?}");
}

#[tokio::test]
async fn a_portrait_picture_plays() {
    let report = plays(ClipSpec { width: 180, height: 320, ..small() }).await;
    assert!(report.rendition("144p").is_some());
}

#[tokio::test]
async fn a_picture_that_fills_no_whole_macroblocks_plays() {
    plays(ClipSpec { width: 426, height: 242, ..small() }).await;
}

#[tokio::test]
async fn a_picture_of_odd_width_and_height_plays() {
    let (farm, clip) = (farm().await, small());
    let output = "-vf scale=427:241:flags=area -c:v libx264 -preset ultrafast -pix_fmt yuv444p -g 30 -c:a copy";
    let output: Vec<_> = output.split(' ').collect();
    by_ffmpeg(&farm.channel(), &clip, &output, &clip.expected()).await;
}

/// Publishes three streams at once, one for each rate.
async fn rates_play(rates: [Fps; 3]) -> Vec<Report> {
    let farm = farm().await;
    let played = rates.map(async |fps| {
        let clip = ClipSpec { fps, gop: Some(fps.rate().round() as u32), ..small() };
        let name = format!("rate-{}", fps.frames);
        let channel = farm.new_channel(&name).await.expect("a channel");
        by_ffmpeg(&channel, &clip, &["-c", "copy"], &clip.expected()).await
    });
    let [a, b, c] = played;
    let (a, b, c) = tokio::join!(a, b, c);
    vec![a, b, c]
}

fn steps(report: &Report) -> Vec<u32> {
    report.renditions.iter().flat_map(|one| &one.video).map(|video| video.step).collect()
}

const fn ntsc(thousands: u32) -> Fps {
    Fps { frames: thousands * 1_000, per_seconds: 1_001 }
}

#[tokio::test]
async fn streams_of_25_and_29_97_and_30_fps_play_every_frame_on_every_rung() {
    for report in rates_play([Fps::whole(25), ntsc(30), Fps::whole(30)]).await {
        assert_eq!(steps(&report), [1, 1]);
    }
}

#[tokio::test]
async fn streams_of_50_and_59_94_and_60_fps_play_every_second_frame_on_encoded_rungs() {
    for report in rates_play([Fps::whole(50), ntsc(60), Fps::whole(60)]).await {
        assert_eq!(steps(&report), [1, 2]);
    }
}
