//! NAL units of one access unit: finds a real IDR, drops what passthrough must not carry, writes 4-byte lengths.

use bytes::{BufMut, Bytes, BytesMut};

use super::{AvcError, AvcRecord};

const NAL_SLICE: u8 = 1;
const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;
const NAL_DELIMITER: u8 = 9;
const NAL_END_OF_SEQUENCE: u8 = 10;
const NAL_END_OF_STREAM: u8 = 11;
const NAL_FILLER: u8 = 12;

/// One access unit, cleaned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// NAL units with 4-byte lengths: slices and supplemental information (captions), no delimiter, filler or parameter set.
    /// Empty when the access unit had no slice.
    pub bytes: Bytes,
    /// Whether it is an IDR picture: a NAL unit of type 5, whatever the container said.
    pub idr: bool,
    /// Parameter sets that it carried, if they differ from those of the record.
    pub new_record: Option<AvcRecord>,
}

/// Cleans an access unit whose NAL units are as `record` describes them. Copies only when something must change.
///
/// # Errors
/// [`AvcError::NalLength`] when a NAL unit does not fit into the access unit.
pub fn clean_picture(unit: &Bytes, record: &AvcRecord) -> Result<Picture, AvcError> {
    let mut kept = Vec::new();
    let (mut sps, mut pps) = (Vec::new(), Vec::new());
    let (mut slices, mut idr) = (false, false);
    let mut dropped = record.length_size != 4;
    let mut at = 0;
    while at < unit.len() {
        let nal = next_nal(unit, &mut at, record.length_size)?;
        match nal.first().map(|header| header & 0x1f) {
            Some(NAL_SPS) => add_set(&mut sps, nal),
            Some(NAL_PPS) => add_set(&mut pps, nal),
            None | Some(NAL_DELIMITER | NAL_END_OF_SEQUENCE | NAL_END_OF_STREAM | NAL_FILLER) => {}
            Some(kind) => {
                slices |= (NAL_SLICE..=NAL_IDR).contains(&kind);
                idr |= kind == NAL_IDR;
                kept.push(nal);
                continue;
            }
        }
        dropped = true;
    }
    let bytes = match (slices, dropped) {
        (false, _) => Bytes::new(),
        (true, false) => unit.clone(),
        (true, true) => join(&kept),
    };
    Ok(Picture { bytes, idr, new_record: changed_record(record, sps, pps) })
}

fn next_nal(unit: &Bytes, at: &mut usize, length_size: usize) -> Result<Bytes, AvcError> {
    let prefix = unit.get(*at..*at + length_size).unwrap_or_default();
    let length = prefix.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let start = *at + length_size;
    let left = unit.len().saturating_sub(start);
    if prefix.is_empty() || length > left {
        return Err(AvcError::NalLength { length, left });
    }
    *at = start + length;
    Ok(unit.slice(start..*at))
}

fn add_set(sets: &mut Vec<Bytes>, set: Bytes) {
    if !sets.contains(&set) {
        sets.push(set);
    }
}

fn join(nals: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(nals.iter().map(|nal| nal.len() + 4).sum());
    for nal in nals {
        bytes.put_u32(nal.len() as u32);
        bytes.put_slice(nal);
    }
    bytes.freeze()
}

/// The record with the sets found in the stream in place of its own, if they are others and can be read.
fn changed_record(record: &AvcRecord, sps: Vec<Bytes>, pps: Vec<Bytes>) -> Option<AvcRecord> {
    let known = |found: &[Bytes], sets: &[Bytes]| found.iter().all(|set| sets.contains(set));
    if known(&sps, &record.sps) && known(&pps, &record.pps) {
        return None;
    }
    let or_known = |found: Vec<Bytes>, sets: &[Bytes]| {
        if found.is_empty() { sets.to_vec() } else { found }
    };
    let changed = AvcRecord {
        sps: or_known(sps, &record.sps),
        pps: or_known(pps, &record.pps),
        length_size: record.length_size,
    };
    let short = |set: &Bytes| u16::try_from(set.len()).is_ok();
    let fits = changed.sps.len() <= 31
        && changed.pps.len() <= 255
        && changed.sps.iter().chain(&changed.pps).all(short);
    (fits && changed.main_sps().is_ok()).then_some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length_size: usize) -> AvcRecord {
        AvcRecord {
            sps: vec![Bytes::from_static(b"\x67sps")],
            pps: vec![Bytes::from_static(b"\x68pps")],
            length_size,
        }
    }

    fn unit(length_size: usize, nals: &[&[u8]]) -> Bytes {
        let mut bytes = BytesMut::new();
        for nal in nals {
            bytes.put_slice(&(nal.len() as u32).to_be_bytes()[4 - length_size..]);
            bytes.put_slice(nal);
        }
        bytes.freeze()
    }

    #[test]
    fn only_slices_and_captions_pass_and_lengths_become_four_bytes() {
        let caption: &[u8] = b"\x06\x04caption";
        let sent: [&[u8]; 6] =
            [b"\x09\xf0", b"\x67sps", b"\x68pps", caption, b"\x65idr", b"\x0c\xff"];
        for length_size in [1, 2, 4] {
            let picture = clean_picture(&unit(length_size, &sent), &record(length_size)).unwrap();
            assert!(picture.idr && picture.new_record.is_none());
            assert_eq!(picture.bytes, unit(4, &[caption, b"\x65idr"]));
        }
    }

    #[test]
    fn a_clean_picture_is_not_copied() {
        let sent = unit(4, &[b"\x41slice"]);
        let picture = clean_picture(&sent, &record(4)).unwrap();
        assert_eq!(picture.bytes.as_ptr(), sent.as_ptr());
        assert!(!picture.idr);
    }

    #[test]
    fn a_nal_unit_past_the_end_is_an_error() {
        let sent = Bytes::from_static(b"\x00\x00\x00\x09\x41");
        let left = AvcError::NalLength { length: 9, left: 1 };
        assert_eq!(clean_picture(&sent, &record(4)), Err(left));
        assert!(clean_picture(&Bytes::from_static(b"\x00\x00"), &record(4)).is_err());
    }
}
