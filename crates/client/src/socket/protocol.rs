//! What is said on an open connection: turns what the application sends into frames and frames into what was heard.
//!
//! A protocol does no I/O and knows no time: the link that it belongs to moves its frames and watches the clock for it.

mod plain;
mod socketio;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

pub(crate) use plain::Plain;
pub(crate) use socketio::SocketIo;

use super::frame::{Frame, Malformed};

/// What one message of the application is, made ready when it was given to the socket.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// An event: the JSON array of its name and arguments.
    Event(String),
    /// A text of a plain WebSocket.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
}

impl Content {
    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Event(text) | Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// An event as it came, before the socket knows whom it is for.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) name: String,
    pub(crate) args: Vec<Value>,
    pub(crate) attachments: Vec<Bytes>,
    /// The server waits for an answer with this number.
    pub(crate) ack: Option<u64>,
}

/// What a frame said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Messages can be sent from now on.
    Opened,
    /// This goes out before anything else.
    Reply(Frame),
    /// An event.
    Event(Arrived),
    /// The answer to the message that was sent with this number.
    Ack(u64, Vec<Value>),
    /// The server does not want this connection, and says why.
    Refused(String),
    /// The server ended it.
    Ended(&'static str),
}

/// How a silent server is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// A server that said nothing for as long is lost.
    pub(crate) silence_max: Duration,
    /// Ask it for a sign of life after as long a silence; the server asks by itself if there is nothing here.
    pub(crate) ask_after: Option<Duration>,
}

/// The language of a connection.
pub(crate) trait Protocol: Send {
    /// What is known as soon as the connection stands.
    fn opening(&mut self) -> Vec<Heard> {
        vec![]
    }

    /// Takes what came. Replies are among what was heard.
    ///
    /// # Errors
    /// If the server breaks the protocol: the connection is of no use then.
    fn handle(&mut self, frame: Frame) -> Result<Vec<Heard>, Malformed>;

    /// Puts a message into frames; with a number if an answer is wanted.
    fn encode(&self, content: &Content, ack: Option<u64>) -> Vec<Frame>;

    /// Answers an event of the server.
    fn answer(&self, ack: u64, args: &[Value]) -> Option<Frame>;

    /// What is said before the connection is closed.
    fn goodbye(&self) -> Vec<Frame>;

    /// How silence is watched.
    fn heartbeat(&self) -> Heartbeat;
}
