//! What follows from a record and a policy alone. The session decides by it and the replay checks by it, so that the two
//! cannot come to differ.

use std::time::Duration;

use crate::answer::{Meaning, meaning_of};
use crate::decide::Spent;
use crate::pause::backoff;
use crate::pick::{Choice, Course};
use crate::record::{AttemptRecord, Discovery, Record};
use crate::{Fault, Outcome, Policy, Verdict};

/// A record of which the first `begun` attempts are taken into account.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'r> {
    pub(crate) policy: &'r Policy,
    pub(crate) record: &'r Record,
    pub(crate) begun: usize,
}

/// What a further attempt has to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pauses {
    /// When the backoff ends.
    pub(crate) ready: Duration,
    /// When the attempt may begin; later where every endpoint asked to be left alone for longer.
    pub(crate) due: Duration,
}

impl<'r> Ledger<'r> {
    /// What the choice of the next endpoint depends on.
    pub(crate) const fn choice(&self) -> Choice<'r> {
        Choice {
            policy: self.policy,
            facts: &self.record.facts,
            seed: self.record.seed,
            attempts: &self.record.attempts,
            begun: self.begun,
        }
    }

    /// The waits before an attempt that follows what ended at `since` and goes this way.
    pub(crate) fn pauses(&self, since: Duration, course: Course) -> Pauses {
        if self.begun == 0 {
            return Pauses { ready: Duration::ZERO, due: Duration::ZERO };
        }
        let (attempts, choice) = (&self.record.attempts, self.choice());
        let is_again = course != Course::Untried;
        let ready = since.saturating_add(backoff(self.policy, self.record.seed, attempts, self.begun, is_again));
        let parked = match course {
            Course::Untried => Duration::ZERO,
            Course::Same { endpoint } => choice.parked_until(endpoint),
            Course::Again { count, gone } => {
                let bound = choice.bound();
                let tried = (0..count).filter(|endpoint| choice.may_repeat(*endpoint, gone, bound));
                tried.map(|endpoint| choice.parked_until(endpoint)).min().unwrap_or_default()
            }
        };
        Pauses { ready, due: parked.max(ready) }
    }

    /// What is spent and left when an attempt ends now, in this way.
    pub(crate) fn spent(&self, now: Duration, attempt: &AttemptRecord, outcome: &Outcome, in_flight: bool) -> Spent {
        let attempts = u32::try_from(self.begun).unwrap_or(u32::MAX);
        let choice = self.choice();
        let meaning = meaning_of(self.policy, &self.record.facts, outcome);
        if in_flight || is_last(meaning, outcome) {
            // Behind it nothing begins, or nothing that would have to wait; and what else has ended by now is not certain.
            let untried = self.may_discover(meaning) || choice.open() > 0;
            let outside = in_flight && choice.is_beside_outsiders(attempt);
            let delay =
                if in_flight || meaning == Some(Meaning::Final) { Duration::ZERO } else { self.delay(now, untried) };
            return Spent { attempts, now, untried, in_flight, delay, once_more: false, outside };
        }
        // The endpoints as the newest choice saw them; whatever else has changed since is seen by the next one.
        let open = choice.open_at_rest(None);
        let within = choice.bound().map_or(open, |scope| choice.open_at_rest(Some(scope)));
        let untried = self.may_discover(meaning) || within > 0;
        let once_more = choice.is_once_more(attempt);
        let is_same = meaning == Some(Meaning::InProgress) || (!untried && once_more);
        let delay = if is_same {
            self.pauses(now, Course::Same { endpoint: attempt.endpoint }).due.saturating_sub(now)
        } else {
            self.delay(now, untried)
        };
        Spent { attempts, now, untried, in_flight, delay, once_more, outside: !untried && open > 0 }
    }

    /// How long a further attempt has to wait that goes to an untried endpoint, or else to one that was tried.
    fn delay(&self, now: Duration, untried: bool) -> Duration {
        let newest = self.begun.checked_sub(1).and_then(|index| self.record.attempts.get(index));
        let course = match newest {
            Some(newest) if !untried => Course::Again { count: newest.pick.endpoints, gone: newest.pick.gone },
            _ => Course::Untried,
        };
        self.pauses(now, course).due.saturating_sub(now)
    }

    /// Whether more endpoints would be asked for behind an attempt that ended so.
    fn may_discover(&self, meaning: Option<Meaning>) -> bool {
        let attempts = u32::try_from(self.begun).unwrap_or(u32::MAX);
        let is_ahead = |asked: Option<Discovery>| asked.is_none_or(|asked| asked.after >= attempts);
        let (discovery, refresh) = (self.record.discovery, self.record.refresh);
        let is_pinned = meaning == Some(Meaning::Pinned);
        // A refresh is asked for in spite of an earlier discovery; behind a refresh nothing more is.
        self.policy.discover() && is_ahead(refresh) && (is_pinned || is_ahead(discovery))
    }

    /// When the last of these attempts ended.
    pub(crate) fn since(&self) -> Duration {
        self.record.attempts.iter().take(self.begun).map(|attempt| attempt.ended).max().unwrap_or_default()
    }

    /// The times from which a dial beside those under way may have been due.
    pub(crate) fn is_hedge_due(&self, due: Duration) -> bool {
        let Some(stagger) = self.policy.dial_stagger() else { return false };
        let begun = || self.record.attempts.iter().take(self.begun);
        let by_stagger = begun().last().map(|newest| newest.started.saturating_add(stagger));
        let by_failure = |attempt: &crate::AttemptRecord| {
            attempt.ended == due && !attempt.outcome.is_lost_race() && matches!(attempt.verdict, Verdict::TryNext(_))
        };
        by_stagger == Some(due) || begun().any(by_failure)
    }
}

/// Whether the request ends with this outcome, whatever else there is.
fn is_last(meaning: Option<Meaning>, outcome: &Outcome) -> bool {
    let is_given_up =
        matches!(outcome, Outcome::Failed(failure) if matches!(failure.fault, Fault::Cancelled | Fault::Denied));
    is_given_up || meaning == Some(Meaning::Final)
}
