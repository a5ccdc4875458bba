//! A small LL-HLS origin of finished files: cuts a stamped clip into parts with nothing of Millrace but this, and serves
//! it. Tests break what it made before they serve it.
#![allow(clippy::unwrap_used, reason = "a panic here fails the test that asked")]

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use millrace_testkit::{ClipSpec, Scratch};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub const PART_TARGET_S: f64 = 0.334;
const FIRST_MSN: usize = 1_000;
/// Media time of the clip's first picture.
const START_S: f64 = 1.0;

pub struct Part {
    pub bytes: Vec<u8>,
    pub duration_s: f64,
    pub independent: bool,
    /// Named in the playlist.
    pub listed: bool,
    /// To be had from the server.
    pub served: bool,
}

pub struct Rendition {
    pub name: &'static str,
    pub frame_rate: Option<f64>,
    /// Init sections, each with the index of its first segment; each but the first after a discontinuity.
    pub inits: Vec<(usize, Vec<u8>)>,
    pub segments: Vec<Vec<Part>>,
    /// The preload hints name the part after the next.
    pub wrong_hints: bool,
}

/// One sample in a moof and an mdat of its own.
struct Sample {
    bytes: Vec<u8>,
    at_s: f64,
}

impl Rendition {
    /// The one track of a fragmented file, cut into segments of `segment_s` and parts by the greedy rule.
    fn cut(name: &'static str, frame_rate: Option<f64>, track: Track, segment_s: f64) -> Self {
        let start_s = (track.samples[0].at_s * 2.0).round() / 2.0;
        let Track { init, samples } = track;
        let sample_s =
            (samples.last().unwrap().at_s - samples[0].at_s) / (samples.len() - 1) as f64;
        let mut segments: Vec<Vec<Part>> = Vec::new();
        for sample in samples {
            let number = ((sample.at_s - start_s + 0.001) / segment_s).floor().max(0.0) as usize;
            if segments.len() <= number {
                segments.push(Vec::new());
            }
            let segment = &mut segments[number];
            let full = |part: &Part| part.duration_s + sample_s > PART_TARGET_S + 1e-6;
            if segment.last().is_none_or(full) {
                segment.push(Part {
                    bytes: Vec::new(),
                    duration_s: 0.0,
                    independent: segment.is_empty() || frame_rate.is_none(),
                    listed: true,
                    served: true,
                });
            }
            let part = segment.last_mut().unwrap();
            part.bytes.extend(sample.bytes);
            part.duration_s += sample_s;
        }
        Self { name, frame_rate, inits: vec![(0, init)], segments, wrong_hints: false }
    }

    /// The source's pictures, untouched, in segments of 2 s.
    pub fn source(clip: &ClipSpec) -> Self {
        Self::source_at(clip, START_S)
    }

    /// The same with the first picture at `start_s`.
    pub fn source_at(clip: &ClipSpec, start_s: f64) -> Self {
        let rate = Some(clip.fps.rate());
        Self::cut("source", rate, Track::copied(&clip.file().unwrap(), "v", start_s), 2.0)
    }

    /// The source's sound, untouched but for its last, shorter frame.
    pub fn audio(clip: &ClipSpec) -> Self {
        Self::audio_at(clip, START_S)
    }

    /// The same with the first picture at `start_s`.
    pub fn audio_at(clip: &ClipSpec, start_s: f64) -> Self {
        let mut track = Track::copied(&clip.file().unwrap(), "a", start_s);
        track.samples.pop();
        Self::cut("audio", None, track, 2.0)
    }

    /// Then `next`, after a discontinuity and with its own init section.
    pub fn then(mut self, next: Self) -> Self {
        let before = self.segments.len();
        self.inits.extend(next.inits.into_iter().map(|(at, init)| (at + before, init)));
        self.segments.extend(next.segments);
        self
    }

    /// The pictures encoded again, scaled and filtered, in segments of `segment_s`.
    pub fn encoded(
        name: &'static str,
        frame_rate: f64,
        clip: &ClipSpec,
        filter: &str,
        segment_s: f64,
    ) -> Self {
        let filter = format!("{filter},scale=426:240");
        let keyframes = format!("expr:gte(t,1+n_forced*{segment_s})");
        let options = [
            ["-map", "0:v", "-vf", &filter, "-fps_mode", "passthrough", "-enc_time_base", "-1"],
            ["-c:v", "libx264", "-preset", "superfast", "-bf", "0", "-b:v", "200k"],
            [
                "-sc_threshold",
                "0",
                "-g",
                "999",
                "-force_key_frames",
                &keyframes,
                "-forced-idr",
                "1",
            ],
        ];
        let track = Track::made(&clip.file().unwrap(), &options.concat(), START_S);
        Self::cut(name, Some(frame_rate), track, segment_s)
    }

