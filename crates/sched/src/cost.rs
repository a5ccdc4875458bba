//! What a ladder costs: the one table, used by the router to place and by the node to admit.

use millrace_types::{Ladder, RungKind};

use crate::Demand;

/// Memory of a worker that only repackages, bytes (promised in SPECIFICATION, with room for its queue).
const PASSTHROUGH_MEMORY_BYTES: u64 = 16 << 20;
/// Memory of a worker that decodes and encodes, before its pictures, bytes.
const TRANSCODE_MEMORY_BYTES: u64 = 48 << 20;
/// Bytes kept per pixel of an encoded picture: references, lookahead and scaled copies in 4:2:0.
const MEMORY_BYTES_PER_PIXEL: u64 = 12;

/// What a stream needs whose decoder would see `source_pixels_per_second`.
pub fn cost(source_pixels_per_second: u64, ladder: &Ladder) -> Demand {
    let videos = || {
        ladder.rungs.iter().filter_map(|rung| match &rung.kind {
            RungKind::Video(video) => Some(video),
            RungKind::Source | RungKind::Audio => None,
        })
    };
    if !ladder.is_transcoded() {
        return Demand { workers: 1, memory_bytes: PASSTHROUGH_MEMORY_BYTES, ..Demand::ZERO };
    }
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
    }
}
