//! What is remembered of endpoints between requests: which of them get traffic, and when it goes back to a better one.
//!
//! A [`Circuit`] per endpoint says whether it admits traffic, from how the requests to it went. An [`Election`] over all
//! of them says which one is preferred. Both are state machines without I/O, as everything here: time is a duration since
//! a moment that their owner keeps, chance is a seed. A session asks them nothing; the owner answers
//! [`Endpoints::admits`](crate::Endpoints::admits) and sets [`Facts::preferred`](crate::Facts::preferred) by them.
//!
//! What is told of an attempt follows from its record, with one exception: a request of which every attempt failed at the
//! local stage says nothing of any endpoint, see [`offline`].

use crate::{Outcome, Record};

mod circuit;
mod election;
pub use circuit::{Circuit, CircuitParts, CircuitPolicy, CircuitState};
pub use election::{Election, FailbackParts, FailbackPolicy, Standing};

/// Whether this machine had no way out: every attempt failed at the local stage, see
/// [`Failure::is_local`](crate::Failure::is_local).
///
/// Then no endpoint is to be marked. Dials that merely lost a race say nothing; at least one attempt must have failed.
#[must_use]
pub fn offline(record: &Record) -> bool {
    let mut real = record.attempts.iter().filter(|attempt| !attempt.outcome.is_lost_race()).peekable();
    real.peek().is_some()
        && real.all(|attempt| matches!(attempt.outcome, Outcome::Failed(failure) if failure.is_local()))
}
