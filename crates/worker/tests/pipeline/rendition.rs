//! What a player would see of one rung: its init sections and parts put together, decoded by ffmpeg and read by ffprobe.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use millrace_hls::PartRecord;
use millrace_wire::Message;

/// One rung's output.
#[derive(Clone, Debug, Default)]
pub struct Rendition {
    pub inits: Vec<Vec<u8>>,
    pub parts: Vec<(PartRecord, Vec<u8>)>,
    /// Segments of which it was said that nothing is in them.
    pub gaps: Vec<PartRecord>,
}

/// A packet as ffprobe sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub pts: i64,
    pub dts: i64,
    pub key: bool,
}

impl Rendition {
    /// Everything that was said of the rung `name`.
    pub fn of(messages: &[Message], name: &str) -> Self {
        let mut rendition = Self::default();
        for message in messages {
            match message {
                Message::Init(init) if init.record.rung.as_str() == name => {
                    rendition.inits.push(init.bytes.to_vec());
                }
                Message::Part(part) if part.record.rung.as_str() != name => {}
                Message::Part(part) if part.bytes.is_empty() => {
                    rendition.gaps.push(part.record.clone());
                }
                Message::Part(part) => {
                    rendition.parts.push((part.record.clone(), part.bytes.to_vec()));
                }
                _ => {}
            }
        }
        rendition
    }

    /// Init and parts in one, as a player appends them.
    pub fn file(&self) -> Vec<u8> {
        let parts = self.parts.iter().flat_map(|(_, bytes)| bytes);
        self.inits.first().into_iter().flatten().chain(parts).copied().collect()
    }

    /// Decodes everything: the number of frames, provided that ffmpeg has nothing to complain of.
    pub fn decoded_frames(&self) -> Result<usize> {
        Ok(self.decoded()?.len())
    }

    /// Decodes everything: each frame's time and checksum, provided that ffmpeg has nothing to complain of.
    pub fn decoded(&self) -> Result<Vec<String>> {
        let (out, errors) = run(
            "ffmpeg",
            &[
                "-v",
                "error",
                "-i",
                "-",
                "-fps_mode",
                "passthrough",
                "-copyts",
                "-f",
                "framecrc",
                "-",
            ],
            &self.file(),
        )?;
        ensure!(errors.is_empty(), "ffmpeg says: {errors}");
        let frames = out.lines().filter(|line| !line.starts_with('#'));
        let fields = frames.map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
        fields
            .map(|fields| match fields[..] {
                [_, _, pts, _, _, checksum, ..] => Ok(format!("{pts} {checksum}")),
                _ => anyhow::bail!("{fields:?}"),
            })
            .collect()
    }

    /// Every packet in decoding order.
    pub fn packets(&self) -> Result<Vec<Packet>> {
        let entries = "packet=pts,dts,flags";
        let (out, errors) = run(
            "ffprobe",
            &["-v", "error", "-show_entries", entries, "-of", "csv=p=0", "-"],
            &self.file(),
        )?;
        ensure!(errors.is_empty(), "ffprobe says: {errors}");
        let packet = |line: &str| {
            let mut fields = line.split(',');
            let mut number = || fields.next()?.parse().ok();
            let (pts, dts) = (number()?, number()?);
            Some(Packet { pts, dts, key: fields.next()?.starts_with('K') })
        };
        out.lines()
            .filter(|line| !line.is_empty())
            .map(|line| packet(line).with_context(|| line.to_owned()))
            .collect()
    }
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<(String, String)> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(program.to_owned())?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    Ok((
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
