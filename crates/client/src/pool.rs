//! Connections to one endpoint that rest between requests, and those of HTTP/2, which many requests share.
//!
//! Nobody drives a resting HTTP/1 connection: that the peer has closed it is found out when it is taken, by asking the
//! kernel, before a byte of the next request is written. What is used last is taken first; it is the likeliest to be alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handover_wire::conn::Conn;
use handover_wire::h2::H2Conn;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::body::SentBody;

/// An HTTP/1.1 connection.
pub(crate) type H1 = Box<Conn<SentBody>>;

/// An HTTP/2 connection.
pub(crate) type H2 = H2Conn<SentBody>;

/// Connections of one endpoint.
pub(crate) struct Pool {
    idle: Mutex<Vec<H1>>,
    shared: Mutex<Vec<H2>>,
    /// Whether the endpoint has chosen HTTP/2 before.
    speaks_h2: AtomicBool,
    /// One dial at a time where all requests can share what comes of it.
    dialing: Semaphore,
    idle_max: usize,
    idle_timeout: Duration,
}

impl Pool {
    pub(crate) fn new(idle_max: usize, idle_timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            shared: Mutex::default(),
            speaks_h2: AtomicBool::new(false),
            dialing: Semaphore::new(1),
            idle_max,
            idle_timeout,
        }
    }

    /// Takes a connection that is alive; `careful` asks the kernel even if it rested for a moment only.
    pub(crate) fn take(&self, careful: bool) -> Option<H1> {
        let now = Instant::now();
        loop {
            let mut conn = self.idle().pop()?;
            if conn.rested(now) < self.idle_timeout && conn.is_reusable(now, careful) {
                return Some(conn);
            }
        }
    }

    /// A connection that a further request can share.
    pub(crate) fn share(&self) -> Option<H2> {
        if !self.speaks_h2() {
            return None;
        }
        let is_spent = |conn: &H2| conn.idle_since().is_some_and(|since| since.elapsed() >= self.idle_timeout);
        let mut shared = self.shared();
        shared.retain(|conn| !is_spent(conn) && (conn.is_usable() || conn.in_flight() > 0));
        shared.iter().find(|conn| conn.is_usable()).cloned()
    }

    /// Keeps a connection for others to share.
    pub(crate) fn put_shared(&self, conn: H2) {
        self.speaks_h2.store(true, Ordering::Relaxed);
        self.shared().push(conn);
    }

    /// Whether the endpoint has chosen HTTP/2 before.
    pub(crate) fn speaks_h2(&self) -> bool {
        self.speaks_h2.load(Ordering::Relaxed)
    }

    /// The right to dial where others wait for what comes of it. Cancel safe.
    pub(crate) async fn turn_to_dial(&self) -> Option<SemaphorePermit<'_>> {
        self.dialing.acquire().await.ok()
    }

    /// Keeps a connection for the next request; the one that rested longest goes where there are too many.
    pub(crate) fn put(&self, mut conn: H1) {
        let now = Instant::now();
        conn.rest(now);
        let mut idle = self.idle();
        let expired = idle.iter().take_while(|conn| conn.rested(now) >= self.idle_timeout).count();
        let surplus = (idle.len() + 1).saturating_sub(self.idle_max).min(idle.len());
        let gone: Vec<_> = idle.drain(..expired.max(surplus)).collect();
        if self.idle_max > 0 {
            idle.push(conn);
        }
        drop(idle);
        // Closing a socket is a system call each; nobody waits for the lock meanwhile.
        drop(gone);
    }

    /// How many connections there are that no request uses.
    pub(crate) fn idle_count(&self) -> usize {
        self.idle().len() + self.shared().iter().filter(|conn| conn.in_flight() == 0).count()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<H1>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<H2>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
