//! The line in which requests wait for their connection, each behind a gate of its own.
//!
//! The gate decides, in one atomic step, between the connection's task, which takes a request out of the line, and whoever
//! gives it up. Not a byte of a request that waits here exists anywhere else.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ::h2::SendStream;
use ::h2::client::ResponseFuture;
use bytes::Bytes;
use handover_core::Fault;
use http::Request;

/// The request waits and may be taken.
const OPEN: u8 = 0;
/// The connection has taken it: it may be written.
const TAKEN: u8 = 1;
/// It was given up first: it will never be written.
const REVOKED: u8 = 2;

/// A request that was handed to `h2`.
pub(super) struct Handed {
    pub(super) response: ResponseFuture,
    pub(super) send: SendStream<Bytes>,
    pub(super) stream: u32,
    /// What the raw socket had taken before.
    pub(super) raw_before: u64,
    /// What had been read before.
    pub(super) read_before: u64,
}

/// Why a connection takes no requests, or no longer exists.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub(super) fault: Fault,
    pub(super) errno: Option<i32>,
    pub(super) text: String,
}

/// A place in the line.
pub(super) struct Ticket {
    gate: AtomicU8,
    slot: Mutex<Slot>,
}

struct Slot {
    head: Option<(Request<()>, bool)>,
    outcome: Option<Result<Handed, Over>>,
    waker: Option<Waker>,
}

impl Ticket {
    /// For a request head, and whether there is no body.
    pub(super) fn new(head: Request<()>, ends: bool) -> Arc<Self> {
        let slot = Slot { head: Some((head, ends)), outcome: None, waker: None };
        Arc::new(Ticket { gate: AtomicU8::new(OPEN), slot: Mutex::new(slot) })
    }

    /// Takes the request, if nobody gave it up before.
    pub(super) fn take(&self) -> Option<(Request<()>, bool)> {
        self.pass(TAKEN).then(|| self.slot().head.take()).flatten()
    }

    /// Gives the request up. True: nothing of it was written, and nothing ever will be.
    pub(super) fn revoke(&self) -> bool {
        self.pass(REVOKED)
    }

    fn pass(&self, to: u8) -> bool {
        self.gate.compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Tells whoever waits that it was written, or why it will not be.
    pub(super) fn settle(&self, outcome: Result<Handed, Over>) {
        let waker = {
            let mut slot = self.slot();
            slot.outcome = Some(outcome);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for that.
    pub(super) fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<Result<Handed, Over>> {
        let mut slot = self.slot();
        match slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What was told and not looked at yet.
    pub(super) fn settled(&self) -> Option<Result<Handed, Over>> {
        self.slot().outcome.take()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of one connection.
#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tickets: VecDeque<Arc<Ticket>>,
    /// Wakes the connection's task.
    task: Option<Waker>,
    over: Option<Over>,
    abandoned: bool,
}

impl Line {
    /// Puts a request at the end of the line.
    ///
    /// # Errors
    /// Why the connection is over; nothing of the request is kept.
    pub(super) fn join(&self, ticket: &Arc<Ticket>) -> Result<(), Over> {
        let task = {
            let mut state = self.state();
            if let Some(over) = &state.over {
                return Err(over.clone());
            }
            state.tickets.push_back(Arc::clone(ticket));
            state.task.take()
        };
        wake(task);
        Ok(())
    }

    /// Leaves it again.
    pub(super) fn leave(&self, ticket: &Arc<Ticket>) {
        self.state().tickets.retain(|other| !Arc::ptr_eq(other, ticket));
    }

    /// The first of the line.
    pub(super) fn next(&self) -> Option<Arc<Ticket>> {
        self.state().tickets.pop_front()
    }

    /// How many wait.
    pub(super) fn length(&self) -> usize {
        self.state().tickets.len()
    }

    /// The connection's task begins a turn.
    pub(super) fn attend(&self, cx: &Context<'_>) {
        self.state().task = Some(cx.waker().clone());
    }

    /// Lets the connection's task have a turn.
    pub(super) fn call(&self) {
        let task = self.state().task.take();
        wake(task);
    }

    /// Nobody is left who could send a request.
    pub(super) fn abandon(&self) {
        self.state().abandoned = true;
        self.call();
    }

    /// Whether nobody is left who could send a request.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Sends everybody in the line away; nothing of theirs was written.
    pub(super) fn turn_away(&self, why: &Over) {
        let tickets = std::mem::take(&mut self.state().tickets);
        for ticket in tickets {
            if ticket.take().is_some() {
                ticket.settle(Err(why.clone()));
            }
        }
    }

    /// The connection is over: nobody may join any more.
    pub(super) fn close(&self, why: &Over) {
        self.state().over.get_or_insert_with(|| why.clone());
        self.turn_away(why);
    }

    /// Why the connection is over, if it is.
    pub(super) fn over(&self) -> Option<Over> {
        self.state().over.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Arc<Ticket> {
        Ticket::new(Request::new(()), true)
    }

    #[test]
    fn a_request_is_either_taken_or_given_up() {
        let taken = ticket();
        assert!(taken.take().is_some() && !taken.revoke(), "taken first: no proof");
        let given_up = ticket();
        assert!(given_up.revoke() && given_up.take().is_none(), "given up first: never taken");
    }

    #[test]
    fn under_contention_the_two_sides_never_both_win() {
        for _ in 0..500 {
            let ticket = ticket();
            let other = Arc::clone(&ticket);
            let taker = std::thread::spawn(move || other.take().is_some());
            let revoked = ticket.revoke();
            let taken = taker.join().expect("the taker does not panic");
            assert!(taken != revoked, "taken {taken}, revoked {revoked}");
        }
    }

    #[test]
    fn who_waits_is_sent_away_when_the_connection_is_over_and_nobody_joins_any_more() {
        let (line, ticket) = (Line::default(), ticket());
        line.join(&ticket).map_err(|over| over.text).expect("the line is open");
        let over = Over { fault: Fault::Closed, errno: None, text: "gone".to_owned() };
        line.close(&over);
        assert!(matches!(ticket.settled(), Some(Err(why)) if why.text == "gone"));
        assert!(line.join(&self::ticket()).is_err());
    }
}
