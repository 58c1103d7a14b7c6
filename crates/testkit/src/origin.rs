//! A scripted HTTP/1.1 server: for each connection and each request a script says what happens, faults included.

mod answer;
mod serve;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub(crate) use serve::end;

pub use answer::{Act, After, Answer, Body, BodyWriter, Continue, End, Greeting};

use crate::ledger::{ConnectionSeen, Ledger, RequestSeen};
use crate::wire::Head;

/// A request that has arrived, for the script to decide on.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Which request of that connection it is, counted from 0.
    pub request: usize,
    /// Its head; the body is not read yet.
    pub head: &'a Head,
}

type GreetingScript = dyn Fn(usize) -> Greeting + Send + Sync;
type RequestScript = dyn Fn(Arrival<'_>) -> Act + Send + Sync;

/// What all connections of one origin share.
pub(crate) struct Shared {
    greeting: Box<GreetingScript>,
    script: Box<RequestScript>,
    continues: Continue,
    tls: Option<TlsAcceptor>,
    ledger: Ledger,
    hang_up: Arc<watch::Sender<()>>,
}

/// Builds an [`Origin`].
pub struct OriginBuilder {
    shared: Shared,
}

impl OriginBuilder {
    /// What to do with the connection of this number (from 0), before anything is read. Default: serve it.
    #[must_use]
    pub fn greeting(mut self, greeting: impl Fn(usize) -> Greeting + Send + Sync + 'static) -> Self {
        self.shared.greeting = Box::new(greeting);
        self
    }

    /// What to do with each request. Default: answer 200 with an empty body.
    #[must_use]
    pub fn script(mut self, script: impl Fn(Arrival<'_>) -> Act + Send + Sync + 'static) -> Self {
        self.shared.script = Box::new(script);
        self
    }

    /// How `Expect: 100-continue` is met. Default: at once.
    #[must_use]
    pub fn continues(mut self, continues: Continue) -> Self {
        self.shared.continues = continues;
        self
    }

    /// Serves TLS.
    #[must_use]
    pub fn tls(mut self, acceptor: TlsAcceptor) -> Self {
        self.shared.tls = Some(acceptor);
        self
    }

    /// Starts it on a free loopback port.
    ///
    /// # Panics
    /// When no port is free. Cancel safe: nothing runs before the port is bound.
    pub async fn start(self) -> Origin {
        self.start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free"))
    }

    /// Starts it on a listener that exists, such as a [`DeadPort`](crate::DeadPort) that comes back.
    ///
    /// # Panics
    /// When the listener is not bound.
    #[must_use]
    pub fn start_on(self, listener: TcpListener) -> Origin {
        let addr = listener.local_addr().expect("the listener is bound");
        let ledger = self.shared.ledger.clone();
        let hang_up = Arc::clone(&self.shared.hang_up);
        let task = tokio::spawn(accept(listener, Arc::new(self.shared))).abort_handle();
        Origin { addr, ledger, hang_up, task }
    }
}

/// The running server. It ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    ledger: Ledger,
    hang_up: Arc<watch::Sender<()>>,
    task: AbortHandle,
}

impl Origin {
    /// One that answers every request 200 with an empty body until told otherwise.
    #[must_use]
    pub fn builder() -> OriginBuilder {
        OriginBuilder {
            shared: Shared {
                greeting: Box::new(|_| Greeting::Serve),
                script: Box::new(|_| Act::Answer(Answer::ok(""))),
                continues: Continue::AtOnce,
                tls: None,
                ledger: Ledger::default(),
                hang_up: Arc::new(watch::Sender::new(())),
            },
        }
    }

    /// One that answers every request 200 with `body`. Cancel safe.
    pub async fn answering(body: &'static str) -> Self {
        Self::scripted(move |_| Act::Answer(Answer::ok(body))).await
    }

    /// One that does with each request what `script` says. Cancel safe.
    pub async fn scripted(script: impl Fn(Arrival<'_>) -> Act + Send + Sync + 'static) -> Self {
        Self::builder().script(script).start().await
    }

    /// One that does the same with every connection, before anything is read. Cancel safe.
    pub async fn greeting(greeting: Greeting) -> Self {
        Self::builder().greeting(move |_| greeting).start().await
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `http://127.0.0.1:PORT#tag`, as `--origin` takes it.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> String {
        format!("http://{}#{tag}", self.addr)
    }

    /// What it saw; goes on counting after the origin is gone.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.ledger.accepted()
    }

    /// The connections it accepted.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionSeen> {
        self.ledger.connections()
    }

    /// The requests that came.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.ledger.requests()
    }

    /// How many requests came.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.ledger.request_count()
    }

    /// Closes (FIN) every connection there is, each as soon as it waits for its next request. Later ones are served.
    pub fn hang_up(&self) {
        self.hang_up.send_replace(());
    }
}

impl Drop for Origin {
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
                let number = shared.ledger.accept();
                connections.spawn(serve::connection(tcp, number, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