    /// The playlist while the last of `segments` has only `growing` parts, or the finished one.
    fn playlist(&self, segments: Range<usize>, growing: Option<usize>, ended: bool) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12\n\
             #EXT-X-PART-INF:PART-TARGET={PART_TARGET_S}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            FIRST_MSN + segments.start
        );
        let (first, last) = (segments.start, segments.end - 1);
        for number in segments {
            for (init, (at, _)) in self.inits.iter().enumerate() {
                let in_force = number == first && *at <= number;
                if *at == number && init > 0 {
                    text += "#EXT-X-DISCONTINUITY\n";
                }
                if *at == number || in_force {
                    text += &format!("#EXT-X-MAP:URI=\"init{init}.mp4\"\n");
                }
            }
            let parts = &self.segments[number];
            let so_far = growing.filter(|_| number == last).unwrap_or(parts.len());
            let so_far_parts = parts.iter().take(so_far).enumerate();
            for (at, part) in so_far_parts.filter(|(_, part)| part.listed) {
                let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
                let duration = part.duration_s;
                text += &format!(
                    "#EXT-X-PART:DURATION={duration:.5},URI=\"{number}.{at}.m4s\"{independent}\n"
                );
            }
            if so_far < parts.len() {
                let next = so_far + usize::from(self.wrong_hints);
                text += &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{number}.{next}.m4s\"\n");
                break;
            }
            let duration: f64 = parts.iter().map(|part| part.duration_s).sum();
            text += &format!("#EXTINF:{duration:.5},\n{number}.m4s\n");
        }
        if ended {
            text += "#EXT-X-ENDLIST\n";
        }
        text
    }
}

/// Serves files from memory on a loopback port until dropped.
pub struct Origin {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a path answers, one after the other; the last stays.
type Files = BTreeMap<String, Vec<Vec<u8>>>;

impl Origin {
    /// All segments at once, ended.
    pub async fn serve(renditions: &[Rendition]) -> Self {
        Self::serve_windows(renditions, &[]).await
    }

    /// First each of the `windows` of segments, then the whole of the last one, ended.
    pub async fn serve_windows(renditions: &[Rendition], windows: &[Range<usize>]) -> Self {
        let lists = |rendition: &Rendition| {
            let whole = windows.last().cloned().unwrap_or(0..rendition.segments.len());
            let each = windows.iter().map(|window| rendition.playlist(window.clone(), None, false));
            each.chain([rendition.playlist(whole, None, true)]).collect()
        };
        Self::serve_lists(renditions, lists).await
    }

    /// Two more parts at each reload, from the first one on, then the end.
    pub async fn serve_growing(renditions: &[Rendition]) -> Self {
        let lists = |rendition: &Rendition| {
            let mut lists = Vec::new();
            for (number, parts) in rendition.segments.iter().enumerate() {
                for so_far in (1..parts.len()).step_by(2) {
                    lists.push(rendition.playlist(0..number + 1, Some(so_far), false));
                }
            }
            lists.push(rendition.playlist(0..rendition.segments.len(), None, true));
            lists
        };
        Self::serve_lists(renditions, lists).await
    }

    /// All but the last segment at first; then a delta update that names only the last, then the end likewise.
    pub async fn serve_deltas(renditions: &[Rendition]) -> Self {
        let lists = |rendition: &Rendition| {
            let last = rendition.segments.len() - 1;
            let delta = |ended| {
                let whole = rendition.playlist(0..last + 1, None, ended);
                let (header, body) = whole.split_once("#EXT-X-MAP").unwrap();
                let before_last = body.find(&format!("\n{}.m4s\n", last - 1)).unwrap();
                let (_, rest) = body[before_last + 1..].split_once('\n').unwrap();
                format!("{header}#EXT-X-SKIP:SKIPPED-SEGMENTS={last}\n{rest}")
            };
            vec![rendition.playlist(0..last, None, false), delta(false), delta(true)]
        };
        Self::serve_lists(renditions, lists).await
    }

