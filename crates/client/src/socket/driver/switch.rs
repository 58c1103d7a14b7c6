//! Going back to a better server: the new connection is made before the old one is given up.
//!
//! Connect and join there; give the old connection nothing more; wait until it has settled what it has; move. What it has not
//! settled in time is unknown, and not repeated unless its caller allowed that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::{Connection, Driver, Left, Successor};
use crate::socket::establish::{Plan, establish, question};
use crate::socket::join::Cause;
use crate::socket::link::Step;
use crate::socket::protocol::Arrived;
use crate::socket::state::State;

/// How often the client is asked who is better if it does not say that this changed: a grace that passed is no event. It is a
/// look at what the client knows, and sends nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the cap on going back counts over.
const MINUTE: Duration = Duration::from_secs(60);

/// The longest that nothing is due.
const NOTHING_DUE: Duration = Duration::from_secs(3600);

impl Driver {
    /// When something is to be done next if nothing happens.
    pub(super) fn next_due(&self) -> Instant {
        let now = Instant::now();
        if let Some(closing) = &self.closing {
            return closing.until;
        }
        if let Some(successor) = &self.successor {
            return successor.until;
        }
        match (&self.active, &self.candidate) {
            (Some(_), None) => {
                let ask_at = if self.asking.is_some() { now + NOTHING_DUE } else { self.ask_at };
                self.switch_at.max(self.look_at).min(ask_at)
            }
            (None, None) => self.retry_at,
            (_, Some(_)) => now + NOTHING_DUE,
        }
    }

    /// Begins to go over to a better server, if there is one.
    pub(super) fn start_switch(&mut self, now: Instant) {
        let Some(active) = &self.active else { return };
        if self.candidate.is_some() || self.successor.is_some() || now < self.switch_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let from = active.link.endpoint.clone();
        let Some(to) = self.setup.reach.better_than(&from) else { return };
        if !self.may_go_back(now) {
            return;
        }
        self.candidate = Some(Box::pin(establish(Arc::clone(&self.setup), Plan::Only(to.clone()))));
        self.tell(State::Switching { from, to });
    }

    /// Whether it went back less often than it may within the last minute.
    fn may_go_back(&mut self, now: Instant) -> bool {
        while self.switches.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.switches.pop_front();
        }
        self.switches.len() < usize::try_from(self.setup.limits.failbacks_per_minute).unwrap_or(usize::MAX)
    }

    /// Has those that would be better asked whether they are back.
    pub(super) fn start_asking(&mut self, now: Instant) {
        let Some(active) = &self.active else {
            self.asking = None;
            return;
        };
        if self.asking.is_some() || self.candidate.is_some() || self.successor.is_some() || now < self.ask_at {
            return;
        }
        self.ask_at = now + self.setup.limits.failback_check;
        self.asking = self.setup.reach.look(question(&self.setup), &active.link.endpoint);
    }

    /// The better server could not be used, or not for long.
    pub(super) fn put_off_switch(&mut self, serving: Url, now: Instant) {
        self.switch_at = now + self.pause_of(self.switch_failures);
        self.switch_failures = self.switch_failures.saturating_add(1);
        self.tell(State::Connected { endpoint: serving });
    }

    /// The new connection has joined: the old one is given nothing more from now on.
    pub(super) fn succeed(&mut self, connection: Connection, now: Instant) {
        self.successor = Some(Successor { connection, until: now + self.setup.limits.drain });
    }

    pub(super) fn handle_successor(&mut self, step: Step, now: Instant) {
        match step {
            Step::Event(arrived) => {
                if let Some(Successor { connection, .. }) = &self.successor {
                    let (number, endpoint) = (connection.number, connection.link.endpoint.clone());
                    self.overhear(arrived, number, endpoint);
                }
            }
            Step::Lost(_) => {
                if let Some(Successor { connection, .. }) = self.successor.take() {
                    self.setup.reach.lost(&connection.link.endpoint);
                }
                if let Some(active) = &self.active {
                    let serving = active.link.endpoint.clone();
                    self.put_off_switch(serving, now);
                }
            }
            Step::Opened | Step::Writable | Step::Settled => {}
        }
    }

    /// Takes an event of a connection that may not be the active one yet. Until the move, the active one brings what carries
    /// no id: nobody could know it again.
    pub(super) fn overhear(&mut self, arrived: Arrived, connection: u64, endpoint: Url) {
        let is_active = self.active.as_ref().is_some_and(|active| active.number == connection);
        if is_active || (self.setup.event_id)(&arrived.args).is_some() {
            self.deliver(arrived, connection, endpoint);
        }
    }

    /// Moves to the new connection, if the old one has settled what it has or has had its time.
    pub(super) fn finish_switch(&mut self, now: Instant) {
        let (Some(successor), Some(active)) = (&self.successor, &self.active) else { return };
        if !active.link.is_settled() && now < successor.until {
            return;
        }
        let (Some(successor), Some(mut old)) = (self.successor.take(), self.active.take()) else { return };
        let why = "the socket went over to a better server before the answer came";
        for letter in old.link.abandon(why).into_iter().rev() {
            self.outbox.push_front(letter);
        }
        self.leave(Left { from: old.link.endpoint.clone(), lost_at: None });
        self.switch_failures = 0;
        self.switches.push_back(now);
        // Bounded by itself, and nobody waits for it: the server learns that the client is gone, not that it broke.
        drop(tokio::spawn(old.link.close()));
        self.promote(successor.connection, Cause::Failback, now);
    }
}
