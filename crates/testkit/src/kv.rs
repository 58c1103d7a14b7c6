//! Classworks KV servers: the HTTP API that the rotation was made for, with a switch per server for each way to fail.
//!
//! Several of them share a [`KvStore`] or have one each. What is executed is counted per key, by each server and by the store,
//! so that a test can tell a write that came twice from one that was only answered twice. Not here: accounts, rate limits, the
//! server's own processing timeout, and the real-time events.

mod routes;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use tokio::sync::watch;

pub use store::KvStore;

use self::routes::{Call, error};
use crate::executions::Executions;
use crate::http_server::{HttpServer, Reply};

/// A token that may read and write.
pub const KV_TOKEN: &str = "kv-token";
/// A token that may only read.
pub const KV_READ_ONLY_TOKEN: &str = "kv-read-only-token";

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFault {
    /// This status, nothing executed.
    Status(u16),
    /// The request is executed, then answered with this status.
    ExecuteThenStatus(u16),
    /// The connection is closed, nothing executed.
    Drop,
    /// The request is executed, then the connection is closed.
    ExecuteThenDrop,
}

/// A request that reached a server.
#[derive(Clone, Debug)]
pub struct KvSeen {
    /// Method, target and headers.
    pub head: Parts,
    /// The whole body.
    pub body: Bytes,
}

#[derive(Debug, Default)]
struct Switch {
    fault: Option<KvFault>,
    delay: Duration,
    seen: Vec<KvSeen>,
}

/// What a server shares with the test.
#[derive(Clone, Debug)]
struct Shared {
    store: KvStore,
    writes: Executions,
    switch: Arc<Mutex<Switch>>,
    changed: Arc<watch::Sender<()>>,
}

impl Shared {
    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running server. It ends, with all its connections, when it is dropped.
pub struct KvServer {
    server: HttpServer,
    shared: Shared,
}

impl KvServer {
    /// Starts one over this store.
    ///
    /// # Panics
    /// When no port is free. Cancel safe: nothing runs before the port is bound.
    pub async fn start(store: &KvStore) -> Self {
        let changed = Arc::new(watch::Sender::new(()));
        let shared = Shared { store: store.clone(), writes: Executions::default(), switch: Arc::default(), changed };
        let of_server = shared.clone();
        let server = HttpServer::start(HttpServer::bind().await, move |request| {
            let shared = of_server.clone();
            Box::pin(async move { serve(request, &shared).await })
        });
        Self { server, shared }
    }

    /// Where it listens, up or down.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Answers everything with this status from now on, nothing executed.
    pub fn fail(&self, status: u16) {
        self.fault(Some(KvFault::Status(status)));
    }

    /// Fails so from now on; `None` ends it.
    pub fn fault(&self, fault: Option<KvFault>) {
        self.shared.switch().fault = fault;
    }

    /// Waits this long before anything is done with a request that comes from now on.
    pub fn delay(&self, delay: Duration) {
        self.shared.switch().delay = delay;
    }

    /// Closes the listener and every connection, what waits on them undone; the port refuses until [`up`](Self::up).
    /// Not cancel safe.
    pub async fn down(&self) {
        self.server.down().await;
    }

    /// Serves on its port again.
    pub fn up(&self) {
        self.server.up();
    }

    /// How often this server wrote or deleted each key.
    #[must_use]
    pub fn writes(&self) -> &Executions {
        &self.shared.writes
    }

    /// The requests that came, in order, failed ones included.
    #[must_use]
    pub fn requests(&self) -> Vec<KvSeen> {
        self.shared.switch().seen.clone()
    }

    /// Waits until this many requests have come, answered or not. Cancel safe.
    ///
    /// # Panics
    /// Never by itself: bound it with [`within`](crate::within).
    pub async fn until_requests(&self, count: usize) {
        let mut changed = self.shared.changed.subscribe();
        while self.shared.switch().seen.len() < count {
            changed.changed().await.expect("self holds the sender, so it cannot be gone");
        }
    }
}

async fn serve(request: Request<Bytes>, shared: &Shared) -> Reply {
    let (head, body) = request.into_parts();
    let (fault, delay) = {
        let mut switch = shared.switch();
        switch.seen.push(KvSeen { head: head.clone(), body: body.clone() });
        (switch.fault, switch.delay)
    };
    shared.changed.send_replace(());
    tokio::time::sleep(delay).await;
    let answer = || Call { head: &head, body: &body, store: &shared.store, writes: &shared.writes }.answer();
    match fault {
        None => answer(),
        Some(KvFault::Status(status)) => error(status, "服务器内部错误"),
        Some(KvFault::ExecuteThenStatus(status)) => {
            answer();
            error(status, "服务器内部错误")
        }
        Some(KvFault::Drop) => Reply::Drop,
        Some(KvFault::ExecuteThenDrop) => {
            answer();
            Reply::Drop
        }
    }
}
