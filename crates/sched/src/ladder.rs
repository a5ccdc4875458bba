//! What a stream is encoded into, from its source and the configured rungs. Never upscales, keeps the aspect, sizes even.

use millrace_types::{Announced, FrameRate, IdError, Ladder, Rung, RungId, RungKind, VideoRung};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// Above this many frames per second an encoded rung leaves out every other frame.
const HALVE_ABOVE_FPS: f64 = 30.5;
/// Pixels: one macroblock (ITU-T H.264 6.3).
const SHORTEST_SIDE: u32 = 16;
/// Pixels: the side of the largest square picture of level 6.2 (ITU-T H.264 A.3.1), rounded.
const LONGEST_SHORT_SIDE: u32 = 8192;
/// Kilobits per second: beyond the 800,000 of level 6.2 (ITU-T H.264 table A-1), and below what encoders count in bits.
const MOST_KBPS: u32 = 1_000_000;

/// What the router knows of a publisher's tracks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// Pixels, and the nominal rate; `None` for audio only.
    pub video: Option<SourceVideo>,
    /// Its bitrates as the publisher announced them.
    pub announced: Announced,
}

/// The picture of a source.
pub type SourceVideo = (u32, u32, FrameRate);

/// The configured rungs of encoded video, best first: `[[ladder.rung]]` in the TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LadderConfig {
    /// The rungs below `source`.
    #[serde(deserialize_with = "usable_rungs")]
    pub rung: Vec<RungConfig>,
}

/// One configured rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RungConfig {
    /// Label.
    pub name: RungId,
    /// Length of the picture's short side, pixels.
    pub short_side: u32,
    /// Rate-control target and cap, kilobits per second.
    pub bitrate_kbps: u32,
}

/// Rungs that no stream could be encoded into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// A rendition's name is its URL, and these are always there.
    #[error("a rung cannot be called {0}: every stream has one of that name")]
    Reserved(RungId),
    /// Two rungs of one name would write over each other.
    #[error("two rungs are called {0}")]
    Twice(RungId),
    /// Smaller than encoders take.
    #[error("rung {0} has a short side of {1} pixels: at least {SHORTEST_SIDE} are needed")]
    Small(RungId, u32),
    /// Larger than encoders take.
    #[error("rung {0} has a short side of {1} pixels: at most {LONGEST_SHORT_SIDE} can be encoded")]
    Large(RungId, u32),
    /// More than encoders take.
    #[error("rung {0} has a bitrate of {1} kbit/s: at most {MOST_KBPS} can be encoded")]
    Fast(RungId, u32),
    /// Nothing to encode with.
    #[error("rung {0} has a bitrate of 0 kbit/s")]
    NoBitrate(RungId),
}

fn usable_rungs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RungConfig>, D::Error> {
    let rungs = Vec::deserialize(from)?;
    check(&rungs).map_err(D::Error::custom)?;
    Ok(rungs)
}

fn check(rungs: &[RungConfig]) -> Result<(), LadderError> {
    for (index, RungConfig { name, short_side, bitrate_kbps }) in rungs.iter().enumerate() {
        let name = || name.clone();
        if ["source", "audio"].contains(&name().as_str()) {
            return Err(LadderError::Reserved(name()));
        }
        if rungs[..index].iter().any(|other| other.name == name()) {
            return Err(LadderError::Twice(name()));
        }
        if *short_side < SHORTEST_SIDE {
            return Err(LadderError::Small(name(), *short_side));
        }
        if *short_side > LONGEST_SHORT_SIDE {
            return Err(LadderError::Large(name(), *short_side));
        }
        if *bitrate_kbps > MOST_KBPS {
            return Err(LadderError::Fast(name(), *bitrate_kbps));
        }
        if *bitrate_kbps == 0 {
            return Err(LadderError::NoBitrate(name()));
        }
    }
    Ok(())
}

impl Default for LadderConfig {
    fn default() -> Self {
        let rung = |name: &str, short_side, bitrate_kbps| {
            let name: Result<RungId, IdError> = name.parse();
            let name = name.expect("invariant: default rung names are names");
            RungConfig { name, short_side, bitrate_kbps }
        };
        Self {
            rung: vec![rung("720p", 720, 2800), rung("480p", 480, 1400), rung("360p", 360, 700)],
        }
    }
}

fn rung(name: &str, kind: RungKind) -> Rung {
    Rung { id: name.parse().expect("invariant: fixed rung names are names"), kind }
}

/// Source and audio only: nothing is decoded.
pub fn passthrough_ladder(source: &Source) -> Ladder {
    let mut rungs = Vec::new();
    if source.video.is_some() {
        rungs.push(rung("source", RungKind::Source));
    }
    rungs.push(rung("audio", RungKind::Audio));
    Ladder { rungs }
}

