//! Why a message was not acknowledged, and what is proven of it.

use std::fmt;

use handover_core::Fate;

/// What is known of a message that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    NotSent,
    Unknown,
}

/// Why it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Full,
    Timeout,
    Closed,
    Invalid,
    Other,
}

/// A message was not acknowledged (or not written, if no answer was wanted).
///
/// There is no third case beside [`is_not_sent`](Self::is_not_sent) and [`is_unknown`](Self::is_unknown): one of the two is
/// true of every error.
#[derive(Clone, Debug)]
pub struct SendError {
    known: Known,
    why: Why,
    message: String,
}

impl SendError {
    pub(crate) fn not_sent(message: &str) -> Self {
        Self { known: Known::NotSent, why: Why::Other, message: message.to_owned() }
    }

    pub(crate) fn unknown(message: &str) -> Self {
        Self { known: Known::Unknown, why: Why::Other, message: message.to_owned() }
    }

    pub(crate) fn full() -> Self {
        Self { why: Why::Full, ..Self::not_sent("too many messages wait already") }
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self { why: Why::Invalid, ..Self::not_sent(message) }
    }

    pub(crate) fn timed_out(self) -> Self {
        Self { why: Why::Timeout, ..self }
    }

    pub(crate) fn closed(self) -> Self {
        Self { why: Why::Closed, ..self }
    }

    /// Proven: not one byte of the message went to a server, and none will.
    #[must_use]
    pub fn is_not_sent(&self) -> bool {
        self.known == Known::NotSent
    }

    /// The message was on a connection, and no answer came: the server has executed it, or has not, or still will.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.known == Known::Unknown
    }

    /// The same in the client's words: [`Fate::NotSent`] or [`Fate::Unknown`].
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self.known {
            Known::NotSent => Fate::NotSent,
            Known::Unknown => Fate::Unknown,
        }
    }

    /// As many messages wait as may wait. It was refused at once, and is not sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.why == Why::Full
    }

    /// Its time limit passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.why == Why::Timeout
    }

    /// The socket was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.why == Why::Closed
    }

    /// This kind of socket cannot send such a message.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.why == Why::Invalid
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = match self.known {
            Known::NotSent => "not sent",
            Known::Unknown => "unknown whether it arrived",
        };
        write!(f, "{known}: {}", self.message)
    }
}

impl std::error::Error for SendError {}

/// What a socket was asked to be cannot be.
#[derive(Clone, Debug)]
pub struct InvalidSocket(pub(crate) String);

impl fmt::Display for InvalidSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSocket {}
