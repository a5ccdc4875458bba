//! What publishers send, as a stream's clock takes it.

use millrace_media::{FlvError, Input, SourceHints};
use millrace_types::Announced;

use crate::ingest::{MessageKind, PublisherMessage, StreamMetadata};

/// A publisher's message for a [`millrace_media::Timeline`], and the bitrates that it announces if it is metadata. `None`: it
/// says nothing that helps.
///
/// # Errors
/// Metadata that names another codec than H.264 or AAC.
pub fn source_input(
    message: PublisherMessage,
) -> Result<Option<(Input, Option<Announced>)>, FlvError> {
    let PublisherMessage { kind, timestamp_ms, body } = message;
    Ok(match kind {
        MessageKind::Video => Some((Input::Video { timestamp_ms, body }, None)),
        MessageKind::Audio => Some((Input::Audio { timestamp_ms, body }, None)),
        MessageKind::Metadata => match StreamMetadata::parse(&body) {
            Some(StreamMetadata { foreign: Some(error), .. }) => return Err(error),
            Some(metadata) => {
                let StreamMetadata { video_kbps, audio_kbps, .. } = metadata;
                let hints = SourceHints {
                    frame_rate: metadata.frame_rate,
                    has_audio: metadata.has_audio,
                    has_video: metadata.has_video,
                };
                Some((Input::Metadata(hints), Some(Announced { video_kbps, audio_kbps })))
            }
            None => None,
        },
    })
}
