//! Makes an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1) of an encoder's length-prefixed parameter sets.

use bytes::{BufMut, Bytes, BytesMut};

const SPS: u8 = 7;
const PPS: u8 = 8;

/// The record for one SPS and one PPS of 8-bit 4:2:0, `None` if either is missing or cut off.
pub(crate) fn avcc(mut headers: &[u8]) -> Option<Bytes> {
    let (mut sps, mut pps) = (None, None);
    while let Some((length, rest)) = headers.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        match unit.first()? & 0x1f {
            SPS => sps = Some(unit),
            PPS => pps = Some(unit),
            _ => {}
        }
        headers = rest;
    }
    let (sps, pps) = (sps?, pps?);
    let profile = *sps.get(1)?;
    let mut out = BytesMut::new();
    out.put_u8(1);
    out.put_slice(sps.get(1..4)?);
    out.put_slice(&[0xff, 0xe1]);
    out.put_u16(u16::try_from(sps.len()).ok()?);
    out.put_slice(sps);
    out.put_u8(1);
    out.put_u16(u16::try_from(pps.len()).ok()?);
    out.put_slice(pps);
    if profile >= 100 {
        out.put_slice(&[0xfd, 0xf8, 0xf8, 0]);
    }
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_cut_off_anywhere_make_no_record() {
        let headers = [0, 0, 0, 4, 0x67, 100, 0, 31, 0, 0, 0, 1, 0x68];
        for length in 0..headers.len() {
            assert_eq!(avcc(&headers[..length]), None, "{length}");
        }
        let record = avcc(&headers).unwrap();
        assert_eq!(&record[..8], [1, 100, 0, 31, 0xff, 0xe1, 0, 4]);
    }
}
