//! Socket.IO, version 5 of its protocol: the packets inside Engine.IO messages. Text in, values out, no I/O.
//!
//! `<type>[<attachments>-][<namespace>,][<id>][<json>]`, and each attachment is a binary message of its own that follows.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::frame::Malformed;

/// Attachments that one packet may announce. Nothing is kept for what was only announced; the bound makes a packet that
/// would wait for ever for its attachments an error at once. Real events carry a handful.
const ATTACHMENTS_MAX: usize = 1024;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Enters a namespace, or says that it was entered.
    Connect,
    /// Leaves it.
    Disconnect,
    /// An event.
    Event,
    /// The answer to an event that carried an id.
    Ack,
    /// The namespace was refused.
    ConnectError,
    /// An event with attachments.
    BinaryEvent,
    /// An answer with attachments.
    BinaryAck,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Connect,
        Self::Disconnect,
        Self::Event,
        Self::Ack,
        Self::ConnectError,
        Self::BinaryEvent,
        Self::BinaryAck,
    ];

    fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }

    fn digit(self) -> char {
        match self {
            Self::Connect => '0',
            Self::Disconnect => '1',
            Self::Event => '2',
            Self::Ack => '3',
            Self::ConnectError => '4',
            Self::BinaryEvent => '5',
            Self::BinaryAck => '6',
        }
    }
}

/// A packet, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    /// Binary messages that follow it and belong to it.
    pub(crate) attachments: usize,
    /// Begins with `/`.
    pub(crate) namespace: String,
    /// Of an event that wants an answer, or of the answer.
    pub(crate) id: Option<u64>,
    pub(crate) data: Option<Value>,
}

impl Packet {
    /// Reads one packet.
    ///
    /// # Errors
    /// If it breaks the grammar, or its data is not what its kind demands.
    pub(crate) fn read(text: &str) -> Result<Self, Malformed> {
        let first = text.chars().next().ok_or(Malformed("a packet without a type"))?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.digit() == first);
        let kind = kind.ok_or(Malformed("a packet of no known type"))?;
        let rest = &text[first.len_utf8()..];
        let (attachments, rest) = if kind.is_binary() { read_attachments(rest)? } else { (0, rest) };
        let (namespace, rest) = read_namespace(rest);
        let (id, rest) = read_id(rest)?;
        let data = match rest {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|_| Malformed("data that is not JSON"))?),
        };
        let packet = Self { kind, attachments, namespace: namespace.to_owned(), id, data };
        packet.is_allowed().then_some(packet).ok_or(Malformed("data that does not fit its packet"))
    }

    fn is_allowed(&self) -> bool {
        match (self.kind, &self.data) {
            (Kind::Connect, None | Some(Value::Object(_))) => true,
            (Kind::Disconnect, None) => true,
            (Kind::ConnectError, data) => data.as_ref().is_none_or(|data| data.is_object() || data.is_string()),
            (Kind::Event | Kind::BinaryEvent, Some(Value::Array(parts))) => {
                parts.first().is_some_and(|name| name.is_string() || name.is_number())
            }
            (Kind::Ack | Kind::BinaryAck, Some(Value::Array(_))) => self.id.is_some(),
            _ => false,
        }
    }
}

fn read_attachments(text: &str) -> Result<(usize, &str), Malformed> {
    let (digits, rest) = text.split_once('-').ok_or(Malformed("a binary packet without its count"))?;
    let is_count = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(count) if is_count && count <= ATTACHMENTS_MAX => Ok((count, rest)),
        _ => Err(Malformed("a count of attachments that is none, or too large")),
    }
}

fn read_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

fn read_id(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    if end == 0 {
        return Ok((None, text));
    }
    let id = text[..end].parse().map_err(|_| Malformed("an id that is too large"))?;
    Ok((Some(id), &text[end..]))
}

/// Writes a packet whose data is JSON already; `""` for none.
pub(crate) fn write(kind: Kind, attachments: usize, namespace: &str, id: Option<u64>, json: &str) -> String {
    let mut text = String::with_capacity(json.len() + namespace.len() + 32);
    text.push(kind.digit());
    if kind.is_binary() {
        write!(text, "{attachments}-").expect("a String takes whatever is written");
    }
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
    if let Some(id) = id {
        write!(text, "{id}").expect("a String takes whatever is written");
    }
    text.push_str(json);
    text
}

/// A packet that waits for its attachments.
#[derive(Debug)]
pub(crate) struct Assembly {
    packet: Packet,
    attachments: Vec<Bytes>,
    bytes: usize,
}

impl Assembly {
    pub(crate) fn new(packet: Packet) -> Self {
        Self { packet, attachments: Vec::new(), bytes: 0 }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.attachments.len() >= self.packet.attachments
    }

    /// Takes the next attachment; all of them together have at most `bytes_max`.
    ///
    /// # Errors
    /// If they are larger.
    pub(crate) fn add(&mut self, attachment: Bytes, bytes_max: usize) -> Result<(), Malformed> {
        self.bytes = self.bytes.saturating_add(attachment.len());
        if self.bytes > bytes_max {
            return Err(Malformed("attachments that are too large together"));
        }
        self.attachments.push(attachment);
        Ok(())
    }

    /// The packet, in whose data each placeholder is the base64 of its attachment, and the attachments as they came.
    pub(crate) fn finish(mut self) -> (Packet, Vec<Bytes>) {
        if let Some(data) = &mut self.packet.data {
            fill(data, &self.attachments);
        }
        (self.packet, self.attachments)
    }
}

/// Puts attachments in the places that wait for them. serde_json's own limit on depth (128) bounds the recursion.
fn fill(value: &mut Value, attachments: &[Bytes]) {
    if let Some(number) = placeholder(value) {
        if let Some(bytes) = usize::try_from(number).ok().and_then(|number| attachments.get(number)) {
            *value = Value::String(STANDARD.encode(bytes));
        }
        return;
    }
    match value {
        Value::Array(parts) => parts.iter_mut().for_each(|part| fill(part, attachments)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, attachments)),
        _ => {}
    }
}

fn placeholder(value: &Value) -> Option<u64> {
    let fields = value.as_object()?;
    if fields.get("_placeholder") != Some(&Value::Bool(true)) {
        return None;
    }
    fields.get("num")?.as_u64()
}

#[cfg(test)]
mod tests;
