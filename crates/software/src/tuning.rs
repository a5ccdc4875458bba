//! How libx264 is set, in one place. What must hold for the farm (no B-frames, closed GOPs, IDRs only where told) is not tunable.

use millrace_transcode::{EncoderSettings, Size};

/// What may be traded against cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// A preset of libx264.
    pub preset: &'static str,
    /// Pictures that rate control looks ahead; each delays the output by one.
    pub lookahead: u8,
    /// Whether the lookahead steers quality per macroblock.
    pub mb_tree: bool,
    /// Reference pictures.
    pub references: u8,
}

impl Default for Tuning {
    /// Four pictures of lookahead give 1.6 to 3.4 VMAF over none on a hard source, at the same cost; more give no more.
    fn default() -> Self {
        Self { preset: "veryfast", lookahead: 4, mb_tree: true, references: 1 }
    }
}

impl Tuning {
    /// `x264-params`: bit-exact for equal input, length-prefixed output, nothing decided by content but the pictures themselves.
    pub(crate) fn x264_params(self, settings: &EncoderSettings) -> String {
        format!(
            "annexb=0:scenecut=0:open-gop=0:keyint=infinite:bframes=0:threads=1:sliced-threads=0:\
             sync-lookahead=0:rc-lookahead={}:mbtree={}:ref={}:level={}:aud=0:nal-hrd=none:force-cfr=1",
            self.lookahead,
            u8::from(self.mb_tree),
            self.references,
            level(settings.size, settings.frame_rate.fps(), self.references),
        )
    }
}

/// Level times ten, macroblocks per second, per picture, and in the decoded picture buffer (ITU-T H.264 table A-1).
const LEVELS: [(u32, u32, u32, u32); 9] = [
    (21, 19_800, 792, 4_752),
    (30, 40_500, 1_620, 8_100),
    (31, 108_000, 3_600, 18_000),
    (32, 216_000, 5_120, 20_480),
    (40, 245_760, 8_192, 32_768),
    (42, 522_240, 8_704, 34_816),
    (51, 983_040, 36_864, 184_320),
    (52, 2_073_600, 36_864, 184_320),
    (62, 16_711_680, 139_264, 696_320),
];

/// The lowest level that allows pictures of this size at this rate, times ten.
fn level(size: Size, fps: f64, references: u8) -> u32 {
    let blocks = size.width.div_ceil(16) * size.height.div_ceil(16);
    let fits = |&&(_, rate, picture, buffer): &&(u32, u32, u32, u32)| {
        f64::from(blocks) * fps <= f64::from(rate)
            && blocks <= picture
            && blocks * (u32::from(references) + 1) <= buffer
    };
    LEVELS.iter().find(fits).map_or(62, |&(level, ..)| level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_usual_ones_of_the_usual_rungs() {
        let level = |width, height, fps| level(Size { width, height }, fps, 1);
        assert_eq!(level(640, 360, 30.0), 30);
        assert_eq!(level(854, 480, 30.0), 31);
        assert_eq!(level(1280, 720, 30.0), 31);
        assert_eq!(level(1280, 720, 60.0), 32);
        assert_eq!(level(1920, 1080, 30.0), 40);
    }
}
