//! The session's promises, spoken to byte by byte as encoders would.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ingest::{MessageKind, amf0::Value};

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

/// Builds what an encoder sends.
struct Encoder {
    chunks: ChunkWriter,
    sent: Vec<u8>,
}

impl Encoder {
    fn new() -> Self {
        let mut sent = vec![3];
        sent.resize(1 + 2 * 1_536, 7);
        Self { chunks: ChunkWriter::new(), sent }
    }

    fn command(mut self, name: &str, transaction: f64, arguments: &[Value]) -> Self {
        let mut body = Vec::new();
        Value::text(name).encode(&mut body);
        Value::Number(transaction).encode(&mut body);
        arguments.iter().for_each(|value| value.encode(&mut body));
        self.chunks.command(1, &body, &mut self.sent);
        self
    }

    fn connect(self, app: &str) -> Self {
        let object = Value::Object(vec![("app".into(), Value::text(app))]);
        self.command("connect", 1.0, &[object])
    }

    fn publish(self, name: &str) -> Self {
        let text = || [Value::Null, Value::text(name)];
        self.connect("live")
            .command("releaseStream", 2.0, &text())
            .command("FCPublish", 3.0, &text())
            .command("createStream", 4.0, &[Value::Null])
            .command("publish", 5.0, &[Value::Null, Value::text(name), Value::text("live")])
    }

    fn control(mut self, kind: u8, body: &[u8]) -> Self {
        self.chunks.control(kind, body, &mut self.sent);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.sent.extend_from_slice(bytes);
        self
    }

    /// A video message and an audio message whose chunk comes between two of the video's.
    fn interleaved_media(self) -> Self {
        self.raw(&[6, 0, 0, 40, 0, 0, 200, 9, 1, 0, 0, 0])
            .raw(&[0x17; 128])
            .raw(&[4, 0, 0, 41, 0, 0, 2, 8, 1, 0, 0, 0, 0xAF, 1, 0xC6])
            .raw(&[0x17; 72])
    }
}

fn drain(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.poll()).collect()
}

/// Feeds `bytes` in portions; accepts whoever asks to publish. All outputs, what was sent joined into one text.
fn run(session: &mut Session, bytes: &[u8], portion: usize) -> (String, Vec<Output>) {
    let (mut text, mut others) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(portion) {
        session.handle(at(1), Input::Received(piece));
        while let Some(output) = session.poll() {
            match output {
                Output::Send(bytes) => text.extend_from_slice(&bytes),
                Output::PublishRequested { .. } => {
                    others.push(output);
                    session.handle(at(1), Input::Accepted);
                }
                _ => others.push(output),
            }
        }
    }
    (String::from_utf8_lossy(&text).into_owned(), others)
}

fn session() -> Session {
    Session::new(at(0), Limits::default())
}

fn refusal(outputs: &[Output]) -> Option<&Refusal> {
    outputs.iter().find_map(|output| match output {
        Output::Ended(IngestEnd::Refused(refusal)) => Some(refusal),
        _ => None,
    })
}

fn reason(outputs: &[Output]) -> Option<RefusalReason> {
    refusal(outputs).map(|refusal| refusal.reason)
}

#[test]
fn a_publisher_is_understood_in_portions_of_any_size() {
    let encoder = Encoder::new().publish("/key?token=1").interleaved_media();
    for portion in [1, 2, 3, 100, 1_537, 100_000] {
        let (text, outputs) = run(&mut session(), &encoder.sent, portion);
        for said in ["NetConnection.Connect.Success", "onFCPublish", "NetStream.Publish.Start"] {
            assert!(text.contains(said), "{said}");
        }
        let [Output::PublishRequested { key_text }, Output::Media(audio), Output::Media(video)] =
            &outputs[..]
        else {
            panic!("{outputs:?}")
        };
        assert_eq!(key_text, "key");
        assert_eq!((audio.kind, audio.timestamp_ms), (MessageKind::Audio, 41));
        assert_eq!((video.kind, video.timestamp_ms), (MessageKind::Video, 40));
        assert_eq!(&video.body[..], [0x17; 200]);
    }
}

