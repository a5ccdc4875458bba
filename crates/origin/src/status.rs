//! `/live/<stream>/status.json`: what a watch page shows beside the picture. A view of the window, nothing more.

use millrace_hls::{RenditionKind, RungStatus};
use millrace_telemetry::Clock;
use millrace_types::{MediaTime, Wall};
use serde_json::{Value, json};

use crate::stream::Stream;

/// The status of a stream now.
pub(crate) fn of(stream: &Stream, clock: &impl Clock) -> Value {
    let now = clock.wall();
    let viewers = stream.audience.viewers(clock.mono());
    stream.look(|window, health| {
        let status = window.status();
        let newest = status.iter().filter_map(|rung| rung.end).max();
        json!({
            "stream": stream.id,
            "live": !window.is_ended(),
            "epoch": window.announced().epoch.to_string(),
            "part_target_ms": window.announced().part_target_ms,
            "hold_back_ms": window.announced().hold_back_ms,
            "latency_ms": newest.map(|end| behind_ms(now, end)),
            "viewers_estimate": viewers,
            "rungs": status.iter().map(|status| rung(now, status)).collect::<Vec<_>>(),
            "health": health,
        })
    })
}

fn rung(now: Wall, status: &RungStatus) -> Value {
    let mut value = json!({
        "rung": status.rung,
        "msn": status.last.map(|(msn, _)| msn),
        "part": status.last.map(|(_, part)| part),
        "latency_ms": status.end.map(|end| behind_ms(now, end)),
        "bitrate_bps": status.bitrate_bps,
        "epoch": status.maker.map(|maker| maker.to_string()),
    });
    if let Some(init) = &status.init {
        value["codecs"] = json!(init.codecs);
        value["bandwidth_bps"] = json!(status.bandwidth_bps);
        match init.kind {
            RenditionKind::Video { width, height, frame_rate, transcoded } => {
                value["kind"] = json!("video");
                value["width"] = json!(width);
                value["height"] = json!(height);
                value["frame_rate"] = json!(frame_rate.fps());
                value["transcoded"] = json!(transcoded);
            }
            RenditionKind::Audio { channels } => {
                value["kind"] = json!("audio");
                value["channels"] = json!(channels);
            }
        }
    }
    value
}

/// Milliseconds from `end` to `now`; negative when the publisher's clock runs ahead.
fn behind_ms(now: Wall, end: MediaTime) -> i64 {
    (MediaTime::from_wall(now) - end) / 90
}
