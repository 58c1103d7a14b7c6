//! What a scripted HTTP/2 origin can do: the vocabulary of its scripts.

use bytes::Bytes;
use h2::Reason;

use crate::gate::Gate;
use crate::origin::End;

/// What happens to a request whose header block was read.
#[derive(Clone, Debug)]
pub enum H2Act {
    /// The body is read whole, the request counts as executed, then this is answered.
    Answer(H2Answer),
    /// The body is read whole, the request counts as executed, and nothing is ever answered.
    Hang,
    /// The stream is reset with this reason, the body unread and nothing executed.
    Reset(Reason),
    /// The body is read whole, the request counts as executed, then the stream is reset with this reason.
    ExecuteThenReset(Reason),
    /// The connection is ended at once, the body unread and nothing executed.
    End(End),
    /// The body is read whole, the request counts as executed, then the connection is ended.
    ExecuteThenEnd(End),
}

/// How a connection announces its end, while it still carries requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// GOAWAY with the last stream id 2^31 − 1 and NO_ERROR; what is under way and what still comes within a round trip is
    /// answered, then the connection is closed (RFC 9113 §6.8).
    Graceful,
    /// GOAWAY with this reason and the highest stream id that was seen, then the connection is closed, answers or not.
    Abrupt(Reason),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct H2Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) held: Option<Gate>,
    pub(crate) leave: Option<Leave>,
}

impl H2Answer {
    /// 200 with `body`.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    /// `status` with `body`.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), held: None, leave: None }
    }

    /// With one more header (a lower-case name).
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Not before `gate` opens; the request counts as executed before.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.held = Some(gate.clone());
        self
    }

    /// The connection's end is announced beside the answer: once the request was executed, in the same breath.
    #[must_use]
    pub fn leaving(mut self, leave: Leave) -> Self {
        self.leave = Some(leave);
        self
    }
}
