//! What a ladder costs: the one table, used by the router to place and by the node to admit.
//!
//! Each dimension counts what no other does: pixels are what decoding, scaling and encoding cost, host CPU is all the rest that
//! is done to a stream, by what is carried of it; egress is what the node sends. Why so: `docs/adr/0034-*`.

use millrace_types::{Announced, Ladder, RungKind};

use crate::Demand;

/// Memory of a worker that only repackages, bytes (promised in SPECIFICATION, with room for its queue).
const PASSTHROUGH_MEMORY_BYTES: u64 = 16 << 20;
/// Memory of a worker that decodes and encodes, before its pictures, bytes.
const TRANSCODE_MEMORY_BYTES: u64 = 48 << 20;
/// Bytes kept per pixel of an encoded picture: references, lookahead and scaled copies in 4:2:0.
const MEMORY_BYTES_PER_PIXEL: u64 = 12;

/// Thousandths of a core that a stream takes whatever is in it: wake-ups, parts, requests to the origin.
const STREAM_MILLICORES: u64 = 8;
/// Kilobits per second that are carried, in or out, for a thousandth of a core.
const KBPS_PER_MILLICORE: u64 = 4_000;
/// Pixels that a bit shows in a picture whose bitrate nobody announced: 6.2 Mbit/s for 1080p30.
const PIXELS_PER_BIT: u64 = 10;
/// Kilobits per second of sound whose bitrate nobody announced.
const AUDIO_KBPS: u32 = 160;
/// Kilobits per second of sound that no encoder sends: who announces more has announced bits.
const MOST_AUDIO_KBPS: u32 = 1_000;
/// Pictures that are announced as more than so many times what their size suggests are taken for that much,
const MOST_OVER_GUESSED: u64 = 8;
/// or for so many kilobits per second where they are small.
const MOST_VIDEO_KBPS: u64 = 20_000;
/// Egress that is reserved for each bit of media, percent: pictures that take more for a while, and what is around the media.
const EGRESS_PERCENT: u64 = 125;

/// What a stream needs whose decoder would see `source_pixels_per_second`, on the one node that makes it: where two do, each
/// reserves all of it.
pub fn cost(source_pixels_per_second: u64, announced: Announced, ladder: &Ladder) -> Demand {
    let carried = carried(source_pixels_per_second, announced, ladder);
    if !ladder.is_transcoded() {
        return Demand { workers: 1, memory_bytes: PASSTHROUGH_MEMORY_BYTES, ..carried };
    }
    let videos = || {
        ladder.rungs.iter().filter_map(|rung| match &rung.kind {
            RungKind::Video(video) => Some(video),
            RungKind::Source | RungKind::Audio => None,
        })
    };
    let area = |width: u32, height: u32| u64::from(width) * u64::from(height);
    let encode = videos()
        .map(|video| (area(video.width, video.height) as f64 * video.frame_rate.fps()) as u64)
        .sum();
    let pictures: u64 = videos().map(|video| area(video.width, video.height)).sum();
    Demand {
        decode_pixels_per_second: source_pixels_per_second,
        encode_pixels_per_second: encode,
        workers: 1,
        memory_bytes: TRANSCODE_MEMORY_BYTES + pictures * MEMORY_BYTES_PER_PIXEL,
        ..carried
    }
}

