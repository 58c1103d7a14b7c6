//! A WebSocket without a protocol on it: each message is an event called `message`. There are no answers to messages.

use serde_json::Value;

use super::{Arrived, Content, Heard, Heartbeat, Protocol};
use crate::socket::frame::{Frame, Malformed};

/// The name of the only event a plain WebSocket has, as in browsers.
pub(crate) const MESSAGE: &str = "message";

/// Messages as they are.
pub(crate) struct Plain {
    heartbeat: Heartbeat,
}

impl Plain {
    pub(crate) fn new(heartbeat: Heartbeat) -> Self {
        Self { heartbeat }
    }
}

impl Protocol for Plain {
    fn opening(&mut self) -> Vec<Heard> {
        vec![Heard::Opened]
    }

    fn handle(&mut self, frame: Frame) -> Result<Vec<Heard>, Malformed> {
        let (args, attachments) = match frame {
            Frame::Text(text) => (vec![Value::String(text)], vec![]),
            Frame::Binary(bytes) => (vec![], vec![bytes]),
            Frame::Ping | Frame::Pong => return Ok(vec![]),
        };
        Ok(vec![Heard::Event(Arrived { name: MESSAGE.to_owned(), args, attachments, ack: None })])
    }

    fn encode(&self, content: &Content, _ack: Option<u64>) -> Vec<Frame> {
        vec![match content {
            Content::Event(text) | Content::Text(text) => Frame::Text(text.clone()),
            Content::Bytes(bytes) => Frame::Binary(bytes.clone()),
        }]
    }

    fn answer(&self, _ack: u64, _args: &[Value]) -> Option<Frame> {
        None
    }

    fn goodbye(&self) -> Vec<Frame> {
        vec![]
    }

    fn heartbeat(&self) -> Heartbeat {
        self.heartbeat
    }
}
