//! What a connection must know of the request body that it sends.

use std::time::Instant;

use bytes::Bytes;
use http_body::Body;

/// A request body that tells what became of it. Clones are handles to the same body: the caller keeps one while the
/// connection reads through the other.
pub trait TrackedBody: Body<Data = Bytes> + Clone {
    /// Whether all of it was read, or there is none.
    fn is_ended(&self) -> bool;

    /// Whether the exchange waits for whoever produces it.
    fn is_waiting(&self) -> bool;

    /// When the last piece of it was produced, if that gives the exchange its time anew.
    fn last_read(&self) -> Option<Instant>;
}
