//! The stream under `h2`: it writes down what passes, can be held at a point where nothing is half written, and can be
//! closed from outside at once.

use std::future::Future as _;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::book::Book;
use super::error;
use super::line::Over;
use crate::dial::Stream;
use crate::small_write;

/// Clones are the same stream.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Gone once it was closed.
    stream: Option<Stream>,
    book: Book,
    /// After the next flush nothing more is taken.
    hold: bool,
    held: bool,
    /// Why it was closed, if it was closed by us before its time.
    closed: Option<&'static str>,
    /// The socket's own error, of which `h2` passes on the kind only.
    broke: Option<Over>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        let state =
            State { stream: Some(stream), book: Book::new(), hold: false, held: false, closed: None, broke: None };
        Wire(Arc::new(Mutex::new(state)))
    }

    /// Looks at what has passed.
    pub(super) fn with_book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.lock().book)
    }

    /// From now on (or no longer), `h2` is told to wait as soon as all it has given was written and flushed. It would go on
    /// with the next frame of an upload otherwise, and a request that waits would never find the socket free.
    pub(super) fn hold(&self, on: bool) {
        let mut state = self.lock();
        (state.hold, state.held) = (on, false);
    }

    /// Whether `h2` was told to wait since it was last asked for: nobody will wake it.
    pub(super) fn was_held(&self) -> bool {
        self.lock().held
    }

    /// Closes the socket; nothing is written any more. The first reason is kept.
    pub(super) fn close(&self, why: &'static str) {
        let mut state = self.lock();
        if state.stream.take().is_some() {
            state.closed = Some(why);
        }
    }

    /// Whether nothing can be written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().stream.is_none()
    }

    /// The error that the socket ended in, if it did.
    pub(super) fn broke(&self) -> Option<Over> {
        self.lock().broke.clone()
    }

    /// What the kernel knows of an idle connection: whether it is open and nothing lies there unread.
    ///
    /// What lies there is the event loop's to read within a turn; mostly it is a GOAWAY, which comes before an end.
    pub(super) fn is_quiet(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let state = self.lock();
        let Some(stream) = &state.stream else { return false };
        let mut byte = [0u8; 1];
        let looked = recv(stream.tcp(), &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(looked, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held but I/O, after which nobody goes on with the stream.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers an error of the socket.
    fn noting<T>(&mut self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &done
            && self.broke.is_none()
        {
            self.broke = Some(error::of_io(error));
        }
        done
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        let why = self.closed.unwrap_or("the connection is closed");
        self.stream.as_mut().ok_or_else(|| io::Error::new(io::ErrorKind::BrokenPipe, why))
    }
}

/// Does it outside of tokio's cooperative budget, at whose end a socket that is free says that it is not. What seems to be stuck
/// in a socket costs the connection if it is given up then. Reads stay in the budget, so that the task does make way.
fn unbudgeted<T>(cx: &mut Context<'_>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(tokio::task::coop::unconstrained(poll_fn(poll))).poll(cx)
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let before = buf.filled().len();
        let done = Pin::new(state.stream()?).poll_read(cx, buf);
        ready!(state.noting(done))?;
        state.book.note_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let stream = state.stream()?;
        let done = unbudgeted(cx, |cx| small_write::poll_write(Pin::new(&mut *stream), cx, pieces));
        let written = state.noting(done);
        match &written {
            Poll::Ready(Ok(taken)) => state.book.note_write(pieces, *taken),
            Poll::Pending => state.book.note_write(pieces, 0),
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    /// Always: `h2` then shows all that it holds with every write, which is what the book relies on.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let stream = state.stream()?;
        let done = unbudgeted(cx, |cx| Pin::new(&mut *stream).poll_flush(cx));
        ready!(state.noting(done))?;
        state.book.note_flushed();
        if state.hold {
            state.held = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        Pin::new(state.stream()?).poll_shutdown(cx)
    }
}
