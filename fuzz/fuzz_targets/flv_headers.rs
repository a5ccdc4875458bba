//! FLV tag bodies, AVC and AAC headers and access units from hostile bytes. The first byte chooses the parser, the
//! second the length of the NAL prefixes.
//!
//! | first byte, modulo 6 | what follows |
//! |---|---|
//! | 0 | body of a video message; what it holds is read too |
//! | 1 | body of an audio message; likewise |
//! | 2 | `AVCDecoderConfigurationRecord` |
//! | 3 | sequence parameter set |
//! | 4 | `AudioSpecificConfig` |
//! | 5 | NAL units, each a length (1) and a body, which become an access unit |
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millrace_media::{
    AacHeader, AudioTag, AvcRecord, Sps, VideoTag, clean_picture, parse_audio, parse_video,
};
use millrace_types::FrameRate;

/// A sequence parameter set of x264: 322x180, 30 fps, High.
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x51, 0x9e, 0x22, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03,
    0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a, 0x65, 0x80,
];
const PPS: &[u8] = &[0x68, 0xef, 0x8f, 0xcb];

fuzz_target!(|data: &[u8]| {
    let [parser, prefix, rest @ ..] = data else { return };
    let (length_size, body) = ([1, 2, 4][usize::from(prefix % 3)], Bytes::copy_from_slice(rest));
    match parser % 6 {
        0 => match parse_video(body) {
            Ok(VideoTag::Header(record)) => avc_record(&record),
            Ok(VideoTag::Frame { data, .. }) => access_unit(&data, length_size),
            Ok(VideoTag::Nothing) | Err(_) => {}
        },
        1 => match parse_audio(body) {
            Ok(AudioTag::Header(asc)) => aac_header(asc),
            Ok(AudioTag::Frame(frame)) => assert!(!frame.is_empty()),
            Ok(AudioTag::Nothing) | Err(_) => {}
        },
        2 => avc_record(&body),
        3 => sps(&body),
        4 => aac_header(body),
        _ => access_unit(&joined(rest, length_size), length_size),
    }
});

fn sps(nal: &[u8]) {
    let Some(sps) = Sps::parse(nal) else { return };
    assert!(sps.width > 0 && sps.height > 0 && sps.luma_bits >= 8 && sps.chroma_bits >= 8);
    assert_eq!(sps.codecs().len(), "avc1.64001f".len());
}

/// What is written of a record reads as the same record.
fn avc_record(bytes: &Bytes) {
    let Ok(record) = AvcRecord::parse(bytes) else { return };
    let config = record.config(FrameRate { num: 30, den: 1 }).expect("a set that was read");
    let written = AvcRecord::parse(&config.avcc).expect("a record of ours");
    assert!(written.same_sets(&record) && written.length_size == 4);
    record.sps.iter().for_each(|set| sps(set));
}

fn aac_header(asc: Bytes) {
    let Ok(header) = AacHeader::parse(asc) else { return };
    let config = header.config();
    assert!(config.sample_rate > 0 && config.channels > 0 && header.frame_samples() > 0);
    assert!(!header.silent_frame().is_empty());
}

/// A cleaned unit holds no more than the unit did, and cleaning it again changes nothing.
fn access_unit(unit: &Bytes, length_size: usize) {
    let (sps, pps) = (vec![Bytes::from_static(SPS)], vec![Bytes::from_static(PPS)]);
    let record = AvcRecord { sps, pps, length_size };
    let Ok(picture) = clean_picture(unit, &record) else { return };
    assert!(picture.bytes.len() <= unit.len() * 4);
    let clean = AvcRecord { length_size: 4, ..record };
    let again = clean_picture(&picture.bytes, &clean).expect("a unit of ours");
    assert_eq!((again.bytes, again.new_record), (picture.bytes, None));
}

/// Reads `data` as length and NAL unit, and so on, and writes them with prefixes of `length_size` bytes.
fn joined(mut data: &[u8], length_size: usize) -> Bytes {
    let mut unit = Vec::new();
    while let [length, rest @ ..] = data {
        let (nal, next) = rest.split_at(usize::from(*length).min(rest.len()));
        unit.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - length_size..]);
        unit.extend_from_slice(nal);
        data = next;
    }
    unit.into()
}
