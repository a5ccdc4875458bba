//! FFmpeg's complaints as log lines: a broken stream makes thousands, so only some are written and the rest are counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lines written one by one.
const VERBATIM: u64 = 10;
/// Afterwards one of so many.
const THEN_EVERY: u64 = 500;

static LINES: AtomicU64 = AtomicU64::new(0);

/// Writes a line, unless there were many.
pub(crate) fn write(line: &str) {
    let before = LINES.fetch_add(1, Ordering::Relaxed);
    if before < VERBATIM || before.is_multiple_of(THEN_EVERY) {
        tracing::warn!(ffmpeg = line, before, "FFmpeg complains");
    }
}
