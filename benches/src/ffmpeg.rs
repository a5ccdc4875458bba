//! ffmpeg as the peer of a worker: the cheapest command line we know for the same ladder into HLS.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use millrace_software::Tuning;

/// Short side and kbit/s of the encoded rungs, as the default ladder has them.
pub const ENCODED: [(&str, u32, u32, u32); 3] =
    [("720p", 1280, 720, 2800), ("480p", 854, 480, 1400), ("360p", 640, 360, 700)];

/// Makes the default ladder of `source` into HLS under `dir`: decoded once on one thread, each rung scaled from the
/// next larger, one thread per encoder, the same libx264 settings as ours.
pub fn ladder_command(source: &Path, dir: &Path, tuning: Tuning) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y", "-threads", "1"]);
    command.args(["-filter_complex_threads", "1", "-i"]).arg(source);
    let graph = "[0:v]scale=1280:720:flags=bicubic,split=2[a][b];\
                 [b]scale=854:480:flags=bicubic,split=2[c][d];[d]scale=640:360:flags=bicubic[e]";
    command.args(["-filter_complex", graph]);
    command.args(["-map", "0:v", "-map", "[a]", "-map", "[c]", "-map", "[e]", "-map", "0:a"]);
    command.args(["-fps_mode", "passthrough", "-c:v:0", "copy", "-c:a", "copy"]);
    let params = format!(
        "scenecut=0:open-gop=0:keyint=infinite:bframes=0:threads=1:sliced-threads=0:sync-lookahead=0:\
         rc-lookahead={}:mbtree={}:ref={}:aud=0:nal-hrd=none",
        tuning.lookahead,
        u8::from(tuning.mb_tree),
        tuning.references,
    );
    for (index, (_, _, _, kbps)) in ENCODED.iter().enumerate() {
        let rung = index + 1;
        let rate = format!("{kbps}k");
        command.args([&format!("-c:v:{rung}"), "libx264", &format!("-preset:v:{rung}")]);
        command.args([tuning.preset, &format!("-threads:v:{rung}"), "1"]);
        command.args([&format!("-b:v:{rung}"), &rate, &format!("-maxrate:v:{rung}"), &rate]);
        command.args([&format!("-bufsize:v:{rung}"), &rate]);
        command.args([&format!("-x264-params:v:{rung}"), &params]);
        command.args([&format!("-forced-idr:v:{rung}"), "1"]);
        command.args([&format!("-force_key_frames:v:{rung}"), "expr:gte(t,n_forced*2)"]);
    }
    let rungs = "v:0,agroup:a,name:source v:1,agroup:a,name:720p v:2,agroup:a,name:480p \
                 v:3,agroup:a,name:360p a:0,agroup:a,name:audio";
    command.args(["-var_stream_map", rungs, "-master_pl_name", "master.m3u8"]);
    hls(&mut command, &dir.join("%v"));
    command
}

/// Makes HLS of `source` under `dir` without decoding.
pub fn copy_command(source: &Path, dir: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(source);
    command.args(["-map", "0:v", "-map", "0:a", "-c", "copy"]);
    command.args(["-var_stream_map", "v:0,agroup:a,name:source a:0,agroup:a,name:audio"]);
    command.args(["-master_pl_name", "master.m3u8"]);
    hls(&mut command, &dir.join("%v"));
    command
}

fn hls(command: &mut Command, dir: &Path) {
    command.args(["-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]);
    command.args(["-hls_segment_type", "fmp4", "-hls_flags", "independent_segments"]);
    command.arg(dir.join("index.m3u8"));
    command.stdin(Stdio::null());
}

/// Runs a command to its end.
///
/// # Errors
/// It does not start or fails.
pub fn run(mut command: Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| program.clone())?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}
