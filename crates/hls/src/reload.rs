//! The blocking-reload decision (RFC 8216bis 6.2.5.2): answer now, wait, or refuse. The clock is the caller's.

use std::time::Duration;

use millrace_types::{Msn, PartNo, RungId};

use crate::{BlockUntil, TARGET_DURATION, Window, rung::RungWindow};

/// How long a request may be parked before it is answered with 503: three target durations.
pub const PARK_LIMIT: Duration = Duration::from_secs(3 * TARGET_DURATION.as_secs());

/// What to do with a request for a media playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The playlist holds what was asked for, or will never.
    Ready,
    /// Ask again after the rung has changed, for at most [`PARK_LIMIT`] in all.
    Wait,
    /// Further in the future than a player may ask: 400.
    TooFar,
    /// No such rung: 404.
    NoRung,
}

impl Window {
    /// What to do now with a request for the rung's playlist. Without directives it waits for the stream's first whole
    /// segment: many players give up on, or fall behind from, a playlist that has only parts. One that wants the first
    /// part asks for it, by any number in the past.
    pub fn reload(&self, rung: &RungId, block: Option<BlockUntil>) -> Reload {
        let Some(rung) = self.rung(rung) else { return Reload::NoRung };
        let Some(next) = rung.next() else {
            return if self.is_ended() { Reload::NoRung } else { Reload::Wait };
        };
        match block {
            None if self.is_ended() || has_whole_segment(rung) => Reload::Ready,
            None => Reload::Wait,
            Some(_) if self.is_ended() => Reload::Ready,
            Some(block) => self.blocked(rung, next, block),
        }
    }

    fn blocked(&self, rung: &RungWindow, next: (Msn, PartNo), block: BlockUntil) -> Reload {
        // The last full segment is the one before `next`'s; two past it is the furthest a player may ask for.
        if block.msn.0 > next.0.0.saturating_add(1) {
            return Reload::TooFar;
        }
        let wanted = match block.part {
            None => (block.msn.next(), PartNo(0)),
            Some(part) => match rung.segment(block.msn) {
                // Past the final part of a full segment means the first part of the following one.
                Some(segment) if segment.closed && part.0 as usize >= segment.parts.len() => {
                    (block.msn.next(), PartNo(1))
                }
                _ => (block.msn, PartNo(part.0.saturating_add(1))),
            },
        };
        if next >= wanted {
            return Reload::Ready;
        }
        let there = if block.msn == next.0 { next.1.0 } else { 0 };
        match block.part {
            Some(part) if part.0.saturating_sub(there) > self.advance_part_limit() => {
                Reload::TooFar
            }
            _ => Reload::Wait,
        }
    }

    /// RFC 8216bis 6.2.5.2: three seconds' worth of parts, at least three.
    fn advance_part_limit(&self) -> u32 {
        3000_u32.div_ceil(self.announced().part_target_ms.max(1)).max(3)
    }
}

fn has_whole_segment(rung: &RungWindow) -> bool {
    rung.listed().next().is_some_and(|segment| segment.closed)
}
