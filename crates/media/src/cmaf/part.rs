//! A part: `moof` (one track fragment, decode time as 64 bits, one run) and `mdat`. Samples are copied once, into it.

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{boxed, full_box};

/// `trun`: offset, durations, sizes, flags and composition offsets are present.
const RUN_FLAGS: u32 = 0x01 | 0x100 | 0x200 | 0x400 | 0x800;
/// `tfhd`: `default-base-is-moof`, which CMAF asks for.
const BASE_IS_MOOF: u32 = 0x02_0000;
/// `sample_depends_on = 2`: needs no other sample.
const SYNC_SAMPLE: u32 = 0x0200_0000;
/// `sample_depends_on = 1`, and not a sync sample.
const OTHER_SAMPLE: u32 = 0x0101_0000;
/// Every box of a part but its samples: what precedes the first entry of `trun`, and `mdat`'s header.
const FIXED_BYTES: usize = 8 + 16 + 8 + 16 + 20 + 20 + 8;
/// One entry of `trun`.
const ENTRY_BYTES: usize = 16;

/// One sample of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Presentation minus decoding time, ticks of the track.
    pub composition_offset: i32,
    /// To the next sample in decoding order, ticks of the track.
    pub duration: u32,
    /// Whether decoding can begin here.
    pub sync: bool,
    /// Video: NAL units with 4-byte lengths. Audio: one raw AAC frame.
    pub bytes: Bytes,
}

/// The bytes of one part.
///
/// `sequence` should grow from part to part; `decode_time` is the first sample's, in ticks of the track.
pub fn part(sequence: u32, decode_time: u64, samples: &[Sample]) -> Bytes {
    let payload: usize = samples.iter().map(|sample| sample.bytes.len()).sum();
    let moof_bytes = FIXED_BYTES - 8 + ENTRY_BYTES * samples.len();
    let mut out = BytesMut::with_capacity(moof_bytes + 8 + payload);
    boxed(&mut out, b"moof", |out| {
        full_box(out, b"mfhd", 0, 0, |out| out.put_u32(sequence));
        boxed(out, b"traf", |out| {
            full_box(out, b"tfhd", 0, BASE_IS_MOOF, |out| out.put_u32(super::init::TRACK_ID));
            full_box(out, b"tfdt", 1, 0, |out| out.put_u64(decode_time));
            full_box(out, b"trun", 1, RUN_FLAGS, |out| {
                out.put_u32(count(samples.len()));
                out.put_u32(count(moof_bytes + 8));
                samples.iter().for_each(|sample| entry(out, sample));
            });
        });
    });
    debug_assert_eq!(out.len(), moof_bytes);
    boxed(&mut out, b"mdat", |out| {
        samples.iter().for_each(|sample| out.put_slice(&sample.bytes));
    });
    out.freeze()
}

fn entry(out: &mut BytesMut, sample: &Sample) {
    out.put_u32(sample.duration);
    out.put_u32(count(sample.bytes.len()));
    out.put_u32(if sample.sync { SYNC_SAMPLE } else { OTHER_SAMPLE });
    out.put_i32(sample.composition_offset);
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("invariant: a part is smaller than 4 GiB")
}
