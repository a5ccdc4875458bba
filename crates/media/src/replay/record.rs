//! One item as bytes: a head of numbers, most of them written short, then the payload of a unit as it is.
//!
//! Only this process reads what it wrote; the wire has a format of its own. A description stands for itself elsewhere, and
//! here only for its place.

use bytes::{BufMut, Bytes};
use millrace_types::{MediaTime, Msn, PartNo};

use crate::{AccessUnit, Boundary, Cut, SegmentStamp, Stamp, Tick, Track};

/// Eleven numbers of at most ten bytes, and the flags.
pub(super) const MAX_HEAD_BYTES: usize = 111;

const IDR: u8 = 1 << 2;
const STARTS: u8 = 3;
const ENDS: u8 = 5;
/// Of a unit: its payload lies before it.
const HELD: u8 = 1 << 7;

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The description with this sequence number.
    Config(u64),
    /// A unit without its bytes.
    Unit(AccessUnit, Payload),
    Tick(Tick),
    /// So many bytes follow, of a unit whose head comes later.
    Held(usize),
}

/// Where a unit's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) bytes: usize,
    /// From their beginning to the head's; `None`: they follow it.
    pub(super) before: Option<u64>,
}

/// How a head begins: two bits of the flags.
mod kind {
    pub const CONFIG: u8 = 0;
    pub const VIDEO: u8 = 1;
    pub const AUDIO: u8 = 2;
    pub const TICK: u8 = 3;
    pub const MASK: u8 = 3;
}

pub(super) fn write_config(seq: u64, out: &mut Vec<u8>) {
    out.push(kind::CONFIG);
    write_number(seq, out);
}

pub(super) fn write_tick(tick: &Tick, out: &mut Vec<u8>) {
    out.push(kind::TICK);
    write_number(tick.seq, out);
    write_signed(tick.to.0, out);
}

/// Writes the head of so many bytes, which are to follow, of a unit that is not known yet.
pub(super) fn write_held(bytes: usize, out: &mut Vec<u8>) {
    out.push(kind::CONFIG | HELD);
    write_number(bytes as u64, out);
}

/// Writes the head of a unit, whose bytes are to follow or lie before it.
pub(super) fn write_unit(unit: &AccessUnit, payload: Payload, out: &mut Vec<u8>) {
    let Stamp { segment, part, starts, ends } = &unit.stamp;
    let kind = match unit.track {
        Track::Video => kind::VIDEO,
        Track::Audio => kind::AUDIO,
    };
    let ends_with =
        ends.map_or(Cut::None, |end| if end.segment { Cut::Segment } else { Cut::Part });
    let idr = if unit.idr { IDR } else { 0 };
    let held = if payload.before.is_some() { HELD } else { 0 };
    out.push(kind | idr | cut_bits(*starts) << STARTS | cut_bits(ends_with) << ENDS | held);
    write_number(unit.seq, out);
    write_signed(unit.dts, out);
    write_signed(unit.pts.wrapping_sub(unit.dts), out);
    write_number(unit.duration.into(), out);
    write_number(segment.msn.0, out);
    write_number(segment.discontinuity, out);
    write_signed(segment.start.0, out);
    write_number(part.0.into(), out);
    if let Some(end) = ends {
        write_signed(end.at.0, out);
    }
    write_number(payload.bytes as u64, out);
    if let Some(before) = payload.before {
        write_number(before, out);
    }
}

/// Reads the head at the beginning of `bytes`; also how long it is.
pub(super) fn read_head(bytes: &[u8]) -> (Head, usize) {
    let Some((flags, mut rest)) = bytes.split_first() else { return (Head::Config(0), 0) };
    let rest = &mut rest;
    let seq = read_number(rest);
    let head = match flags & kind::MASK {
        kind::CONFIG if flags & HELD != 0 => Head::Held(seq as usize),
        kind::CONFIG => Head::Config(seq),
        kind::TICK => Head::Tick(Tick { seq, to: MediaTime(read_signed(rest)) }),
        track => {
            let track = if track == kind::VIDEO { Track::Video } else { Track::Audio };
            let (unit, payload) = read_unit(*flags, seq, track, rest);
            Head::Unit(unit, payload)
        }
    };
    (head, bytes.len() - rest.len())
}

