//! Engine.IO, version 4 of its protocol: packets, payloads of polling, and the handshake. Text in, values out, no I/O.
//!
//! A packet is one digit and what follows it. A WebSocket message is one packet, and a binary message is a message packet
//! without a digit. A polling body is packets separated by U+001E, where bytes are `b` and base64.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::frame::{Frame, Malformed};

/// The version that is asked for in the query (`EIO`). Version 3 pings from the other side and frames payloads differently.
pub(crate) const VERSION: &str = "4";

/// What separates the packets of a polling body: the protocol's choice, because JSON escapes it.
const SEPARATOR: char = '\u{1e}';

/// The shortest and the longest silence that a server can make us wait through. A server that says 0 would be lost with its
/// first packet, one that says a year would never be; servers use 45 s (25 s between pings, 20 s for the answer).
const SILENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// A packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// The handshake, as JSON.
    Open(&'a str),
    /// The session is over.
    Close,
    /// Asks for a pong with the same words.
    Ping(&'a str),
    /// Answers a ping.
    Pong(&'a str),
    /// What the layer above says.
    Message(&'a str),
    /// The transport is changed now.
    Upgrade,
    /// Says nothing; it ends a poll that waits.
    Noop,
}

impl<'a> Packet<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// If it is empty or of no known type.
    pub(crate) fn read(text: &'a str) -> Result<Self, Malformed> {
        let kind = text.as_bytes().first().ok_or(Malformed("a packet without a type"))?;
        // A type is one ASCII digit, so what follows begins at a character.
        let rest = text.get(1..).ok_or(Malformed("a packet of no known type"))?;
        match kind {
            b'0' => Ok(Self::Open(rest)),
            b'1' => Ok(Self::Close),
            b'2' => Ok(Self::Ping(rest)),
            b'3' => Ok(Self::Pong(rest)),
            b'4' => Ok(Self::Message(rest)),
            b'5' => Ok(Self::Upgrade),
            b'6' => Ok(Self::Noop),
            _ => Err(Malformed("a packet of no known type")),
        }
    }

    /// Writes it.
    pub(crate) fn write(self) -> Frame {
        let (kind, rest) = match self {
            Self::Open(rest) => ('0', rest),
            Self::Close => ('1', ""),
            Self::Ping(rest) => ('2', rest),
            Self::Pong(rest) => ('3', rest),
            Self::Message(rest) => ('4', rest),
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
        };
        let mut text = String::with_capacity(1 + rest.len());
        text.push(kind);
        text.push_str(rest);
        Frame::Text(text)
    }
}

/// What the server says of a session when it opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// Names the session in the queries of polling, and of an upgrade.
    pub(crate) sid: String,
    /// Whether the session can go over to a WebSocket.
    pub(crate) upgrades: bool,
    /// A server that said nothing for as long is lost.
    pub(crate) silence_max: Duration,
    /// Bytes that a polling body may have; none if the server named no limit.
    pub(crate) body_bytes_max: Option<usize>,
}

#[derive(Deserialize)]
struct Wire {
    sid: String,
    #[serde(default)]
    upgrades: Vec<String>,
    #[serde(rename = "pingInterval")]
    ping_interval: u64,
    #[serde(rename = "pingTimeout")]
    ping_timeout: u64,
    #[serde(rename = "maxPayload")]
    payload_max: Option<usize>,
}

impl Handshake {
    /// Reads the JSON of an open packet.
    ///
    /// # Errors
    /// If it is not JSON or a field that the protocol demands is missing.
    pub(crate) fn read(json: &str) -> Result<Self, Malformed> {
        let wire: Wire = serde_json::from_str(json).map_err(|_| Malformed("a handshake that cannot be read"))?;
        let silence = Duration::from_millis(wire.ping_interval.saturating_add(wire.ping_timeout));
        Ok(Self {
            sid: wire.sid,
            upgrades: wire.upgrades.iter().any(|name| name == "websocket"),
            silence_max: silence.clamp(SILENCE.0, SILENCE.1),
            body_bytes_max: wire.payload_max.filter(|max| *max > 0),
        })
    }
}

/// Takes a polling body apart.
///
/// # Errors
/// If bytes in it are not base64.
pub(crate) fn read_payload(body: &str) -> Result<Vec<Frame>, Malformed> {
    body.split(SEPARATOR).filter(|packet| !packet.is_empty()).map(read_part).collect()
}

fn read_part(packet: &str) -> Result<Frame, Malformed> {
    match packet.strip_prefix('b') {
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).map_err(|_| Malformed("bytes that are not base64"))?;
            Ok(Frame::Binary(bytes.into()))
        }
        None => Ok(Frame::Text(packet.to_owned())),
    }
}

