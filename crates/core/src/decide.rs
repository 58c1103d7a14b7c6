//! The one decision that everything else serves: after an attempt has ended, may the request be tried again?
//!
//! The order of the questions is part of the answer. First what nothing can change: an answer that is wanted, a caller
//! who left, a target that is forbidden, a body that is gone. Then the proof: what may have been sent is repeated only as
//! the policy's [`Replay`] allows, or as the server's own answer does. Only then whether attempts, endpoints and time are
//! left, and the budget last, so that nothing is taken from it in vain.
//!
//! The budget guards against load that is multiplied, so it is asked only where there may have been any: see
//! [`Failure::is_before_send`](crate::Failure::is_before_send). To ask it for every further attempt was rejected, because
//! then a first endpoint that is dead takes a token from each request, and with the last token failover ends although the
//! second endpoint is well.

use std::time::Duration;

use crate::answer::{Meaning, meaning_of};
use crate::{BodyLeft, Budget, Facts, Fault, Outcome, Policy, Reason, Replay, Sent, Verdict};

/// What a session has used up when an attempt ends, and what it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    /// Attempts begun so far, this one and hedged dials included.
    pub attempts: u32,
    /// The time since the session began.
    pub now: Duration,
    /// Whether there is an endpoint that was not tried yet and may be, or one may still be discovered. One whose dial only
    /// lost a race is untried again.
    pub untried: bool,
    /// Whether another attempt of the session is under way.
    pub in_flight: bool,
    /// The least time until a further attempt may begin: a backoff, a `Retry-After`.
    pub delay: Duration,
    /// Whether the answer is one that a fresh connection to the same endpoint may better, and the first such one of it.
    pub once_more: bool,
    /// Whether the request may not go on to what is left, or to what is under way, because it may have been sent under
    /// an `Idempotency-Key` that is not known there.
    pub outside: bool,
}

/// Says of a finished attempt whether its answer stands, the request goes on, or it has failed.
///
/// Total and without effects except on the budget, which is asked at most once, last, and only if all else allows a
/// further attempt and that attempt may add to what an endpoint has to do already: behind an answer, behind a failure with
/// the request handed to a connection, and on the way to an endpoint that was tried before. An attempt that was answered
/// never gets `Stop`: if it cannot be repeated its answer stands.
///
/// ```
/// use handover_core::{Facts, Failure, Fault, Outcome, Policy, Reason, Sent, Spent, Stage, Unlimited, Verdict, decide};
///
/// let policy = Policy::default();
/// let spent = Spent { attempts: 1, untried: true, ..Spent::default() };
/// let refused = Failure::before_send(Stage::Dial, Fault::Refused);
/// let verdict = decide(&policy, &Facts::default(), &Outcome::Failed(refused), &spent, &mut Unlimited);
/// assert_eq!(verdict, Verdict::TryNext(Reason::NotSent));
///
/// let broken = Failure { stage: Stage::Send, fault: Fault::Reset, sent: Sent::Maybe, ..refused };
/// let verdict = decide(&policy, &Facts::default(), &Outcome::Failed(broken), &spent, &mut Unlimited);
/// assert_eq!(verdict, Verdict::Stop(Reason::MaybeSent));
/// ```
pub fn decide(policy: &Policy, facts: &Facts, outcome: &Outcome, spent: &Spent, budget: &mut dyn Budget) -> Verdict {
    let meaning = meaning_of(policy, facts, outcome);
    let end = match outcome {
        Outcome::Answered { .. } if meaning == Some(Meaning::Final) => return Verdict::Done(Reason::Answered),
        Outcome::Answered { .. } => Verdict::Done,
        Outcome::Failed(failure) if failure.fault == Fault::Cancelled => return Verdict::Stop(Reason::Cancelled),
        Outcome::Failed(failure) if failure.fault == Fault::Denied => return Verdict::Stop(Reason::Denied),
        Outcome::Failed(_) => Verdict::Stop,
    };
    if outcome.body() == BodyLeft::Consumed {
        return end(Reason::BodyConsumed);
    }
    let allowed_by = match leave(policy, facts, outcome.sent(), meaning) {
        Ok(reason) => reason,
        Err(reason) => return end(reason),
    };
    if spent.in_flight {
        if spent.outside && is_kept_by_its_key(policy, facts) {
            return end(Reason::OutsideScope);
        }
        return Verdict::TryNext(if outcome.is_lost_race() { Reason::LostRace } else { Reason::InFlight });
    }
    if let Some(reason) = only_attempt(policy, facts) {
        return end(reason);
    }
    if spent.attempts >= policy.max_attempts() {
        return end(Reason::AttemptsExhausted);
    }
    let allowed_by = match somewhere(policy, facts, spent, allowed_by) {
        Ok(reason) => reason,
        Err(reason) => return end(reason),
    };
    if !is_enough_time(policy, facts, spent.now.saturating_add(spent.delay)) {
        return end(Reason::DeadlineTooShort);
    }
    if !is_free(outcome, spent) && !budget.try_take() {
        return end(Reason::BudgetEmpty);
    }
    Verdict::TryNext(allowed_by)
}

