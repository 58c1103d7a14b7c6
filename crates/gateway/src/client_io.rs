//! The client's side of a connection: a plain or TLS socket whose request heads pass the [`HeadGuard`].

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::head_guard::HeadGuard;
use crate::tunnel::End;
use handover_wire::poll_write;

/// The socket.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the sweep of idle and slow connections looks at.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// A request head has begun and is not complete.
    pub(crate) mid_head: Cell<bool>,
    /// Bytes the client has taken so far.
    pub(crate) taken: Cell<u64>,
    /// The client takes nothing more at the moment: its last write had to wait.
    pub(crate) blocked: Cell<bool>,
}

impl Activity {
    fn saw(&self, written: &Poll<io::Result<usize>>) {
        self.blocked.set(written.is_pending());
        if let Poll::Ready(Ok(n)) = written {
            self.taken.set(self.taken.get() + *n as u64);
        }
    }
}

/// The socket under the HTTP server.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: ClientStream,
    /// Bytes that were read to tell HTTP/1 from HTTP/2.
    first: Bytes,
    guard: HeadGuard,
    activity: Rc<Activity>,
}

impl ClientIo {
    pub(crate) fn new(stream: ClientStream, first: Bytes, http1: bool, activity: Rc<Activity>) -> Self {
        let mut guard = HeadGuard::default();
        if !http1 {
            guard.switch_off();
        }
        ClientIo { stream, first, guard, activity }
    }

    /// The bare socket, for a tunnel.
    pub(crate) fn into_stream(self) -> ClientStream {
        self.stream
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.first.is_empty() {
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let n = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..n]);
            this.first.advance(n);
        }
        let read = &mut buf.filled_mut()[before..];
        this.guard.check(read);
        this.activity.mid_head.set(this.guard.is_mid_head());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.saw(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = poll_write(Pin::new(&mut self.stream), cx, bufs);
        self.activity.saw(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Calls a method of whichever socket it is.
macro_rules! on_socket {
    ($self:ident, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Tcp(s) => {
                let $socket = Pin::new(s);
                $call
            }
            ClientStream::Tls(s) => {
                let $socket = Pin::new(&mut **s);
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_socket!(self, s => s.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_socket!(self, s => s.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, s => s.poll_shutdown(cx))
    }
}

impl End for ClientStream {
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            ClientStream::Tcp(stream) => Some(stream),
            ClientStream::Tls(_) => None,
        }
    }
}
