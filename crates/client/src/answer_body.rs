//! The body of an answer on its way to the caller.
//!
//! The connection of an HTTP/1.1 answer is driven by whoever reads the body, in the reader's own task, and goes back to
//! its endpoint when the body is over. An answer that is dropped unread closes its connection, unless all of it had come.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use handover_wire::TrackedBody as _;
use handover_wire::h2::H2Body;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body::{BoxError, SentBody};
use crate::endpoint::Endpoint;
use crate::pool::{H1, Pool};

/// The body of an answer. It implements [`http_body::Body`].
pub struct AnswerBody(Kind);

enum Kind {
    Empty,
    H1(H1Body),
    H2(Box<H2Body>),
    #[cfg_attr(
        not(any(feature = "tower", feature = "gzip", feature = "br", feature = "zstd")),
        allow(dead_code, reason = "there is no other transport, and nothing is decoded")
    )]
    Other(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

struct H1Body {
    incoming: Incoming,
    /// The connection, until it ends or goes back to its endpoint.
    conn: Option<H1>,
    home: Arc<Endpoint>,
    sent: SentBody,
}

/// How many pieces of an unread body are thrown away so that its connection can be used again: what lies in the
/// connection's buffer is one piece or two; more would make dropping an answer slow.
const DISCARDED_MAX: usize = 4;

impl AnswerBody {
    pub(crate) const fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub(crate) fn of_h1(incoming: Incoming, mut conn: H1, home: &Arc<Endpoint>, sent: SentBody) -> Self {
        if incoming.is_end_stream() && sent.is_ended() && conn.is_at_rest() {
            home.pool.put(conn);
            Pool::look_after(home);
            return Self::empty();
        }
        Self(Kind::H1(H1Body { incoming, conn: Some(conn), home: Arc::clone(home), sent }))
    }

    pub(crate) fn of_h2(body: H2Body) -> Self {
        if body.is_end_stream() { Self::empty() } else { Self(Kind::H2(Box::new(body))) }
    }

    /// The body of another transport's answer.
    #[cfg_attr(
        not(any(feature = "tower", feature = "gzip", feature = "br", feature = "zstd")),
        allow(dead_code, reason = "there is no other transport, and nothing is decoded")
    )]
    pub(crate) fn other<B>(body: B) -> Self
    where
        B: Body + Send + 'static,
        B::Data: Buf,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        use http_body_util::BodyExt as _;
        let body =
            body.map_err(Into::into).map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())));
        Self(Kind::Other(Box::pin(body)))
    }

    /// The request has gone on elsewhere: what is left of it is not sent here any more. The answer stays readable.
    pub(crate) fn give_request_up(&self) {
        if let Kind::H1(body) = &self.0 {
            body.seal();
        }
    }

    /// The connection, if the answer switched protocols on it.
    pub(crate) fn into_conn(self) -> Option<H1> {
        match self.0 {
            Kind::H1(mut body) => body.conn.take(),
            Kind::Empty | Kind::H2(_) | Kind::Other(_) => None,
        }
    }
}

impl H1Body {
    /// The connection is driven first and is the only one that fills the body, so the body itself is polled without a
    /// waker as long as there is a connection: whatever happens wakes this task through the socket.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Some(conn) = &mut self.conn {
            let mut quiet = Context::from_waker(Waker::noop());
            if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(&mut quiet) {
                return Poll::Ready(frame);
            }
            if conn.poll_drive(cx).is_pending() {
                return Pin::new(&mut self.incoming).poll_frame(&mut quiet);
            }
            self.conn = None;
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(self.poll_incoming(cx));
        match &frame {
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Err(_)) => self.conn = None,
            _ => self.finish(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    /// Nothing more of the request is written from here on.
    fn seal(&self) {
        if let Some(conn) = &self.conn {
            conn.seal();
        }
    }

    /// The body came whole: its connection can carry the next request.
    fn finish(&mut self) {
        if let Some(mut conn) = self.conn.take()
            && self.sent.is_ended()
            && conn.is_at_rest()
        {
            self.home.pool.put(conn);
            Pool::look_after(&self.home);
        }
    }
}

impl Drop for H1Body {
    fn drop(&mut self) {
        self.seal();
        let mut quiet = Context::from_waker(Waker::noop());
        for _ in 0..DISCARDED_MAX {
            if self.conn.is_none() || !matches!(self.poll_frame(&mut quiet), Poll::Ready(Some(Ok(_)))) {
                return;
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::H1(body) => body.poll_frame(cx),
            Kind::H2(body) => Pin::new(&mut **body).poll_frame(cx).map_err(Into::into),
            Kind::Other(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::H1(body) => body.incoming.is_end_stream(),
            Kind::H2(body) => body.is_end_stream(),
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::H1(body) => body.incoming.size_hint(),
            Kind::H2(body) => body.size_hint(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Empty => "AnswerBody(empty)",
            Kind::H1(_) | Kind::H2(_) | Kind::Other(_) => "AnswerBody",
        })
    }
}
