//! Reads HLS playlists (RFC 8216bis) as a strict player would. Shares nothing with the code that writes them, and fetches nothing.

use millrace_types::Msn;

/// The text is not a playlist, or says something a player cannot act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistError {
    /// The first line is not `#EXTM3U`.
    #[error("first line is {0:?}, not #EXTM3U")]
    NotAPlaylist(String),
    /// A line has no meaning where it stands.
    #[error("line {line}: {why}: {text:?}")]
    BadLine {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
        /// The line.
        text: String,
    },
}

/// `EXT-X-STREAM-INF` and its URI.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// Where its media playlist is.
    pub uri: String,
    /// Peak bits per second.
    pub bandwidth: u64,
    /// `CODECS`.
    pub codecs: Option<String>,
    /// `RESOLUTION`, such as `1280x720`.
    pub resolution: Option<String>,
    /// `FRAME-RATE` in frames per second.
    pub frame_rate: Option<f64>,
    /// `AUDIO`: the group its audio comes from.
    pub audio_group: Option<String>,
}

/// `EXT-X-MEDIA`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// `TYPE`: `AUDIO`, `VIDEO`, `SUBTITLES` or `CLOSED-CAPTIONS`.
    pub kind: String,
    /// `GROUP-ID`.
    pub group: String,
    /// `NAME`.
    pub name: String,
    /// Where its media playlist is, if it is not part of the variant.
    pub uri: Option<String>,
}

/// A multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Multivariant {
    /// In the order of the playlist.
    pub variants: Vec<Variant>,
    /// In the order of the playlist.
    pub media: Vec<Media>,
}

/// `EXT-X-PART`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Where it is.
    pub uri: String,
    /// `DURATION` in seconds.
    pub duration_s: f64,
    /// Begins with a keyframe.
    pub independent: bool,
    /// Stands for media that does not exist.
    pub gap: bool,
}

/// A segment, complete or still growing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Its media sequence number.
    pub msn: Msn,
    /// `EXTINF` in seconds; `None` while it grows.
    pub duration_s: Option<f64>,
    /// Where the whole is; `None` while it grows.
    pub uri: Option<String>,
    /// The parts listed for it.
    pub parts: Vec<Part>,
    /// `EXT-X-MAP` in force; `None` when it was among the skipped.
    pub map: Option<String>,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// `EXT-X-PROGRAM-DATE-TIME` as written.
    pub program_date_time: Option<String>,
    /// `EXT-X-GAP`.
    pub gap: bool,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenditionReport {
    /// The other rendition's playlist.
    pub uri: String,
    /// Its last segment.
    pub last_msn: Option<u64>,
    /// Its last part.
    pub last_part: Option<u64>,
}

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaPlaylist {
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target_duration_s: u64,
    /// `EXT-X-PART-INF:PART-TARGET` in seconds.
    pub part_target_s: Option<f64>,
    /// `CAN-BLOCK-RELOAD=YES`.
    pub can_block_reload: bool,
    /// `PART-HOLD-BACK` in seconds.
    pub part_hold_back_s: Option<f64>,
    /// `HOLD-BACK` in seconds.
    pub hold_back_s: Option<f64>,
    /// `CAN-SKIP-UNTIL` in seconds.
    pub can_skip_until_s: Option<f64>,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub media_sequence: Msn,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// `EXT-X-SKIP:SKIPPED-SEGMENTS`.
    pub skipped: u64,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent_segments: bool,
    /// Those that are not skipped, the growing one last.
    pub segments: Vec<Segment>,
    /// `EXT-X-PRELOAD-HINT:TYPE=PART`: the next part's URI.
    pub part_hint: Option<String>,
    /// How the other renditions stand.
    pub rendition_reports: Vec<RenditionReport>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
}

impl Multivariant {
    /// Reads a multivariant playlist.
    ///
    /// # Errors
    ///
    /// [`PlaylistError`].
    pub fn parse(text: &str) -> Result<Self, PlaylistError> {
        let mut list = Self::default();
        let mut variant = None;
        for (line, text) in lines(text)? {
            if let Some(attributes) = text.strip_prefix("#EXT-X-STREAM-INF:") {
                variant = Some(parse_variant(attributes));
            } else if let Some(attributes) = text.strip_prefix("#EXT-X-MEDIA:") {
                list.media.push(Media {
                    kind: attribute(attributes, "TYPE").unwrap_or_default(),
                    group: attribute(attributes, "GROUP-ID").unwrap_or_default(),
                    name: attribute(attributes, "NAME").unwrap_or_default(),
                    uri: attribute(attributes, "URI"),
                });
            } else if !text.starts_with('#') {
                let inf = variant.take();
                let inf = inf.ok_or_else(|| bad(line, "URI without EXT-X-STREAM-INF", text))?;
                list.variants.push(Variant { uri: text.to_owned(), ..inf });
            }
        }
        Ok(list)
    }
}

