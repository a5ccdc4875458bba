//! What the session says to each message: control, commands, media. Order and limits of bytes are the session's.

use millrace_types::{Mono, RefusalReason};

use super::{Output, Session, State, WINDOW_BYTES};
use crate::ingest::{
    IngestEnd, MessageKind, PublisherMessage, Refusal, aggregate,
    amf0::Value,
    chunk_reader::MessageBounds,
    command::{Command, MEDIA_STREAM},
    message::{Message, kind},
    rate_limit::RateLimit,
};

/// User control events (RTMP 1.0, section 7.1.7).
const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;
/// The name that encoders put before metadata, meant for the server.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";

impl Session {
    pub(super) fn message(&mut self, now: Mono, message: Message) {
        match message.kind {
            kind::SET_CHUNK_SIZE | kind::ABORT | kind::WINDOW_ACK_SIZE => self.control(&message),
            kind::USER_CONTROL => self.user_control(&message.body),
            kind::COMMAND_AMF0 => self.command_body(now, &message.body),
            // AMF3 commands of encoders carry AMF0 behind one byte of zero.
            kind::COMMAND_AMF3 => self.command_body(now, message.body.get(1..).unwrap_or_default()),
            kind::AGGREGATE => {
                for part in aggregate::split(message) {
                    self.media(now, part);
                }
            }
            _ => self.media(now, message),
        }
    }

    fn control(&mut self, message: &Message) {
        let Some(value) = message.body.first_chunk().copied().map(u32::from_be_bytes) else {
            return self.breach(format!("control message {} cut short", message.kind));
        };
        match message.kind {
            kind::SET_CHUNK_SIZE => {
                if let Err(error) = self.reader.set_chunk_bytes(value) {
                    self.breach(error);
                }
            }
            kind::ABORT => self.reader.abort(value),
            _ => self.acknowledge_every = u64::from(value).max(1),
        }
    }

    fn user_control(&mut self, body: &[u8]) {
        if let Some((event, rest)) = body.split_first_chunk()
            && u16::from_be_bytes(*event) == PING_REQUEST
        {
            let stamp = &rest[..rest.len().min(4)];
            self.send_user_control(PING_RESPONSE, stamp);
        }
    }

    fn send_user_control(&mut self, event: u16, data: &[u8]) {
        let body = [&event.to_be_bytes(), data].concat();
        self.chunks.control(kind::USER_CONTROL, &body, &mut self.sending);
    }

    fn media(&mut self, now: Mono, message: Message) {
        let State::Publishing { last_media, .. } = &mut self.state else { return };
        let Message { timestamp_ms, mut body, .. } = message;
        let kind = match message.kind {
            kind::VIDEO => MessageKind::Video,
            kind::AUDIO => MessageKind::Audio,
            kind::DATA_AMF0 => MessageKind::Metadata,
            kind::DATA_AMF3 => {
                body = body.slice(1.min(body.len())..);
                MessageKind::Metadata
            }
            _ => return,
        };
        if body.is_empty() {
            return;
        }
        if kind == MessageKind::Metadata {
            if body.starts_with(SET_DATA_FRAME) {
                body = body.slice(SET_DATA_FRAME.len()..);
            }
        } else {
            *last_media = now;
        }
        self.out.push_back(Output::Media(PublisherMessage { kind, timestamp_ms, body }));
    }

    fn command_body(&mut self, now: Mono, body: &[u8]) {
        match Command::parse(body) {
            Ok(Some(command)) => self.command(now, &command),
            Ok(None) => {}
            Err(error) => self.breach(error),
        }
    }

    fn command(&mut self, now: Mono, command: &Command) {
        let transaction = command.transaction;
        match (command.name.as_str(), &self.state) {
            ("connect", State::Connecting) => self.connect(command),
            ("createStream", State::Connected) => {
                let stream = Value::Number(f64::from(MEDIA_STREAM));
                self.commands().result(transaction, Value::Null, stream);
            }
            ("publish", State::Connected) => self.publish(now, command),
            ("FCPublish" | "releaseStream" | "_checkbw", State::Connected) => {
                self.commands().result(transaction, Value::Null, Value::Undefined);
                if command.name == "FCPublish" {
                    self.commands().notice("onFCPublish", "NetStream.Publish.Start", "");
                }
            }
            ("_checkbw", State::Publishing { .. }) => {
                self.commands().result(transaction, Value::Null, Value::Undefined);
            }
            // The goodbye is not answered: an encoder that closes with our answer unread resets the connection,
            // and the reset overtakes what it sent last.
            ("deleteStream" | "closeStream", State::Publishing { .. }) => {
                self.end(IngestEnd::Unpublished);
            }
            ("play" | "play2", _) => self.breach("this server takes publishers, not players"),
            ("connect" | "publish", _) => self.breach(format!("{} out of turn", command.name)),
            _ => {}
        }
    }

    fn connect(&mut self, command: &Command) {
        self.connect_transaction = Some(command.transaction);
        self.chunks.announce_chunk_bytes(&mut self.sending);
        let app = command.arguments.first().and_then(|object| object.get("app"));
        let app = without_query(app.and_then(Value::as_text).unwrap_or_default());
        if app.trim_matches('/') != self.limits.app {
            let detail = format!("application {:?}", without_secrets(app));
            return self.refuse(Refusal::with_detail(RefusalReason::BadApp, detail));
        }
        self.connect_transaction = None;
        let window = WINDOW_BYTES.to_be_bytes();
        self.chunks.control(kind::WINDOW_ACK_SIZE, &window, &mut self.sending);
        const DYNAMIC: u8 = 2;
        let bandwidth = [&window[..], &[DYNAMIC]].concat();
        self.chunks.control(kind::SET_PEER_BANDWIDTH, &bandwidth, &mut self.sending);
        self.send_user_control(STREAM_BEGIN, &[0; 4]);
        self.commands().connected(command.transaction);
        self.state = State::Connected;
    }

    fn publish(&mut self, now: Mono, command: &Command) {
        let name = without_query(command.text().unwrap_or_default());
        let key_text = name.trim_matches('/').to_owned();
        self.state = State::Deciding { until: now + self.limits.decision, unread: Vec::new() };
        self.out.push_back(Output::PublishRequested { key_text });
    }

    pub(super) fn accepted(&mut self, now: Mono) {
        self.reader.set_bounds(MessageBounds {
            command_bytes: self.limits.command_bytes,
            video_bytes: self.limits.video_bytes,
            streams: self.limits.chunk_streams,
        });
        self.send_user_control(STREAM_BEGIN, &MEDIA_STREAM.to_be_bytes());
        self.commands().status("status", "NetStream.Publish.Start", "Publishing.");
        let rate = RateLimit::new(now, self.limits.bits_per_second, self.limits.burst);
        self.state = State::Publishing { last_media: now, rate };
    }
}

/// For logs: of an application into which somebody has written a stream key, what stands before its secret.
fn without_secrets(app: &str) -> String {
    let app: String = app.chars().take(64).collect();
    let shown = app.split('/').map(|step| match step.split_once('_') {
        Some((channel, _)) => format!("{channel}_…"),
        None => step.to_owned(),
    });
    shown.collect::<Vec<_>>().join("/")
}

/// Encoders append `?token=…` to applications and keys; we have no use for it.
fn without_query(name: &str) -> &str {
    name.split('?').next().unwrap_or_default()
}
