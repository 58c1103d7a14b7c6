//! One HTTP/2 connection, shared by many requests, with proof of what was sent of each.
//!
//! A request that is given up must not be sent later, and what is said of it must hold whatever the peer does. `h2`, which
//! speaks the protocol here, promises neither: a head that it has taken flows as soon as the socket lets it, given up or not,
//! and its GOAWAY error comes for requests that were processed too. So three things stand around it.
//!
//! **A line before it.** A request waits outside of `h2`, behind a gate of its own, until the moment when it can be written: the peer's
//! limit leaves room, and every byte before it has gone to the socket and through TLS. Then the connection's task takes it and
//! writes it in the same turn. Whoever gives it up before has taken it back whole: one atomic step, and one side wins.
//!
//! **A wire below it**, above TLS, that reads the frames as they pass: which heads the socket took, whose frames still wait for it,
//! the last stream of each GOAWAY.
//!
//! **One lock around it.** Whoever gives up a request that was taken waits for the task's turn to end, which is a matter of
//! system calls that do not block, and acts before the next. Then the stream is reset, which also clears what `h2` has
//! queued of it. But what is half written cannot be taken back one stream at a time: a header block that is left out breaks the
//! compression of all that follow, and a frame that was begun has to be ended. So if any byte of the request's message is held
//! between `h2` and the socket, the connection is closed. It was stuck in that very request, so little is lost; the
//! requests beside it fail with what is proven of them. Letting the bytes flow would let the peer execute, much later, what
//! its sender has sent elsewhere by then.
//!
//! `sent` is [`No`](handover_core::Sent::No) for a request that
//!
//! - was still in line, when it was given up or the connection ended;
//! - the peer refused (`REFUSED_STREAM`), or whose stream is above the last stream of a GOAWAY (RFC 9113 §8.7);
//! - was taken, on a connection that is closed, if the stream below TLS or the raw socket has taken nothing since.
//!
//! Everything else that has no answer is [`Maybe`](handover_core::Sent::Maybe). A body is not asked for before its request's head has gone to the
//! socket and the peer has room for it.
//!
//! There are no PINGs. A peer that died is noticed by the time limit of a request, and a connection on which nothing at all
//! was heard since such a request was written takes no more of them, until something is heard.

mod body;
mod book;
mod driver;
mod error;
mod exchange;
mod frames;
mod head;
mod line;
#[cfg(test)]
mod tests;
mod upload;
mod wire;

use std::future::poll_fn;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Request, Response};

pub use self::body::H2Body;
pub use self::error::H2BodyError;

use self::driver::{Driver, Shared, Task};
use self::exchange::Exchange;
use self::upload::{BoxError, SEND_BUFFER_BYTES};
use self::wire::Wire;
use crate::body::TrackedBody;
use crate::conn::ExchangeError;
use crate::dial::Stream;

/// After a longer rest than this the kernel is asked whether the connection still stands; after a shorter one the event loop
/// has told, unless its thread is saturated. The same as for HTTP/1.1.
const PROBE_AFTER: Duration = Duration::from_millis(1);

/// Largest response head, in bytes of fields (RFC 9113 §6.5.2): the same as for HTTP/1.1.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// What a peer may send on one stream before it is read, in bytes: what a reader that stops costs in memory at most. At 100 ms
/// of round trip it lets 10 MB/s pass; less would make large downloads over long ways slow.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// What a peer may send on the whole connection before it is read, in bytes. Eight readers that stop do not hold up the
/// others, and a connection costs no more memory than this.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// How many streams are opened before the peer has said how many it allows: the least that it should (RFC 9113 §6.5.2).
const STREAMS_AT_FIRST: usize = 100;

/// One HTTP/2 connection, shared by many requests. A clone is another handle to the same connection.
pub struct H2Conn<B> {
    handle: Arc<Handle>,
    peer: SocketAddr,
    body: PhantomData<fn(B)>,
}

/// All clones of one connection. When the last is gone the connection ends as soon as its requests have.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.line.abandon();
    }
}

impl<B> Clone for H2Conn<B> {
    fn clone(&self) -> Self {
        H2Conn { handle: Arc::clone(&self.handle), peer: self.peer, body: PhantomData }
    }
}

impl<B> H2Conn<B> {
    /// Whether a further request may be given to it: it is open, the peer has not announced its end, there is room for
    /// one more stream, the last request on it did not end in silence, and the kernel knows of no end.
    ///
    /// It may be wrong for a moment in both ways: an end may be on its way, and bytes that have just come make it say no
    /// until they are read.
    pub fn is_usable(&self) -> bool {
        let shared = &self.handle.0;
        if shared.wire.is_closed() || shared.line.over().is_some() || !shared.has_room() {
            return false;
        }
        let (leaving, heard) = shared.wire.with_book(|book| (book.last_stream().is_some(), book.read_bytes()));
        if leaving || shared.silent_at.load(Ordering::Relaxed) == heard {
            return false;
        }
        let rested = self.idle_since().is_some_and(|since| since.elapsed() >= PROBE_AFTER);
        !rested || shared.wire.is_quiet()
    }

    /// How many requests are under way: in line, sent, or with a response body that is not read to its end.
    pub fn in_flight(&self) -> usize {
        self.handle.0.busy().requests
    }

    /// The address of its socket.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Since when no request is under way; `None` while one is.
    pub fn idle_since(&self) -> Option<Instant> {
        let busy = self.handle.0.busy();
        (busy.requests == 0).then_some(busy.idle_since)
    }
}

impl<B> H2Conn<B>
where
    B: TrackedBody + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Speaks HTTP/2 on a fresh stream. The connection is driven by a task of its own on the current tokio runtime, and ends
    /// when all handles and bodies are gone, or when it breaks.
    ///
    /// # Errors
    /// The stream took not even the preface. Nothing of any request was sent.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping it closes the stream.
    pub async fn start(stream: Stream, peer: SocketAddr) -> Result<Self, ExchangeError> {
        let (raw, secure) = (stream.raw_counter(), !matches!(stream, Stream::Tcp(_)));
        let wire = Wire::new(stream);
        let mut builder = ::h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS_AT_FIRST)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        let started = builder.handshake(wire.clone()).await;
        let (sender, http) = started.map_err(|error| exchange::unsent(error::of(&error)))?;
        let shared = Arc::new(Shared::new(Driver::new(http, sender), wire, raw, secure));
        tokio::spawn(Task::new(Arc::clone(&shared)));
        Ok(H2Conn { handle: Arc::new(Handle(shared)), peer, body: PhantomData })
    }

    /// Sends a request and waits for the response head until `give_up`. The body is sent meanwhile.
    ///
    /// # Errors
    /// What went wrong, with what is proven of the request. The connection may be usable still.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: not one byte of it is written afterwards.
    pub async fn exchange(
        &self,
        request: Request<B>,
        give_up: tokio::time::Instant,
    ) -> Result<Response<H2Body>, ExchangeError> {
        let timer = tokio::time::sleep_until(give_up);
        let mut exchange = Exchange::begin(&self.handle.0, request, timer)?;
        poll_fn(|cx| exchange.poll(cx)).await
    }
}
