//! Says how connections ended, so rarely that strangers cannot fill a disk. Every refusal is [counted](super::IngestMetrics).

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use millrace_telemetry::{Clock, LineLimit, SystemClock};
use millrace_types::RefusalReason;
use tracing::{info, warn};

use super::IngestEnd;

/// Kinds of lines: one for each reason to refuse, one for all other ends.
const KINDS: usize = RefusalReason::ALL.len() + 1;

/// The lines about ends, each kind under a limit of its own.
#[derive(Debug, Default)]
pub struct EndLog {
    clock: SystemClock,
    limits: Mutex<[LineLimit; KINDS]>,
}

impl EndLog {
    /// Writes a line, or counts it as left out.
    pub fn say(&self, peer: SocketAddr, end: IngestEnd) {
        let kind = match &end {
            IngestEnd::Refused(refusal) => refusal.reason as usize,
            IngestEnd::Unpublished | IngestEnd::Disconnected => KINDS - 1,
        };
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = limits[kind].admit(self.clock.mono()) else { return };
        drop(limits);
        let left_out = (left_out > 0).then_some(left_out);
        match end {
            IngestEnd::Unpublished => info!(%peer, left_out, "publisher ended"),
            IngestEnd::Disconnected => info!(%peer, left_out, "publisher disconnected"),
            IngestEnd::Refused(refusal) => {
                let (reason, detail) = (refusal.reason.as_str(), refusal.detail);
                match refusal.reason {
                    // It comes with every stop of this program.
                    RefusalReason::ShuttingDown => {
                        info!(%peer, reason, detail, left_out, "publisher refused");
                    }
                    _ => warn!(%peer, reason, detail, left_out, "publisher refused"),
                }
            }
        }
    }
}
