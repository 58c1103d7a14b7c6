//! What a transport carries: whole messages of a WebSocket, which are also the packets of a polling payload.
//!
//! Both transports of Engine.IO speak in these, so that everything above them is written once.

use bytes::Bytes;

/// One message of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// A ping of the WebSocket protocol. Polling has none.
    Ping,
    /// The answer to one. Only received: the WebSocket layer answers by itself.
    Pong,
}

impl Frame {
    /// Bytes of what it carries, without framing.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Ping | Self::Pong => 0,
        }
    }
}

/// What came is not what the protocol allows. It says which rule was broken, never what came: that may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server broke the protocol: {}", self.0)
    }
}
