//! AMF0 as a publisher sends it: values of any shape, and values cut short or nested too deeply, in command and
//! metadata messages of a session that publishes.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use millrace_router::ingest::{Input, Limits, MessageKind, Output, Session, StreamMetadata};
use millrace_types::Mono;

const DATA: u8 = 18;
const COMMAND: u8 = 20;
/// One chunk holds every message.
const SET_CHUNK_SIZE: &[u8] = b"\x02\0\0\0\0\0\x04\x01\0\0\0\0\0\x10\0\0";

/// What the session is sent once it publishes.
#[derive(Arbitrary, Debug)]
struct Case {
    before_publish: Vec<Command>,
    messages: Vec<Message>,
}

#[derive(Arbitrary, Debug)]
enum Message {
    Command(Command),
    Metadata {
        wrapped: bool,
        properties: Vec<(Key, Value)>,
    },
    /// Values, without as many bytes at the end.
    CutShort {
        data: bool,
        values: Vec<Value>,
        bytes: u8,
    },
    Raw {
        data: bool,
        body: Vec<u8>,
    },
}

#[derive(Arbitrary, Debug)]
struct Command {
    name: Name,
    transaction: Value,
    arguments: Vec<Value>,
}

/// What the session looks for, and everything else.
#[derive(Arbitrary, Debug)]
enum Name {
    Connect,
    CreateStream,
    ReleaseStream,
    Publish,
    FcUnpublish,
    DeleteStream,
    Other(String),
}

#[derive(Arbitrary, Debug)]
enum Key {
    App,
    TcUrl,
    FrameRate,
    AudioCodec,
    VideoCodec,
    Other(String),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Number(f64),
    Boolean(u8),
    Text(String),
    Object(Vec<(Key, Value)>),
    Null,
    Undefined,
    Reference(u16),
    EcmaArray(u32, Vec<(Key, Value)>),
    Array(Vec<Value>),
    /// A count that is not that of the values.
    WrongArray(u32, Vec<Value>),
    Date(f64, u16),
    LongText(String),
    Unsupported,
    Typed(String, Vec<(Key, Value)>),
    Marker(u8),
    /// One value inside so many others.
    Deep(u8, Box<Value>),
}

fuzz_target!(|case: Case| {
    let mut session = Session::new(Mono::default(), Limits::default());
    feed(&mut session, &[&[3][..], &[0; 2 * 1_536]].concat());
    feed(&mut session, SET_CHUNK_SIZE);
    for command in case.before_publish {
        feed(&mut session, &chunk(COMMAND, &command.encoded()));
    }
    feed(
        &mut session,
        &chunk(
            COMMAND,
            b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0\x03\0\x03app\x02\0\x04live\0\0\x09",
        ),
    );
    feed(&mut session, &chunk(COMMAND, b"\x02\0\x07publish\0\x40\0\0\0\0\0\0\0\x05\x02\0\x03key"));
    for message in case.messages {
        let (kind, body) = message.encoded();
        feed(&mut session, &chunk(kind, &body));
    }
});

/// Hands bytes over, lets every publisher in, and wants every answer short.
fn feed(session: &mut Session, bytes: &[u8]) {
    session.handle(Mono::default(), Input::Received(bytes));
    while let Some(output) = session.poll() {
        match output {
            Output::PublishRequested { .. } => session.handle(Mono::default(), Input::Accepted),
            Output::Send(answer) => {
                assert!(answer.len() <= 4_096, "{} bytes of answer", answer.len())
            }
            Output::Media(message) if message.kind == MessageKind::Metadata => {
                let metadata = StreamMetadata::parse(&message.body).unwrap_or_default();
                assert!(metadata.frame_rate.is_none_or(|rate| rate > 0.0));
            }
            Output::Media(_) | Output::Ended(_) | Output::Close => {}
        }
    }
}

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(0xf_ffff)];
    let [.., high, middle, low] = body.len().to_be_bytes();
    [&[3, 0, 0, 0, high, middle, low, kind, 1, 0, 0, 0], body].concat()
}

impl Message {
    fn encoded(self) -> (u8, Vec<u8>) {
        let kind_of = |data: bool| if data { DATA } else { COMMAND };
        match self {
            Self::Command(command) => (COMMAND, command.encoded()),
            Self::Metadata { wrapped, properties } => {
                let mut body = Vec::new();
                if wrapped {
                    Value::Text("@setDataFrame".to_owned()).encode(&mut body);
                }
                Value::Text("onMetaData".to_owned()).encode(&mut body);
                Value::EcmaArray(properties.len() as u32, properties).encode(&mut body);
                (DATA, body)
            }
            Self::CutShort { data, values, bytes } => {
                let mut body = Vec::new();
                values.iter().for_each(|value| value.encode(&mut body));
                body.truncate(body.len().saturating_sub(usize::from(bytes)));
                (kind_of(data), body)
            }
            Self::Raw { data, body } => (kind_of(data), body),
        }
    }
}

impl Command {
    fn encoded(&self) -> Vec<u8> {
        let name = match &self.name {
            Name::Connect => "connect",
            Name::CreateStream => "createStream",
            Name::ReleaseStream => "releaseStream",
            Name::Publish => "publish",
            Name::FcUnpublish => "FCUnpublish",
            Name::DeleteStream => "deleteStream",
            Name::Other(name) => name,
        };
        let mut body = Vec::new();
        Value::Text(name.to_owned()).encode(&mut body);
        self.transaction.encode(&mut body);
        self.arguments.iter().for_each(|argument| argument.encode(&mut body));
        body
    }
}

impl Value {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |marker: u8, rest: &[u8]| {
            out.push(marker);
            out.extend_from_slice(rest);
        };
        match self {
            Self::Number(number) => put(0, &number.to_be_bytes()),
            Self::Boolean(byte) => put(1, &[*byte]),
            Self::Text(text) => {
                put(2, &[]);
                encode_text(text, out);
            }
            Self::Object(properties) => {
                put(3, &[]);
                encode_properties(properties, out);
            }
            Self::Null => put(5, &[]),
            Self::Undefined => put(6, &[]),
            Self::Reference(index) => put(7, &index.to_be_bytes()),
            Self::EcmaArray(count, properties) => {
                put(8, &count.to_be_bytes());
                encode_properties(properties, out);
            }
            Self::Array(values) => {
                put(10, &(values.len() as u32).to_be_bytes());
                values.iter().for_each(|value| value.encode(out));
            }
            Self::WrongArray(count, values) => {
                put(10, &count.to_be_bytes());
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Date(milliseconds, zone) => {
                put(11, &milliseconds.to_be_bytes());
                out.extend_from_slice(&zone.to_be_bytes());
            }
            Self::LongText(text) => {
                put(12, &(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Self::Unsupported => put(13, &[]),
            Self::Typed(class, properties) => {
                put(16, &[]);
                encode_text(class, out);
                encode_properties(properties, out);
            }
            Self::Marker(marker) => put(*marker, &[]),
            Self::Deep(levels, value) => {
                (0..*levels).for_each(|_| out.extend_from_slice(&[10, 0, 0, 0, 1]));
                value.encode(out);
            }
        }
    }
}

fn encode_properties(properties: &[(Key, Value)], out: &mut Vec<u8>) {
    for (key, value) in properties {
        let key = match key {
            Key::App => "app",
            Key::TcUrl => "tcUrl",
            Key::FrameRate => "framerate",
            Key::AudioCodec => "audiocodecid",
            Key::VideoCodec => "videocodecid",
            Key::Other(key) => key,
        };
        encode_text(key, out);
        value.encode(out);
    }
    out.extend_from_slice(&[0, 0, 9]);
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