/// The same rungs, each made of the publisher's own video: what becomes of a ladder that nothing can encode any more.
///
/// Players do not load a multivariant playlist again, so every rung they know goes on under its name.
pub fn unencoded_ladder(ladder: &Ladder) -> Ladder {
    let unencoded = |rung: &Rung| match &rung.kind {
        RungKind::Video(_) => Rung { id: rung.id.clone(), kind: RungKind::Source },
        RungKind::Source | RungKind::Audio => rung.clone(),
    };
    Ladder { rungs: ladder.rungs.iter().map(unencoded).collect() }
}

/// A smaller picture costs less than its source: at most the source's bitrate in proportion to the sides, where that is
/// known. The announced one is all there is when a ladder is chosen, since nothing is measured before the first frame.
fn bitrate_kbps(wanted: &RungConfig, source: &Source, short_side: u32) -> u32 {
    let believed = source.announced.believed_video_kbps();
    let in_proportion = |kbps: u32| {
        let exact = u64::from(kbps) * u64::from(wanted.short_side) / u64::from(short_side);
        u32::try_from(exact).unwrap_or(u32::MAX).max(1)
    };
    believed.map_or(wanted.bitrate_kbps, |kbps| wanted.bitrate_kbps.min(in_proportion(kbps)))
}

/// Source, every configured rung whose short side is below the source's, and audio.
pub fn full_ladder(source: &Source, config: &LadderConfig) -> Ladder {
    let mut ladder = passthrough_ladder(source);
    let Some((width, height, rate)) = source.video else { return ladder };
    let short_side = width.min(height);
    let halved = rate.fps() > HALVE_ABOVE_FPS;
    let frame_rate = if halved { FrameRate { num: rate.num, den: rate.den * 2 } } else { rate };
    let videos = config.rung.iter().filter(|rung| rung.short_side < short_side).map(|wanted| {
        let scaled = |side: u32| {
            let exact = f64::from(side) * f64::from(wanted.short_side) / f64::from(short_side);
            ((exact / 2.0).round() as u32 * 2).max(2)
        };
        Rung {
            id: wanted.name.clone(),
            kind: RungKind::Video(VideoRung {
                width: scaled(width),
                height: scaled(height),
                frame_rate,
                halved,
                bitrate_kbps: bitrate_kbps(wanted, source, short_side),
            }),
        }
    });
    let audio = ladder.rungs.len() - 1;
    ladder.rungs.splice(audio..audio, videos);
    ladder
}

/// The ladder of a stream whose source is this now, and whose rungs were `old`. Players do not load the multivariant playlist
/// again, so a rung that would be no smaller than the picture goes on under its name as the publisher's own video.
pub fn following_ladder(old: &Ladder, source: &Source, config: &LadderConfig) -> Ladder {
    if source.video.is_none() && !old.rungs.is_empty() {
        return old.clone();
    }
    let mut ladder = full_ladder(source, config);
    let is_there = |rung: &&Rung| ladder.rungs.iter().any(|other| other.id == rung.id);
    let (_, gone): (Vec<_>, Vec<_>) = old.rungs.iter().partition(is_there);
    let aliases = gone.into_iter().map(|gone| Rung { id: gone.id.clone(), kind: RungKind::Source });
    // Behind `source`, and before all that is smaller.
    ladder.rungs.splice(1..1, aliases.collect::<Vec<_>>());
    ladder
}

