//! Connections to one endpoint that rest between requests.
//!
//! Nobody drives a resting HTTP/1 connection: that the peer has closed it is found out when it is taken, by asking the
//! kernel, before a byte of the next request is written. What is used last is taken first; it is the likeliest to be alive.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handover_wire::conn::Conn;

use crate::body::SentBody;

/// An HTTP/1.1 connection.
pub(crate) type H1 = Box<Conn<SentBody>>;

/// Resting connections of one endpoint.
pub(crate) struct Pool {
    idle: Mutex<Vec<H1>>,
    idle_max: usize,
    idle_timeout: Duration,
}

impl Pool {
    pub(crate) fn new(idle_max: usize, idle_timeout: Duration) -> Self {
        Self { idle: Mutex::default(), idle_max, idle_timeout }
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

    /// Drops all of them.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut *self.idle());
        drop(gone);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<H1>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
