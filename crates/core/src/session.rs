//! One request's way through its attempts: a state machine that says what to do next and is told how it went.
//!
//! A shell turns [`Action`]s into connections and sleeps, and reports back. The session knows no clock: every call is
//! given the time since the session began. It may be polled at any time and any number of times; what it decides depends
//! only on what it was told.
//!
//! ```
//! use std::time::Duration;
//! use handover_core::{Action, BodyLeft, Facts, Outcome, Policy, Reason, Session, Unlimited, Verdict};
//!
//! let policy = Policy::default();
//! let mut session = Session::new(&policy, Facts::default(), 7);
//! let now = Duration::ZERO;
//! let Action::Try { attempt, .. } = session.poll(now, &3, &mut Unlimited) else { unreachable!() };
//! session.connected(now, attempt);
//! let answer = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Whole };
//! let verdict = session.finished(now, attempt, answer, &mut Unlimited);
//! assert_eq!(verdict, Verdict::Done(Reason::Answered));
//! assert_eq!(session.poll(now, &3, &mut Unlimited), Action::Finish(verdict));
//! ```

use std::time::Duration;

use crate::decide::is_enough_time;
use crate::ledger::Pauses;
use crate::pick::Survey;
use crate::record::{AttemptRecord, Discovery, Record};
use crate::{Budget, Endpoints, Facts, Outcome, Policy, Reason, Verdict};

mod steps;
use steps::bit;

/// What a shell is to do next. All times are since the session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try the request at this endpoint. What an earlier attempt left, an answer included, is not needed any more.
    Try {
        /// The endpoint's index.
        endpoint: u32,
        /// The attempt's number, counted from 1.
        attempt: u32,
        /// When its connection must stand.
        connect_by: Duration,
        /// When the whole request must be over.
        deadline: Option<Duration>,
    },
    /// Dial this endpoint too, beside the dials under way. The first to connect carries the request; the shell reports
    /// the others as finished with [`Fault::LostRace`](crate::Fault::LostRace).
    Dial {
        /// The endpoint's index.
        endpoint: u32,
        /// The attempt's number, counted from 1.
        attempt: u32,
        /// When its connection must stand.
        connect_by: Duration,
        /// When the whole request must be over.
        deadline: Option<Duration>,
    },
    /// Nothing to do before this time, unless an attempt connects or ends first.
    Wait {
        /// When to poll again.
        until: Duration,
    },
    /// Nothing to do until an attempt connects or ends, or a discovery does.
    Await,
    /// Ask for more endpoints, then say [`Session::discovered`].
    Discover,
    /// The session is over.
    Finish(Verdict),
}

/// What a session is about.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No attempt is under way. `since` is when the last one ended.
    Between { since: Duration },
    /// Attempts are under way; the next dial beside them is due at `hedge_at`, unless the budget refused it.
    Running { hedge_at: Duration, is_refused: bool },
    /// Endpoints are being looked for.
    Discovering { since: Duration },
    /// It is over.
    Over(Verdict),
}

/// One request's session.
///
/// The caller of a request that fails gets the error of [`Record::decisive`], so a shell keeps the last real error, and
/// an answer that got `TryNext`, until the next [`Action::Try`].
#[derive(Clone, Debug)]
pub struct Session<'p> {
    policy: &'p Policy,
    record: Record,
    phase: Phase,
    /// The attempts under way, a bit each.
    in_flight: u32,
    /// The latest time the session was told. An earlier one is taken for this one, so that time never runs backwards.
    latest: Duration,
}

impl<'p> Session<'p> {
    /// A session that begins now, at time zero. The seed decides all that is left to chance.
    #[must_use]
    pub const fn new(policy: &'p Policy, facts: Facts, seed: u64) -> Self {
        let phase = Phase::Between { since: Duration::ZERO };
        Self { policy, record: Record::new(seed, facts), phase, in_flight: 0, latest: Duration::ZERO }
    }

    /// What to do next.
    ///
    /// The budget is asked only for a hedged dial. An action that begins an attempt is given once; polling again gives
    /// what comes after it.
    pub fn poll(
        &mut self,
        now: Duration,
        endpoints: &(impl Endpoints + ?Sized),
        budget: &mut (impl Budget + ?Sized),
    ) -> Action {
        let now = self.advance(now);
        match self.phase {
            Phase::Over(verdict) => Action::Finish(verdict),
            Phase::Discovering { .. } => Action::Await,
            Phase::Between { since } => self.next(now, since, endpoints),
            Phase::Running { hedge_at, is_refused } => {
                if is_refused {
                    Action::Await
                } else {
                    self.hedge(now, hedge_at, endpoints, budget)
                }
            }
        }
    }

    /// This attempt has its connection. No other dial begins beside it; those under way have lost the race.
    pub fn connected(&mut self, now: Duration, attempt: u32) {
        let now = self.advance(now);
        if !self.is_in_flight(attempt) {
            return;
        }
        if let Some(record) = self.attempt_mut(attempt) {
            record.connected.get_or_insert(now);
        }
    }

