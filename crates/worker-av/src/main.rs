//! `millrace-worker-av`: decodes one stream once, scales, encodes and packages it, with FFmpeg.

mod ffmpeg_log;
mod measure;

use std::process::ExitCode;

use millrace_software::{Software, log_errors_to};

fn main() -> ExitCode {
    // libx264 asks for huge pages, which are mostly empty at the sizes of our rungs: 16 MB of 135.
    let _ = nix::sys::prctl::set_thp_disable(true);
    log_errors_to(ffmpeg_log::write);
    if std::env::args().nth(1).is_some_and(|argument| argument == "measure") {
        return print_speed();
    }
    millrace_worker::run("millrace-worker-av", Software::default())
}

/// `millrace-worker-av measure`: what the node asks at its start, outside the sandbox, with nobody's input.
fn print_speed() -> ExitCode {
    match measure::measure(&Software::default()) {
        Ok(speed) => {
            println!(
                r#"{{"decode_pixels_per_second":{},"encode_pixels_per_second":{}}}"#,
                speed.decode_pixels_per_second, speed.encode_pixels_per_second
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
