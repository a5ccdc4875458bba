//! Sound and pictures that arrive far apart, as encoders send them that do not wait for the other track.

use millrace_testkit::{ClipSpec, Expected, Publisher};
use millrace_tests::Channel;
use tokio::task::{JoinSet, LocalSet};

use crate::ingest::stage::{farm, ffmpeg, seconds, seen_of_program, small};

/// How a publisher sends its tracks apart.
#[derive(Clone, Copy, Debug)]
enum Apart {
    /// The track (`a` or `v`) is stamped so many seconds later than what is sent beside it.
    Stamped(&'static str, f64),
    /// The track begins so many seconds late: media of one moment is sent together, as ffmpeg does if it may.
    Begun(&'static str, f64),
}

impl Apart {
    fn publisher(self, channel: &Channel, clip: &ClipSpec) -> Publisher {
        let file = clip.file().expect("a clip").display().to_string();
        let words: Vec<String> = match self {
            // It does not hold packets back, to send them in the order of their timestamps.
            Self::Stamped(track, s) => {
                let ms = s * 1_000.0;
                let filter = format!("-bsf:{track} setts=ts=TS+{ms} -max_interleave_delta 1");
                filter.split(' ').map(str::to_owned).collect()
            }
            Self::Begun(track, s) => {
                let maps = if track == "a" { ["0:v", "1:a"] } else { ["1:v", "0:a"] };
                let (offset, [video, sound]) = (s.to_string(), maps);
                let words =
                    ["-itsoffset", &offset, "-re", "-i", &file, "-map", video, "-map", sound];
                words.map(str::to_owned).to_vec()
            }
        };
        let output: Vec<_> = words.iter().map(String::as_str).chain(["-c", "copy"]).collect();
        ffmpeg(channel, clip, &output)
    }

    /// How much later than its picture sound is heard, and how many seconds of the pictures are silent.
    fn expected(self, clip: &ClipSpec) -> (Expected, usize) {
        let (Self::Stamped(track, s) | Self::Begun(track, s)) = self;
        let is_kept = s < 4.0 || matches!(self, Self::Begun(..));
        let late_ms = if track == "a" { s * 1_000.0 } else { s * -1_000.0 };
        let expected = match is_kept {
            true => Expected { sound_late_ms: late_ms, ..clip.expected() },
            // They are played as they arrive, and ffmpeg reads one track up to some tenths of a second before the other.
            false => Expected { max_av_offset_ms: 400.0, ..clip.expected() },
        };
        (expected, if is_kept { s.ceil() as usize } else { 0 })
    }
}

/// Publishes all at once, and insists that each is played as [`Apart::expected`] says.
async fn play(cases: &[Apart]) {
    let (farm, clip) = (farm().await, ClipSpec { seconds: 8, ..small() });
    clip.file().expect("a clip");
    let (here, mut seen) = (LocalSet::new(), JoinSet::new());
    let mut faults = Vec::new();
    for (number, case) in (0..).zip(cases.iter().copied()) {
        let channel = farm.new_channel(&format!("apart-{number}")).await.expect("a channel");
        let clip = clip.clone();
        let played = async move {
            let (expected, silent_s) = case.expected(&clip);
            let publisher = case.publisher(&channel, &clip);
            let mut report = seen_of_program(&channel, publisher, seconds(&clip), &expected).await;
            let videos = report.renditions.iter_mut().flat_map(|rung| &mut rung.video);
            for av in videos.flat_map(|video| &mut video.av) {
                av.expected_clicks = av.expected_clicks.saturating_sub(silent_s).max(1);
            }
            (case, report)
        };
        seen.spawn_local_on(played, &here);
    }
    while let Some(done) = here.run_until(seen.join_next()).await {
        let (case, report) = done.expect("no panic");
        assert_eq!(report.renditions.len(), 3, "{case:?}");
        faults.extend(report.faults().into_iter().map(|fault| format!("{case:?}: {fault}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// All in one farm: what is stamped up to 4 s apart plays as it is stamped, what is stamped farther apart as it arrives, and what
/// is sent together always as it is stamped.
#[tokio::test]
async fn tracks_that_are_sent_apart_play_every_frame_in_its_place() {
    let stamped = [2.2, 2.5, 3.2, 5.5].map(|s| ["a", "v"].map(|track| Apart::Stamped(track, s)));
    let begun = ["a", "v"].map(|track| Apart::Begun(track, 3.3));
    play(&[stamped.concat(), begun.to_vec()].concat()).await;
}