fn read_unit(flags: u8, seq: u64, track: Track, rest: &mut &[u8]) -> (AccessUnit, Payload) {
    let dts = read_signed(rest);
    let pts = dts.wrapping_add(read_signed(rest));
    let duration = read_number(rest) as u32;
    let segment = SegmentStamp {
        msn: Msn(read_number(rest)),
        discontinuity: read_number(rest),
        start: MediaTime(read_signed(rest)),
    };
    let part = PartNo(read_number(rest) as u32);
    let ends = match cut_of(flags >> ENDS) {
        Cut::None => None,
        cut => Some(Boundary { at: MediaTime(read_signed(rest)), segment: cut == Cut::Segment }),
    };
    let stamp = Stamp { segment, part, starts: cut_of(flags >> STARTS), ends };
    let bytes = read_number(rest) as usize;
    let payload = Payload { bytes, before: (flags & HELD != 0).then(|| read_number(rest)) };
    let (idr, bytes) = (flags & IDR != 0, Bytes::new());
    (AccessUnit { seq, track, dts, pts, duration, idr, stamp, bytes }, payload)
}

const fn cut_bits(cut: Cut) -> u8 {
    match cut {
        Cut::None => 0,
        Cut::Part => 1,
        Cut::Segment => 2,
    }
}

const fn cut_of(bits: u8) -> Cut {
    match bits & 3 {
        0 => Cut::None,
        1 => Cut::Part,
        _ => Cut::Segment,
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0_u64, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= u64::from(byte & 0x7F).wrapping_shl(shift);
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// Zigzag: small numbers of either sign become small.
fn write_signed(number: i64, out: &mut Vec<u8>) {
    write_number((number.wrapping_shl(1) ^ (number >> 63)).cast_unsigned(), out);
}

fn read_signed(bytes: &mut &[u8]) -> i64 {
    let number = read_number(bytes);
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units() -> impl Strategy<Value = AccessUnit> {
        let cut = prop::sample::select(vec![Cut::None, Cut::Part, Cut::Segment]);
        let end = prop::option::of((any::<i64>(), any::<bool>()));
        let stamp = (any::<[u64; 2]>(), any::<i64>(), any::<u32>(), cut, end);
        let times = (any::<i64>(), any::<i64>(), any::<u32>());
        let flags = (any::<u64>(), any::<bool>(), any::<bool>());
        (flags, times, stamp, 0_usize..3).prop_map(|(flags, times, stamp, length)| {
            let ([msn, discontinuity], start, part, starts, end) = stamp;
            let segment = SegmentStamp { msn: Msn(msn), discontinuity, start: MediaTime(start) };
            let ends = end.map(|(at, segment)| Boundary { at: MediaTime(at), segment });
            AccessUnit {
                seq: flags.0,
                track: if flags.1 { Track::Video } else { Track::Audio },
                dts: times.0,
                pts: times.1,
                duration: times.2,
                idr: flags.2,
                stamp: Stamp { segment, part: PartNo(part), starts, ends },
                bytes: vec![7; length].into(),
            }
        })
    }

    proptest! {
        #[test]
        fn a_unit_reads_as_it_was_written_and_its_head_is_no_longer_than_promised(
            unit in units(),
            before: Option<u64>,
        ) {
            let mut head = Vec::new();
            let payload = Payload { bytes: unit.bytes.len(), before };
            write_unit(&unit, payload, &mut head);
            let length = head.len();
            prop_assert!(length <= MAX_HEAD_BYTES);
            head.extend_from_slice(&unit.bytes);
            let (read, read_bytes) = read_head(&head);
            let expected = AccessUnit { bytes: Bytes::new(), ..unit.clone() };
            prop_assert_eq!(read, Head::Unit(expected, payload));
            prop_assert_eq!(read_bytes, length);
        }

        #[test]
        fn ticks_and_whatever_lies_elsewhere_read_as_they_were_written(seq: u64, to: i64) {
            let tick = Tick { seq, to: MediaTime(to) };
            let mut head = Vec::new();
            write_tick(&tick, &mut head);
            prop_assert_eq!(read_head(&head), (Head::Tick(tick), head.len()));
            head.clear();
            write_config(seq, &mut head);
            prop_assert_eq!(read_head(&head), (Head::Config(seq), head.len()));
            head.clear();
            write_held(seq as usize, &mut head);
            prop_assert_eq!(read_head(&head), (Head::Held(seq as usize), head.len()));
        }
    }

    #[test]
    fn the_head_of_a_usual_unit_is_short() {
        let segment = SegmentStamp {
            msn: Msn(1_795_222_923),
            discontinuity: 0,
            start: MediaTime(161_570_063_070_000),
        };
        let stamp = Stamp { segment, part: PartNo(3), starts: Cut::None, ends: None };
        let mut head = Vec::new();
        write_unit(
            &AccessUnit {
                seq: 2_000_000,
                track: Track::Video,
                dts: 161_570_063_070_000,
                pts: 161_570_063_076_000,
                duration: 3_000,
                idr: false,
                stamp,
                bytes: Bytes::new(),
            },
            Payload { bytes: 20_000, before: None },
            &mut head,
        );
        assert!(head.len() <= 36, "{} bytes", head.len());
    }
}
