//! Connections to one endpoint that rest between requests, and those of HTTP/2, which many requests share.
//!
//! Nobody drives a resting HTTP/1 connection: that the peer has closed it is found out when it is taken, by asking the
//! kernel, before a byte of the next request is written, or by a sweep, so that a client that nobody uses keeps no dead
//! sockets. What is used last is taken first; it is the likeliest to be alive.
//!
//! A connection belongs to the runtime in which it was opened, which drives its socket and its timers. Another runtime's
//! requests do not take it: that runtime may be asleep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handover_wire::conn::Conn;
use handover_wire::h2::H2Conn;
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::body::SentBody;
use crate::endpoint::Endpoint;

/// How often what rests is looked at: half of the time that it may rest, so that nothing rests for much longer than it may;
/// not so often that it is work, nor so seldom that sockets which the peer has closed pile up.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(15);

/// Says, however the task ends, that nobody looks after the pool any more.
struct Swept(Arc<AtomicBool>);

impl Drop for Swept {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// An HTTP/1.1 connection.
pub(crate) type H1 = Box<Conn<SentBody>>;

/// An HTTP/2 connection.
pub(crate) type H2 = H2Conn<SentBody>;

/// Connections of one endpoint.
pub(crate) struct Pool {
    idle: Mutex<Vec<At<H1>>>,
    shared: Mutex<Vec<At<H2>>>,
    /// Whether the endpoint has chosen HTTP/2 before.
    speaks_h2: AtomicBool,
    /// One dial at a time where all requests can share what comes of it.
    dialing: Semaphore,
    /// Whether a task looks after what rests.
    is_swept: Arc<AtomicBool>,
    /// Ends that task with the pool.
    alive: watch::Sender<()>,
    idle_max: usize,
    idle_timeout: Duration,
}

/// A connection, and the runtime that it belongs to.
struct At<C> {
    home: Id,
    conn: C,
}

impl<C> At<C> {
    fn here(conn: C) -> Option<Self> {
        Some(Self { home: here()?, conn })
    }
}

/// The runtime that this task runs on.
fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

impl Pool {
    pub(crate) fn new(idle_max: usize, idle_timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            shared: Mutex::default(),
            speaks_h2: AtomicBool::new(false),
            dialing: Semaphore::new(1),
            is_swept: Arc::default(),
            alive: watch::Sender::new(()),
            idle_max,
            idle_timeout,
        }
    }

    /// Takes a connection that is alive; `careful` asks the kernel even if it rested for a moment only.
    pub(crate) fn take(&self, careful: bool) -> Option<H1> {
        let (now, here) = (Instant::now(), here()?);
        loop {
            let At { mut conn, .. } = {
                let mut idle = self.idle();
                let at = idle.iter().rposition(|resting| resting.home == here)?;
                idle.remove(at)
            };
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
        let here = here()?;
        let is_spent = |conn: &H2| conn.idle_since().is_some_and(|since| since.elapsed() >= self.idle_timeout);
        let mut shared = self.shared();
        shared.retain(|at| !is_spent(&at.conn) && (at.conn.is_usable() || at.conn.in_flight() > 0));
        shared.iter().find(|at| at.home == here && at.conn.is_usable()).map(|at| at.conn.clone())
    }

    /// Keeps a connection for others to share.
    pub(crate) fn put_shared(&self, conn: H2) {
        self.speaks_h2.store(true, Ordering::Relaxed);
        self.shared().extend(At::here(conn));
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
        let surplus = (idle.len() + 1).saturating_sub(self.idle_max).min(idle.len());
        let gone: Vec<_> = idle.drain(..surplus).collect();
        if self.idle_max > 0 {
            idle.extend(At::here(conn));
        }
        drop(idle);
        // Closing a socket is a system call each; nobody waits for the lock meanwhile.
        drop(gone);
    }

    /// Drops what rested for too long or is dead; true if nothing is left.
    fn sweep(&self) -> bool {
        let (now, here) = (Instant::now(), here());
        // Those of another runtime cannot be looked at from here; they go when their time is over.
        let is_alive = |at: &mut At<H1>| Some(at.home) != here || at.conn.is_reusable(now, true);
        let mut kept = std::mem::take(&mut *self.idle());
        kept.retain_mut(|at| at.conn.rested(now) < self.idle_timeout && is_alive(at));
        let mut idle = self.idle();
        // Whatever was put there meanwhile is newer.
        kept.append(&mut idle);
        *idle = kept;
        let is_spent = |conn: &H2| conn.idle_since().is_some_and(|since| since.elapsed() >= self.idle_timeout);
        let mut shared = self.shared();
        shared.retain(|at| !is_spent(&at.conn) && (at.conn.is_usable() || at.conn.in_flight() > 0));
        idle.is_empty() && shared.is_empty()
    }

    /// Has a task look after what rests, if none does.
    pub(crate) fn look_after(endpoint: &Arc<Endpoint>) {
        let pool = &endpoint.pool;
        if pool.is_swept.load(Ordering::Relaxed) || pool.is_swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let (swept, weak) = (Swept(Arc::clone(&pool.is_swept)), Arc::downgrade(endpoint));
        let mut alive = pool.alive.subscribe();
        let every = (pool.idle_timeout / 2).clamp(SWEEP_MIN, SWEEP_MAX);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _swept = swept;
                loop {
                    // Nothing is ever sent: this ends when the pool does, or when it is time to look.
                    if tokio::time::timeout(every, alive.changed()).await.is_ok() {
                        return;
                    }
                    let Some(endpoint) = weak.upgrade() else { return };
                    if endpoint.pool.sweep() {
                        return;
                    }
                }
            });
        }
    }

    /// How many connections there are that no request uses.
    pub(crate) fn idle_count(&self) -> usize {
        self.idle().len() + self.shared().iter().filter(|at| at.conn.in_flight() == 0).count()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<At<H1>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<At<H2>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
