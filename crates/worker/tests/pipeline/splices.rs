//! Two encoders of one stream, of which the second begins later: whole segments of either, in any order of choice, and how far
//! off the pictures are behind a change inside a segment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use millrace_media::{Item, Track};
use millrace_software::Software;
use millrace_types::{Msn, Rung};
use millrace_wire::Message;
use millrace_worker::Pipeline;

use crate::{
    clip::{self, Clip},
    ladder, nothing_to_do,
    rendition::Rendition,
    run, start, units, video,
};

const CLIP: Clip = Clip { width: 640, height: 360, seconds: 10, x264: "bframes=2", ..clip::SMALL };
const CHOICES: usize = 200;

/// What a first encoder makes of the clip, and what a second that is told to begin a segment later.
fn two_encoders(rungs: &[Rung]) -> Result<[Vec<Message>; 2]> {
    let items = CLIP.items()?;
    let first = run(&start(ladder(rungs.to_vec()), vec![]), &items, true)?;
    let msn = |item: &Item| match item {
        Item::Unit(unit) => Some(unit.stamp.segment.msn),
        _ => None,
    };
    let begin = units(&items, Track::Video)[0].stamp.segment.msn.next();
    let ladder = ladder(rungs.to_vec());
    let marks = nothing_to_do(&ladder);
    let mut pipeline = Pipeline::new(Software::default(), &start(ladder, marks))?;
    let mut second = Vec::new();
    for item in &items {
        if msn(item) == Some(begin) {
            pipeline.begin(begin);
        }
        pipeline.take(item, &mut second)?;
    }
    pipeline.finish(&mut second)?;
    Ok([first, second])
}

/// The segments of a rendition, in order.
fn segments(rendition: &Rendition) -> Vec<Rendition> {
    let mut segments: BTreeMap<Msn, Rendition> = BTreeMap::new();
    for part in &rendition.parts {
        let segment = segments.entry(part.0.msn).or_default();
        segment.inits = rendition.inits.clone();
        segment.parts.push(part.clone());
    }
    segments.into_values().collect()
}

/// One after the other.
fn joined<'a>(pieces: impl IntoIterator<Item = &'a Rendition>) -> Rendition {
    let mut whole = Rendition::default();
    for piece in pieces {
        whole.inits = piece.inits.clone();
        whole.parts.extend(piece.parts.iter().cloned());
    }
    whole
}

/// A sequence of numbers that looks like chance and is the same each time.
fn chance(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 33
    }
}

#[test]
fn two_hundred_choices_between_two_encoders_segment_by_segment_decode_with_every_picture()
-> Result<()> {
    let rungs = [video("240p", 426, 240, 30, false), video("144p", 256, 144, 30, false)];
    let made = two_encoders(&rungs)?;
    for rung in ["source", "audio"] {
        let [first, second] = made.each_ref().map(|made| Rendition::of(made, rung));
        assert_eq!(first.inits, second.inits);
        let tail = first.parts.len() - second.parts.len();
        let bytes = |rendition: &Rendition| -> Vec<_> {
            rendition.parts.iter().map(|(_, bytes)| bytes.clone()).collect()
        };
        assert_eq!(bytes(&first)[tail..], bytes(&second)[..], "{rung}: equal byte for byte");
    }
    let mut next = chance(0x9e37_79b9_7f4a_7c15);
    for rung in ["240p", "144p"] {
        let [first, second] = made.each_ref().map(|made| Rendition::of(made, rung));
        assert_eq!(first.inits, second.inits, "one init section for both");
        let [first, second] = [segments(&first), segments(&second)];
        // What each encoder's segment shows, picture by picture: time and checksum.
        let shows = |segments: &[Rendition]| -> Result<Vec<Vec<String>>> {
            segments.iter().map(Rendition::decoded).collect()
        };
        let [first_shows, second_shows] = [shows(&first)?, shows(&second)?];
        assert_ne!(first_shows[1..], second_shows[..], "the encoders are not the same by chance");
        let late = first.len() - second.len();
        let choice = |_| (0..first.len()).map(|index| index >= late && next() % 2 == 1).collect();
        // One that comes twice is decoded once.
        let choices: BTreeSet<Vec<bool>> = (0..CHOICES).map(choice).collect();
        let choices: Vec<Vec<bool>> = choices.into_iter().collect();
        assert!(choices.len() > 12, "{} different ones", choices.len());
        let check = |choice: &Vec<bool>| -> Result<()> {
            let pick =
                |index: usize| if choice[index] { &second[index - late] } else { &first[index] };
            let spliced = joined((0..first.len()).map(pick)).decoded()?;
            let wanted: Vec<_> = (0..first.len())
                .flat_map(|index| match choice[index] {
                    true => second_shows[index - late].clone(),
                    false => first_shows[index].clone(),
                })
                .collect();
            ensure!(wanted.len() == CLIP.frames() && spliced == wanted, "{rung}: {choice:?}");
            Ok(())
        };
        std::thread::scope(|scope| -> Result<()> {
            let check = &check;
            let threads: Vec<_> = choices
                .chunks(choices.len().div_ceil(2))
                .map(|share| scope.spawn(move || share.iter().try_for_each(check)))
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap())
        })?;
    }
    Ok(())
}

#[test]
fn behind_a_change_inside_a_segment_every_picture_decodes_and_is_only_slightly_off() -> Result<()> {
    let made = two_encoders(&[video("240p", 426, 240, 30, false)])?;
    let [first, second] = made.each_ref().map(|made| segments(&Rendition::of(made, "240p")));
    let (one, other) = (&first[first.len() - 2], &second[second.len() - 2]);
    let (pictures, mut worst) = (one.decoded()?.len(), f64::INFINITY);
    for at in 1..one.parts.len() {
        let mut spliced = one.clone();
        spliced.parts.truncate(at);
        spliced.parts.extend_from_slice(&other.parts[at..]);
        assert_eq!(spliced.decoded()?.len(), pictures, "changed at part {at}");
        worst = worst.min(psnr_db(&spliced, other)?);
    }
    println!(
        "behind a change inside a segment: {worst:.1} dB PSNR against the encoder alone, at worst"
    );
    assert!(worst > 25.0, "{worst} dB");
    Ok(())
}

/// Mean PSNR of the pictures of one file against those of another.
fn psnr_db(one: &Rendition, other: &Rendition) -> Result<f64> {
    let dir = std::env::temp_dir().join(format!("millrace-splice-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let [a, b] = ["a.mp4", "b.mp4"].map(|name| dir.join(name));
    fs::write(&a, one.file())?;
    fs::write(&b, other.file())?;
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "info", "-nostdin", "-i"]).arg(&a).arg("-i").arg(&b);
    let output = ffmpeg.args(["-lavfi", "psnr", "-f", "null", "-"]).output()?;
    fs::remove_dir_all(&dir)?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = log.lines().find(|line| line.contains("average:")).with_context(|| log.clone())?;
    let average = line.split("average:").nth(1).and_then(|rest| rest.split_whitespace().next());
    match average.with_context(|| line.to_owned())? {
        "inf" => Ok(f64::INFINITY),
        number => Ok(number.parse()?),
    }
}