fn parse_variant(attributes: &str) -> Variant {
    Variant {
        uri: String::new(),
        bandwidth: number(attributes, "BANDWIDTH").unwrap_or_default(),
        codecs: attribute(attributes, "CODECS"),
        resolution: attribute(attributes, "RESOLUTION"),
        frame_rate: number(attributes, "FRAME-RATE"),
        audio_group: attribute(attributes, "AUDIO"),
    }
}

impl MediaPlaylist {
    /// Reads a media playlist.
    ///
    /// # Errors
    ///
    /// [`PlaylistError`]; also for byte ranges, which this player does not fetch.
    pub fn parse(text: &str) -> Result<Self, PlaylistError> {
        let mut list = Self::default();
        let mut next = Segment::default();
        for (line, text) in lines(text)? {
            let (tag, value) = text.split_once(':').unwrap_or((text, ""));
            if tag.starts_with("#EXT-X-BYTERANGE") || value.contains("BYTERANGE") {
                return Err(bad(line, "byte ranges are not fetched", text));
            }
            if text.starts_with("#EXT") {
                list.apply_tag(tag, value, &mut next).map_err(|why| bad(line, why, text))?;
            } else if !text.starts_with('#') {
                if next.duration_s.is_none() {
                    return Err(bad(line, "URI without EXTINF", text));
                }
                next.uri = Some(text.to_owned());
                let map = next.map.clone();
                list.push(std::mem::take(&mut next));
                next.map = map;
            }
        }
        if !next.parts.is_empty() {
            list.push(next);
        }
        Ok(list)
    }

    /// The segment numbers itself by its place.
    fn push(&mut self, segment: Segment) {
        let msn = self.media_sequence.0 + self.skipped + self.segments.len() as u64;
        self.segments.push(Segment { msn: Msn(msn), ..segment });
    }

    fn apply_tag(
        &mut self,
        tag: &str,
        value: &str,
        next: &mut Segment,
    ) -> Result<(), &'static str> {
        match tag {
            "#EXTINF" => {
                let seconds = value.split(',').next().unwrap_or_default();
                next.duration_s = Some(seconds.parse().map_err(|_| "bad duration")?);
            }
            "#EXT-X-PART" => next.parts.push(parse_part(value)?),
            "#EXT-X-MAP" => next.map = Some(attribute(value, "URI").ok_or("map without URI")?),
            "#EXT-X-DISCONTINUITY" => next.discontinuity = true,
            "#EXT-X-GAP" => next.gap = true,
            "#EXT-X-PROGRAM-DATE-TIME" => next.program_date_time = Some(value.to_owned()),
            "#EXT-X-PRELOAD-HINT" if attribute(value, "TYPE").as_deref() == Some("PART") => {
                self.part_hint = attribute(value, "URI");
            }
            "#EXT-X-RENDITION-REPORT" => self.rendition_reports.push(RenditionReport {
                uri: attribute(value, "URI").ok_or("rendition report without URI")?,
                last_msn: number(value, "LAST-MSN"),
                last_part: number(value, "LAST-PART"),
            }),
            "#EXT-X-ENDLIST" => self.ended = true,
            _ => self.apply_header(tag, value)?,
        }
        Ok(())
    }

    fn apply_header(&mut self, tag: &str, value: &str) -> Result<(), &'static str> {
        match tag {
            "#EXT-X-TARGETDURATION" => {
                self.target_duration_s = value.parse().map_err(|_| "bad target duration")?;
            }
            "#EXT-X-PART-INF" => self.part_target_s = number(value, "PART-TARGET"),
            "#EXT-X-SERVER-CONTROL" => {
                self.can_block_reload = yes(value, "CAN-BLOCK-RELOAD");
                self.part_hold_back_s = number(value, "PART-HOLD-BACK");
                self.hold_back_s = number(value, "HOLD-BACK");
                self.can_skip_until_s = number(value, "CAN-SKIP-UNTIL");
            }
            "#EXT-X-MEDIA-SEQUENCE" => {
                self.media_sequence = Msn(value.parse().map_err(|_| "bad media sequence")?);
            }
            "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                self.discontinuity_sequence = value.parse().map_err(|_| "bad sequence")?;
            }
            "#EXT-X-SKIP" => {
                self.skipped = number(value, "SKIPPED-SEGMENTS").ok_or("skip without a number")?;
            }
            "#EXT-X-INDEPENDENT-SEGMENTS" => self.independent_segments = true,
            _ => {}
        }
        Ok(())
    }
}

