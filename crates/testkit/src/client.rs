//! A raw client: it sends the bytes it is given and shows the bytes that came back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::socket::Socket;
use crate::tls::Authority;
use crate::wire::{Head, Wire};

/// A response as it came.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The informational heads before it (1xx other than 101).
    pub informational: Vec<Head>,
    /// Its head.
    pub head: Head,
    /// Its body, or what came of it.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came whole.
    pub complete: bool,
}

impl Response {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The gateway's own error code (`X-Handover-Error`), empty when the answer is not the gateway's.
    #[must_use]
    pub fn code(&self) -> &str {
        self.header("x-handover-error").unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection of a client.
#[derive(Debug)]
pub struct Client {
    wire: Wire<Socket>,
}

impl Client {
    /// Connects by TCP.
    ///
    /// # Panics
    /// When nobody listens there. Cancel safe.
    pub async fn connect(addr: SocketAddr) -> Self {
        let tcp = TcpStream::connect(addr).await.expect("the peer listens");
        tcp.set_nodelay(true).expect("TCP_NODELAY is allowed on every TCP socket");
        Self { wire: Wire::new(Socket::Plain(tcp)) }
    }

    /// Starts TLS inside the connection (of a tunnel, or straight to a server), trusting `authority` only.
    ///
    /// # Errors
    /// Those of the handshake. Not cancel safe: the connection is used up.
    ///
    /// # Panics
    /// When `name` is no name, when TLS runs already, or when bytes were read ahead.
    pub async fn start_tls(self, authority: &Authority, name: &str) -> io::Result<Self> {
        let (Socket::Plain(tcp), rest) = self.wire.into_parts() else { panic!("TLS inside TLS is not built here") };
        assert!(rest.is_empty(), "bytes before the handshake: {rest:?}");
        let name = name.to_owned().try_into().expect("the test gives a valid name");
        let tls = authority.connector(&[]).connect(name, tcp).await?;
        Ok(Self { wire: Wire::new(Socket::Tls(Box::new(tls.into()))) })
    }

    /// Sends bytes as they are. Not cancel safe: a part may have been written.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.io.write_all(bytes.as_ref()).await?;
        self.wire.io.flush().await
    }

    /// Sends a request as it is and reads the answer to its method. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket while reading; a failed write is passed over, as the answer may be there already.
    pub async fn request(&mut self, request: impl AsRef<[u8]>) -> io::Result<Response> {
        let method = method_of(request.as_ref());
        let _ = self.send(request).await;
        self.read_response(&method).await
    }

    /// Sends one request on a connection of its own and reads the answer. Not cancel safe.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn once(addr: SocketAddr, request: impl AsRef<[u8]>) -> Response {
        Self::connect(addr).await.request(request).await.expect("an answer comes")
    }

    /// Reads the head of an answer. Cancel safe.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when the connection ends before it.
    pub async fn read_head(&mut self) -> io::Result<Head> {
        self.wire.read_head().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the answer to a request with this method. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket before the head is whole; a body that is cut short is not an error but not `complete`.
    pub async fn read_response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = Response::default();
        loop {
            let head = self.read_head().await?;
            if (100..200).contains(&head.status()) && head.status() != 101 {
                response.informational.push(head);
                continue;
            }
            response.head = head;
            break;
        }
        let framing = response.head.response_framing(method);
        let sink = |data: &[u8]| response.body.extend_from_slice(data);
        if let Ok(trailers) = self.wire.read_body(framing, u64::MAX, sink).await {
            response.trailers = trailers;
            response.complete = true;
        }
        Ok(response)
    }

    /// Reads one chunk of a chunked body, for bodies that are watched as they grow; empty at the end. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` for a bad chunk.
    pub async fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.wire.read_line().await?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let chunk = self.wire.read_exactly(size).await?;
        self.wire.read_exactly(2).await?;
        Ok(chunk.to_vec())
    }

    /// Reads exactly `length` bytes. Cancel safe.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when it ends before.
    pub async fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        Ok(self.wire.read_exactly(length).await?.to_vec())
    }

    /// Reads until the other side ends the connection. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket: a reset is `ConnectionReset`.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut all = self.wire.take_buffered().to_vec();
        self.wire.io.read_to_end(&mut all).await?;
        Ok(all)
    }

    /// Watches for `period` that nothing comes and the connection stays open: for what must not happen before its cause.
    /// Cancel safe: what comes stays to be read.
    ///
    /// # Panics
    /// When something comes.
    pub async fn stays_silent(&mut self, period: Duration) {
        if let Ok(read) = tokio::time::timeout(period, self.wire.fill()).await {
            let came = self.wire.take_buffered();
            panic!("not silent: {read:?}, {:?}", String::from_utf8_lossy(&came));
        }
    }

    /// Sends FIN; reading goes on. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.wire.io.shutdown().await
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.wire.into_parts().0.reset();
    }

    /// Sends CONNECT for `authority` with more header lines (each with its CRLF), and reads the answer. Not cancel safe.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn tunnel(&mut self, authority: &str, headers: &str) -> io::Result<Response> {
        self.request(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n")).await
    }

    /// The socket, once nothing read ahead is left.
    ///
    /// # Panics
    /// When bytes were read ahead.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        let (socket, rest) = self.wire.into_parts();
        assert!(rest.is_empty(), "read ahead: {rest:?}");
        socket
    }
}

fn method_of(request: &[u8]) -> String {
    let method: Vec<u8> = request.iter().copied().take_while(u8::is_ascii_uppercase).collect();
    String::from_utf8(method).expect("upper-case ASCII is UTF-8")
}

/// The value of `Proxy-Authorization` for this `user:password`.
#[must_use]
pub fn basic(credentials: &str) -> String {
    format!("Basic {}", base64(credentials))
}

pub(crate) fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}
