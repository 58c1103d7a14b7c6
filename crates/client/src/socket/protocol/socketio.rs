//! Socket.IO over Engine.IO: opens the session, enters one namespace, answers pings, puts attachments back.

use bytes::Bytes;
use serde_json::Value;

use super::plain::MESSAGE;
use super::{Arrived, Content, Heard, Heartbeat, Protocol};
use crate::socket::engineio::{Handshake, Packet as Engine};
use crate::socket::frame::{Frame, Malformed};
use crate::socket::socketio::{Assembly, Kind, Packet, write};

/// One namespace of a Socket.IO session.
pub(crate) struct SocketIo {
    namespace: String,
    /// JSON that goes with the request to enter the namespace; empty for none.
    auth: String,
    message_bytes_max: usize,
    heartbeat: Heartbeat,
    /// A packet whose attachments have not all come.
    assembly: Option<Assembly>,
    is_open: bool,
}

impl SocketIo {
    /// `heartbeat` counts until the server has said what its own is.
    pub(crate) fn new(namespace: String, auth: String, message_bytes_max: usize, heartbeat: Heartbeat) -> Self {
        Self { namespace, auth, message_bytes_max, heartbeat, assembly: None, is_open: false }
    }

    fn handle_text(&mut self, text: &str) -> Result<Vec<Heard>, Malformed> {
        Ok(match Engine::read(text)? {
            Engine::Open(json) => {
                let handshake = Handshake::read(json)?;
                self.heartbeat = Heartbeat { silence_max: handshake.silence_max, ask_after: None };
                let enter = write(Kind::Connect, 0, &self.namespace, None, &self.auth);
                vec![Heard::Reply(Engine::Message(&enter).write())]
            }
            Engine::Close => vec![Heard::Ended("the server closed the session")],
            Engine::Ping(words) => vec![Heard::Reply(Engine::Pong(words).write())],
            Engine::Pong(_) | Engine::Noop => vec![],
            Engine::Upgrade => return Err(Malformed("only a client changes the transport")),
            Engine::Message(packet) => self.handle_packet(Packet::read(packet)?)?,
        })
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<Vec<Heard>, Malformed> {
        if self.assembly.is_some() {
            return Err(Malformed("a packet where an attachment was announced"));
        }
        let assembly = Assembly::new(packet);
        if assembly.is_complete() {
            return Ok(self.finish(assembly));
        }
        self.assembly = Some(assembly);
        Ok(vec![])
    }

    fn handle_bytes(&mut self, bytes: Bytes) -> Result<Vec<Heard>, Malformed> {
        let mut assembly = self.assembly.take().ok_or(Malformed("an attachment that was not announced"))?;
        assembly.add(bytes, self.message_bytes_max)?;
        if assembly.is_complete() {
            return Ok(self.finish(assembly));
        }
        self.assembly = Some(assembly);
        Ok(vec![])
    }

    fn finish(&mut self, assembly: Assembly) -> Vec<Heard> {
        let (packet, attachments) = assembly.finish();
        // What is said in a namespace that was not asked for is for nobody here.
        if packet.namespace != self.namespace {
            return vec![];
        }
        let parts = match packet.data {
            Some(Value::Array(parts)) => parts,
            other => return self.said(packet.kind, other),
        };
        match (packet.kind, packet.id) {
            (Kind::Ack | Kind::BinaryAck, Some(id)) => vec![Heard::Ack(id, parts)],
            // An event that comes before the namespace was entered is not from a server that keeps the rules.
            _ if !self.is_open => vec![],
            (_, ack) => {
                let mut parts = parts.into_iter();
                let name = match parts.next() {
                    Some(Value::String(name)) => name,
                    Some(other) => other.to_string(),
                    None => return vec![],
                };
                vec![Heard::Event(Arrived { name, args: parts.collect(), attachments, ack })]
            }
        }
    }

    fn said(&mut self, kind: Kind, data: Option<Value>) -> Vec<Heard> {
        match kind {
            Kind::Connect => {
                self.is_open = true;
                vec![Heard::Opened]
            }
            Kind::ConnectError => vec![Heard::Refused(reason(data))],
            Kind::Disconnect => vec![Heard::Ended("the server left the namespace")],
            _ => vec![],
        }
    }
}

/// Why a namespace was refused, in the server's words, cut and without what could control a terminal.
fn reason(data: Option<Value>) -> String {
    /// Characters that are kept: a line.
    const CHARACTERS_MAX: usize = 200;
    let words = match &data {
        Some(Value::String(words)) => words.as_str(),
        Some(data) => data.get("message").and_then(Value::as_str).unwrap_or_default(),
        None => "",
    };
    words.chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect()
}

impl Protocol for SocketIo {
    fn handle(&mut self, frame: Frame) -> Result<Vec<Heard>, Malformed> {
        match frame {
            Frame::Text(text) => self.handle_text(&text),
            Frame::Binary(bytes) => self.handle_bytes(bytes),
            Frame::Ping | Frame::Pong => Ok(vec![]),
        }
    }