/// Whether the same pictures are made, whatever they cost.
pub fn is_same_shape(one: &Ladder, other: &Ladder) -> bool {
    let shape = |rung: &Rung| match &rung.kind {
        RungKind::Video(video) => Some((video.width, video.height, video.halved)),
        RungKind::Source | RungKind::Audio => None,
    };
    let shapes = |ladder: &Ladder| -> Vec<_> {
        ladder.rungs.iter().map(|rung| (rung.id.clone(), shape(rung))).collect()
    };
    shapes(one) == shapes(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(width: u32, height: u32, num: u32, den: u32) -> Vec<(String, u32, u32, String)> {
        let source = Source {
            video: Some((width, height, FrameRate { num, den })),
            announced: Announced::default(),
        };
        full_ladder(&source, &LadderConfig::default())
            .rungs
            .into_iter()
            .filter_map(|rung| match rung.kind {
                RungKind::Video(video) => Some((
                    rung.id.to_string(),
                    video.width,
                    video.height,
                    video.frame_rate.to_string(),
                )),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_ladder_whose_rungs_would_write_over_each_other_or_cannot_be_encoded_is_refused() {
        let rung = |name: &str, short_side, bitrate_kbps| {
            let name = name.parse().unwrap();
            RungConfig { name, short_side, bitrate_kbps }
        };
        let refused = |last| check(&[rung("720p", 720, 2800), last]).unwrap_err().to_string();
        let every = "every stream has one of that name";
        assert_eq!(
            refused(rung("source", 480, 1)),
            format!("a rung cannot be called source: {every}")
        );
        assert_eq!(
            refused(rung("audio", 480, 1)),
            format!("a rung cannot be called audio: {every}")
        );
        assert_eq!(refused(rung("720p", 480, 1)), "two rungs are called 720p");
        assert!(refused(rung("0p", 0, 1)).contains("a short side of 0 pixels"));
        assert_eq!(refused(rung("480p", 480, 0)), "rung 480p has a bitrate of 0 kbit/s");
        assert!(refused(rung("480p", 480, 1_000_001)).contains("at most 1000000 can be"));
        assert!(refused(rung("480p", 8193, 1)).contains("at most 8192 can be encoded"));
        assert_eq!(check(&LadderConfig::default().rung), Ok(()));
    }

    #[test]
    fn sixty_fps_is_halved_and_ntsc_stays_exact() {
        assert_eq!(sizes(1920, 1080, 60, 1)[0], ("720p".into(), 1280, 720, "30.000".into()));
        assert_eq!(sizes(1920, 1080, 30_000, 1001)[2], ("360p".into(), 640, 360, "29.970".into()));
    }

    #[test]
    fn portrait_and_odd_sources_keep_their_aspect_with_even_sizes() {
        assert_eq!(sizes(1080, 1920, 30, 1)[1].1, 480);
        assert_eq!(sizes(1001, 563, 30, 1)[0], ("480p".into(), 854, 480, "30.000".into()));
    }

    #[test]
    fn no_rung_costs_more_than_a_thin_source_and_a_rich_one_changes_nothing() {
        let bitrates = |video_kbps| {
            let announced = Announced { video_kbps, audio_kbps: None };
            let video = Some((1280, 720, FrameRate { num: 30, den: 1 }));
            let ladder = full_ladder(&Source { video, announced }, &LadderConfig::default());
            let video = ladder.rungs.into_iter().filter_map(|rung| match rung.kind {
                RungKind::Video(video) => Some(video.bitrate_kbps),
                _ => None,
            });
            video.collect::<Vec<_>>()
        };
        assert_eq!(bitrates(Some(900)), [600, 450]);
        assert_eq!(bitrates(Some(6_000)), [1400, 700]);
        assert_eq!(bitrates(None), [1400, 700]);
        assert_eq!(bitrates(Some(3)), [1400, 700], "a mistake of the encoder is no wish");
    }

    #[test]
    fn a_ladder_that_nothing_can_encode_keeps_every_name() {
        let source = Source {
            video: Some((1280, 720, FrameRate { num: 30, den: 1 })),
            announced: Announced::default(),
        };
        let full = full_ladder(&source, &LadderConfig::default());
        let unencoded = unencoded_ladder(&full);
        assert!(full.is_transcoded() && !unencoded.is_transcoded());
        let names =
            |ladder: &Ladder| ladder.rungs.iter().map(|rung| rung.id.clone()).collect::<Vec<_>>();
        assert_eq!(names(&unencoded), names(&full));
        assert_eq!(unencoded.rungs.last().map(|rung| &rung.kind), Some(&RungKind::Audio));
    }

    #[test]
    fn a_source_is_never_scaled_up_and_audio_stays_alone() {
        assert!(sizes(640, 360, 30, 1).is_empty());
        let ladder = full_ladder(
            &Source { video: None, announced: Announced::default() },
            &LadderConfig::default(),
        );
        assert_eq!(ladder.rungs.len(), 1);
        assert_eq!(ladder.rungs[0].kind, RungKind::Audio);
    }

    #[test]
    fn the_ladder_follows_another_picture_and_what_it_cannot_fill_is_the_source_under_its_name() {
        let config = LadderConfig::default();
        let of = |video| Source { video, announced: Announced::default() };
        let rate = FrameRate { num: 30, den: 1 };
        let large = full_ladder(&of(Some((1_920, 1_080, rate))), &config);
        let small = of(Some((640, 480, rate)));
        let followed = following_ladder(&large, &small, &config);
        let named: Vec<_> = followed.rungs.iter().map(|rung| rung.id.as_str()).collect();
        assert_eq!(named, ["source", "720p", "480p", "360p", "audio"]);
        let kinds: Vec<_> = followed.rungs.iter().map(|rung| rung.kind.clone()).collect();
        assert_eq!(kinds[..3], [RungKind::Source, RungKind::Source, RungKind::Source]);
        let RungKind::Video(video) = &kinds[3] else { panic!("{kinds:?}") };
        assert_eq!((video.width, video.height), (480, 360));
        assert!(!is_same_shape(&large, &followed));
        let back = following_ladder(&followed, &of(Some((1_920, 1_080, rate))), &config);
        assert!(is_same_shape(&back, &large), "{back:?}");
        assert!(is_same_shape(&following_ladder(&large, &of(None), &config), &large));
        let slower = of(Some((1_920, 1_080, FrameRate { num: 25, den: 1 })));
        assert!(is_same_shape(&following_ladder(&large, &slower, &config), &large));
    }
}
