//! The write gate: decides, in one atomic step, whether a request was written or given up before its first byte.
//!
//! It stands directly under hyper and above TLS, on every connection to a node. hyper may flush a request later that was
//! dropped with nothing written (measured: the whole POST arrived at the server), so "nothing was written yet" proves
//! nothing by itself. The gate makes it a proof: the first write and the one who gives the request up race for one atomic,
//! and exactly one of them wins. What the *raw* socket took, below TLS, is counted by the stream itself
//! ([`Stream::written_raw`]); a counter above TLS would be unsound, since a TLS stream can report an error after whole records left.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dial::Stream;
use crate::small_write;

// 0, the default: no request is in hand (an idle connection).
/// A request was handed over and may be written.
const OPEN: u8 = 1;
/// The first write of the request was begun.
const WRITTEN: u8 = 2;
/// The request was given up first: nothing of it can be written any more.
const REVOKED: u8 = 3;

/// The request was written in part and answered, and then given up: what is left of it waits for ever.
const SEALED: u8 = 4;

/// The state of one connection's current request.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicU8,
    /// The next read asks the kernel itself, whatever the event loop has heard so far.
    probe: AtomicBool,
    /// Bytes of HTTP read so far.
    read_bytes: AtomicU64,
}

impl Gate {
    /// A request is being handed over. Only called while no request is in flight on the connection.
    pub(crate) fn open(&self) {
        self.state.store(OPEN, Ordering::Release);
    }

    /// Gives the request up. True: not a byte of it was handed to the stream, and none ever will be.
    pub(crate) fn revoke(&self) -> bool {
        match self.state.compare_exchange(OPEN, REVOKED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == REVOKED,
        }
    }

    /// Lets nothing more of the current request through, whatever was written of it before.
    pub(crate) fn seal(&self) {
        self.state.store(SEALED, Ordering::Release);
    }

    /// From now on (or no longer), reads first ask the kernel whether the peer has closed.
    ///
    /// An idle connection's FIN or RST may lie in the kernel before the event loop has told of it; a request written then is
    /// lost with its fate unknown. Looking first costs one system call and leaves the request unsent.
    pub(crate) fn probe(&self, on: bool) {
        self.probe.store(on, Ordering::Relaxed);
    }

    /// Bytes of HTTP read from the node over the connection's life.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Whether the first write of the request was begun.
    #[cfg(test)]
    pub(crate) fn is_written(&self) -> bool {
        self.state.load(Ordering::Acquire) == WRITTEN
    }

    /// Asks to write. False: the request was given up, the connection must die.
    fn pass(&self) -> bool {
        // The common case is a further write of the same request: one load, no read-modify-write.
        if self.state.load(Ordering::Acquire) == WRITTEN {
            return true;
        }
        match self.state.compare_exchange(OPEN, WRITTEN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == WRITTEN,
        }
    }
}

/// A stream whose writes pass a gate.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    gate: Arc<Gate>,
}

impl Wire {
    pub(crate) fn new(stream: Stream, gate: Arc<Gate>) -> Self {
        Wire { stream, gate }
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// What the kernel knows of an idle connection: `Err` if it broke, `Ok(false)` if the peer has closed it or spoken
    /// unasked.
    fn is_alive(&self) -> io::Result<bool> {
        use rustix::net::{RecvFlags, recv};
        let mut byte = [0u8; 1];
        match recv(self.stream.tcp(), &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            // The end, or bytes that nobody asked for: a 408 before a close, say. It must not become the next answer.
            Ok(_) => Ok(false),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether a write may go on. One that is sealed off waits, without a waker: the answer can still be read meanwhile, which
    /// an error would end, and nobody comes to wake it.
    fn check(&self) -> Poll<io::Result<()>> {
        if self.gate.pass() {
            return Poll::Ready(Ok(()));
        }
        if self.gate.state.load(Ordering::Acquire) == SEALED {
            return Poll::Pending;
        }
        let error = io::Error::new(io::ErrorKind::BrokenPipe, "the request was given up before its first byte");
        Poll::Ready(Err(error))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gate.probe.load(Ordering::Relaxed) && !self.is_alive()? {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        // Only this side adds: a load and a store, no read-modify-write.
        let total = self.gate.read_bytes() + (buf.filled().len() - before) as u64;
        self.gate.read_bytes.store(total, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.check())?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.check())?;
        small_write::poll_write(Pin::new(&mut self.stream), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_writer_and_giver_up_wins() {
        let gate = Gate::default();
        assert!(!gate.pass(), "an idle connection has nothing to write");
        gate.open();
        assert!(gate.pass() && gate.is_written());
        assert!(!gate.revoke(), "written first: no proof");
        assert!(gate.pass(), "and the request goes on");
        gate.open();
        assert!(gate.revoke());
        assert!(!gate.pass() && !gate.is_written(), "revoked first: nothing passes any more");
        assert!(gate.revoke(), "giving up twice says the same");
    }

    #[test]
    fn under_contention_the_two_sides_never_both_win() {
        for _ in 0..500 {
            let gate = Arc::new(Gate::default());
            gate.open();
            let other = gate.clone();
            let writer = std::thread::spawn(move || other.pass());
            let revoked = gate.revoke();
            let written = writer.join().expect("the writer does not panic");
            assert!(written != revoked, "written {written}, revoked {revoked}");
        }
    }
}
