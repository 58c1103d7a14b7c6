//! The task that drives one connection: it takes requests out of the line, one moment before they are written.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::client::{Connection, SendRequest};
use bytes::Bytes;
use handover_core::Fault;
use tokio::time::Sleep;

use super::frames::STREAM_MAX;
use super::line::{Handed, Line, Over, Ticket};
use super::wire::Wire;
use super::{error, head};
use crate::dial::RawCounter;

/// About how many bytes of heads are handed over at once. What `h2` takes into its buffer of 16 KiB it offers to the socket
/// in one write; half of it leaves room for an estimate that is wrong by half.
const HEADS_BYTES: usize = 8 * 1024;

/// How long a connection that nobody uses any more may take to say goodbye. A peer that does not read would hold the socket
/// for as long as TCP tries, a quarter of an hour; a second is many round trips.
const GOODBYE: Duration = Duration::from_secs(1);

/// One connection, shared by its handles, its requests and its task.
pub(super) struct Shared {
    driver: Mutex<Driver>,
    pub(super) line: Line,
    pub(super) wire: Wire,
    pub(super) raw: RawCounter,
    /// Whether a request that names no scheme is one of `https`.
    pub(super) secure: bool,
    pub(super) busy: Mutex<Busy>,
    /// How many streams the peer allows at once.
    pub(super) streams_max: AtomicUsize,
    /// The highest stream that was opened.
    pub(super) highest: AtomicU32,
    /// How much had been read when a request was last given up for want of any word; [`u64::MAX`]: never.
    pub(super) silent_at: AtomicU64,
}

/// Requests under way.
pub(super) struct Busy {
    pub(super) requests: usize,
    pub(super) idle_since: Instant,
}

/// The connection itself. Whoever holds it sees `h2` at rest: everything it has taken in was offered to the wire.
pub(super) struct Driver {
    http: Option<Connection<Wire, Bytes>>,
    sender: Option<SendRequest<Bytes>>,
    /// Handed to `h2` and not yet taken by the socket.
    handed: Vec<(Arc<Ticket>, Handed)>,
}

impl Driver {
    pub(super) fn new(http: Connection<Wire, Bytes>, sender: SendRequest<Bytes>) -> Self {
        Driver { http: Some(http), sender: Some(sender), handed: Vec::new() }
    }

    /// Takes a request back that was handed over and not yet taken by the socket.
    pub(super) fn take_back(&mut self, ticket: &Arc<Ticket>) -> Option<Handed> {
        let at = self.handed.iter().position(|(other, _)| Arc::ptr_eq(other, ticket))?;
        Some(self.handed.swap_remove(at).1)
    }

    fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        if shared.line.is_abandoned() {
            // Without it h2 ends the connection as soon as the last stream has ended.
            self.sender = None;
        }
        let mut may_hold = true;
        loop {
            let wanted = may_hold && self.can_take(shared);
            shared.wire.hold(wanted);
            let Some(http) = &mut self.http else { return Poll::Ready(()) };
            if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
                let last = shared.wire.with_book(|book| book.last_stream());
                let why = shared.wire.broke().unwrap_or_else(|| error::over(result.err().as_ref(), last));
                self.end(shared, why);
                return Poll::Ready(());
            }
            let held = shared.wire.was_held();
            shared.streams_max.store(http.max_concurrent_send_streams(), Ordering::Relaxed);
            self.deliver(shared);
            if let Some(last) = shared.wire.with_book(|book| book.last_stream()) {
                shared.line.turn_away(&error::gone_away(last));
            }
            let waited_for = self.can_take(shared);
            // What is handed over now is written in this very turn.
            if waited_for && self.is_clear(shared) && self.take(shared, cx) > 0 {
                continue;
            }
            // Room that came in this turn is used in this turn: nobody wakes the task for it again.
            let came = may_hold && waited_for && !wanted;
            if !held && !came {
                return Poll::Pending;
            }
            may_hold = came;
        }
    }

    /// Whether somebody waits for whom there is room.
    fn can_take(&self, shared: &Shared) -> bool {
        shared.line.length() > 0 && self.sender.is_some() && self.room(shared) > 0
    }

    fn room(&self, shared: &Shared) -> usize {
        let most = self.http.as_ref().map_or(0, Connection::max_concurrent_send_streams);
        most.saturating_sub(shared.wire.with_book(|book| book.open_streams()))
    }

    /// Whether the socket is not blocked by earlier bytes and `h2` holds no head back.
    fn is_clear(&self, shared: &Shared) -> bool {
        let highest = shared.highest.load(Ordering::Relaxed);
        shared.wire.with_book(|book| book.is_clear(highest))
    }

    /// Hands requests over, and says how many.
    fn take(&mut self, shared: &Shared, cx: &mut Context<'_>) -> usize {
        let room = self.room(shared);
        let Some(sender) = &mut self.sender else { return 0 };
        let (mut taken, mut bytes) = (0, 0);
        while taken < room && bytes < HEADS_BYTES {
            match sender.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    shared.line.turn_away(&error::unopened(&error));
                    break;
                }
                Poll::Pending => break,
            }
            let Some(ticket) = shared.line.next() else { break };
            let Some((request, ends)) = ticket.take() else { continue };
            bytes += head::bytes(&request);
            let raw_before = shared.raw.written();
            let read_before = shared.wire.with_book(|book| book.read_bytes());
            match sender.send_request(request, ends) {
                Ok((response, send)) => {
                    let stream = send.stream_id().as_u32();
                    shared.highest.store(stream, Ordering::Relaxed);
                    self.handed.push((ticket, Handed { response, send, stream, raw_before, read_before }));
                    taken += 1;
                }
                Err(error) => ticket.settle(Err(error::unopened(&error))),
            }
        }
        taken
    }

    /// Tells those whose heads the socket has taken.
    fn deliver(&mut self, shared: &Shared) {
        let out = |handed: &Handed| shared.wire.with_book(|book| book.is_out(handed.stream));
        for (ticket, handed) in self.handed.extract_if(.., |(_, handed)| out(handed)) {
            ticket.settle(Ok(handed));
        }
    }

    /// The connection is over. Nothing can be written from here on, so what the counters say is final.
    fn end(&mut self, shared: &Shared, why: Over) {
        shared.wire.close("the connection is over");
        shared.line.close(&why);
        (self.http, self.sender) = (None, None);
        for (ticket, handed) in self.handed.drain(..) {
            ticket.settle(Ok(handed));
        }
    }
}

impl Shared {
    pub(super) fn new(driver: Driver, wire: Wire, raw: RawCounter, secure: bool) -> Self {
        Shared {
            driver: Mutex::new(driver),
            line: Line::default(),
            wire,
            raw,
            secure,
            busy: Mutex::new(Busy { requests: 0, idle_since: Instant::now() }),
            streams_max: AtomicUsize::new(super::STREAMS_AT_FIRST),
            highest: AtomicU32::new(0),
            silent_at: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn driver(&self) -> MutexGuard<'_, Driver> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection could give a further request a stream id and the peer's leave.
    pub(super) fn has_room(&self) -> bool {
        let requests = self.busy().requests;
        let ids_left = (STREAM_MAX - self.highest.load(Ordering::Relaxed)) / 2;
        requests < self.streams_max.load(Ordering::Relaxed) && requests < ids_left as usize
    }
}

/// The task of one connection. It ends with the connection.
pub(super) struct Task {
    shared: Arc<Shared>,
    goodbye: Option<Pin<Box<Sleep>>>,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Task { shared, goodbye: None }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        shared.line.attend(cx);
        if shared.driver().poll(&shared, cx).is_ready() {
            return Poll::Ready(());
        }
        if !shared.line.is_abandoned() || shared.busy().requests > 0 {
            return Poll::Pending;
        }
        let goodbye = self.goodbye.get_or_insert_with(|| Box::pin(tokio::time::sleep(GOODBYE)));
        goodbye.as_mut().poll(cx)
    }
}

impl Drop for Task {
    /// Also when the runtime ends before the connection.
    fn drop(&mut self) {
        let why = Over { fault: Fault::Closed, errno: None, text: "the connection was closed".to_owned() };
        self.shared.driver().end(&self.shared, why);
    }
}
