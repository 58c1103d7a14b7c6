//! A scripted HTTP/2 server that keeps the protocol: for each request a script says what happens, and every execution is counted
//! by its id. What breaks the protocol, or needs a frame of the test's own, is [`RawH2`](crate::RawH2)'s.

mod act;
mod serve;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use act::{H2Act, H2Answer, Leave};

use crate::executions::Executions;

/// A request that has arrived, for the script to decide on.
#[derive(Clone, Copy, Debug)]
pub struct H2Arrival<'a> {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Which request of the whole origin it is, counted from 0.
    pub request: usize,
    /// Its stream.
    pub stream: u32,
    /// What the header block said; the body is not read yet.
    pub head: &'a Parts,
}

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub struct H2Seen {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Its stream.
    pub stream: u32,
    /// What the header block said.
    pub head: Parts,
    /// The body as far as it was read.
    pub body: Vec<u8>,
    /// Whether the body was read to its end.
    pub complete: bool,
}

type Script = dyn Fn(H2Arrival<'_>) -> H2Act + Send + Sync;

/// What all connections of one origin share.
struct Shared {
    script: Box<Script>,
    tls: Option<TlsAcceptor>,
    book: Book,
    leave: Arc<watch::Sender<Option<Leave>>>,
}

/// What the connections write down and the test reads.
#[derive(Clone, Debug, Default)]
struct Book {
    executions: Executions,
    requests: Arc<Mutex<Vec<H2Seen>>>,
    accepted: Arc<Mutex<usize>>,
}

impl Book {
    fn accept(&self) -> usize {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        *accepted += 1;
        *accepted - 1
    }

    fn requests<T>(&self, look: impl FnOnce(&mut Vec<H2Seen>) -> T) -> T {
        look(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Builds an [`H2Origin`].
pub struct H2OriginBuilder {
    script: Box<Script>,
    tls: Option<TlsAcceptor>,
    executions: Executions,
}

impl H2OriginBuilder {
    /// What to do with each request. Default: answer 200 with an empty body.
    #[must_use]
    pub fn script(mut self, script: impl Fn(H2Arrival<'_>) -> H2Act + Send + Sync + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// Serves TLS; the acceptor should offer `h2` by ALPN.
    #[must_use]
    pub fn tls(mut self, acceptor: TlsAcceptor) -> Self {
        self.tls = Some(acceptor);
        self
    }

    /// Counts executions in a book that other servers share.
    #[must_use]
    pub fn executions(mut self, executions: &Executions) -> Self {
        self.executions = executions.clone();
        self
    }

    /// Starts it on a free loopback port.
    ///
    /// # Panics
    /// When no port is free. Cancel safe: nothing runs before the port is bound.
    pub async fn start(self) -> H2Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let addr = listener.local_addr().expect("the listener is bound");
        let book = Book { executions: self.executions, ..Book::default() };
        let leave = Arc::new(watch::Sender::new(None));
        let secure = self.tls.is_some();
        let shared = Shared { script: self.script, tls: self.tls, book: book.clone(), leave: Arc::clone(&leave) };
        let task = tokio::spawn(accept(listener, Arc::new(shared))).abort_handle();
        H2Origin { addr, secure, book, leave, task }
    }
}

/// The running server. It ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct H2Origin {
    addr: SocketAddr,
    secure: bool,
    book: Book,
    leave: Arc<watch::Sender<Option<Leave>>>,
    task: AbortHandle,
}

impl H2Origin {
    /// One that answers every request 200 with an empty body until told otherwise.
    #[must_use]
    pub fn builder() -> H2OriginBuilder {
        let script = Box::new(|_: H2Arrival<'_>| H2Act::Answer(H2Answer::ok("")));
        H2OriginBuilder { script, tls: None, executions: Executions::default() }
    }

    /// One without TLS (prior knowledge) that does with each request what `script` says. Cancel safe.
    pub async fn scripted(script: impl Fn(H2Arrival<'_>) -> H2Act + Send + Sync + 'static) -> Self {
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

    /// How often each request was executed, by its header `x-id`, or by its path when it has none.
    #[must_use]
    pub fn executions(&self) -> &Executions {
        &self.book.executions
    }

    /// The requests that came, in order, executed or not.
    #[must_use]
    pub fn requests(&self) -> Vec<H2Seen> {
        self.book.requests(|requests| requests.clone())
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        *self.book.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every connection there is leave in this way. Later ones are served.
    pub fn leave(&self, leave: Leave) {
        self.leave.send_replace(Some(leave));
    }
}

impl Drop for H2Origin {
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
                let number = shared.book.accept();
                connections.spawn(serve::connection(tcp, number, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
