//! What a scripted peer saw: every connection, every byte count, every request. Tests assert on it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::pattern::is_pattern;
use crate::wire::Head;

/// Body bytes kept of each request: enough for an id and a small body; larger ones are checked against the pattern.
const BODY_KEPT_BYTES: usize = 64 * 1024;

/// One request that reached a peer.
#[derive(Clone, Debug)]
pub struct RequestSeen {
    /// Its head, byte for byte.
    pub head: Head,
    /// Body bytes that arrived so far, the chunked coding not counted.
    pub body_bytes: u64,
    /// The first 64 KiB of the body.
    pub body: Vec<u8>,
    /// Whether every body byte was the [pattern](crate::pattern_at).
    pub patterned: bool,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether the body arrived whole.
    pub complete: bool,
}

impl RequestSeen {
    fn new(head: Head) -> Self {
        Self { head, body_bytes: 0, body: Vec::new(), patterned: true, trailers: Vec::new(), complete: false }
    }

    fn feed(&mut self, data: &[u8]) {
        self.patterned &= is_pattern(self.body_bytes, data);
        self.body_bytes += data.len() as u64;
        let room = BODY_KEPT_BYTES.saturating_sub(self.body.len());
        self.body.extend_from_slice(&data[..data.len().min(room)]);
    }
}

/// One connection that a peer accepted.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSeen {
    /// Bytes behind the heads and bodies that belong to a tunnel, a WebSocket or nothing.
    pub raw: Vec<u8>,
    /// The requests on it, in order.
    pub requests: Vec<RequestSeen>,
    /// Whether the other side ended it (FIN or RST) or the script did.
    pub ended: bool,
}

/// What one peer saw, shared between its connections and the test.
#[derive(Clone, Debug)]
pub struct Ledger {
    connections: Arc<Mutex<Vec<ConnectionSeen>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { connections: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }
}

impl Ledger {
    /// The connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionSeen> {
        self.with(|connections| connections.clone())
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.with(|connections| connections.len())
    }

    /// Every request, over all connections.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.with(|connections| connections.iter().flat_map(|c| c.requests.clone()).collect())
    }

    /// How many requests came, over all connections.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.with(|connections| connections.iter().map(|c| c.requests.len()).sum())
    }

    /// Waits until `holds` is true of the connections. Cancel safe.
    ///
    /// # Panics
    /// Never by itself: bound it with [`within`](crate::within).
    pub async fn until(&self, holds: impl Fn(&[ConnectionSeen]) -> bool) {
        let mut changed = self.changed.subscribe();
        while !self.with(|connections| holds(connections)) {
            changed.changed().await.expect("self holds the sender, so it cannot be gone");
        }
    }

    pub(crate) fn accept(&self) -> usize {
        self.change(|connections| {
            connections.push(ConnectionSeen::default());
            connections.len() - 1
        })
    }

    pub(crate) fn request(&self, connection: usize, head: Head) -> usize {
        self.change(|connections| {
            let requests = &mut connections[connection].requests;
            requests.push(RequestSeen::new(head));
            requests.len() - 1
        })
    }

    pub(crate) fn body(&self, connection: usize, request: usize, data: &[u8]) {
        self.change(|connections| connections[connection].requests[request].feed(data));
    }

    pub(crate) fn complete(&self, connection: usize, request: usize, trailers: Vec<(String, String)>) {
        self.change(|connections| {
            let seen = &mut connections[connection].requests[request];
            seen.trailers = trailers;
            seen.complete = true;
        });
    }

    pub(crate) fn raw(&self, connection: usize, data: &[u8]) {
        self.change(|connections| connections[connection].raw.extend_from_slice(data));
    }

    pub(crate) fn ended(&self, connection: usize) {
        self.change(|connections| connections[connection].ended = true);
    }

    fn with<T>(&self, look: impl FnOnce(&Vec<ConnectionSeen>) -> T) -> T {
        look(&self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<ConnectionSeen>) -> T) -> T {
        let value = change(&mut self.connections.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
        value
    }
}
