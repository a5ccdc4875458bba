//! The texts of one state of one rung's playlist, each made at most once, when first asked for.

use std::{io::Write as _, sync::OnceLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// A text and its gzip form.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) plain: Bytes,
    gzip: OnceLock<Bytes>,
}

impl Text {
    pub(crate) fn new(text: String) -> Self {
        Self { plain: text.into(), gzip: OnceLock::new() }
    }

    pub(crate) fn gzip(&self) -> Bytes {
        self.gzip.get_or_init(|| gzip(&self.plain)).clone()
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("invariant: writing to memory does not fail").into()
}

/// The media playlist of a rung and its delta update.
#[derive(Debug, Default)]
pub(crate) struct RenditionText {
    full: OnceLock<Option<Text>>,
    delta: OnceLock<Option<Text>>,
}

impl RenditionText {
    /// The text, made by `write` if it is not there yet; `None` if there was nothing to write.
    pub(crate) fn get(&self, delta: bool, write: impl FnOnce() -> Option<String>) -> Option<&Text> {
        let slot = if delta { &self.delta } else { &self.full };
        slot.get_or_init(|| write().map(Text::new)).as_ref()
    }
}