fn parse_part(attributes: &str) -> Result<Part, &'static str> {
    Ok(Part {
        uri: attribute(attributes, "URI").ok_or("part without URI")?,
        duration_s: number(attributes, "DURATION").ok_or("part without DURATION")?,
        independent: yes(attributes, "INDEPENDENT"),
        gap: yes(attributes, "GAP"),
    })
}

/// The lines that mean something, counted from 1, after the opening tag.
fn lines(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, PlaylistError> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    match lines.next() {
        Some((_, "#EXTM3U")) => Ok(lines.filter(|(_, line)| !line.is_empty())),
        first => Err(PlaylistError::NotAPlaylist(
            first.map_or("", |(_, line)| line).chars().take(80).collect(),
        )),
    }
}

fn bad(line: usize, why: &'static str, text: &str) -> PlaylistError {
    PlaylistError::BadLine { line, why, text: text.to_owned() }
}

/// The value of an attribute without its quotes; commas inside quotes do not end it.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let mut quoted = false;
    attributes
        .split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

fn number<T: std::str::FromStr>(attributes: &str, name: &str) -> Option<T> {
    attribute(attributes, name)?.parse().ok()
}

fn yes(attributes: &str, name: &str) -> bool {
    attribute(attributes, name).as_deref() == Some("YES")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = r##"#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12.0
#EXT-X-PART-INF:PART-TARGET=0.334
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-SKIP:SKIPPED-SEGMENTS=4
#EXTINF:2.0,
s104.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init,2.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T01:02:03.456Z
#EXT-X-PART:DURATION=0.33333,URI="s105.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.3,URI="s105.1.m4s",GAP=YES
#EXTINF:0.63333,
s105.m4s
#EXT-X-PART:URI="s106.0.m4s",DURATION=0.33333
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="s106.1.m4s"
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=106,LAST-PART=0
"##;

    #[test]
    fn a_live_playlist_with_skipped_segments_is_read_whole() {
        let list = MediaPlaylist::parse(LIVE).expect("playlist");
        assert_eq!((list.target_duration_s, list.part_target_s), (2, Some(0.334)));
        assert_eq!((list.part_hold_back_s, list.can_skip_until_s), (Some(1.5), Some(12.0)));
        assert!(list.can_block_reload && !list.ended);
        assert_eq!(list.discontinuity_sequence, 3);
        let msns: Vec<u64> = list.segments.iter().map(|segment| segment.msn.0).collect();
        assert_eq!(msns, [104, 105, 106]);
        let [old, new, growing] = &list.segments[..] else { panic!("three segments") };
        assert_eq!((old.map.as_deref(), old.discontinuity), (None, false));
        assert_eq!((new.map.as_deref(), new.discontinuity), (Some("init,2.mp4"), true));
        assert!(new.parts[0].independent && new.parts[1].gap);
        assert_eq!(growing.map.as_deref(), Some("init,2.mp4"));
        assert_eq!((growing.duration_s, growing.parts.len()), (None, 1));
        assert_eq!(list.part_hint.as_deref(), Some("s106.1.m4s"));
        assert_eq!(list.rendition_reports[0].last_part, Some(0));
    }

    #[test]
    fn a_multivariant_playlist_lists_variants_and_audio() {
        let list = Multivariant::parse(
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"main\",URI=\"audio/index.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS=\"avc1.64001f,mp4a.40.2\",FRAME-RATE=29.970,AUDIO=\"a\"\n\
             720p/index.m3u8\n",
        )
        .expect("playlist");
        assert_eq!(list.media[0].uri.as_deref(), Some("audio/index.m3u8"));
        assert_eq!(list.variants[0].codecs.as_deref(), Some("avc1.64001f,mp4a.40.2"));
        assert_eq!(list.variants[0].frame_rate, Some(29.97));
        assert_eq!(list.variants[0].audio_group.as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_playlist_is_refused_with_the_line() {
        assert!(MediaPlaylist::parse("<html>").is_err());
        let error = MediaPlaylist::parse("#EXTM3U\n\nx.m4s\n").expect_err("no EXTINF");
        assert_eq!(error.to_string(), "line 3: URI without EXTINF: \"x.m4s\"");
    }
}
