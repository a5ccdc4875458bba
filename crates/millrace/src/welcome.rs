//! What standalone says to a person once it runs: where to watch, and how to publish.

use crate::ready_file::Ready;

/// The text. `demo`: a test picture is being published. `everywhere`: publishers and players may come from other hosts.
pub fn welcome(ready: &Ready, demo: bool, everywhere: bool) -> String {
    let Ready { rtmp, rtmps, stream_key, watch, api, playback, .. } = ready;
    let picture = if demo { " (the demo picture is on it now)" } else { "" };
    let with_tls = match rtmps {
        Some(rtmps) => format!("  with TLS    {rtmps}\n"),
        None => String::new(),
    };
    let elsewhere = match everywhere {
        true => {
            "\n  From other machines: this host's name or address instead of 127.0.0.1, but for the console.\n"
        }
        false => "",
    };
    let target = shell_word(&format!("{rtmp}/{stream_key}"));
    format!(
        "\nMillrace is ready.

  watch       {watch}{picture}
  playlist    {playback}
  console     {api}/ (on this host)
  publish to  {rtmp}
{with_tls}  stream key  {stream_key}

  OBS: Settings > Stream, service Custom, server and stream key as above; keyframe interval 2 s.
  ffmpeg -re -i FILE -c:v libx264 -preset veryfast -g 60 -c:a aac -f flv {target}
{elsewhere}
Ctrl-C stops it.
"
    )
}

/// One word for a POSIX shell, whatever it holds (IEEE Std 1003.1, 2.2.2 Single-Quotes).
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_the_word_as_it_is() {
        for text in ["rtmp://[::1]:1935/live/demo_abc", "a b$HOME`id`'\"\\&?*"] {
            let script = format!("printf %s {}", shell_word(text));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
