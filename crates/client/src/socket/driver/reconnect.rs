//! What happens when a connection is lost or none can be had: who is asked, and when.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Driver, Left};
use crate::socket::FailoverSocket;
use crate::socket::establish::{Established, Plan, establish};
use crate::socket::join::{Cause, Resumed, Task};
use crate::socket::link::{Ending, Lost};
use crate::socket::state::State;

/// How far a pause is drawn from its middle, both ways: `randomizationFactor` of Socket.IO's client. Without it all clients
/// of a server that died come back to the next one at the same time.
const JITTER: f64 = 0.5;

impl Driver {
    /// Asks the servers, all of them.
    pub(super) fn start_round(&mut self) {
        let plan = self.last.take().map_or(Plan::Round, Plan::RoundWithLast);
        self.candidate = Some(Box::pin(establish(Arc::clone(&self.setup), plan)));
        self.tell(State::Connecting);
    }

    /// The active connection is gone.
    pub(super) fn lose(&mut self, lost: Lost, now: Instant) {
        let Some(Connection { link, since, .. }) = self.active.take() else { return };
        let Lost { why, ending } = lost;
        let endpoint = link.endpoint.clone();
        self.setup.reach.lost(&endpoint);
        // It was to be a switch. All servers are asked now, that one first if it is still better.
        self.candidate = None;
        for letter in link.into_orphans(&why).into_iter().rev() {
            self.outbox.push_front(letter);
        }
        self.fail_those_that_do_not_wait(&why);
        self.leave(Left { from: endpoint.clone(), lost_at: Some(now) });
        if self.closing.is_some() {
            return;
        }
        if let Some(successor) = self.successor.take() {
            return self.promote(successor.connection, Cause::Lost, now);
        }
        self.seen.clear();
        // One that lasted is looked for again at once. One that breaks as soon as it stands, or was ended by the server's own
        // will, would be a loop without pauses, and the others come before it.
        let lasted = now.duration_since(since) >= self.setup.limits.reconnect_delay && ending != Ending::ByServer;
        let retry_in = if lasted { Duration::ZERO } else { self.pause_of(self.failures) };
        self.failures = if lasted { 0 } else { self.failures.saturating_add(1) };
        self.last = Some(endpoint.clone()).filter(|_| !lasted || ending == Ending::Silence);
        self.retry_at = now + retry_in;
        self.tell(State::Lost { endpoint, why, retry_in });
    }

    /// Nobody could be used.
    pub(super) fn handle_failed(&mut self, why: String, now: Instant) {
        if let Some(active) = &self.active {
            // It was to be a switch: the old connection goes on.
            let endpoint = active.link.endpoint.clone();
            return self.put_off_switch(endpoint, now);
        }
        let retry_in = self.pause_of(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + retry_in;
        self.tell(State::Waiting { why, retry_in });
    }

    pub(super) fn handle_established(&mut self, established: Established, now: Instant) {
        self.connections += 1;
        let Established { link, came } = established;
        let connection = Connection { number: self.connections, link, since: now };
        let (number, endpoint) = (connection.number, connection.link.endpoint.clone());
        if self.active.is_some() {
            self.succeed(connection, now);
        } else {
            self.promote(connection, Cause::Lost, now);
        }
        for arrived in came {
            self.overhear(arrived, number, endpoint.clone());
        }
    }

    /// Makes a connection the one that is used.
    pub(super) fn promote(&mut self, connection: Connection, cause: Cause, now: Instant) {
        let endpoint = connection.link.endpoint.clone();
        self.active = Some(connection);
        self.last = None;
        self.tell(State::Connected { endpoint: endpoint.clone() });
        self.catch_up(endpoint, cause, now);
    }

    /// Notes where the socket was. If the last catch-up is not done, the next one begins where that one did.
    pub(super) fn leave(&mut self, left: Left) {
        let is_open = self.catching_up.take().is_some_and(|task| !task.0.is_finished());
        if !is_open || self.left.is_none() {
            self.left = Some(left);
        }
    }

    fn catch_up(&mut self, to: url::Url, cause: Cause, now: Instant) {
        let (Some(left), Some(hook), Some(inner)) = (&self.left, &self.setup.catch_up, self.socket.upgrade()) else {
            return;
        };
        let gap = left.lost_at.map_or(Duration::ZERO, |lost_at| now.duration_since(lost_at));
        let resumed = Resumed { from: left.from.clone(), to, gap, cause, socket: FailoverSocket { inner } };
        // A task of its own: it may ask the socket, which this task serves. A panic ends it and nothing else.
        self.catching_up = Some(Task(tokio::spawn(hook(resumed))));
    }

    fn fail_those_that_do_not_wait(&mut self, why: &str) {
        let (wait, fail) = self.outbox.drain(..).partition(|letter| letter.may_wait);
        self.outbox = wait;
        fail.into_iter().for_each(|letter| letter.fail_waiting(why));
    }

    /// The pause after as many failures, drawn around its middle.
    pub(super) fn pause_of(&self, failures: u32) -> Duration {
        let limits = &self.setup.limits;
        let doubled = limits.reconnect_delay.saturating_mul(2_u32.saturating_pow(failures.min(16)));
        let middle = doubled.min(limits.reconnect_delay_max);
        middle.mul_f64(1.0 - JITTER + 2.0 * JITTER * drawn())
    }
}

/// A number from 0 to 1. Chance that no other process shares is all it takes, so the standard library's seeds will do.
fn drawn() -> f64 {
    let drawn = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(drawn >> 32).expect("32 bits are left")) / f64::from(u32::MAX)
}