/// What it takes to bring media in and every rung out. Each rung that is the source under another name is sent once more.
fn carried(source_pixels_per_second: u64, announced: Announced, ladder: &Ladder) -> Demand {
    let guessed = source_pixels_per_second / PIXELS_PER_BIT / 1_000;
    let most = MOST_VIDEO_KBPS.max(guessed * MOST_OVER_GUESSED);
    let video_kbps = announced.believed_video_kbps().map_or(guessed, |kbps| most.min(kbps.into()));
    let audio_kbps = announced.audio_kbps.filter(|kbps| *kbps <= MOST_AUDIO_KBPS);
    let audio_kbps = u64::from(audio_kbps.unwrap_or(AUDIO_KBPS));
    let rung_kbps = |kind: &RungKind| match kind {
        RungKind::Source => video_kbps,
        RungKind::Video(video) => u64::from(video.bitrate_kbps),
        RungKind::Audio => audio_kbps,
    };
    let out_kbps: u64 = ladder.rungs.iter().map(|rung| rung_kbps(&rung.kind)).sum();
    let carried_kbps = video_kbps + audio_kbps + out_kbps;
    Demand {
        host_cpu_millicores: STREAM_MILLICORES + carried_kbps.div_ceil(KBPS_PER_MILLICORE),
        egress_bits_per_second: out_kbps * 1_000 * EGRESS_PERCENT / 100,
        ..Demand::ZERO
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::FrameRate;
    use proptest::prelude::*;

    use super::*;
    use crate::{LadderConfig, Source, full_ladder, passthrough_ladder, unencoded_ladder};

    const RATE: FrameRate = FrameRate { num: 30, den: 1 };

    fn source(height: u32, announced: Announced) -> (u64, Source) {
        let width = height * 16 / 9;
        let source = Source { video: Some((width, height, RATE)), announced };
        (u64::from(width) * u64::from(height) * 30, source)
    }

    #[test]
    fn a_stream_takes_egress_for_each_rung_and_host_cpu_for_what_is_carried() {
        let announced = Announced { video_kbps: Some(6_000), audio_kbps: Some(160) };
        let (pixels, source) = source(1_080, announced);
        let full = full_ladder(&source, &LadderConfig::default());
        let demand = cost(pixels, announced, &full);
        // 6,000 + 2,800 + 1,400 + 700 + 160 kbit/s out, and a quarter more; 6,160 in.
        assert_eq!(demand.egress_bits_per_second, 13_825_000);
        assert_eq!(demand.host_cpu_millicores, 8 + 5);
        assert_eq!(demand.decode_pixels_per_second, pixels);
        let alone = cost(pixels, announced, &passthrough_ladder(&source));
        assert_eq!(alone.egress_bits_per_second, 7_700_000);
        assert_eq!((alone.host_cpu_millicores, alone.decode_pixels_per_second), (8 + 4, 0));
        let aliases = cost(pixels, announced, &unencoded_ladder(&full));
        assert_eq!(aliases.egress_bits_per_second, 30_200_000, "the source, four times");
    }

    #[test]
    fn a_bitrate_that_nobody_announces_or_that_cannot_be_is_guessed_from_the_picture() {
        let guessed = |video_kbps| {
            let announced = Announced { video_kbps, audio_kbps: None };
            let (pixels, source) = source(1_080, announced);
            cost(pixels, announced, &passthrough_ladder(&source)).egress_bits_per_second
        };
        assert_eq!(guessed(None), (6_220 + 160) * 1_250);
        assert_eq!(guessed(Some(3)), guessed(None));
        let sound = Source { video: None, announced: Announced::default() };
        let demand = cost(0, sound.announced, &passthrough_ladder(&sound));
        assert_eq!((demand.egress_bits_per_second, demand.host_cpu_millicores), (200_000, 9));
    }

    #[test]
    fn a_publisher_that_announces_bits_for_kilobits_reserves_no_host_for_itself() {
        let of = |video_kbps, audio_kbps, height| {
            let announced =
                Announced { video_kbps: Some(video_kbps), audio_kbps: Some(audio_kbps) };
            let (pixels, source) = source(height, announced);
            cost(pixels, announced, &passthrough_ladder(&source)).egress_bits_per_second
        };
        assert_eq!(of(6_000, 160_000, 1_080), of(6_000, 160, 1_080));
        assert_eq!(of(999_999, 160, 1_080), (8 * 6_220 + 160) * 1_250);
        assert_eq!(of(999_999, 160, 180), (20_000 + 160) * 1_250);
        assert_eq!(of(40_000, 320, 1_080), (40_000 + 320) * 1_250, "what can be is believed");
    }

    proptest! {
        #[test]
        fn every_stream_costs_something_of_what_every_stream_needs_and_no_rung_is_free(
            height in 1..120_u32,
            video_kbps in prop::option::of(1..1_000_000_u32),
            audio_kbps in prop::option::of(1..1_000_000_u32),
        ) {
            let announced = Announced { video_kbps, audio_kbps };
            let (pixels, source) = source(height * 18, announced);
            let full = full_ladder(&source, &LadderConfig::default());
            let (full, alone) = (cost(pixels, announced, &full), cost(pixels, announced, &passthrough_ladder(&source)));
            for demand in [full, alone] {
                prop_assert!(demand.workers == 1 && demand.host_cpu_millicores > 0);
                prop_assert!(demand.memory_bytes > 0 && demand.egress_bits_per_second > 0);
            }
            prop_assert_eq!(full.encode_pixels_per_second > 0, full.egress_bits_per_second > alone.egress_bits_per_second);
            prop_assert!(full.host_cpu_millicores >= alone.host_cpu_millicores);
        }
    }
}
