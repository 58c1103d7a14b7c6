//! Bodies: a request body that comes back unread when it was not sent, and the body that the gateway answers with.
//!
//! The request's body is never buffered. It lies in a slot that the connection polls through; as long as nobody polled it,
//! the next attempt gets the very same body, whatever its size.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use handover_wire::TrackedBody;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::headers;
use crate::relay::Relay;

/// Errors of bodies: hyper's own, or the relay's.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Where a request's body lies between attempts.
#[derive(Debug)]
pub(crate) struct Slot {
    body: RefCell<Incoming>,
    /// Some of it was taken out: it cannot be sent whole again.
    polled: Cell<bool>,
    /// The last look at it found nothing: the client has to send more.
    waiting: Cell<bool>,
    last_read: Cell<Option<Instant>>,
    ended: Cell<bool>,
}

/// The request body as a connection sees it.
#[derive(Clone, Debug)]
pub(crate) enum RequestBody {
    /// The request has none.
    None,
    /// It is in the slot.
    Slot(Rc<Slot>),
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        if body.is_end_stream() {
            return RequestBody::None;
        }
        RequestBody::Slot(Rc::new(Slot {
            body: RefCell::new(body),
            polled: Cell::new(false),
            waiting: Cell::new(false),
            last_read: Cell::new(None),
            ended: Cell::new(false),
        }))
    }

    /// Whether a further attempt could still send all of it.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            RequestBody::None => true,
            RequestBody::Slot(slot) => !slot.polled.get(),
        }
    }
}

impl TrackedBody for RequestBody {
    fn is_ended(&self) -> bool {
        match self {
            RequestBody::None => true,
            RequestBody::Slot(slot) => slot.ended.get() || slot.body.borrow().is_end_stream(),
        }
    }

    fn is_waiting(&self) -> bool {
        match self {
            RequestBody::None => false,
            RequestBody::Slot(slot) => slot.waiting.get(),
        }
    }

    fn last_read(&self) -> Option<Instant> {
        match self {
            RequestBody::None => None,
            RequestBody::Slot(slot) => slot.last_read.get(),
        }
    }
}

/// A connection to a node, or through it to a target.
pub(crate) type NodeConn = handover_wire::conn::Conn<RequestBody>;

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let RequestBody::Slot(slot) = &*self else { return Poll::Ready(None) };
        slot.waiting.set(true);
        let frame = std::task::ready!(Pin::new(&mut *slot.body.borrow_mut()).poll_frame(cx));
        slot.waiting.set(false);
        slot.polled.set(true);
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                slot.last_read.set(Some(Instant::now()));
                Some(Ok(headers::without_forbidden_trailers(frame)))
            }
            Some(Err(e)) => Some(Err(e.into())),
            None => {
                slot.ended.set(true);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::None => true,
            RequestBody::Slot(slot) => slot.body.borrow().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::None => SizeHint::with_exact(0),
            RequestBody::Slot(slot) => slot.body.borrow().size_hint(),
        }
    }
}

/// The body of a response to the client.
pub(crate) enum ResponseBody {
    /// No body.
    Empty,
    /// The gateway's own words.
    Own(Option<Bytes>),
    /// What the node sends.
    Relay(Box<Relay>),
}

impl ResponseBody {
    pub(crate) fn text(text: &'static str) -> Self {
        ResponseBody::Own(Some(Bytes::from_static(text.as_bytes())))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Empty => Poll::Ready(None),
            ResponseBody::Own(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ResponseBody::Relay(relay) => relay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Empty => true,
            ResponseBody::Own(bytes) => bytes.is_none(),
            ResponseBody::Relay(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Empty => SizeHint::with_exact(0),
            ResponseBody::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            ResponseBody::Relay(relay) => relay.size_hint(),
        }
    }
}
