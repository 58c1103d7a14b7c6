//! A server that reads and writes single HTTP/2 frames: what a well-kept implementation refuses to do, by script.
//!
//! It says which frames reached it and in which order, so that a test can claim that not one byte of a stream came after some
//! point; it can lie about the last stream it will serve, refuse any stream, stop reading, and end at any frame. Header blocks
//! are not decoded. Flow control is opened wide at the start, so that a client that is not read from waits for the socket only.

pub mod frame;
mod serve;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use frame::FrameSeen;

use crate::gate::Gate;
use crate::origin::End;

/// What a raw server does.
#[derive(Clone, Debug)]
pub enum RawAct {
    /// Writes these bytes as they are: one frame or several of [`frame`].
    Write(Bytes),
    /// Reads nothing more from the connection until the gate opens.
    StopReading(Gate),
    /// Ends the connection; what follows is dropped.
    End(End),
}

/// What came on one connection.
#[derive(Debug)]
struct Seen {
    frames: Vec<FrameSeen>,
    ended: bool,
    acts: mpsc::UnboundedSender<Vec<RawAct>>,
}

/// What the connections write down and the test reads.
#[derive(Clone, Debug)]
struct Book {
    connections: Arc<Mutex<Vec<Seen>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Book {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<Seen>) -> T) -> T {
        look(&mut self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Seen>)) {
        self.with(change);
        self.changed.send_replace(());
    }
}

type Script = dyn Fn(&FrameSeen) -> Vec<RawAct> + Send + Sync;

struct Shared {
    script: Box<Script>,
    tls: Option<TlsAcceptor>,
    unread: Option<Gate>,
    book: Book,
}

/// Builds a [`RawH2`].
pub struct RawH2Builder {
    script: Box<Script>,
    tls: Option<TlsAcceptor>,
    unread: Option<Gate>,
    receive_buffer_bytes: Option<usize>,
}

impl RawH2Builder {
    /// What to do after each frame; SETTINGS and PING are acknowledged before it is asked. Default: every request is answered
    /// 200 once it is whole.
    #[must_use]
    pub fn script(mut self, script: impl Fn(&FrameSeen) -> Vec<RawAct> + Send + Sync + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// Serves TLS; the acceptor should offer `h2` by ALPN.
    #[must_use]
    pub fn tls(mut self, acceptor: TlsAcceptor) -> Self {
        self.tls = Some(acceptor);
        self
    }

    /// Not one byte is read from any connection (but for a TLS handshake) until the gate opens.
    #[must_use]
    pub fn unread_until(mut self, gate: &Gate) -> Self {
        self.unread = Some(gate.clone());
        self
    }

    /// The socket's receive buffer (`SO_RCVBUF`, of which the kernel makes at least 2304 bytes), so that a client that is not
    /// read from soon has to wait.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Starts it on a free loopback port.
    ///
    /// # Panics
    /// When no port is free. Cancel safe: nothing runs before the port is bound.
    pub async fn start(self) -> RawH2 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        if let Some(bytes) = self.receive_buffer_bytes {
            // Accepted sockets inherit it, and the window of the handshake is computed from it (tcp(7)).
            SockRef::from(&listener).set_recv_buffer_size(bytes).expect("every socket has a receive buffer");
        }
        let addr = listener.local_addr().expect("the listener is bound");
        let book = Book { connections: Arc::default(), changed: Arc::new(watch::Sender::new(())) };
        let secure = self.tls.is_some();
        let shared = Shared { script: self.script, tls: self.tls, unread: self.unread, book: book.clone() };
        let task = tokio::spawn(accept(listener, Arc::new(shared))).abort_handle();
        RawH2 { addr, secure, book, task }
    }
}

/// The running server. It ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct RawH2 {
    addr: SocketAddr,
    secure: bool,
    book: Book,
    task: AbortHandle,
}

impl RawH2 {
    /// One that answers every request 200 with an empty body until told otherwise.
    #[must_use]
    pub fn builder() -> RawH2Builder {
        let script = |seen: &FrameSeen| match seen.ends_request() {
            true => vec![RawAct::Write(frame::answer(seen.stream))],
            false => Vec::new(),
        };
        RawH2Builder { script: Box::new(script), tls: None, unread: None, receive_buffer_bytes: None }
    }

    /// One without TLS (prior knowledge) that does after each frame what `script` says. Cancel safe.
    pub async fn scripted(script: impl Fn(&FrameSeen) -> Vec<RawAct> + Send + Sync + 'static) -> Self {
        Self::builder().script(script).start().await
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, or `https://127.0.0.1:PORT` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.addr)
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.book.with(|connections| connections.len())
    }

    /// Every frame that came, connection by connection, each in the order of the wire.
    #[must_use]
    pub fn frames(&self) -> Vec<FrameSeen> {
        self.book.with(|connections| connections.iter().flat_map(|seen| seen.frames.clone()).collect())
    }

    /// The HEADERS and DATA frames of one stream, in order.
    #[must_use]
    pub fn of_stream(&self, connection: usize, stream: u32) -> Vec<FrameSeen> {
        let of = |seen: &FrameSeen| seen.connection == connection && seen.stream == stream && seen.is_of_request();
        self.frames().into_iter().filter(of).collect()
    }

    /// How many requests arrived whole.
    #[must_use]
    pub fn whole_requests(&self) -> usize {
        self.frames().iter().filter(|seen| seen.ends_request()).count()
    }

    /// Whether the connection of this number (from 0) is over, ended by the client or by the script.
    #[must_use]
    pub fn ended(&self, connection: usize) -> bool {
        self.book.with(|connections| connections.get(connection).is_some_and(|seen| seen.ended))
    }

    /// Does this on the connection of this number (from 0) now, beside what the script says.
    ///
    /// # Panics
    /// When there is no such connection yet.
    pub fn perform(&self, connection: usize, acts: impl Into<Vec<RawAct>>) {
        // The connection may be gone, which is what some tests are about; they see it at the other end.
        let _ = self.book.with(|connections| connections[connection].acts.send(acts.into()));
    }

    /// Waits until `holds` is true of this server. Cancel safe.
    ///
    /// # Panics
    /// Never by itself: bound it with [`within`](crate::within).
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.book.changed.subscribe();
        while !holds(self) {
            changed.changed().await.expect("self holds the sender, so it cannot be gone");
        }
    }
}

impl Drop for RawH2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { return };
                let (acts, asked) = mpsc::unbounded_channel();
                let number = shared.book.with(|connections| connections.len());
                shared.book.change(|all| all.push(Seen { frames: Vec::new(), ended: false, acts }));
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _ = serve::connection(tcp, number, &shared, asked).await;
                    shared.book.change(|all| all[number].ended = true);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
