//! What follows from a record and a policy alone. The session decides by it and the replay checks by it, so that the two
//! cannot come to differ.

use std::time::Duration;

use crate::decide::Spent;
use crate::pause::{again_from, backoff};
use crate::pick::Choice;
use crate::record::Record;
use crate::{Outcome, Policy, Verdict};

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

    /// The waits before an attempt that follows what ended at `since`; `again` if all `count` endpoints were tried.
    pub(crate) fn pauses(&self, since: Duration, again: bool, count: u32) -> Pauses {
        if self.begun == 0 {
            return Pauses { ready: Duration::ZERO, due: Duration::ZERO };
        }
        let attempts = &self.record.attempts;
        let ready = since.saturating_add(backoff(self.policy, self.record.seed, attempts, self.begun, again));
        let due = if again { again_from(self.policy, attempts, self.begun, count, ready) } else { ready };
        Pauses { ready, due }
    }

    /// What is spent and left when an attempt ends now, in this way.
    pub(crate) fn spent(&self, now: Duration, outcome: &Outcome, in_flight: bool) -> Spent {
        let attempts = u32::try_from(self.begun).unwrap_or(u32::MAX);
        // The endpoints as the newest choice saw them; whatever has changed since is seen by the next one.
        let newest = self.begun.checked_sub(1).and_then(|index| self.record.attempts.get(index));
        let count = newest.map_or(0, |attempt| attempt.pick.endpoints);
        let choice = self.choice();
        let may_discover = self.policy.discover() && self.record.discovery.is_none_or(|asked| asked.after >= attempts);
        let untried = may_discover || (0..count).any(|endpoint| !choice.is_tried(endpoint));
        // Behind an answer that stands nothing begins, and while another attempt is under way nothing that would have to wait.
        let stands =
            matches!(outcome, Outcome::Answered { status, .. } if !self.policy.retry_statuses().contains(*status));
        let delay = if in_flight || stands {
            Duration::ZERO
        } else {
            self.pauses(now, !untried, count).due.saturating_sub(now)
        };
        Spent { attempts, now, untried, in_flight, delay }
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
