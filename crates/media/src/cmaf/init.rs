//! The init section of one track: `ftyp` and a `moov` without samples. H.264 as `avc1`, AAC as `mp4a`.
//!
//! It holds nothing that depends on when or where it was written: equal configurations give equal bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{boxed, full_box, zeros};
use crate::{AudioConfig, TrackConfig, VideoConfig};

/// The only track of every rendition.
pub(super) const TRACK_ID: u32 = 1;
/// `tkhd`: enabled, in movie.
const TRACK_FLAGS: u32 = 0x03;
/// ISO 639-2 `und`, packed into 15 bits.
const UNDETERMINED: u16 = 0x55c4;
/// The unity matrix of `mvhd` and `tkhd`.
const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

/// `ftyp moov` for a track (`EXT-X-MAP`).
pub fn init_section(track: &TrackConfig) -> Bytes {
    let mut out = BytesMut::with_capacity(1024);
    boxed(&mut out, b"ftyp", |out| {
        out.put_slice(b"iso6");
        out.put_u32(0);
        out.put_slice(b"iso6cmfcmp41");
    });
    boxed(&mut out, b"moov", |out| {
        movie_header(out);
        boxed(out, b"trak", |out| {
            track_header(out, track);
            media(out, track);
        });
        boxed(out, b"mvex", |out| {
            full_box(out, b"trex", 0, 0, |out| {
                [TRACK_ID, 1, 0, 0, 0].into_iter().for_each(|field| out.put_u32(field));
            });
        });
    });
    out.freeze()
}

fn movie_header(out: &mut BytesMut) {
    full_box(out, b"mvhd", 0, 0, |out| {
        [0, 0, 1_000, 0].into_iter().for_each(|field: u32| out.put_u32(field));
        out.put_u32(0x0001_0000);
        out.put_u16(0x0100);
        zeros(out, 10);
        MATRIX.into_iter().for_each(|field| out.put_u32(field));
        zeros(out, 24);
        out.put_u32(TRACK_ID + 1);
    });
}

fn track_header(out: &mut BytesMut, track: &TrackConfig) {
    let (volume, width, height) = match track {
        TrackConfig::Video(video) => (0, video.width, video.height),
        TrackConfig::Audio(_) => (0x0100, 0, 0),
    };
    full_box(out, b"tkhd", 0, TRACK_FLAGS, |out| {
        [0, 0, TRACK_ID, 0, 0, 0, 0, 0].into_iter().for_each(|field| out.put_u32(field));
        out.put_u16(volume);
        out.put_u16(0);
        MATRIX.into_iter().for_each(|field| out.put_u32(field));
        out.put_u32(width << 16);
        out.put_u32(height << 16);
    });
}

fn media(out: &mut BytesMut, track: &TrackConfig) {
    boxed(out, b"mdia", |out| {
        full_box(out, b"mdhd", 0, 0, |out| {
            [0, 0, track.timescale(), 0].into_iter().for_each(|field| out.put_u32(field));
            out.put_u16(UNDETERMINED);
            out.put_u16(0);
        });
        let (handler, name): (&[u8; 4], &[u8]) = match track {
            TrackConfig::Video(_) => (b"vide", b"video\0"),
            TrackConfig::Audio(_) => (b"soun", b"audio\0"),
        };
        full_box(out, b"hdlr", 0, 0, |out| {
            out.put_u32(0);
            out.put_slice(handler);
            zeros(out, 12);
            out.put_slice(name);
        });
        boxed(out, b"minf", |out| {
            match track {
                TrackConfig::Video(_) => full_box(out, b"vmhd", 0, 1, |out| zeros(out, 8)),
                TrackConfig::Audio(_) => full_box(out, b"smhd", 0, 0, |out| zeros(out, 4)),
            }
            boxed(out, b"dinf", |out| {
                full_box(out, b"dref", 0, 0, |out| {
                    out.put_u32(1);
                    full_box(out, b"url ", 0, 1, |_| {});
                });
            });
            sample_table(out, track);
        });
    });
}

fn sample_table(out: &mut BytesMut, track: &TrackConfig) {
    boxed(out, b"stbl", |out| {
        full_box(out, b"stsd", 0, 0, |out| {
            out.put_u32(1);
            match track {
                TrackConfig::Video(video) => avc1(out, video),
                TrackConfig::Audio(audio) => mp4a(out, audio),
            }
        });
        full_box(out, b"stts", 0, 0, |out| out.put_u32(0));
        full_box(out, b"stsc", 0, 0, |out| out.put_u32(0));
        full_box(out, b"stsz", 0, 0, |out| zeros(out, 8));
        full_box(out, b"stco", 0, 0, |out| out.put_u32(0));
    });
}

/// ISO/IEC 14496-15 5.4.2.1.
fn avc1(out: &mut BytesMut, video: &VideoConfig) {
    boxed(out, b"avc1", |out| {
        zeros(out, 6);
        out.put_u16(1);
        zeros(out, 16);
        out.put_u16(clamped(video.width));
        out.put_u16(clamped(video.height));
        out.put_u32(0x0048_0000);
        out.put_u32(0x0048_0000);
        out.put_u32(0);
        out.put_u16(1);
        zeros(out, 32);
        out.put_u16(0x18);
        out.put_i16(-1);
        boxed(out, b"avcC", |out| out.put_slice(&video.avcc));
    });
}

/// ISO/IEC 14496-14 5.6. HE-AAC is signalled by its `AudioSpecificConfig`; the rate here is that of the track's clock.
fn mp4a(out: &mut BytesMut, audio: &AudioConfig) {
    boxed(out, b"mp4a", |out| {
        zeros(out, 6);
        out.put_u16(1);
        zeros(out, 8);
        out.put_u16(u16::from(audio.channels));
        out.put_u16(16);
        out.put_u32(0);
        out.put_u32(u32::from(clamped(audio.sample_rate)) << 16);
        full_box(out, b"esds", 0, 0, |out| elementary_stream(out, audio));
    });
}

/// `ES_Descriptor` (ISO/IEC 14496-1 7.2.6.5) around the `AudioSpecificConfig`.
fn elementary_stream(out: &mut BytesMut, audio: &AudioConfig) {
    descriptor(out, 0x03, |out| {
        out.put_u16(0);
        out.put_u8(0);
        descriptor(out, 0x04, |out| {
            out.put_u8(0x40);
            out.put_u8(0x15);
            zeros(out, 11);
            descriptor(out, 0x05, |out| out.put_slice(&audio.asc));
        });
        descriptor(out, 0x06, |out| out.put_u8(0x02));
    });
}

/// A descriptor with its size in one byte: an `AudioSpecificConfig` has at most a few dozen bytes.
fn descriptor(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u8(0);
    body(out);
    let size = out.len() - at - 1;
    debug_assert!(size < 0x80, "a descriptor of {size} bytes");
    out[at] = (size & 0x7f) as u8;
}

fn clamped(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
