//! Streams for request bodies, of which a test says when they give what.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use handover_client::BoxError;

/// A piece of a body, or its failure.
pub(crate) type Piece = Result<Bytes, BoxError>;

/// A stream that asks a function.
pub(crate) struct FromFn<F>(pub(crate) F);

impl<F: FnMut() -> Option<Piece> + Unpin> Stream for FromFn<F> {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        Poll::Ready((self.0)())
    }
}

/// A stream of these pieces.
#[allow(dead_code, reason = "not every file of tests needs all of it")]
pub(crate) fn pieces(pieces: Vec<Piece>) -> impl Stream<Item = Piece> + Send {
    let mut pieces = pieces.into_iter();
    FromFn(move || pieces.next())
}

/// The pattern, so many bytes of it.
#[allow(dead_code, reason = "not every file of tests needs all of it")]
pub(crate) fn pattern(length: u64) -> impl Stream<Item = Piece> + Send {
    let mut offset = 0;
    FromFn(move || {
        let left = usize::try_from(length - offset).expect("it fits").min(64 * 1024);
        let piece = handover_testkit::pattern_at(offset, left);
        offset += piece.len() as u64;
        (!piece.is_empty()).then(|| Ok(Bytes::from_static(piece)))
    })
}
