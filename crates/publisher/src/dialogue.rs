//! The client's side of RTMP up to publishing, over `rml_rtmp`'s chunks and messages. No I/O.
//!
//! ```text
//! Handshake → Connecting → Creating → Asking → Publishing
//! ```
//!
//! `rml_rtmp`'s own session is not used: it drops the text of a refusal.

use bytes::Bytes;
use rml_rtmp::{
    chunk_io::{ChunkDeserializer, ChunkSerializer},
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    messages::{MessagePayload, RtmpMessage, UserControlEventType},
    rml_amf0::Amf0Value,
    time::RtmpTimestamp,
};

use crate::{PublishError, Tag, TagKind, url::PublishUrl};

/// Larger than most frames, so that they travel in one chunk.
const CHUNK_BYTES: u32 = 65_536;
/// What servers expect before metadata.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Connecting,
    Creating,
    Asking,
    Publishing,
}

/// One conversation with a server.
pub struct Dialogue {
    phase: Phase,
    url: PublishUrl,
    key: String,
    handshake: Handshake,
    serializer: ChunkSerializer,
    deserializer: ChunkDeserializer,
    stream_id: u32,
    received_bytes: u64,
    acknowledged_bytes: u64,
    window_bytes: Option<u32>,
    sending: Vec<u8>,
}

impl Dialogue {
    /// A conversation whose first bytes are ready to be sent.
    pub fn new(url: PublishUrl, key: &str) -> Result<Self, PublishError> {
        let mut handshake = Handshake::new(PeerType::Client);
        let sending = handshake.generate_outbound_p0_and_p1().map_err(protocol)?;
        Ok(Self {
            phase: Phase::Handshake,
            url,
            key: key.to_owned(),
            handshake,
            serializer: ChunkSerializer::new(),
            deserializer: ChunkDeserializer::new(),
            stream_id: 0,
            received_bytes: 0,
            acknowledged_bytes: 0,
            window_bytes: None,
            sending,
        })
    }

    /// Whether the server lets us send media.
    pub fn is_publishing(&self) -> bool {
        self.phase == Phase::Publishing
    }

