//! What a scripted origin can do: the vocabulary of its scripts.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::gate::Gate;

/// What happens to a connection before anything is read from it.
#[derive(Clone, Copy, Debug)]
pub enum Greeting {
    /// Requests are read and the script is asked.
    Serve,
    /// It is ended without reading a byte.
    End(End),
    /// This many bytes are read, then it is ended.
    ReadThen(usize, End),
    /// It stays open and nothing is ever read.
    Hang,
    /// These bytes are written at once, whatever comes, and it is ended.
    Say(&'static [u8], End),
}

/// How a script ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN; what still comes is read and dropped, so that no reset follows.
    Fin,
    /// RST.
    Reset,
}

/// How `Expect: 100-continue` is met.
#[derive(Clone, Debug)]
pub enum Continue {
    /// `100 Continue` as soon as the head is read.
    AtOnce,
    /// `100 Continue` once the gate opens.
    Held(Gate),
    /// Never.
    Never,
}

/// What happens to a request whose head was read.
#[derive(Debug)]
pub enum Act {
    /// The body is read whole, then this is answered.
    Answer(Answer),
    /// This is answered before the body is read, and the connection then ended with FIN.
    AnswerEarly(Answer),
    /// This many body bytes are read (all of them, if there are fewer), then the connection is ended without an answer.
    EndAfter(u64, End),
    /// Nothing more is read and nothing answered; the connection stays open.
    Hang,
    /// The body is read whole and nothing is answered until the gate opens; then the connection is ended.
    HoldThen(Gate, End),
    /// The body is read whole, these bytes are written as they are, and the connection is ended.
    Say(Bytes, End),
    /// A WebSocket handshake (RFC 6455), then every message is sent back.
    WebSocketEcho,
    /// `101 Switching Protocols` to this protocol, then every byte is recorded and sent back.
    SwitchTo(&'static str),
}

/// What happens to the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request is awaited.
    KeepAlive,
    /// It is ended, and nothing in the answer's head said so.
    End(End),
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// These bytes, by `Content-Length`.
    Whole(Bytes),
    /// These bytes in one chunk, and trailers behind them.
    Chunked(Bytes, Vec<(&'static str, &'static str)>),
    /// These bytes, ended by the end of the connection.
    UntilClose(Bytes),
    /// Chunks as a [`BodyWriter`] gives them, each flushed at once.
    Stream(mpsc::UnboundedReceiver<Bytes>),
    /// This many bytes of the [pattern](crate::pattern_at), by `Content-Length`.
    Pattern(u64),
}

/// Writes a streamed body piece by piece; dropping it ends the body.
#[derive(Clone, Debug)]
pub struct BodyWriter {
    pieces: mpsc::UnboundedSender<Bytes>,
}

impl BodyWriter {
    /// Sends one piece in a chunk of its own.
    pub fn send(&self, piece: impl Into<Bytes>) {
        // The connection may be gone, which is what some tests are about; they see it at the other end.
        let _ = self.pieces.send(piece.into());
    }
}

/// An answer: a whole response, or the beginning of one.
#[derive(Debug)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    pub(crate) held: Option<Gate>,
    pub(crate) cut: Option<(usize, End)>,
    pub(crate) after: After,
}

impl Answer {
    /// 200 with `body`, by length, keeping the connection.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    /// `status` with `body`, by length, keeping the connection.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        let body = Body::Whole(body.into());
        Self { status, headers: Vec::new(), body, held: None, cut: None, after: After::KeepAlive }
    }

    /// 200 with a body that the test writes piece by piece.
    #[must_use]
    pub fn stream() -> (Self, BodyWriter) {
        let (pieces, receiver) = mpsc::unbounded_channel();
        (Self::ok("").body(Body::Stream(receiver)), BodyWriter { pieces })
    }

    /// With this body instead.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Not before `gate` opens.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.held = Some(gate.clone());
        self
    }

    /// Only the first `bytes` of the head and the body, then the connection is ended.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize, end: End) -> Self {
        self.cut = Some((bytes, end));
        self
    }

    /// With this behind it. Default: keep the connection.
    #[must_use]
    pub fn then(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    /// The head, byte for byte.
    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match &self.body {
            Body::Whole(_) if self.status == 204 || self.status == 304 => {}
            Body::Whole(bytes) => head += &format!("Content-Length: {}\r\n", bytes.len()),
            Body::Pattern(length) => head += &format!("Content-Length: {length}\r\n"),
            Body::Chunked(..) | Body::Stream(_) => head += "Transfer-Encoding: chunked\r\n",
            Body::UntilClose(_) => {}
        }
        head += "\r\n";
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        404 => "Not Found",
        413 => "Content Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Scripted",
    }
}
