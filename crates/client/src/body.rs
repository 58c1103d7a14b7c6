//! Request bodies: none, bytes, a stream that is sent once, or one that can be produced again.
//!
//! A stream is never buffered. It lies in a slot that the connection polls through: as long as nobody polled it, the next
//! attempt gets the very same stream, whatever its size; once it was polled, the request has no further attempt.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use handover_core::BodyLeft;
use handover_wire::TrackedBody;
use http_body::{Frame, SizeHint};

/// What a body may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

type BoxBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;
type Produce = dyn Fn() -> BoxBody + Send + Sync;

/// A request's body.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    /// Sent once: it is the same slot for every attempt.
    Once(SentBody),
    Replayable(Arc<Produce>),
}

impl Body {
    /// A body that is sent as it is produced, and never kept. A further attempt is possible as long as none of it was
    /// read: when a connection is refused, the stream goes to the next endpoint intact.
    pub fn stream<S, D, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<D, E>> + Send + 'static,
        D: Into<Bytes> + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::from_http(StreamBody(Box::pin(stream)))
    }

    /// A body of the `http-body` kind that is sent once, trailers included.
    pub fn from_http<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::default();
        }
        let body = http_body_util::BodyExt::map_err(body, Into::into);
        Self(Kind::Once(SentBody::new(Source::Stream(Box::pin(body)))))
    }

    /// A body that `produce` makes anew for every attempt. Each time it must be the same, byte for byte.
    pub fn replayable<S, D, E>(produce: impl Fn() -> S + Send + Sync + 'static) -> Self
    where
        S: Stream<Item = Result<D, E>> + Send + 'static,
        D: Into<Bytes> + 'static,
        E: Into<BoxError> + 'static,
    {
        Self(Kind::Replayable(Arc::new(move || Box::pin(StreamBody(Box::pin(produce()))))))
    }

    /// As [`replayable`](Self::replayable), for a body of the `http-body` kind: its length, if it knows it, is told to the
    /// server, and its trailers are sent.
    pub fn replayable_http<B>(produce: impl Fn() -> B + Send + Sync + 'static) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Replayable(Arc::new(move || Box::pin(http_body_util::BodyExt::map_err(produce(), Into::into)))))
    }

    /// The body for one attempt.
    pub(crate) fn for_attempt(&self) -> SentBody {
        match &self.0 {
            Kind::Empty => SentBody(None),
            Kind::Bytes(bytes) => SentBody::new(Source::Bytes(bytes.clone())),
            Kind::Once(body) => body.hand_over(),
            Kind::Replayable(produce) => SentBody::new(Source::Stream(produce())),
        }
    }

    /// What is left of it for a further attempt.
    pub(crate) fn left(&self) -> BodyLeft {
        match &self.0 {
            Kind::Once(body) if body.is_polled() => BodyLeft::Consumed,
            _ => BodyLeft::Whole,
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    /// The same body for a further request, if it can be sent again.
    pub(crate) fn again(&self) -> Option<Self> {
        match &self.0 {
            Kind::Empty => Some(Self(Kind::Empty)),
            Kind::Bytes(bytes) => Some(Self(Kind::Bytes(bytes.clone()))),
            Kind::Replayable(produce) => Some(Self(Kind::Replayable(Arc::clone(produce)))),
            Kind::Once(_) => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Body(empty)"),
            Kind::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Once(_) => f.write_str("Body(stream)"),
            Kind::Replayable(_) => f.write_str("Body(replayable)"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) })
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// The body of one attempt, as a connection sees it: a handle, so that the caller can ask what became of it.
///
/// A handle serves one attempt. Once the attempt was given up, or another one has the body, it yields an error: a transport
/// that still holds it somewhere in the background can neither send the rest nor take pieces away from the next attempt.
/// Its errors have no source, so that nobody takes what a caller's stream failed with for what the connection failed with.
#[derive(Clone)]
pub struct SentBody(Option<Handle>);

#[derive(Clone)]
struct Handle {
    slot: Arc<Slot>,
    lease: u32,
}

struct Slot {
    source: Mutex<Source>,
    /// The one handle that may take out: the one with this number. Changed under the lock of `source` only, so that
    /// nothing is taken out by another handle once it has changed.
    lease: AtomicU32,
    /// Some of it was taken out.
    polled: AtomicBool,
    /// The last look at it found nothing: the caller has to produce more.
    waiting: AtomicBool,
    ended: AtomicBool,
}

enum Source {
    Bytes(Bytes),
    Stream(BoxBody),
    Ended,
    /// The caller's stream failed with this.
    Broken(String),
}

impl SentBody {
    fn new(source: Source) -> Self {
        let flag = || AtomicBool::new(false);
        let lease = AtomicU32::new(0);
        let slot = Slot { source: Mutex::new(source), lease, polled: flag(), waiting: flag(), ended: flag() };
        Self(Some(Handle { slot: Arc::new(slot), lease: 0 }))
    }

    /// The same body for the next attempt; the handles of those before it yield nothing any more.
    fn hand_over(&self) -> Self {
        Self(self.0.as_ref().map(|handle| Handle { slot: Arc::clone(&handle.slot), lease: handle.slot.next_lease() }))
    }

    /// The attempt is given up: nothing more is taken out by it.
    #[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "our own connections end with their attempt"))]
    pub(crate) fn revoke(&self) {
        if let Some(handle) = &self.0 {
            handle.slot.revoke(handle.lease);
        }
    }

    fn is_polled(&self) -> bool {
        self.0.as_ref().is_some_and(|handle| handle.slot.polled.load(Ordering::Acquire))
    }

    /// What the caller's own stream failed with, if it did.
    pub(crate) fn broken(&self) -> Option<String> {
        match &*self.0.as_ref()?.slot.source() {
            Source::Broken(why) => Some(why.clone()),
            _ => None,
        }
    }
}

impl Slot {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) || matches!(&*self.source(), Source::Stream(body) if body.is_end_stream())
    }

    fn next_lease(&self) -> u32 {
        let _held = self.source();
        self.lease.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn revoke(&self, lease: u32) {
        let _held = self.source();
        // Whoever has it now is not who gave it up.
        let _ = self.lease.compare_exchange(lease, lease + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn poll(&self, lease: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = self.source();
        if self.lease.load(Ordering::Relaxed) != lease {
            return Poll::Ready(Some(Err("the attempt that this body was for is over".into())));
        }
        let frame = match &mut *source {
            Source::Bytes(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Stream(body) => {
                self.waiting.store(true, Ordering::Relaxed);
                let frame = ready!(body.as_mut().poll_frame(cx));
                self.waiting.store(false, Ordering::Relaxed);
                frame
            }
            Source::Ended | Source::Broken(_) => None,
        };
        self.polled.store(true, Ordering::Release);
        match &frame {
            Some(Ok(_)) if !matches!(*source, Source::Bytes(_)) => {}
            Some(Err(error)) => {
                let why = in_one_line(&**error);
                *source = Source::Broken(why.clone());
                self.ended.store(true, Ordering::Release);
                return Poll::Ready(Some(Err(why.into())));
            }
            _ => {
                self.ended.store(true, Ordering::Release);
                if !matches!(*source, Source::Broken(_)) {
                    *source = Source::Ended;
                }
            }
        }
        Poll::Ready(frame)
    }
}

impl fmt::Debug for SentBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "SentBody" } else { "SentBody(empty)" })
    }
}

impl http_body::Body for SentBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &self.0 {
            Some(handle) => handle.slot.poll(handle.lease, cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|handle| handle.slot.is_ended())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(handle) = &self.0 else { return SizeHint::with_exact(0) };
        match &*handle.slot.source() {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream(body) => body.size_hint(),
            Source::Ended | Source::Broken(_) => SizeHint::with_exact(0),
        }
    }
}

impl TrackedBody for SentBody {
    fn is_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|handle| handle.slot.is_ended())
    }

    fn is_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|handle| handle.slot.waiting.load(Ordering::Relaxed))
    }

    /// An attempt has its time, however much of the body it moves.
    fn last_read(&self) -> Option<Instant> {
        None
    }
}

/// An error and its causes, in one line.
pub(crate) fn in_one_line(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many errors repeat their cause's words in their own.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// A stream of pieces as a body.
struct StreamBody<S>(Pin<Box<S>>);

impl<S, D, E> http_body::Body for StreamBody<S>
where
    S: Stream<Item = Result<D, E>>,
    D: Into<Bytes>,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = ready!(self.0.as_mut().poll_next(cx));
        Poll::Ready(piece.map(|piece| piece.map(|data| Frame::data(data.into())).map_err(Into::into)))
    }
}
