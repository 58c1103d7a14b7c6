//! What an answer's status means under a policy: whether it stands, and if not, what it says of the request.

use crate::{Facts, Outcome, Policy};

/// A request with the same key is being worked on (draft-ietf-httpapi-idempotency-key-header-07 §2.6).
const IN_PROGRESS: u16 = 409;
/// What a server says that did nothing because of the connection on which it was asked: 421 Misdirected Request
/// (RFC 9110 §15.5.20) and 425 Too Early (RFC 8470 §5.2). A fresh connection may have a better answer.
const OF_THE_CONNECTION: [u16; 2] = [421, 425];

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It stands.
    Final,
    /// It is unwelcome, and says nothing of whether the request was done.
    Unwelcome,
    /// The request was not done, or the policy takes the server's word for it.
    Disclaimed,
    /// The request is served elsewhere only.
    Pinned,
    /// A request with the same key is being worked on.
    InProgress,
}

/// What an answer with this status means.
///
/// The narrower word wins: where a request is served and whether it is under way are said of this request, the sets of
/// statuses are said of all.
pub(crate) const fn meaning(policy: &Policy, facts: &Facts, status: u16) -> Meaning {
    if policy.pin_statuses().contains(status) {
        Meaning::Pinned
    } else if status == IN_PROGRESS && policy.in_progress() && facts.keyed {
        Meaning::InProgress
    } else if policy.disclaimed_statuses().contains(status) {
        Meaning::Disclaimed
    } else if policy.retry_statuses().contains(status) {
        Meaning::Unwelcome
    } else {
        Meaning::Final
    }
}

/// What an outcome means, if it is an answer.
pub(crate) const fn meaning_of(policy: &Policy, facts: &Facts, outcome: &Outcome) -> Option<Meaning> {
    match outcome {
        Outcome::Answered { status, .. } => Some(meaning(policy, facts, *status)),
        Outcome::Failed(_) => None,
    }
}

/// Whether an outcome is an answer that another connection to the same endpoint may better.
pub(crate) fn is_of_the_connection(policy: &Policy, facts: &Facts, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered { status, .. } => {
            OF_THE_CONNECTION.contains(status) && meaning(policy, facts, *status) == Meaning::Disclaimed
        }
        Outcome::Failed(_) => false,
    }
}
