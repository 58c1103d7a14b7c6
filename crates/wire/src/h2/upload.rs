//! A request's body on its way: asked for no sooner than the peer has room for it, cut into what fits.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::SendStream;
use bytes::Bytes;

use crate::body::TrackedBody;

/// How much of a request's body may wait in memory for the connection, in bytes. More would ask for the body sooner than it
/// can be written, and with it give the proof away; less would let a fast connection wait for it. Two of the largest
/// windows that peers open by default (65,535 bytes, RFC 9113 §6.9.2).
pub(super) const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// What a body's error is boxed as.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// What is left to send of a body.
pub(super) struct Upload<B> {
    body: B,
    piece: Bytes,
    /// Whether nothing follows the piece.
    last: bool,
}

impl<B> Upload<B>
where
    B: TrackedBody + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B) -> Self {
        Upload { body, piece: Bytes::new(), last: false }
    }

    /// Sends what can be sent. Ready: it is all sent, or the peer wants no more of it; which of them, the response tells.
    ///
    /// # Errors
    /// The body's own.
    pub(super) fn poll(&mut self, send: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            if send.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            send.reserve_capacity(self.piece.len().clamp(1, SEND_BUFFER_BYTES));
            while send.capacity() == 0 {
                if !matches!(ready!(send.poll_capacity(cx)), Some(Ok(_))) {
                    return Poll::Ready(Ok(()));
                }
            }
            if !self.piece.is_empty() {
                let room = send.capacity().min(self.piece.len());
                let piece = self.piece.split_to(room);
                let ends = self.last && self.piece.is_empty();
                if send.send_data(piece, ends).is_err() || ends {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    // An error says that the stream is gone, which the response tells too.
                    let _ = send.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.last = self.body.is_end_stream();
                        if data.is_empty() && self.last {
                            let _ = send.send_data(data, true);
                            return Poll::Ready(Ok(()));
                        }
                        self.piece = data;
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let _ = send.send_trailers(trailers);
                        return Poll::Ready(Ok(()));
                    }
                },
            }
        }
    }

    /// Whether it waits for whoever produces the body.
    pub(super) fn is_waiting(&self) -> bool {
        self.piece.is_empty() && self.body.is_waiting()
    }
}

/// An upload that goes on behind the response's head.
pub(super) trait Rest: Send {
    /// Sends what can be sent. Ready: nothing is left to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
}

/// An upload with the stream that it goes to.
pub(super) struct Behind<B>(pub(super) Upload<B>, pub(super) SendStream<Bytes>);

impl<B> Rest for Behind<B>
where
    B: TrackedBody + Send + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll(&mut self.1, cx)
    }
}