/// What allows the request to be sent again, or what forbids it: the server's own word, or the policy's proof.
const fn leave(policy: &Policy, facts: &Facts, sent: Sent, meaning: Option<Meaning>) -> Result<Reason, Reason> {
    match meaning {
        Some(Meaning::Pinned) => return Ok(Reason::Pinned),
        Some(Meaning::InProgress) => return Ok(Reason::InProgress),
        Some(Meaning::Disclaimed) => return Ok(Reason::Disclaimed),
        Some(Meaning::Unwelcome | Meaning::Final) | None => {}
    }
    match (sent, policy.replay()) {
        (Sent::No, _) => Ok(Reason::NotSent),
        (Sent::Maybe | Sent::Yes, Replay::Always) => Ok(Reason::ReplayAlways),
        (Sent::Maybe | Sent::Yes, Replay::Idempotent) if facts.idempotent => Ok(Reason::IdempotentMethod),
        (Sent::Maybe | Sent::Yes, Replay::Idempotent) if facts.keyed => Ok(Reason::IdempotencyKey),
        (Sent::Maybe | Sent::Yes, Replay::Idempotent) => Err(Reason::NotIdempotent),
        (Sent::Maybe, Replay::Unsent) => Err(Reason::MaybeSent),
        (Sent::Yes, Replay::Unsent) => Err(Reason::WasSent),
    }
}

/// Why the request has one attempt and no more, if that is so, whatever becomes of it.
pub(crate) fn only_attempt(policy: &Policy, facts: &Facts) -> Option<Reason> {
    let is_hurried = attempt_timeout(policy, facts).is_some_and(|timeout| timeout < policy.min_attempt_timeout());
    if facts.opted_out {
        Some(Reason::OptedOut)
    } else if facts.gated {
        Some(Reason::OutsideGate)
    } else {
        is_hurried.then_some(Reason::AttemptTooShort)
    }
}

/// Whether nothing but its key keeps a repeat of the request from counting, so that it matters where the key is known.
pub(crate) fn is_kept_by_its_key(policy: &Policy, facts: &Facts) -> bool {
    facts.keyed && !facts.idempotent && policy.replay() != Replay::Always
}

/// Whether there is an endpoint for what is allowed, and what allows it there.
fn somewhere(policy: &Policy, facts: &Facts, spent: &Spent, allowed_by: Reason) -> Result<Reason, Reason> {
    match allowed_by {
        // It goes to the same endpoint, whatever others there are.
        Reason::InProgress => Ok(allowed_by),
        _ if spent.untried => Ok(allowed_by),
        Reason::Disclaimed if spent.once_more => Ok(Reason::OnceMore),
        // Nobody who was tried serves what is pinned.
        _ if policy.same_endpoint_again() && !matches!(allowed_by, Reason::Pinned) => Ok(allowed_by),
        _ if spent.outside && is_kept_by_its_key(policy, facts) => Err(Reason::OutsideScope),
        _ => Err(Reason::EndpointsExhausted),
    }
}

/// Whether a further attempt adds nothing to what any endpoint has to do, so that the budget need not pay for it.
const fn is_free(outcome: &Outcome, spent: &Spent) -> bool {
    match outcome {
        Outcome::Answered { .. } => false,
        // No endpoint had the request, and the next one has not even been dialled: nobody is asked twice. What failed on
        // this machine is free also on the way to one that was tried, as being offline must not use up what others need.
        Outcome::Failed(failure) => failure.is_local() || (spent.untried && failure.is_before_send()),
    }
}

/// The earlier of the policy's and the caller's deadline.
pub(crate) fn deadline(policy: &Policy, facts: &Facts) -> Option<Duration> {
    match (policy.deadline(), facts.caller_deadline) {
        (Some(policy), Some(caller)) => Some(policy.min(caller)),
        (policy, caller) => policy.or(caller),
    }
}

/// The time of one attempt: the caller's own, or the policy's.
pub(crate) fn attempt_timeout(policy: &Policy, facts: &Facts) -> Option<Duration> {
    facts.attempt_timeout.or(policy.attempt_timeout())
}

/// Whether a further attempt that begins then has the time it needs, and any time at all.
pub(crate) fn is_enough_time(policy: &Policy, facts: &Facts, begin: Duration) -> bool {
    match deadline(policy, facts) {
        Some(deadline) => {
            let left = deadline.saturating_sub(begin);
            left > Duration::ZERO && left >= policy.min_deadline()
        }
        None => true,
    }
}