    /// What must be sent now; empty if nothing.
    pub fn take_sending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sending)
    }

    /// Takes in what the server sent.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        self.received_bytes += bytes.len() as u64;
        if self.phase != Phase::Handshake {
            return self.receive_chunks(bytes);
        }
        match self.handshake.process_bytes(bytes).map_err(protocol)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                self.sending.extend(response_bytes);
                Ok(())
            }
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                self.sending.extend(response_bytes);
                self.connect()?;
                self.receive_chunks(&remaining_bytes)
            }
        }
    }

    /// Queues a media message. `Publishing` only.
    pub fn send(&mut self, tag: &Tag) -> Result<(), PublishError> {
        let (type_id, data) = match tag.kind {
            TagKind::Audio => (8, tag.body.clone()),
            TagKind::Video => (9, tag.body.clone()),
            TagKind::Metadata => (18, Bytes::from([SET_DATA_FRAME, &tag.body].concat())),
        };
        let timestamp = RtmpTimestamp::new(tag.timestamp_ms);
        let payload =
            MessagePayload { timestamp, type_id, message_stream_id: self.stream_id, data };
        self.write(&payload)
    }

    /// Queues the goodbye.
    pub fn unpublish(&mut self) -> Result<(), PublishError> {
        let stream = Amf0Value::Number(f64::from(self.stream_id));
        self.command(0, "FCUnpublish", 6.0, vec![Amf0Value::Utf8String(self.key.clone())])?;
        self.command(0, "deleteStream", 7.0, vec![stream])
    }

    fn connect(&mut self) -> Result<(), PublishError> {
        let start = RtmpTimestamp::new(0);
        let packet = self.serializer.set_max_chunk_size(CHUNK_BYTES, start).map_err(protocol)?;
        self.sending.extend(packet.bytes);
        let properties = [
            ("app", self.url.app.as_str()),
            ("type", "nonprivate"),
            ("flashVer", "FMLE/3.0 (compatible; Millrace)"),
            ("tcUrl", self.url.whole.as_str()),
        ];
        let object = properties
            .map(|(name, text)| (name.to_owned(), Amf0Value::Utf8String(text.to_owned())))
            .into();
        self.phase = Phase::Connecting;
        self.call(0, "connect", 1.0, Amf0Value::Object(object), Vec::new())
    }

    fn receive_chunks(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        let mut next = self.deserializer.get_next_message(bytes).map_err(protocol)?;
        while let Some(payload) = next {
            self.message(payload.to_rtmp_message().map_err(protocol)?)?;
            next = self.deserializer.get_next_message(&[]).map_err(protocol)?;
        }
        self.acknowledge()
    }

    fn acknowledge(&mut self) -> Result<(), PublishError> {
        let unacknowledged = self.received_bytes - self.acknowledged_bytes;
        if self.window_bytes.is_some_and(|window| unacknowledged >= u64::from(window)) {
            self.acknowledged_bytes = self.received_bytes;
            let sequence_number = self.received_bytes as u32;
            self.control(RtmpMessage::Acknowledgement { sequence_number })?;
        }
        Ok(())
    }

    fn message(&mut self, message: RtmpMessage) -> Result<(), PublishError> {
        match message {
            RtmpMessage::SetChunkSize { size } => {
                self.deserializer.set_max_chunk_size(size as usize).map_err(protocol)
            }
            RtmpMessage::WindowAcknowledgement { size } => {
                self.window_bytes = Some(size);
                Ok(())
            }
            RtmpMessage::UserControl {
                event_type: UserControlEventType::PingRequest,
                timestamp,
                ..
            } => self.control(RtmpMessage::UserControl {
                event_type: UserControlEventType::PingResponse,
                stream_id: None,
                buffer_length: None,
                timestamp,
            }),
            RtmpMessage::Amf0Command { command_name, additional_arguments, .. } => {
                self.answer(&command_name, additional_arguments.first())
            }
            _ => Ok(()),
        }
    }

    /// Goes on by the server's answer to the call under way.
    fn answer(&mut self, name: &str, argument: Option<&Amf0Value>) -> Result<(), PublishError> {
        match (name, self.phase) {
            ("_error", _) => Err(refused(argument)),
            ("_result", Phase::Connecting) => {
                self.phase = Phase::Creating;
                self.command(0, "createStream", 2.0, Vec::new())
            }
            ("_result", Phase::Creating) => {
                if let Some(Amf0Value::Number(id)) = argument {
                    self.stream_id = *id as u32;
                }
                self.phase = Phase::Asking;
                let key = Amf0Value::Utf8String(self.key.clone());
                let live = Amf0Value::Utf8String("live".into());
                self.command(self.stream_id, "publish", 3.0, vec![key, live])
            }
            ("onStatus", _) if property(argument, "level") == Some("error") => {
                Err(refused(argument))
            }
            ("onStatus", Phase::Asking)
                if property(argument, "code") == Some("NetStream.Publish.Start") =>
            {
                self.phase = Phase::Publishing;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        arguments: Vec<Amf0Value>,
    ) -> Result<(), PublishError> {
        self.call(stream_id, name, transaction, Amf0Value::Null, arguments)
    }

    fn call(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction_id: f64,
        command_object: Amf0Value,
        additional_arguments: Vec<Amf0Value>,
    ) -> Result<(), PublishError> {
        let command_name = name.to_owned();
        let message = RtmpMessage::Amf0Command {
            command_name,
            transaction_id,
            command_object,
            additional_arguments,
        };
        self.write_message(message, stream_id)
    }

    fn control(&mut self, message: RtmpMessage) -> Result<(), PublishError> {
        self.write_message(message, 0)
    }

    fn write_message(&mut self, message: RtmpMessage, stream_id: u32) -> Result<(), PublishError> {
        let start = RtmpTimestamp::new(0);
        let payload =
            MessagePayload::from_rtmp_message(message, start, stream_id).map_err(protocol)?;
        self.write(&payload)
    }

    fn write(&mut self, payload: &MessagePayload) -> Result<(), PublishError> {
        // Said to be droppable, a message makes the next one carry a full header with an absolute timestamp:
        // `rml_rtmp` gets deltas wrong where timestamps wrap or go back.
        let packet = self.serializer.serialize(payload, false, true).map_err(protocol)?;
        self.sending.extend(packet.bytes);
        Ok(())
    }
}

fn protocol(error: impl std::fmt::Display) -> PublishError {
    PublishError::Protocol(error.to_string())
}

fn property<'a>(object: Option<&'a Amf0Value>, name: &str) -> Option<&'a str> {
    match object {
        Some(Amf0Value::Object(properties)) => match properties.get(name) {
            Some(Amf0Value::Utf8String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn refused(info: Option<&Amf0Value>) -> PublishError {
    let text = |name| property(info, name).unwrap_or("without a reason").to_owned();
    PublishError::Refused { code: text("code"), text: text("description") }
}
