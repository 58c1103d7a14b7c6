//! The response body on its way from a node to the client: drives the node's connection beside it, gives the connection
//! back when the exchange is over, and closes the request's ledger.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use handover_core::Stage;
use handover_wire::TrackedBody;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body::{BodyError, NodeConn, RequestBody};
use crate::headers;
use crate::ledger::Ledger;
use crate::node::InFlight;
use handover_wire::conn::{fault_of_exchange, full_text};
use handover_wire::dial::Target;

/// A response body that streams.
pub(crate) struct Relay {
    incoming: Incoming,
    /// The connection, until it ends or goes back to its node.
    conn: Option<Box<NodeConn>>,
    home: Home,
    request_body: RequestBody,
    ledger: Option<Box<Ledger>>,
    /// An error that the client is about to see as a broken body.
    broken: Option<hyper::Error>,
}

/// Where the connection belongs.
pub(crate) struct Home {
    pub(crate) in_flight: InFlight,
    pub(crate) target: Option<Rc<Target>>,
    pub(crate) idle_max: usize,
}

impl Relay {
    pub(crate) fn new(
        incoming: Incoming,
        conn: Box<NodeConn>,
        home: Home,
        request_body: RequestBody,
        ledger: Box<Ledger>,
    ) -> Self {
        Relay { incoming, conn: Some(conn), home, request_body, ledger: Some(ledger), broken: None }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let frame = ready!(self.poll_incoming(cx));
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(headers::without_forbidden_trailers(frame)))),
            Some(Err(error)) => {
                self.broke(&error);
                // The server drops what it has not flushed when a body breaks. One more turn lets the client have the head
                // and the part of the body that came.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    /// The connection is driven first and is the only one that fills the body, so the body itself is polled without a
    /// waker as long as there is a connection: whatever happens wakes this task through the socket.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Some(conn) = &mut self.conn {
            let mut quiet = Context::from_waker(Waker::noop());
            // What has arrived already needs no look at the socket.
            if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(&mut quiet) {
                return Poll::Ready(frame);
            }
            if conn.poll_drive(cx).is_pending() {
                return Pin::new(&mut self.incoming).poll_frame(&mut quiet);
            }
            self.count();
            self.conn = None;
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn count(&mut self) {
        if let (Some(conn), Some(ledger)) = (&self.conn, &mut self.ledger) {
            (ledger.egress, ledger.ingress) = conn.moved();
            let attempt = ledger.answering();
            ledger.detail(attempt).written_bytes = ledger.egress;
        }
    }

    /// The body came whole.
    fn finish(&mut self) {
        self.count();
        let now = Instant::now();
        if let Some(mut conn) = self.conn.take()
            && self.request_body.is_ended()
            && conn.is_at_rest()
        {
            self.home.in_flight.0.put_idle(self.home.target.as_deref(), conn, now, self.home.idle_max);
        }
        if let Some(ledger) = self.ledger.take() {
            ledger.close_at(now, true);
        }
    }

    /// The body broke off.
    fn broke(&mut self, error: &hyper::Error) {
        self.count();
        self.conn = None;
        if let Some(mut ledger) = self.ledger.take() {
            let (fault, errno) = fault_of_exchange(error);
            ledger.broke(Stage::Body, fault, errno, &full_text(error));
            ledger.close(false);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.ledger.is_none() {
            return;
        }
        // The server drops a body of known length as soon as its last byte was taken, without asking for its end.
        if self.incoming.is_end_stream() {
            self.finish();
        } else {
            self.count();
            if let Some(ledger) = &mut self.ledger {
                ledger.detail(ledger.answering()).stage = Stage::Body;
            }
        }
    }
}
