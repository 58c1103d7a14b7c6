//! What carries frames: a WebSocket, or polling. Both say afterwards what may have left.

mod polling;
mod websocket;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use polling::Polling;
pub(crate) use websocket::WebSocket;

use super::frame::Frame;

/// Why a connection ended, in words. Never with what was said on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

/// A connection's bytes, counted where they leave.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// A handle to the count of what left, below all TLS.
    fn evidence(&self) -> Evidence;
}

/// Reads how much of a connection has left, also when the connection is gone.
///
/// The rule: what was handed over when the count was `n` has provably not left if the count is still `n` after the
/// connection was dropped. What was handed over earlier may move the count, which errs to the safe side.
#[derive(Clone)]
pub(crate) struct Evidence(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Evidence {
    pub(crate) fn new(count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    pub(crate) fn count(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence({})", self.count())
    }
}

/// Carries frames both ways. Polled by one task, which drives reading and writing at once.
pub(crate) trait Transport: Send {
    /// Ready when a frame may be handed over.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// Takes a frame, after [`poll_ready`](Self::poll_ready) was ready; several in a row belong together.
    fn start_send(&mut self, frame: Frame) -> Result<(), Broken>;

    /// Ready when all that was handed over was given to the system (a WebSocket) or answered (polling).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// The next frame that came.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Broken>>;

    /// Says goodbye and waits until the other side did too.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// What may have left.
    fn evidence(&self) -> Evidence;
}

/// A connection that was switched to the WebSocket protocol.
pub(crate) struct Switched {
    pub(crate) wire: Box<dyn Wire>,
    /// What came behind the server's head.
    pub(crate) early: Bytes,
}