    async fn serve_lists(
        renditions: &[Rendition],
        lists: impl Fn(&Rendition) -> Vec<String>,
    ) -> Self {
        let mut files = Files::new();
        let mut multivariant = "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
        for rendition in renditions {
            let name = rendition.name;
            multivariant += &match rendition.frame_rate {
                Some(rate) => format!(
                    "#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\",FRAME-RATE={rate:.3}\n{name}/index.m3u8\n"
                ),
                None => format!(
                    "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"{name}/index.m3u8\"\n"
                ),
            };
            let lists = lists(rendition).into_iter().map(String::into_bytes).collect();
            files.insert(format!("/{name}/index.m3u8"), lists);
            for (number, (_, init)) in rendition.inits.iter().enumerate() {
                files.insert(format!("/{name}/init{number}.mp4"), vec![init.clone()]);
            }
            for (number, parts) in rendition.segments.iter().enumerate() {
                let whole = parts.iter().flat_map(|part| part.bytes.clone()).collect();
                files.insert(format!("/{name}/{number}.m4s"), vec![whole]);
                for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.served) {
                    files.insert(format!("/{name}/{number}.{at}.m4s"), vec![part.bytes.clone()]);
                }
            }
        }
        files.insert("/index.m3u8".to_owned(), vec![multivariant.into_bytes()]);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/index.m3u8", listener.local_addr().unwrap());
        let files = Arc::new(Mutex::new(files));
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&files)));
            }
        });
        Self { url, task }
    }
}

async fn answer(connection: TcpStream, files: Arc<Mutex<Files>>) -> Option<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (connection.read_line(&mut head).await.ok()? > 0).then_some(())?;
        }
        let path = head.split([' ', '?']).nth(1)?.to_owned();
        let body = {
            let mut files = files.lock().unwrap();
            files.get_mut(&path).map(|versions| {
                if versions.len() > 1 { versions.remove(0) } else { versions[0].clone() }
            })
        };
        let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
        let body = body.unwrap_or_default();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.get_mut().write_all(head.as_bytes()).await.ok()?;
        connection.get_mut().write_all(&body).await.ok()?;
    }
}

/// A fragmented file with one track and one sample per fragment.
struct Track {
    init: Vec<u8>,
    samples: Vec<Sample>,
}

impl Track {
    /// The clip's track of a kind (`v` or `a`), at its times in the clip: negative ones are encoder delay.
    fn copied(clip: &Path, kind: &str, start_s: f64) -> Self {
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-v", "error", "-select_streams", kind, "-read_intervals", "%+#1"]);
        ffprobe.args(["-show_entries", "packet=dts_time", "-of", "csv=p=0"]).arg(clip);
        let said = String::from_utf8(ffprobe.output().unwrap().stdout).unwrap();
        let first_s: f64 = said.split([',', '\n']).next().unwrap().parse().unwrap();
        Self::made(clip, &["-map", &format!("0:{kind}"), "-c", "copy"], start_s + first_s)
    }

    /// What ffmpeg makes of the clip; the first sample is decoded at `first_s`, whatever ffmpeg says.
    fn made(clip: &Path, options: &[&str], first_s: f64) -> Self {
        let scratch = Scratch::new("package").unwrap();
        let to = scratch.path().join("out.mp4");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-i"]).arg(clip).args(options);
        ffmpeg.args(["-use_editlist", "0", "-f", "mp4", "-movflags"]);
        ffmpeg.arg("empty_moov+default_base_moof+frag_every_frame").arg(&to);
        assert!(ffmpeg.status().unwrap().success(), "{ffmpeg:?}");
        Self::read(&std::fs::read(&to).unwrap(), first_s)
    }

    fn read(file: &[u8], first_s: f64) -> Self {
        let mut track = Self { init: Vec::new(), samples: Vec::new() };
        let (mut timescale, mut shift, mut at) = (0.0, None, 0);
        while at < file.len() {
            let mut bytes = file[at..at + number(&file[at..]) as usize].to_vec();
            at += bytes.len();
            match &bytes[4..8] {
                b"ftyp" => track.init.extend(bytes),
                b"moov" => {
                    timescale = f64::from(number(&bytes[after(&bytes, b"mdhd") + 12..]));
                    track.init.extend(bytes);
                }
                b"moof" => {
                    let tfdt = after(&bytes, b"tfdt") + 4;
                    let field = tfdt..tfdt + 8;
                    let ticks = i64::from_be_bytes(bytes[field.clone()].try_into().unwrap());
                    let shift = shift.get_or_insert((first_s * timescale).round() as i64 - ticks);
                    let ticks = ticks + *shift;
                    bytes[field].copy_from_slice(&ticks.to_be_bytes());
                    track.samples.push(Sample { bytes, at_s: ticks as f64 / timescale });
                }
                b"mdat" => track.samples.last_mut().unwrap().bytes.extend(bytes),
                _ => {}
            }
        }
        track
    }
}

/// Where the fields of a box begin: version and flags first.
fn after(bytes: &[u8], name: &[u8; 4]) -> usize {
    bytes.windows(4).position(|four| four == name).unwrap() + 4
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}