#[test]
fn metadata_comes_as_an_flv_script_tag_would_hold_it() {
    let body = b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x05";
    let encoder = Encoder::new().publish("key").control(kind::DATA_AMF0, body);
    let (_, outputs) = run(&mut session(), &encoder.sent, 64);
    let Some(Output::Media(metadata)) = outputs.last() else { panic!("{outputs:?}") };
    assert_eq!(metadata.kind, MessageKind::Metadata);
    assert_eq!(&metadata.body[..], b"\x02\x00\x0aonMetaData\x05");
}

#[test]
fn a_wrong_application_is_refused_in_answer_to_connect() {
    let encoder = Encoder::new().connect("vod");
    let (text, outputs) = run(&mut session(), &encoder.sent, 1_000);
    assert!(text.contains("_error") && text.contains("NetConnection.Connect.Rejected"));
    assert!(text.contains(RefusalReason::BadApp.advice()), "{text}");
    assert_eq!(reason(&outputs), Some(RefusalReason::BadApp));
    assert_eq!(outputs.last(), Some(&Output::Close));
}

#[test]
fn a_key_in_the_place_of_the_application_is_shown_to_nobody() {
    for (app, shown) in
        [("live/demo_secret", "live/demo_…"), ("demo_secret/x", "demo_…/x"), ("vod", "vod")]
    {
        let (text, outputs) = run(&mut session(), &Encoder::new().connect(app).sent, 1_000);
        let said = format!("{outputs:?}");
        assert!(said.contains(&format!("application \\\"{shown}\\\"")), "{said}");
        assert!(!said.contains("secret") && !text.contains("secret"), "{said} {text}");
    }
}

#[test]
fn a_query_or_a_slash_after_the_application_is_ignored() {
    for app in ["live/", "live?a=b", "/live"] {
        let (text, _) = run(&mut session(), &Encoder::new().connect(app).sent, 1_000);
        assert!(text.contains("NetConnection.Connect.Success"), "{app}");
    }
}

#[test]
fn a_refused_key_is_told_why_and_closed() {
    let mut session = session();
    session.handle(at(1), Input::Received(&Encoder::new().publish("key").sent));
    drain(&mut session);
    session.handle(at(1), Input::Refused(RefusalReason::BadKey.into()));
    let outputs = drain(&mut session);
    let Some(Output::Send(text)) = outputs.first() else { panic!("{outputs:?}") };
    let text = String::from_utf8_lossy(text);
    assert!(text.contains("NetStream.Publish.BadName") && text.contains("stream key not accepted"));
    assert_eq!(reason(&outputs), Some(RefusalReason::BadKey));
    assert_eq!(session.deadline(), None);
}

#[test]
fn a_refusal_in_the_middle_of_the_stream_names_reason_and_detail() {
    let mut session = session();
    run(&mut session, &Encoder::new().publish("key").interleaved_media().sent, 500);
    let refusal = Refusal::with_detail(RefusalReason::VideoCodec, "HEVC");
    session.handle(at(2), Input::Refused(refusal));
    let outputs = drain(&mut session);
    let Some(Output::Send(text)) = outputs.first() else { panic!("{outputs:?}") };
    let text = String::from_utf8_lossy(text);
    assert!(text.contains("video_codec: video must be H.264"), "{text}");
    assert!(text.contains("(HEVC)") && text.contains("NetStream.Publish.Denied"), "{text}");
}

#[test]
fn media_that_comes_with_the_publish_command_waits_for_the_decision() {
    let mut session = session();
    let encoder = Encoder::new().publish("key").interleaved_media();
    session.handle(at(1), Input::Received(&encoder.sent));
    assert!(!drain(&mut session).iter().any(|output| matches!(output, Output::Media(_))));
    session.handle(at(2), Input::Accepted);
    let media = drain(&mut session).into_iter().filter(|o| matches!(o, Output::Media(_)));
    assert_eq!(media.count(), 2);
}

