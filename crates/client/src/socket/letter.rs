//! One message on its way: what it says, how far it got, and who waits to hear what became of it.
//!
//! Caller and socket agree on its fate in one atomic step. Who gives a message up (a time limit, a dropped future) revokes it;
//! who hands it to a connection takes it. Exactly one wins, so that "not sent" is a fact and not a guess.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;
use tokio::sync::oneshot;

use super::error::SendError;
use super::protocol::Content;

const WAITS: u8 = 0;
const HANDED: u8 = 1;
const REVOKED: u8 = 2;
/// It waits to be sent again, and may have arrived the first time.
const WAITS_AGAIN: u8 = 3;

/// Why nothing is sent any more.
pub(crate) const CLOSED: &str = "the socket was closed";

/// How far a message got.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU8);

/// What giving a message up proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// No connection ever had it, and none will.
    NotSent,
    /// A connection had it.
    MaybeSent,
}

impl Gate {
    /// Takes the message for a connection; false if it was given up before.
    pub(crate) fn take(&self) -> bool {
        let take = |from| self.0.compare_exchange(from, HANDED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        take(WAITS) || take(WAITS_AGAIN)
    }

    /// Puts it back, to be taken again.
    fn put_back(&self, is_tainted: bool) {
        self.0.store(if is_tainted { WAITS_AGAIN } else { WAITS }, Ordering::Release);
    }

    /// Gives it up.
    pub(crate) fn revoke(&self) -> Revoked {
        let revoke = |from| self.0.compare_exchange(from, REVOKED, Ordering::AcqRel, Ordering::Acquire);
        match revoke(WAITS) {
            Ok(_) | Err(REVOKED) => Revoked::NotSent,
            Err(_) => {
                let _ = revoke(WAITS_AGAIN);
                Revoked::MaybeSent
            }
        }
    }
}

/// A message.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) content: Content,
    /// Whether an answer is wanted.
    pub(crate) wants_ack: bool,
    /// Whether it may be sent again after it may have arrived.
    pub(crate) is_idempotent: bool,
    /// Whether it waits for a connection if there is none.
    pub(crate) may_wait: bool,
    /// Whether a connection that is gone may have sent it.
    pub(crate) is_tainted: bool,
    pub(crate) gate: Arc<Gate>,
    pub(crate) reply: oneshot::Sender<Result<Value, SendError>>,
}

impl Letter {
    /// Whether nobody waits for it any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    /// Its connection is gone: gives it back if it may go to the next one, else tells the caller why not.
    pub(crate) fn orphaned(mut self, proven_unsent: bool, why: &str) -> Option<Self> {
        self.is_tainted |= !proven_unsent;
        if self.is_given_up() {
            return None;
        }
        if self.is_tainted && !self.is_idempotent {
            self.fail(SendError::unknown(why));
            return None;
        }
        if !self.may_wait {
            self.fail_waiting(why);
            return None;
        }
        self.gate.put_back(self.is_tainted);
        Some(self)
    }

    /// It will not be sent (again).
    pub(crate) fn fail_waiting(self, why: &str) {
        let error = self.error(why);
        self.fail(error);
    }

    /// It will not be sent (again), because the socket was closed.
    pub(crate) fn fail_closed(self) {
        let error = self.error(CLOSED).closed();
        self.fail(error);
    }

    fn error(&self, why: &str) -> SendError {
        if self.is_tainted { SendError::unknown(why) } else { SendError::not_sent(why) }
    }

    /// Tells the caller. A caller that is gone does not hear it.
    pub(crate) fn fail(self, error: SendError) {
        let _ = self.reply.send(Err(error));
    }

    /// Tells the caller that it was acknowledged, or written if no answer was wanted.
    pub(crate) fn succeed(self, answer: Value) {
        let _ = self.reply.send(Ok(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_decides_whether_a_message_is_sent() {
        let gate = Gate::default();
        assert_eq!(gate.revoke(), Revoked::NotSent);
        assert!(!gate.take(), "given up, so no connection gets it");
        let gate = Gate::default();
        assert!(gate.take());
        assert_eq!(gate.revoke(), Revoked::MaybeSent);
    }

    #[test]
    fn a_message_that_was_put_back_unsent_can_be_proven_not_sent_again() {
        let gate = Gate::default();
        assert!(gate.take());
        gate.put_back(false);
        assert_eq!(gate.revoke(), Revoked::NotSent);
    }

    #[test]
    fn a_message_that_may_have_arrived_is_never_said_to_be_not_sent() {
        let gate = Gate::default();
        assert!(gate.take());
        gate.put_back(true);
        assert_eq!(gate.revoke(), Revoked::MaybeSent);
        assert!(!gate.take(), "given up, so it is not sent again");
    }
}
