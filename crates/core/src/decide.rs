//! The one decision that everything else serves: after an attempt has ended, may the request be tried again?
//!
//! The order of the questions is part of the answer. First what nothing can change: an answer that is wanted, a caller
//! who left, a target that is forbidden, a body that is gone. Then the proof: what may have been sent is repeated only as the policy's [`Replay`]
//! allows. Only then whether attempts, endpoints and time are left, and the budget last, so that nothing is taken from
//! it in vain.

use std::time::Duration;

use crate::{BodyLeft, Budget, Facts, Fault, Outcome, Policy, Reason, Replay, Sent, Verdict};

/// What a session has used up when an attempt ends, and what it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    /// Attempts begun so far, this one and hedged dials included.
    pub attempts: u32,
    /// The time since the session began.
    pub now: Duration,
    /// Whether there is an endpoint that was not tried yet, or one may still be discovered.
    pub untried: bool,
    /// Whether another attempt of the session is under way.
    pub in_flight: bool,
    /// The least time until a further attempt may begin: a backoff, a `Retry-After`.
    pub delay: Duration,
}

/// Says of a finished attempt whether its answer stands, the request goes on, or it has failed.
///
/// Total and without effects except on the budget, which is asked at most once, last, and only if all else allows a
/// further attempt. An attempt that was answered never gets `Stop`: if it cannot be repeated its answer stands.
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
    let end = match outcome {
        Outcome::Answered { status, .. } if !policy.retry_statuses().contains(*status) => {
            return Verdict::Done(Reason::Answered);
        }
        Outcome::Answered { .. } => Verdict::Done,
        Outcome::Failed(failure) if failure.fault == Fault::Cancelled => return Verdict::Stop(Reason::Cancelled),
        Outcome::Failed(failure) if failure.fault == Fault::Denied => return Verdict::Stop(Reason::Denied),
        Outcome::Failed(_) => Verdict::Stop,
    };
    if outcome.body() == BodyLeft::Consumed {
        return end(Reason::BodyConsumed);
    }
    let allowed_by = match (outcome.sent(), policy.replay()) {
        (Sent::No, _) => Reason::NotSent,
        (Sent::Maybe | Sent::Yes, Replay::Always) => Reason::ReplayAlways,
        (Sent::Maybe | Sent::Yes, Replay::Idempotent) if facts.idempotent => Reason::IdempotentMethod,
        (Sent::Maybe | Sent::Yes, Replay::Idempotent) if facts.keyed => Reason::IdempotencyKey,
        (Sent::Maybe | Sent::Yes, Replay::Idempotent) => return end(Reason::NotIdempotent),
        (Sent::Maybe, Replay::Unsent) => return end(Reason::MaybeSent),
        (Sent::Yes, Replay::Unsent) => return end(Reason::WasSent),
    };
    if spent.in_flight {
        return Verdict::TryNext(if outcome.is_lost_race() { Reason::LostRace } else { Reason::InFlight });
    }
    if facts.opted_out {
        return end(Reason::OptedOut);
    }
    if spent.attempts >= policy.max_attempts() {
        return end(Reason::AttemptsExhausted);
    }
    if !spent.untried && !policy.same_endpoint_again() {
        return end(Reason::EndpointsExhausted);
    }
    if !is_enough_time(policy, facts, spent.now.saturating_add(spent.delay)) {
        return end(Reason::DeadlineTooShort);
    }
    if !budget.try_take() {
        return end(Reason::BudgetEmpty);
    }
    Verdict::TryNext(allowed_by)
}

/// The earlier of the policy's and the caller's deadline.
pub(crate) fn deadline(policy: &Policy, facts: &Facts) -> Option<Duration> {
    match (policy.deadline(), facts.caller_deadline) {
        (Some(policy), Some(caller)) => Some(policy.min(caller)),
        (policy, caller) => policy.or(caller),
    }
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