#[test]
fn each_silence_has_its_deadline() {
    let (handshake, connect) = (Encoder::new(), Encoder::new().connect("live"));
    for (bytes, deadline) in [(&[][..], 5), (&handshake.sent, 10), (&connect.sent, 10)] {
        let mut session = session();
        session.handle(at(1), Input::Received(bytes));
        drain(&mut session);
        assert_eq!(session.deadline(), Some(at(deadline)));
        session.handle(at(deadline) - Duration::from_millis(1), Input::Tick);
        assert_eq!(reason(&drain(&mut session)), None);
        session.handle(at(deadline), Input::Tick);
        assert_eq!(reason(&drain(&mut session)), Some(RefusalReason::Timeout));
    }
}

#[test]
fn a_slow_loris_cannot_stretch_the_deadline_by_sending_on() {
    let mut session = session();
    for second in 1..6 {
        session.handle(at(second), Input::Received(&[3]));
    }
    assert_eq!(reason(&drain(&mut session)), Some(RefusalReason::Timeout));
}

#[test]
fn an_idle_publisher_is_let_go_and_our_own_pause_does_not_count() {
    let mut session = session();
    run(&mut session, &Encoder::new().publish("key").interleaved_media().sent, 500);
    assert_eq!(session.deadline(), Some(at(31)));
    session.handle(at(40), Input::Resumed);
    assert_eq!(session.deadline(), Some(at(70)));
    session.handle(at(70), Input::Tick);
    assert_eq!(reason(&drain(&mut session)), Some(RefusalReason::Timeout));
}

#[test]
fn a_farm_that_does_not_decide_is_its_own_fault() {
    let mut session = session();
    session.handle(at(1), Input::Received(&Encoder::new().publish("key").sent));
    drain(&mut session);
    session.handle(at(11), Input::Tick);
    assert_eq!(reason(&drain(&mut session)), Some(RefusalReason::Internal));
}

#[test]
fn a_huge_message_is_refused_when_it_is_announced() {
    let announced = [6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0];
    let encoder = Encoder::new().publish("key").raw(&announced);
    let (text, outputs) = run(&mut session(), &encoder.sent, 4_000);
    let detail = refusal(&outputs).and_then(|refusal| refusal.detail.as_deref());
    assert_eq!(detail, Some("message of type 9 with 16777215 bytes, limit 8388608"));
    assert!(text.contains("NetStream.Publish.Denied"));
}

#[test]
fn a_stranger_may_send_little_before_it_publishes() {
    let flood = Encoder::new().connect("live").raw(&[4, 0, 0, 0, 0, 0xFF, 0xFF, 8, 1, 0, 0, 0]);
    let flood = flood.raw(&[0; 70_000]);
    let (_, outputs) = run(&mut session(), &flood.sent, 4_000);
    assert_eq!(reason(&outputs), Some(RefusalReason::Protocol));
    let video = Encoder::new().connect("live").raw(&[6, 0, 0, 0, 2, 0, 0, 9, 1, 0, 0, 0]);
    let (_, outputs) = run(&mut session(), &video.sent, 4_000);
    assert_eq!(reason(&outputs), Some(RefusalReason::Protocol));
}

#[test]
fn a_sustained_bitrate_above_the_limit_ends_the_publisher() {
    let limits =
        Limits { bits_per_second: 8_000, burst: Duration::from_secs(2), ..Limits::default() };
    let mut session = Session::new(at(0), limits);
    run(&mut session, &Encoder::new().publish("key").sent, 4_000);
    let message = Encoder::new().control(kind::VIDEO, &[0x27; 1_500]).sent.split_off(3_073);
    session.handle(at(1), Input::Received(&message));
    assert_eq!(reason(&drain(&mut session)), None);
    session.handle(at(1), Input::Received(&message));
    assert_eq!(reason(&drain(&mut session)), Some(RefusalReason::BitrateLimit));
}

#[test]
fn pings_and_windows_are_answered() {
    let ping = Encoder::new()
        .publish("key")
        .control(kind::WINDOW_ACK_SIZE, &1_000_u32.to_be_bytes())
        .control(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4])
        .control(kind::VIDEO, &[0x27; 1_500]);
    let mut session = session();
    let mut sent = Vec::new();
    for piece in ping.sent.chunks(700) {
        session.handle(at(1), Input::Received(piece));
        while let Some(output) = session.poll() {
            match output {
                Output::Send(bytes) => sent.extend_from_slice(&bytes),
                Output::PublishRequested { .. } => session.handle(at(1), Input::Accepted),
                _ => {}
            }
        }
    }
    let pong = [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4];
    assert!(sent.windows(pong.len()).any(|window| window == pong));
    let acknowledgement = [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0];
    assert!(sent.windows(acknowledgement.len()).any(|window| window == acknowledgement));
}

