//! What went wrong on a connection or a stream, in the words of the glossary.

use std::fmt;
use std::io;

use ::h2::Reason;
use handover_core::Fault;

use super::frames::STREAM_MAX;
use super::line::Over;
use super::upload::BoxError;
use crate::conn::{ClientFault, full_text};
use crate::dial::fault_of;

/// Why the body of a response ended before it was whole.
#[derive(Debug)]
pub struct H2BodyError {
    pub(super) fault: Fault,
    pub(super) errno: Option<i32>,
    pub(super) text: String,
}

impl H2BodyError {
    /// What went wrong.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The operating system's error number, if it was its error.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }
}

impl fmt::Display for H2BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for H2BodyError {}

impl From<Over> for H2BodyError {
    fn from(over: Over) -> Self {
        H2BodyError { fault: over.fault, errno: over.errno, text: over.text }
    }
}

/// How a connection ended.
pub(super) fn over(error: Option<&::h2::Error>, last_stream: Option<u32>) -> Over {
    match error {
        Some(error) if error.is_io() || error.is_library() => of(error),
        // Whatever code it came with: the peer said that it goes, and went.
        _ if last_stream.is_some() => gone_away(last_stream.unwrap_or(STREAM_MAX)),
        Some(error) => of(error),
        None => closed("the connection closed before the response".to_owned()),
    }
}

/// What an error of `h2`'s is.
pub(super) fn of(error: &::h2::Error) -> Over {
    if let Some(io) = error.get_io() {
        return of_io(io);
    }
    let fault = if error.is_reset() && error.is_remote() {
        Fault::Reset
    } else if error.is_go_away() && !error.is_library() {
        Fault::Closed
    } else {
        // The peer broke the protocol, or it was we who would have.
        Fault::Protocol
    };
    let text = match error.reason() {
        Some(reason) if fault == Fault::Reset => format!("the peer reset the stream ({})", name(reason)),
        Some(reason) if error.is_library() => format!("the peer broke HTTP/2 ({})", name(reason)),
        _ => full_text(error),
    };
    Over { fault, errno: None, text }
}

/// What an error of a stream is.
pub(super) fn of_io(error: &io::Error) -> Over {
    let (fault, errno) = fault_of(error);
    // A FIN in the middle of a frame; and h2's word for every end of a connection that it cannot say more about.
    let closed = match error.kind() {
        io::ErrorKind::UnexpectedEof => true,
        io::ErrorKind::BrokenPipe => errno.is_none(),
        _ => false,
    };
    Over { fault: if closed { Fault::Closed } else { fault }, errno, text: error.to_string() }
}

/// No stream could be opened for a request.
pub(super) fn unopened(error: &::h2::Error) -> Over {
    let over = of(error);
    Over { text: format!("no stream could be opened: {}", over.text), ..over }
}

/// The peer takes no further requests.
pub(super) fn gone_away(last: u32) -> Over {
    closed(format!("the peer went away (GOAWAY, last stream {last})"))
}

/// The connection is gone for a reason of ours or the peer's.
pub(super) fn closed(text: String) -> Over {
    Over { fault: Fault::Closed, errno: None, text }
}

/// An error code by its name in RFC 9113 §7.
fn name(reason: Reason) -> String {
    // Debug gives the constant's name, Display a sentence about it.
    format!("{reason:?}")
}

/// What a caller did whose body ended in an error.
pub(super) fn client_fault(error: &BoxError) -> ClientFault {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, InvalidInput, UnexpectedEof};
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return match io.kind() {
                InvalidData | InvalidInput => ClientFault::Malformed,
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => ClientFault::Left,
                _ => ClientFault::Malformed,
            };
        }
        cause = error.source();
    }
    ClientFault::Left
}
