//! Who comes in, who does not, and when.

use bytes::Bytes;
use millrace_types::RefusalReason;

use super::*;
use crate::ingest::{IngestEnd, MessageKind};

const START: Wall = Wall(1_795_222_923_456_000);
/// `AVCDecoderConfigurationRecord` of x264: 322x180, 30 fps, High.
const AVCC: &[u8] = &[
    0x17, 0, 0, 0, 0, 0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x0d, 0xac,
    0xd9, 0x41, 0x51, 0x9e, 0x22, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f,
    0x03, 0xc5, 0x0a, 0x65, 0x80, 0x01, 0x00, 0x04, 0x68, 0xef, 0x8f, 0xcb, 0xfd, 0xf8, 0xf8, 0x00,
];
const IDR: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 5, 0x65, 1, 2, 3, 4];
const PICTURE: &[u8] = &[0x27, 1, 0, 0, 0, 0, 0, 0, 5, 0x41, 1, 2, 3, 4];
const ASC: &[u8] = &[0xaf, 0, 0x11, 0x90];
const SOUND: &[u8] = &[0xaf, 1, 0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c, 0xff];
const MP3: &[u8] = &[0x2f, 0xff, 0xfb, 0x90, 0x64];
const HEVC: &[u8] = b"\x90hvc1\x01\x01\x60\0\0\0";

fn message(kind: MessageKind, timestamp_ms: u32, body: &'static [u8]) -> IngestEvent {
    IngestEvent::Media(PublisherMessage { kind, timestamp_ms, body: Bytes::from_static(body) })
}

/// What stands on the doorstep, and who says what is known of it once all of that came, each at its timestamp.
struct Visit {
    doorstep: Doorstep,
    verdict: Verdict,
    /// Messages until the verdict.
    heard: usize,
}

fn visit(messages: impl IntoIterator<Item = (MessageKind, u32, &'static [u8])>) -> Visit {
    let mut visit = Visit { doorstep: Doorstep::new(false), verdict: Verdict::Wait, heard: 0 };
    for (kind, at, body) in messages {
        if visit.verdict == Verdict::Wait {
            let after = Duration::from_millis(at.into());
            let event = message(kind, at, body);
            visit.verdict = visit.doorstep.hear(Mono(after), START + after, Some(event));
            visit.heard += 1;
        }
    }
    visit
}

fn reason(verdict: &Verdict) -> Option<RefusalReason> {
    match verdict {
        Verdict::Refuse(error) => Some(error.refusal()),
        _ => None,
    }
}

const VIDEO: MessageKind = MessageKind::Video;
const AUDIO: MessageKind = MessageKind::Audio;

/// H.264 from its headers on, and one sound message at each of those times.
fn pictures(first: &'static [u8]) -> impl Iterator<Item = (MessageKind, u32, &'static [u8])> {
    let later = (1..120).map(|number| (VIDEO, number * 100 / 3, PICTURE));
    [(VIDEO, 0, AVCC), (VIDEO, 0, first)].into_iter().chain(later)
}

fn with_sound(
    header: &'static [u8],
    frame: &'static [u8],
) -> impl Iterator<Item = (MessageKind, u32, &'static [u8])> {
    let both = move |(kind, at, body)| [(kind, at, body), (AUDIO, at, frame)];
    [(AUDIO, 0, header)].into_iter().chain(pictures(IDR).flat_map(both))
}

#[test]
fn h264_and_aac_come_in_with_all_that_was_heard_and_the_time_of_the_first_of_it() {
    let Visit { doorstep, verdict, heard } = visit(with_sound(ASC, SOUND));
    assert_eq!(verdict, Verdict::Enter { since: START });
    assert!(heard < 30, "{heard} messages");
    let expected: Vec<_> = with_sound(ASC, SOUND)
        .take(heard)
        .map(|(kind, at, body)| message(kind, at, body))
        .collect();
    assert_eq!(doorstep.into_heard(), expected);
}

#[test]
fn pictures_alone_come_in() {
    let Visit { verdict, heard, .. } = visit(pictures(IDR));
    assert_eq!((verdict, heard), (Verdict::Enter { since: START }, 17), "half a second");
}

#[test]
fn another_codec_does_not_come_in_whenever_it_shows() {
    assert_eq!(reason(&visit([(VIDEO, 0, HEVC)]).verdict), Some(RefusalReason::VideoCodec));
    let behind_sound = [(AUDIO, 0, ASC), (AUDIO, 0, SOUND), (AUDIO, 21, SOUND), (VIDEO, 30, HEVC)];
    assert_eq!(reason(&visit(behind_sound).verdict), Some(RefusalReason::VideoCodec));
    assert_eq!(reason(&visit(with_sound(MP3, MP3)).verdict), Some(RefusalReason::AudioCodec));
    let behind_pictures = pictures(IDR).take(3).chain([(AUDIO, 70, MP3)]);
    assert_eq!(reason(&visit(behind_pictures).verdict), Some(RefusalReason::AudioCodec));
}

#[test]
fn headers_that_cannot_be_read_do_not_come_in() {
    let garbled = [(VIDEO, 0, &AVCC[..20])];
    assert_eq!(reason(&visit(garbled).verdict), Some(RefusalReason::Undecodable));
}

#[test]
fn who_begins_inside_a_group_of_pictures_comes_in_after_two_seconds() {
    let mut visit = visit(pictures(PICTURE).take(30));
    assert_eq!(visit.verdict, Verdict::Wait);
    let until = Mono(LONGEST_TRIAL);
    assert_eq!(visit.doorstep.deadline(), Some(until));
    assert_eq!(visit.doorstep.elapsed(Mono(Duration::from_millis(1_999))), Verdict::Wait);
    assert_eq!(visit.doorstep.elapsed(until), Verdict::Enter { since: START });
}

#[test]
fn no_more_is_kept_than_eight_mebibytes() {
    let mut doorstep = Doorstep::new(false);
    let body = Bytes::from([&[0x27, 1, 0, 0, 0][..], &vec![0; 1 << 20]].concat());
    let mut verdicts = (0..).map(|_| {
        let event = PublisherMessage { kind: VIDEO, timestamp_ms: 0, body: body.clone() };
        doorstep.hear(Mono::default(), START, Some(IngestEvent::Media(event)))
    });
    let waited = verdicts.position(|verdict| verdict != Verdict::Wait);
    assert_eq!(waited, Some(7));
}

#[test]
fn who_says_nothing_is_waited_for_and_who_leaves_is_gone() {
    let mut silent = Doorstep::new(false);
    assert_eq!(silent.deadline(), None);
    let end = IngestEvent::Ended(IngestEnd::Disconnected);
    assert_eq!(silent.hear(Mono::default(), START, Some(end.clone())), Verdict::Gone);
    let mut headers = visit([(VIDEO, 0, AVCC), (AUDIO, 0, ASC)]);
    assert_eq!(headers.doorstep.hear(Mono::default(), START, Some(end)), Verdict::Gone);
    assert_eq!(headers.doorstep.hear(Mono::default(), START, None), Verdict::Gone);
}

#[test]
fn a_publication_too_short_to_be_judged_comes_in_with_its_end() {
    let mut visit = visit(pictures(IDR).take(3));
    let end = IngestEvent::Ended(IngestEnd::Unpublished);
    let verdict = visit.doorstep.hear(Mono::default(), START, Some(end.clone()));
    assert_eq!(verdict, Verdict::Enter { since: START });
    assert_eq!(visit.doorstep.into_heard().last(), Some(&end));
}