#[test]
fn an_abort_drops_the_unfinished_message_and_nothing_else() {
    let encoder = Encoder::new()
        .publish("key")
        .raw(&[6, 0, 0, 40, 0, 0, 200, 9, 1, 0, 0, 0])
        .raw(&[0x17; 128])
        .control(kind::ABORT, &6_u32.to_be_bytes())
        .raw(&[6, 0, 0, 80, 0, 0, 1, 9, 1, 0, 0, 0, 0x27]);
    let (_, outputs) = run(&mut session(), &encoder.sent, 50);
    let media: Vec<_> = outputs
        .iter()
        .filter_map(|o| if let Output::Media(m) = o { Some(m.timestamp_ms) } else { None })
        .collect();
    assert_eq!(media, [80]);
}

#[test]
fn the_end_is_said_once_however_it_comes() {
    let encoder = Encoder::new()
        .publish("key")
        .command("FCUnpublish", 6.0, &[Value::Null, Value::text("key")])
        .command("deleteStream", 7.0, &[Value::Null, Value::Number(1.0)])
        .command("deleteStream", 8.0, &[Value::Null, Value::Number(1.0)]);
    let mut session = session();
    let (_, mut outputs) = run(&mut session, &encoder.sent, 90);
    session.handle(at(3), Input::Disconnected);
    outputs.extend(drain(&mut session));
    assert_eq!(outputs[1..], [Output::Ended(IngestEnd::Unpublished), Output::Close]);
}

#[test]
fn amf3_commands_are_read_behind_their_zero_byte() {
    let mut body = vec![0];
    Value::text("connect").encode(&mut body);
    Value::Number(1.0).encode(&mut body);
    Value::Object(vec![("app".into(), Value::text("live"))]).encode(&mut body);
    let encoder = Encoder::new().control(kind::COMMAND_AMF3, &body);
    let (text, _) = run(&mut session(), &encoder.sent, 4_000);
    assert!(text.contains("NetConnection.Connect.Success"));
}

#[test]
fn players_and_repeated_publishing_are_refused() {
    for (name, at_publish) in [("play", false), ("publish", true), ("connect", true)] {
        let begun = Encoder::new();
        let begun = if at_publish { begun.publish("key") } else { begun.connect("live") };
        let encoder = begun.command(name, 9.0, &[Value::Null, Value::text("key")]);
        let (_, outputs) = run(&mut session(), &encoder.sent, 4_000);
        assert_eq!(reason(&outputs), Some(RefusalReason::Protocol), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Damaged sessions may be refused; they never panic, and never end twice.
    #[test]
    fn a_damaged_session_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..24),
        cut in any::<prop::sample::Index>(),
        portion in 1_usize..4_000,
        handshake_intact in prop::bool::weighted(0.95),
    ) {
        let encoder = Encoder::new()
            .publish("key")
            .control(kind::SET_CHUNK_SIZE, &200_u32.to_be_bytes())
            .interleaved_media()
            .control(kind::AGGREGATE, &[9, 0, 0, 1, 0, 0, 9, 0, 0, 0, 0, 0x27, 0, 0, 0, 12])
            .command("FCUnpublish", 6.0, &[Value::Null])
            .command("deleteStream", 7.0, &[Value::Null]);
        let mut bytes = encoder.sent;
        let first = if handshake_intact { 3_073 } else { 0 };
        for (place, value) in damage {
            let tail = &mut bytes[first..];
            let place = place.index(tail.len());
            tail[place] = value;
        }
        bytes.truncate(first + cut.index(bytes.len() - first) + 1);
        let (_, outputs) = run(&mut session(), &bytes, portion);
        let ends = outputs.iter().filter(|output| matches!(output, Output::Ended(_))).count();
        prop_assert!(ends <= 1);
    }
}
