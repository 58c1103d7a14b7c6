//! What the core says of a finished attempt, and why, in a word for machines and a sentence for people.

use std::fmt;

use crate::words::words;

/// What the core says of a finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The attempt's answer stands and goes to the caller, whatever its status is.
    Done(Reason),
    /// The request goes on: a further attempt follows, or one that is under way carries it.
    TryNext(Reason),
    /// The request has failed and gets no further attempt. The caller gets the error of [`Record::decisive`].
    ///
    /// [`Record::decisive`]: crate::Record::decisive
    Stop(Reason),
}

impl Verdict {
    /// The verdict's word without its reason: `done`, `try_next` or `stop`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Done(_) => "done",
            Verdict::TryNext(_) => "try_next",
            Verdict::Stop(_) => "stop",
        }
    }

    /// Why.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Verdict::Done(reason) | Verdict::TryNext(reason) | Verdict::Stop(reason) => reason,
        }
    }

    /// The verdict that [`as_str`](Self::as_str) and [`Reason::as_str`] write as these two words.
    #[must_use]
    pub fn parse(verdict: &str, reason: &str) -> Option<Self> {
        let reason = Reason::parse(reason)?;
        match verdict {
            "done" => Some(Verdict::Done(reason)),
            "try_next" => Some(Verdict::TryNext(reason)),
            "stop" => Some(Verdict::Stop(reason)),
            _ => None,
        }
    }

    /// Whether the session ends with this verdict.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Verdict::TryNext(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.as_str(), self.reason())
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The endpoint answered with a status that the policy takes.
    Answered,
    /// Nothing of the request left, so a further attempt repeats nothing.
    NotSent,
    /// The request may have arrived, but its method is idempotent.
    IdempotentMethod,
    /// The request may have arrived, but it carries a trusted `Idempotency-Key`.
    IdempotencyKey,
    /// The request may have arrived, and the policy says that the server recognises repeats.
    ReplayAlways,
    /// The server said that it did not do the request, or said that it failed and the policy takes that for the same.
    Disclaimed,
    /// The server said that another endpoint serves this request, and only that one.
    Pinned,
    /// A request with the same `Idempotency-Key` is being worked on there: the same endpoint is asked again.
    InProgress,
    /// The server did not do the request and no endpoint is untried: the same one is asked once more, on a fresh connection.
    OnceMore,
    /// This dial failed while another one of the same request is under way.
    InFlight,
    /// Another dial of the same request connected first.
    LostRace,
    /// The attempt had ended before this report of it.
    NotInFlight,
    /// Some of the request may have left, and the policy wants proof that nothing did.
    MaybeSent,
    /// The request left, and the policy wants proof that nothing did.
    WasSent,
    /// The request may have arrived, and repeating it might do it twice.
    NotIdempotent,
    /// Part of the body is gone, so the request cannot be sent whole again.
    BodyConsumed,
    /// The caller gave the request up.
    Cancelled,
    /// The target is forbidden, through any endpoint.
    Denied,
    /// The caller asked for a single attempt.
    OptedOut,
    /// The endpoint is outside the domains for which the policy fails over.
    OutsideGate,
    /// An attempt may take so little time that the policy makes no further one.
    AttemptTooShort,
    /// The policy's number of attempts is used up.
    AttemptsExhausted,
    /// Every endpoint has been tried.
    EndpointsExhausted,
    /// What is left to try does not share the store of keys with the endpoint that may have got the request.
    OutsideScope,
    /// There is no endpoint at all.
    NoEndpoints,
    /// More endpoints were asked for and none came.
    NothingDiscovered,
    /// Too little time is left for a further attempt.
    DeadlineTooShort,
    /// The budget that guards against retry storms is empty.
    BudgetEmpty,
}