    /// This attempt is over. Says what becomes of the request.
    ///
    /// A report of an attempt that is not under way changes nothing.
    pub fn finished(
        &mut self,
        now: Duration,
        attempt: u32,
        outcome: Outcome,
        budget: &mut (impl Budget + ?Sized),
    ) -> Verdict {
        let now = self.advance(now);
        if !self.is_in_flight(attempt) {
            return self.record.verdict.unwrap_or(Verdict::TryNext(Reason::NotInFlight));
        }
        self.in_flight &= !bit(attempt);
        let verdict = self.close(now, attempt, outcome, self.in_flight != 0, budget);
        if verdict.is_final() {
            self.end(now, verdict);
        } else if self.in_flight == 0 {
            self.phase = Phase::Between { since: now };
        } else if let (Phase::Running { hedge_at, .. }, false) = (self.phase, outcome.is_lost_race()) {
            // The next dial need not wait for the stagger any more: one of those that it was to wait for has failed.
            self.phase = Phase::Running { hedge_at: hedge_at.min(now), is_refused: false };
        }
        verdict
    }

    /// The discovery that [`Action::Discover`] asked for is over.
    pub fn discovered(&mut self, now: Duration, found: bool) {
        let now = self.advance(now);
        let Phase::Discovering { since } = self.phase else { return };
        if let Some(discovery) = &mut self.record.discovery {
            discovery.found = Some(found);
        }
        self.phase = Phase::Between { since };
        if !found {
            let reason = if self.record.attempts.is_empty() { Reason::NoEndpoints } else { Reason::NothingDiscovered };
            self.give_up(now, reason);
        }
    }

    /// The caller gave the request up. Final; also while nothing is under way, in a backoff or a discovery.
    pub fn cancelled(&mut self, now: Duration) {
        let now = self.advance(now);
        if self.record.verdict.is_none() {
            self.end(now, Verdict::Stop(Reason::Cancelled));
        }
    }

    /// The record so far.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// The record.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.record
    }

    /// Begins the next attempt, or says why not or not yet.
    fn next(&mut self, now: Duration, since: Duration, endpoints: &(impl Endpoints + ?Sized)) -> Action {
        let survey = self.ledger().choice().survey(endpoints);
        if !survey.has_untried() {
            if self.policy.discover() && self.record.discovery.is_none() {
                self.record.discovery = Some(Discovery { after: self.begun(), found: None });
                self.phase = Phase::Discovering { since };
                return Action::Discover;
            }
            if self.record.attempts.is_empty() {
                return self.give_up(now, Reason::NoEndpoints);
            }
            if survey.count == 0 || !self.policy.same_endpoint_again() {
                return self.give_up(now, Reason::EndpointsExhausted);
            }
        }
        let Pauses { ready, due } = self.ledger().pauses(since, !survey.has_untried(), survey.count);
        if !self.has_time(now.max(due)) {
            return self.give_up(now, Reason::DeadlineTooShort);
        }
        if now < due {
            return Action::Wait { until: due };
        }
        match self.ledger().choice().choose(endpoints, survey, ready) {
            Some(pick) => self.begin(now, due, pick, false),
            None => self.give_up(now, Reason::EndpointsExhausted),
        }
    }

    /// Begins a dial beside those under way, if it is time and all allows it.
    fn hedge(
        &mut self,
        now: Duration,
        hedge_at: Duration,
        endpoints: &(impl Endpoints + ?Sized),
        budget: &mut (impl Budget + ?Sized),
    ) -> Action {
        let survey = self.ledger().choice().survey(endpoints);
        if !self.may_hedge(now.max(hedge_at), survey) {
            return Action::Await;
        }
        if now < hedge_at {
            return Action::Wait { until: hedge_at };
        }
        if !budget.try_take() {
            self.record.hedges_refused = self.record.hedges_refused.saturating_add(1);
            self.phase = Phase::Running { hedge_at, is_refused: true };
            return Action::Await;
        }
        match self.ledger().choice().choose(endpoints, survey, now) {
            Some(pick) => self.begin(now, hedge_at, pick, true),
            None => Action::Await,
        }
    }

    /// Whether anything but time and the budget stands against a dial beside those under way.
    fn may_hedge(&self, begin: Duration, survey: Survey) -> bool {
        let is_connected = |attempt: &AttemptRecord| attempt.connected.is_some() && self.is_in_flight(attempt.attempt);
        self.policy.dial_stagger().is_some()
            && !self.record.facts.opted_out
            && self.begun() < self.policy.max_attempts()
            && survey.has_untried()
            && !self.record.attempts.iter().any(is_connected)
            && is_enough_time(self.policy, &self.record.facts, begin)
    }
}