    fn encode(&self, content: &Content, ack: Option<u64>) -> Vec<Frame> {
        let message = |packet: String| Engine::Message(&packet).write();
        match content {
            Content::Event(json) => vec![message(write(Kind::Event, 0, &self.namespace, ack, json))],
            Content::Text(text) => {
                let json = Value::from(vec![MESSAGE, text]).to_string();
                vec![message(write(Kind::Event, 0, &self.namespace, ack, &json))]
            }
            Content::Bytes(bytes) => {
                let json = format!(r#"["{MESSAGE}",{{"_placeholder":true,"num":0}}]"#);
                let packet = write(Kind::BinaryEvent, 1, &self.namespace, ack, &json);
                vec![message(packet), Frame::Binary(bytes.clone())]
            }
        }
    }

    fn answer(&self, ack: u64, args: &[Value]) -> Option<Frame> {
        let json = Value::Array(args.to_vec()).to_string();
        let packet = write(Kind::Ack, 0, &self.namespace, Some(ack), &json);
        Some(Engine::Message(&packet).write())
    }

    fn goodbye(&self) -> Vec<Frame> {
        let leave = write(Kind::Disconnect, 0, &self.namespace, None, "");
        vec![Engine::Message(&leave).write(), Engine::Close.write()]
    }

    fn heartbeat(&self) -> Heartbeat {
        self.heartbeat
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn protocol(namespace: &str) -> SocketIo {
        let heartbeat = Heartbeat { silence_max: Duration::from_secs(20), ask_after: None };
        SocketIo::new(namespace.to_owned(), String::new(), 1 << 20, heartbeat)
    }

    fn hear(protocol: &mut SocketIo, text: &str) -> Vec<String> {
        let heard = protocol.handle(Frame::Text(text.to_owned())).unwrap();
        heard.iter().map(|heard| format!("{heard:?}")).collect()
    }

    const OPEN: &str = r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;

    #[test]
    fn a_session_is_opened_by_entering_the_namespace_with_what_authenticates() {
        let mut io = protocol("/admin");
        io.auth = r#"{"token":"t"}"#.to_owned();
        let heard = io.handle(Frame::Text(OPEN.to_owned())).unwrap();
        assert!(
            matches!(&heard[0], Heard::Reply(Frame::Text(text)) if text == r#"40/admin,{"token":"t"}"#),
            "{heard:?}"
        );
        assert_eq!(io.heartbeat().silence_max, Duration::from_secs(45));
        assert_eq!(hear(&mut io, r#"40/admin,{"sid":"x"}"#), ["Opened"]);
    }

    #[test]
    fn a_ping_is_answered_with_its_own_words() {
        let heard = protocol("/").handle(Frame::Text("2probe".to_owned())).unwrap();
        assert!(matches!(&heard[0], Heard::Reply(Frame::Text(text)) if text == "3probe"));
    }

    #[test]
    fn what_is_said_in_another_namespace_is_for_nobody() {
        let mut io = protocol("/");
        hear(&mut io, "40{}");
        assert!(hear(&mut io, r#"42/admin,["secret"]"#).is_empty());
        assert_eq!(hear(&mut io, r#"42["open"]"#).len(), 1);
    }

    #[test]
    fn an_event_with_attachments_is_heard_when_the_last_one_came() {
        let mut io = protocol("/");
        hear(&mut io, "40{}");
        assert!(hear(&mut io, r#"451-["file",{"_placeholder":true,"num":0}]"#).is_empty());
        assert!(io.handle(Frame::Text("42[\"between\"]".to_owned())).is_err());
        let heard = io.handle(Frame::Binary(Bytes::from_static(b"abc"))).unwrap();
        match &heard[0] {
            Heard::Event(event) => {
                assert_eq!(event.args, [Value::from("YWJj")]);
                assert_eq!(event.attachments, ["abc"]);
            }
            other => panic!("{other:?}"),
        }
        assert!(io.handle(Frame::Binary(Bytes::new())).is_err());
    }

    #[test]
    fn a_refusal_has_the_servers_words_without_what_controls_a_terminal() {
        let heard = hear(&mut protocol("/"), "44{\"message\":\"no\\u001b[2J token\"}");
        assert_eq!(heard, [r#"Refused("no[2J token")"#]);
    }

    #[test]
    fn bytes_go_out_as_an_attachment() {
        let frames = protocol("/").encode(&Content::Bytes(Bytes::from_static(b"x")), Some(3));
        let first = r#"451-3["message",{"_placeholder":true,"num":0}]"#;
        assert_eq!(frames, [Frame::Text(first.to_owned()), Frame::Binary(Bytes::from_static(b"x"))]);
    }
}
