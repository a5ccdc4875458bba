//! What a publisher says of its tracks before it sends them.

/// Kilobits per second: an announced bitrate of pictures below this is not believed.
const LEAST_VIDEO_KBPS: u32 = 100;

/// What a publisher says of its tracks' bitrates, kilobits per second; `None`: nothing that could be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Of the pictures.
    pub video_kbps: Option<u32>,
    /// Of the sound.
    pub audio_kbps: Option<u32>,
}

impl Announced {
    /// The bitrate of the pictures, unless it is a mistake of the encoder.
    pub fn believed_video_kbps(self) -> Option<u32> {
        self.video_kbps.filter(|&kbps| kbps >= LEAST_VIDEO_KBPS)
    }
}