words!(Reason {
    Answered => "answered",
    NotSent => "not_sent",
    IdempotentMethod => "idempotent_method",
    IdempotencyKey => "idempotency_key",
    ReplayAlways => "replay_always",
    Disclaimed => "disclaimed",
    Pinned => "pinned",
    InProgress => "in_progress",
    OnceMore => "once_more",
    InFlight => "in_flight",
    LostRace => "lost_race",
    NotInFlight => "not_in_flight",
    MaybeSent => "maybe_sent",
    WasSent => "was_sent",
    NotIdempotent => "not_idempotent",
    BodyConsumed => "body_consumed",
    Cancelled => "cancelled",
    Denied => "denied",
    OptedOut => "opted_out",
    OutsideGate => "outside_gate",
    AttemptTooShort => "attempt_too_short",
    AttemptsExhausted => "attempts_exhausted",
    EndpointsExhausted => "endpoints_exhausted",
    OutsideScope => "outside_scope",
    NoEndpoints => "no_endpoints",
    NothingDiscovered => "nothing_discovered",
    DeadlineTooShort => "deadline_too_short",
    BudgetEmpty => "budget_empty",
});

impl Reason {
    /// The reason as a sentence for a person who reads the record.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Reason::Answered => "the endpoint answered, and the policy takes this status as the answer",
            Reason::NotSent => "not one byte of the request had left, so another endpoint may have it",
            Reason::IdempotentMethod => "the request may have arrived, but its method may be repeated without harm",
            Reason::IdempotencyKey => {
                "the request may have arrived, but its idempotency key keeps a repeat from counting"
            }
            Reason::ReplayAlways => {
                "the request may have arrived, but the policy says that the server recognises repeats"
            }
            Reason::Disclaimed => "the endpoint answered that it did not do the request, so another one may",
            Reason::Pinned => "the endpoint answered that this request is served elsewhere only",
            Reason::InProgress => {
                "the endpoint is still at work on a request with this idempotency key, so it is asked again"
            }
            Reason::OnceMore => {
                "the endpoint answered that it did not do the request, and it is asked once more as no other is left"
            }
            Reason::InFlight => "another dial of this request is still under way and carries it on",
            Reason::LostRace => "another dial of this request connected first, so this one was not needed",
            Reason::NotInFlight => "this attempt had already ended, so its report changed nothing",
            Reason::MaybeSent => "some of the request may have left, and the policy repeats only what provably did not",
            Reason::WasSent => "the request had arrived, and the policy repeats only what provably did not leave",
            Reason::NotIdempotent => "the request may have arrived, and repeating it might do its work twice",
            Reason::BodyConsumed => "part of the request's body was already read, so it cannot be sent whole again",
            Reason::Cancelled => "the caller gave the request up",
            Reason::Denied => "the target is one that must not be reached, and another endpoint would not change that",
            Reason::OptedOut => "the caller asked for one attempt only",
            Reason::OutsideGate => "the endpoint is not in a domain for which the policy fails over",
            Reason::AttemptTooShort => "an attempt has less time than the policy wants for making a further one",
            Reason::AttemptsExhausted => "the policy allows no more attempts",
            Reason::EndpointsExhausted => "every endpoint has been tried for this request",
            Reason::OutsideScope => {
                "the request may have arrived, and no endpoint is left that would know its idempotency key"
            }
            Reason::NoEndpoints => "there is no endpoint that could take the request",
            Reason::NothingDiscovered => "more endpoints were asked for and none were found",
            Reason::DeadlineTooShort => "too little time is left before the deadline for a further attempt",
            Reason::BudgetEmpty => "too many requests needed further attempts lately, and the budget for them is empty",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Reason, Verdict};

    #[test]
    fn every_reason_has_its_own_word_and_sentence_and_reads_back() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let sentences: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.sentence()).collect();
        assert_eq!((words.len(), sentences.len()), (Reason::ALL.len(), Reason::ALL.len()));
        for &reason in Reason::ALL {
            for verdict in [Verdict::Done(reason), Verdict::TryNext(reason), Verdict::Stop(reason)] {
                assert_eq!(Verdict::parse(verdict.as_str(), reason.as_str()), Some(verdict));
            }
        }
        assert_eq!(Verdict::parse("maybe", "answered"), None);
        assert_eq!(Verdict::parse("done", "because"), None);
    }
}
