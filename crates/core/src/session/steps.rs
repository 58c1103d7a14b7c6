//! What a session writes down as it goes: an attempt begun, an attempt closed, the end.

use std::time::Duration;

use super::{Action, Phase, Session};
use crate::budget::Asked;
use crate::decide::{attempt_timeout, deadline, decide, is_enough_time};
use crate::ledger::Ledger;
use crate::pick::Pick;
use crate::record::AttemptRecord;
use crate::{Budget, Failure, Fault, Outcome, Reason, Sent, Spent, Stage, Unlimited, Verdict};

impl Session<'_> {
    /// Begins an attempt.
    pub(super) fn begin(&mut self, now: Duration, due: Duration, pick: Pick, hedged: bool) -> Action {
        let (attempt, endpoint) = (self.begun() + 1, pick.chosen.endpoint);
        self.record.attempts.push(AttemptRecord {
            attempt,
            endpoint,
            due,
            started: now,
            connected: None,
            ended: now,
            hedged,
            pick,
            outcome: Outcome::Failed(Failure::before_send(Stage::Dial, Fault::LostRace)),
            spent: Spent::default(),
            budget: None,
            verdict: Verdict::TryNext(Reason::LostRace),
        });
        self.in_flight |= bit(attempt);
        let stagger = self.policy.dial_stagger().unwrap_or_default();
        self.phase = Phase::Running { hedge_at: now.saturating_add(stagger), is_refused: false };
        let deadline = deadline(self.policy, &self.record.facts);
        let timeout = attempt_timeout(self.policy, &self.record.facts);
        let head_by = timeout.map(|timeout| now.saturating_add(timeout)).into_iter().chain(deadline).min();
        let connect_by = now.saturating_add(self.policy.connect_timeout());
        let connect_by = head_by.map_or(connect_by, |head_by| connect_by.min(head_by));
        if hedged {
            Action::Dial { endpoint, attempt, connect_by, head_by, deadline }
        } else {
            Action::Try { endpoint, attempt, connect_by, head_by, deadline }
        }
    }

    /// Writes down how an attempt ended and what that means.
    pub(super) fn close(
        &mut self,
        now: Duration,
        attempt: u32,
        outcome: Outcome,
        in_flight: bool,
        budget: &mut (impl Budget + ?Sized),
    ) -> Verdict {
        let begun = self.begun();
        let Some(record) = self.attempt_mut(attempt) else { return Verdict::TryNext(Reason::NotInFlight) };
        (record.ended, record.outcome) = (now, outcome);
        // It has ended behind these, which is what tells a race that was lost before a choice from one lost behind it.
        record.spent.attempts = begun;
        let record = *record;
        let spent = self.ledger().spent(now, &record, &outcome, in_flight);
        let mut asked = Asked::new(budget);
        let verdict = decide(self.policy, &self.record.facts, &outcome, &spent, &mut asked);
        let answer = asked.answer;
        if let Some(record) = self.attempt_mut(attempt) {
            (record.spent, record.budget, record.verdict) = (spent, answer, verdict);
        }
        verdict
    }

    /// Ends the session. What is still under way was overtaken by the end: a dial has lost its race, or the caller left.
    pub(super) fn end(&mut self, now: Duration, verdict: Verdict) {
        let is_cancelled = verdict == Verdict::Stop(Reason::Cancelled);
        for attempt in 1..=self.begun() {
            if !self.is_in_flight(attempt) {
                continue;
            }
            self.in_flight &= !bit(attempt);
            let is_connected = self.attempt_mut(attempt).is_some_and(|record| record.connected.is_some());
            let failure = match (is_cancelled, is_connected) {
                (false, _) => Failure::before_send(Stage::Dial, Fault::LostRace),
                (true, false) => Failure::before_send(Stage::Dial, Fault::Cancelled),
                // Nobody said how far the writing had come, so nothing is proven.
                (true, true) => Failure { sent: Sent::Maybe, ..Failure::before_send(Stage::Send, Fault::Cancelled) },
            };
            // A race is lost to the attempt that just ended; the caller's leaving needs no other attempt.
            self.close(now, attempt, Outcome::Failed(failure), !is_cancelled, &mut Unlimited);
        }
        self.record.ended = Some(now);
        self.record.verdict = Some(verdict);
        self.phase = Phase::Over(verdict);
    }

    /// Ends the session between attempts. The decisive answer stands if there was one, even an unwelcome one.
    pub(super) fn give_up(&mut self, now: Duration, reason: Reason) -> Action {
        let verdict = self.record.ending(reason);
        self.end(now, verdict);
        Action::Finish(verdict)
    }

    /// Whether there is time for an attempt that begins then. The first one may have less than a further one needs.
    pub(super) fn has_time(&self, begin: Duration) -> bool {
        let facts = &self.record.facts;
        match (self.record.attempts.is_empty(), deadline(self.policy, facts)) {
            (true, Some(deadline)) => begin < deadline,
            (true, None) => true,
            (false, _) => is_enough_time(self.policy, facts, begin),
        }
    }

    /// The record with all attempts begun so far.
    pub(super) fn ledger(&self) -> Ledger<'_> {
        Ledger { policy: self.policy, record: &self.record, begun: self.record.attempts.len() }
    }

    /// How many attempts have begun.
    pub(super) fn begun(&self) -> u32 {
        // At most ATTEMPTS_MAX, which is a u32.
        u32::try_from(self.record.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Whether this attempt is under way.
    pub(super) const fn is_in_flight(&self, attempt: u32) -> bool {
        self.in_flight & bit(attempt) != 0
    }

    /// The record of this attempt.
    pub(super) fn attempt_mut(&mut self, attempt: u32) -> Option<&mut AttemptRecord> {
        self.record.attempts.get_mut(attempt.checked_sub(1)? as usize)
    }

    /// The time, which never runs backwards.
    pub(super) fn advance(&mut self, now: Duration) -> Duration {
        self.latest = self.latest.max(now);
        self.latest
    }
}

/// An attempt's bit; none for a number that no attempt has.
pub(super) const fn bit(attempt: u32) -> u32 {
    if attempt == 0 || attempt > crate::ATTEMPTS_MAX { 0 } else { 1 << (attempt - 1) }
}
