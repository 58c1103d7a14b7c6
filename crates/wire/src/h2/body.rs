//! The body of a response: it opens the peer's window as it is read, and ends its stream when it is dropped.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::RecvStream;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use super::error::{self, H2BodyError};
use super::exchange::UnderWay;
use super::upload::Rest;

/// The body of a response over HTTP/2.
///
/// Reading it gives the peer leave to send more; a reader that stops holds back this stream only, up to the window. What the
/// request's body has still to send when the head comes is sent while this is polled. A response that is over, or dropped,
/// ends the request too: what was not uploaded by then is cut off with `RST_STREAM`, and the connection lives on.
pub struct H2Body {
    live: Option<Live>,
    /// Bytes to come, where the head says so.
    length: Option<u64>,
}

struct Live {
    // The fields are dropped in this order: the stream ends before the request counts as over.
    receive: RecvStream,
    rest: Option<Box<dyn Rest>>,
    under_way: UnderWay,
}

impl H2Body {
    pub(super) fn new(
        receive: RecvStream,
        rest: Option<Box<dyn Rest>>,
        under_way: UnderWay,
        headers: &HeaderMap,
        is_head: bool,
    ) -> Self {
        let ended = receive.is_end_stream();
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = if ended || is_head { Some(0) } else { length };
        // The answer is whole and nothing is left to send: the stream is over.
        let live = (!ended || rest.is_some()).then_some(Live { receive, rest, under_way });
        H2Body { live, length }
    }

    /// The response is over, and its request with it.
    fn end(&mut self) {
        self.live = None;
        self.length = Some(0);
    }
}

impl Live {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, H2BodyError>>> {
        if let Some(rest) = &mut self.rest
            && rest.poll(cx).is_ready()
        {
            // Whether it is whole or broke: the response is what counts from here on.
            self.rest = None;
        }
        let error = match ready!(self.receive.poll_data(cx)) {
            Some(Ok(data)) => {
                // The error says that the stream is closed, which is then no matter.
                let _ = self.receive.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Some(Err(error)) => error,
            None => match ready!(self.receive.poll_trailers(cx)) {
                Ok(trailers) => return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
                Err(error) => error,
            },
        };
        let over = if error.is_io() { self.under_way.over() } else { None };
        Poll::Ready(Some(Err(over.unwrap_or_else(|| error::of(&error)).into())))
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = H2BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, H2BodyError>>> {
        let Some(live) = &mut self.live else { return Poll::Ready(None) };
        let frame = ready!(live.poll(cx));
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {
                let read = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.length = self.length.map(|length| length.saturating_sub(read));
            }
            // Nothing follows trailers, an error, or the end.
            Some(_) | None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.rest.is_none() && live.receive.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