/// Appends a packet to a polling body. Pings and pongs of the WebSocket layer have no place in one and are left out.
pub(crate) fn append_to_payload(body: &mut String, frame: &Frame) {
    let separated = !body.is_empty();
    match frame {
        Frame::Text(text) => {
            if separated {
                body.push(SEPARATOR);
            }
            body.push_str(text);
        }
        Frame::Binary(bytes) => {
            if separated {
                body.push(SEPARATOR);
            }
            body.push('b');
            STANDARD.encode_string(bytes, body);
        }
        Frame::Ping | Frame::Pong => {}
    }
}

/// Bytes that a frame takes in a polling body, with its separator.
pub(crate) fn payload_len(frame: &Frame) -> usize {
    match frame {
        Frame::Binary(bytes) => 2 + bytes.len().div_ceil(3) * 4,
        other => 1 + other.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Frame {
        Frame::Text(text.to_owned())
    }

    #[test]
    fn each_packet_type_is_read_and_written_as_the_protocol_says() {
        let table = [
            ("0{}", Packet::Open("{}")),
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3probe", Packet::Pong("probe")),
            ("4hello €", Packet::Message("hello €")),
            ("42[\"a\"]", Packet::Message("2[\"a\"]")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ];
        for (wire, packet) in table {
            assert_eq!(Packet::read(wire), Ok(packet), "{wire}");
            assert_eq!(packet.write(), text(wire));
        }
        for wire in ["", "7", "x", "€", "b64"] {
            assert!(Packet::read(wire).is_err(), "{wire}");
        }
    }

    #[test]
    fn a_handshake_gives_the_session_and_how_long_silence_may_be() {
        let json = r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        let read = Handshake::read(json).unwrap();
        assert_eq!(read.sid, "lv_VI97HAXpY6yYWAAAC");
        assert!(read.upgrades);
        assert_eq!(read.silence_max, Duration::from_secs(45));
        assert_eq!(read.body_bytes_max, Some(1_000_000));
    }

    #[test]
    fn a_handshake_cannot_make_us_wait_for_ever_or_not_at_all() {
        let silence = |interval: u64| {
            let json = format!(r#"{{"sid":"a","pingInterval":{interval},"pingTimeout":0}}"#);
            Handshake::read(&json).unwrap().silence_max
        };
        assert_eq!(silence(0), SILENCE.0);
        assert_eq!(silence(u64::MAX), SILENCE.1);
        assert!(Handshake::read("{}").is_err());
        assert!(Handshake::read(r#"{"sid":"a","pingInterval":-1,"pingTimeout":1}"#).is_err());
    }

    #[test]
    fn a_payload_is_packets_with_a_record_separator_and_bytes_in_base64() {
        let frames = vec![text("4hello"), Frame::Binary(vec![1, 2, 3, 4].into()), text("2")];
        let mut body = String::new();
        frames.iter().for_each(|frame| append_to_payload(&mut body, frame));
        assert_eq!(body, "4hello\u{1e}bAQIDBA==\u{1e}2");
        assert_eq!(read_payload(&body), Ok(frames));
        assert!(read_payload("b~").is_err());
        assert_eq!(read_payload(""), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_read_or_refused_and_never_panics(wire in any::<String>()) {
            if let Ok(packet) = Packet::read(&wire)
                && !matches!(packet, Packet::Close | Packet::Upgrade | Packet::Noop) {
                prop_assert_eq!(packet.write(), text(&wire));
            }
            let _ = read_payload(&wire);
            let _ = Handshake::read(&wire);
        }

        #[test]
        fn a_payload_that_was_written_reads_back(parts in prop::collection::vec(("[0-6][^\u{1e}]*", any::<Vec<u8>>()), 0..8)) {
            let frames: Vec<Frame> =
                parts.into_iter().flat_map(|(words, bytes)| [text(&words), Frame::Binary(bytes.into())]).collect();
            let mut body = String::new();
            let mut len = 0;
            for frame in &frames {
                append_to_payload(&mut body, frame);
                len += payload_len(frame);
            }
            prop_assert!(body.len() <= len);
            prop_assert_eq!(read_payload(&body), Ok(frames));
        }
    }
}
