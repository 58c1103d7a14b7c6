//! The connection a dial ends in: plain, TLS, or TLS inside TLS, over a socket that counts what it accepted.
//!
//! The count is the evidence that a request was not sent, and it is taken on the raw socket, below every TLS layer: a TLS
//! stream may report an error after whole records of what it was given have left, so a count above it proves nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Reads the count of a connection that something else owns by now.
#[derive(Clone, Debug)]
pub struct RawCounter(Arc<AtomicU64>);

impl RawCounter {
    /// Bytes that the raw socket has accepted since it was opened, handshakes included.
    ///
    /// Exact when read on the thread that writes; from another thread it may lag.
    pub fn written(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A TCP connection that counts the bytes its socket accepts.
#[derive(Debug)]
pub struct CountedTcp {
    tcp: TcpStream,
    // Shared and atomic because an HTTP connection swallows the stream and wants it `Send`; one thread writes, and a relaxed
    // load and store of its own cache line costs it nothing.
    written: Arc<AtomicU64>,
}

impl CountedTcp {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, written: Arc::new(AtomicU64::new(0)) }
    }

    fn count(&self, accepted: usize) {
        let before = self.written.load(Ordering::Relaxed);
        self.written.store(before + accepted as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for CountedTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let accepted = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.count(accepted);
        Poll::Ready(Ok(accepted))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let accepted = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs))?;
        self.count(accepted);
        Poll::Ready(Ok(accepted))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A connection to a target, through whatever the node put between.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(CountedTcp),
    /// TLS over TCP: with the target, or with an `https` node that carries plain bytes.
    Tls(Box<TlsStream<CountedTcp>>),
    /// TLS with the target inside the TLS of an `https` node.
    TlsInTls(Box<TlsStream<TlsStream<CountedTcp>>>),
}

impl Stream {
    /// Bytes that the raw socket has accepted since it was opened, below all TLS, handshakes included.
    pub fn written_raw(&self) -> u64 {
        self.counted().written.load(Ordering::Relaxed)
    }

    /// A handle to [`written_raw`](Self::written_raw), for when something else owns the stream.
    pub fn raw_counter(&self) -> RawCounter {
        RawCounter(Arc::clone(&self.counted().written))
    }

    /// Whether the target chose HTTP/2 in the TLS handshake.
    pub fn is_http2(&self) -> bool {
        let alpn = match self {
            Self::Tcp(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
            Self::TlsInTls(tls) => tls.get_ref().1.alpn_protocol(),
        };
        alpn == Some(b"h2")
    }

    /// The socket, to look at it (peer, peeking for its end). Writing to it would corrupt a TLS stream and is not counted.
    pub fn tcp(&self) -> &TcpStream {
        &self.counted().tcp
    }

    /// The bare socket, if there is no TLS on it: what is written to it from here on is not counted.
    ///
    /// # Errors
    /// Gives the stream back if it is TLS.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self {
            Self::Tcp(counted) => Ok(counted.tcp),
            tls => Err(tls),
        }
    }

    fn counted(&self) -> &CountedTcp {
        match self {
            Self::Tcp(counted) => counted,
            Self::Tls(tls) => tls.get_ref().0,
            Self::TlsInTls(tls) => tls.get_ref().0.get_ref().0,
        }
    }
}

/// Calls the same method on whatever the stream is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::TlsInTls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}
