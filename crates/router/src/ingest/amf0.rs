//! AMF0 as commands and metadata need it (Adobe AMF 0 specification). Decodes with bounded depth and number of
//! values; references, which let 64 KB unfold into gigabytes, are read as undefined.

/// Deepest nesting; encoders use 2.
const MAX_DEPTH: usize = 8;
/// Most values in one message; encoders use about 40.
const MAX_VALUES: usize = 1_024;

/// The bytes are not AMF0 that we accept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The value goes on after the message's end.
    #[error("amf value cut short")]
    CutShort,
    /// A type marker that the specification does not have or that is not in use.
    #[error("amf type {0}")]
    Marker(u8),
    /// Nesting or count above the bound.
    #[error("amf with more than {MAX_VALUES} values or {MAX_DEPTH} levels")]
    TooMuch,
}

/// A decoded value. Objects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Boolean(bool),
    Text(String),
    Object(Vec<(String, Value)>),
    Array(Vec<Value>),
    Null,
    Undefined,
}

impl Value {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A property of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Appends the value's encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(0);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Boolean(flag) => out.extend_from_slice(&[1, u8::from(*flag)]),
            Self::Text(text) => {
                out.push(2);
                encode_text(text, out);
            }
            Self::Object(properties) => {
                out.push(3);
                for (key, value) in properties {
                    encode_text(key, out);
                    value.encode(out);
                }
                out.extend_from_slice(&[0, 0, 9]);
            }
            Self::Array(values) => {
                out.push(10);
                out.extend_from_slice(&(values.len() as u32).to_be_bytes());
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Null => out.push(5),
            Self::Undefined => out.push(6),
        }
    }
}

/// Length and bytes; what exceeds 65,535 bytes is cut off.
fn encode_text(text: &str, out: &mut Vec<u8>) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// All values of a message body.
pub fn decode(body: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader { rest: body, values_left: MAX_VALUES };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(AmfError::CutShort)?;
        self.rest = rest;
        Ok(*head)
    }

    fn string(&mut self, bytes: usize) -> Result<String, AmfError> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(AmfError::CutShort)?;
        self.rest = rest;
        Ok(String::from_utf8_lossy(head).into_owned())
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let bytes = u16::from_be_bytes(self.take()?);
        self.string(usize::from(bytes))
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth == MAX_DEPTH || self.values_left == 0 {
            return Err(AmfError::TooMuch);
        }
        self.values_left -= 1;
        let [marker] = self.take()?;
        Ok(match marker {
            0 => Value::Number(f64::from_be_bytes(self.take()?)),
            1 => Value::Boolean(self.take::<1>()? != [0]),
            2 => Value::Text(self.short_string()?),
            3 => self.object(depth)?,
            5 => Value::Null,
            6 | 13 => Value::Undefined,
            7 => self.take::<2>().map(|_| Value::Undefined)?,
            8 => self.take::<4>().and_then(|_| self.object(depth))?,
            10 => {
                let count = u32::from_be_bytes(self.take()?);
                Value::Array((0..count).map(|_| self.value(depth + 1)).collect::<Result<_, _>>()?)
            }
            11 => {
                let milliseconds = f64::from_be_bytes(self.take()?);
                self.take::<2>()?;
                Value::Number(milliseconds)
            }
            12 | 15 => {
                let bytes = u32::from_be_bytes(self.take()?);
                Value::Text(self.string(bytes as usize)?)
            }
            16 => self.short_string().and_then(|_| self.object(depth))?,
            _ => return Err(AmfError::Marker(marker)),
        })
    }

    /// Properties up to the end marker; some encoders leave the marker of the last object out.
    fn object(&mut self, depth: usize) -> Result<Value, AmfError> {
        let mut properties = Vec::new();
        while !self.rest.is_empty() {
            let key = self.short_string()?;
            if key.is_empty() && self.rest.first().is_none_or(|&marker| marker == 9) {
                self.rest = self.rest.get(1..).unwrap_or_default();
                break;
            }
            properties.push((key, self.value(depth + 1)?));
        }
        Ok(Value::Object(properties))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_survives_a_round_trip() {
        let value = Value::Object(vec![
            ("app".into(), Value::text("live")),
            ("n".into(), Value::Number(-1.5)),
            ("list".into(), Value::Array(vec![Value::Boolean(true), Value::Null])),
            ("none".into(), Value::Undefined),
        ]);
        let mut body = Vec::new();
        value.encode(&mut body);
        assert_eq!(decode(&body), Ok(vec![value]));
    }

    #[test]
    fn a_bomb_of_nested_or_counted_values_is_refused() {
        assert_eq!(decode(&[3, 0, 1, b'a'].repeat(20)), Err(AmfError::TooMuch));
        assert_eq!(decode(&[5; 2_000]), Err(AmfError::TooMuch));
        assert_eq!(decode(&[10, 255, 255, 255, 255, 5]), Err(AmfError::CutShort));
    }

    #[test]
    fn an_object_without_its_end_marker_is_read() {
        let values = decode(&[3, 0, 1, b'a', 1, 1]).unwrap();
        assert_eq!(values[0].get("a"), Some(&Value::Boolean(true)));
    }
}
