//! Where a recording's playlists said that something new begins. Judges nothing.

use millrace_testkit::{Recording, RenditionRecording};

/// How many segments of each rendition begin with a discontinuity.
pub fn discontinuities(recording: &Recording) -> Vec<(String, usize)> {
    let count = |rung: &RenditionRecording| {
        let mut marked: Vec<_> =
            rung.chunks.iter().filter(|chunk| chunk.discontinuity).map(|chunk| chunk.msn).collect();
        marked.dedup();
        (rung.name.clone(), marked.len())
    };
    recording.renditions.iter().map(count).collect()
}
