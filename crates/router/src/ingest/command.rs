//! AMF0 commands between encoder and server: reading theirs, building ours (RTMP 1.0, section 7.2; the FMLE
//! commands by what encoders send). Decides nothing.

use super::{
    amf0::{self, AmfError, Value},
    chunk_writer::ChunkWriter,
};

/// The message stream that every `createStream` is given; a connection carries one publication.
pub const MEDIA_STREAM: u32 = 1;

/// `name`, transaction number and arguments, the first of which is the command object or null.
#[derive(Debug, PartialEq)]
pub struct Command {
    pub name: String,
    pub transaction: f64,
    pub arguments: Vec<Value>,
}

impl Command {
    /// Reads the body of a command message; `None` if it does not begin with a name.
    pub fn parse(body: &[u8]) -> Result<Option<Self>, AmfError> {
        let mut values = amf0::decode(body)?.into_iter();
        let Some(Value::Text(name)) = values.next() else { return Ok(None) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        Ok(Some(Self { name, transaction, arguments: values.collect() }))
    }

    /// The text argument that follows the command object.
    pub fn text(&self) -> Option<&str> {
        self.arguments.get(1).and_then(Value::as_text)
    }
}

/// Writes our commands as chunks.
#[derive(Debug)]
pub struct CommandWriter<'a> {
    pub chunks: &'a ChunkWriter,
    pub out: &'a mut Vec<u8>,
}

impl CommandWriter<'_> {
    /// `_result` with two values, as every call is answered.
    pub fn result(&mut self, transaction: f64, first: Value, second: Value) {
        self.send(0, "_result", transaction, &[first, second]);
    }

    /// `_error` to a call.
    pub fn error(&mut self, transaction: f64, code: &str, description: &str) {
        self.send(0, "_error", transaction, &[Value::Null, info("error", code, description)]);
    }

    /// `onStatus` on the media stream.
    pub fn status(&mut self, level: &str, code: &str, description: &str) {
        let info = info(level, code, description);
        self.send(MEDIA_STREAM, "onStatus", 0.0, &[Value::Null, info]);
    }

    /// FMLE's notices, `onFCPublish` and `onFCUnpublish`.
    pub fn notice(&mut self, name: &str, code: &str, description: &str) {
        self.send(0, name, 0.0, &[Value::Null, info("status", code, description)]);
    }

    /// The answer to `connect`: AMF0 from here on.
    pub fn connected(&mut self, transaction: f64) {
        let server = Value::Object(vec![
            ("fmsVer".into(), Value::text("FMS/3,0,1,123")),
            ("capabilities".into(), Value::Number(31.0)),
        ]);
        let mut info =
            info_fields("status", "NetConnection.Connect.Success", "Connection succeeded.");
        info.push(("objectEncoding".into(), Value::Number(0.0)));
        self.result(transaction, server, Value::Object(info));
    }

    fn send(&mut self, stream_id: u32, name: &str, transaction: f64, values: &[Value]) {
        let mut body = Vec::new();
        Value::text(name).encode(&mut body);
        Value::Number(transaction).encode(&mut body);
        values.iter().for_each(|value| value.encode(&mut body));
        self.chunks.command(stream_id, &body, self.out);
    }
}

fn info(level: &str, code: &str, description: &str) -> Value {
    Value::Object(info_fields(level, code, description))
}

fn info_fields(level: &str, code: &str, description: &str) -> Vec<(String, Value)> {
    [("level", level), ("code", code), ("description", description)]
        .map(|(key, text)| (key.to_owned(), Value::text(text)))
        .into()
}
