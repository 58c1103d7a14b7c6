//! How long a session waits before a further attempt: exponential backoff with full jitter, and `Retry-After`.
//!
//! Full jitter (a draw over the whole span instead of a span with a little noise) empties the spikes that a common
//! cause puts into many clients at the same moment; see "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

use std::time::Duration;

use crate::random::{Purpose, below};
use crate::record::{AttemptRecord, Attempts};
use crate::{BackoffBetween, Outcome, Policy};

/// The least pause between attempts at the same endpoint: a millisecond is what timers keep, and it turns a tight loop
/// against an endpoint that fails at once into at most a thousand attempts a second.
pub(crate) const SAME_ENDPOINT_MIN: Duration = Duration::from_millis(1);

/// The pause before the attempt that follows these; `again` if it goes to an endpoint that was tried before.
pub(crate) fn backoff(policy: &Policy, seed: u64, attempts: &Attempts, begun: usize, again: bool) -> Duration {
    let backoff = policy.backoff();
    if !again && backoff.between == BackoffBetween::SameEndpoint {
        return Duration::ZERO;
    }
    // Hedged dials do not wait and are no reason to wait longer.
    let rounds = attempts.iter().take(begun).filter(|attempt| !attempt.hedged).count();
    let doublings = u32::try_from(rounds.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    let span = backoff.base.saturating_mul(factor).min(backoff.cap);
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let next = u32::try_from(begun + 1).unwrap_or(u32::MAX);
    let drawn = Duration::from_nanos(below(nanos.saturating_add(1), seed, next, Purpose::Backoff));
    if again { drawn.max(SAME_ENDPOINT_MIN) } else { drawn }
}

/// Until when an endpoint's own `Retry-After` asks to be left alone; zero if it never asked.
pub(crate) fn parked_until(policy: &Policy, attempts: &Attempts, begun: usize, endpoint: u32) -> Duration {
    let asked = |attempt: &AttemptRecord| match attempt.outcome {
        Outcome::Answered { retry_after: Some(wait), .. } => attempt.ended + wait.min(policy.retry_after_cap()),
        Outcome::Answered { retry_after: None, .. } | Outcome::Failed(_) => Duration::ZERO,
    };
    attempts.iter().take(begun).filter(|attempt| attempt.endpoint == endpoint).map(asked).max().unwrap_or_default()
}
