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

use crate::decide::{is_enough_time, only_attempt};
use crate::ledger::Pauses;
use crate::pick::{Course, Pool, Survey};
use crate::record::{AttemptRecord, Discovery, Record};
use crate::{Budget, Endpoints, Facts, Outcome, Policy, Reason, Verdict};

mod steps;
use steps::bit;

/// What a shell is to do next. All times are since the session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try the request at this endpoint.
    ///
    /// Where the record's pick says [`Pool::Same`](crate::Pool::Same), on a fresh connection. What an earlier attempt
    /// left is still needed if it is an answer: see [`Session`].
    Try {
        /// The endpoint's index.
        endpoint: u32,
        /// The attempt's number, counted from 1.
        attempt: u32,
        /// When its connection must stand.
        connect_by: Duration,
        /// When its response head must have come.
        head_by: Option<Duration>,
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
        /// When its response head must have come.
        head_by: Option<Duration>,
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
    Discover {
        /// Whether what was found earlier may not be taken: an endpoint said that the request is served elsewhere only.
        refresh: bool,
    },
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
    Discovering { since: Duration, refresh: bool },
    /// It is over.
    Over(Verdict),
}

/// What is to be done between two attempts.
enum Way {
    /// A further attempt.
    Take(Course),
    /// A search for more endpoints.
    Discover,
    /// Nothing more.
    End(Reason),
}

/// One request's session.
///
/// The caller gets the outcome of [`Record::decisive`]. So a shell keeps an answer that got `TryNext` until a later
/// attempt is answered or the session ends. If it ends with `Done`, the answer that is kept goes to the caller; if with
/// `Stop`, it does not, and the error of the decisive attempt does.
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

    /// This attempt is over. Says what becomes of the request: what was said of the attempt while it goes on, and how
    /// the session ended if it does not. These differ where an earlier attempt's answer is the decisive one.
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
            let verdict = self.record.ending(verdict.reason());
            self.end(now, verdict);
            return verdict;
        }
        if self.in_flight == 0 {
            self.phase = Phase::Between { since: now };
        } else if let (Phase::Running { hedge_at, .. }, false) = (self.phase, outcome.is_lost_race()) {
            // The next dial need not wait for the stagger any more: one of those that it was to wait for has failed.
            self.phase = Phase::Running { hedge_at: hedge_at.min(now), is_refused: false };
        }
        verdict
    }

    /// The discovery that [`Action::Discover`] asked for is over. `found` says whether it told which endpoints there are,
    /// also if none of them is new, and also from what was found earlier. If it did not, the session ends, unless it was
    /// a refresh and other endpoints are known.
    pub fn discovered(&mut self, now: Duration, found: bool) {
        let now = self.advance(now);
        let Phase::Discovering { since, refresh } = self.phase else { return };
        let asked = if refresh { &mut self.record.refresh } else { &mut self.record.discovery };
        if let Some(discovery) = asked {
            discovery.found = Some(found);
        }
        self.phase = Phase::Between { since };
        if !found && !refresh {
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
        if self.is_refresh_due() {
            return self.discover(since, true);
        }
        let survey = self.ledger().choice().survey(endpoints);
        let course = match self.way(survey) {
            Way::Take(course) => course,
            Way::Discover => return self.discover(since, false),
            Way::End(reason) => return self.give_up(now, reason),
        };
        let Pauses { ready, due } = self.ledger().pauses(since, course);
        if !self.has_time(now.max(due)) {
            return self.give_up(now, Reason::DeadlineTooShort);
        }
        if now < due {
            return Action::Wait { until: due };
        }
        match self.ledger().choice().choose(endpoints, survey, course, ready) {
            Some(pick) => self.begin(now, due, pick, false),
            None => self.give_up(now, Reason::EndpointsExhausted),
        }
    }

    /// Which way the next attempt goes.
    fn way(&self, survey: Survey) -> Way {
        let choice = self.ledger().choice();
        let cause = choice.cause();
        let bound = choice.bound();
        let may_repeat = |endpoint: u32| choice.may_repeat(endpoint, survey.gone, bound);
        if let Some((AttemptRecord { endpoint, .. }, Reason::InProgress | Reason::OnceMore)) = cause {
            let is_there = may_repeat(*endpoint);
            return if is_there {
                Way::Take(Course::Same { endpoint: *endpoint })
            } else {
                Way::End(self.exhausted(survey))
            };
        }
        if survey.has_untried() {
            return Way::Take(Course::Untried);
        }
        if self.policy.discover() && self.record.discovery.is_none() && self.record.refresh.is_none() {
            return Way::Discover;
        }
        match cause {
            Some((attempt, Reason::Disclaimed)) if choice.is_once_more(attempt) && may_repeat(attempt.endpoint) => {
                Way::Take(Course::Same { endpoint: attempt.endpoint })
            }
            Some((_, Reason::Pinned)) => Way::End(self.exhausted(survey)),
            _ if self.policy.same_endpoint_again() && (0..survey.count).any(may_repeat) => {
                Way::Take(Course::Again { count: survey.count, gone: survey.gone })
            }
            _ => Way::End(self.exhausted(survey)),
        }
    }

    /// Why nothing is left to try.
    fn exhausted(&self, survey: Survey) -> Reason {
        if self.record.attempts.is_empty() {
            Reason::NoEndpoints
        } else if self.record.refresh.is_some_and(|asked| asked.found == Some(false)) {
            Reason::NothingDiscovered
        } else if survey.outside > 0 {
            Reason::OutsideScope
        } else {
            Reason::EndpointsExhausted
        }
    }

    /// Whether an answer said that the request is served elsewhere only, and nobody was asked yet where.
    fn is_refresh_due(&self) -> bool {
        let is_pinned = matches!(self.ledger().choice().cause(), Some((_, Reason::Pinned)));
        is_pinned && self.policy.discover() && self.record.refresh.is_none()
    }

    /// Asks for more endpoints.
    fn discover(&mut self, since: Duration, refresh: bool) -> Action {
        let asked = Some(Discovery { after: self.begun(), found: None });
        if refresh {
            self.record.refresh = asked;
        } else {
            self.record.discovery = asked;
        }
        self.phase = Phase::Discovering { since, refresh };
        Action::Discover { refresh }
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
        match self.ledger().choice().choose(endpoints, survey, Course::Untried, now) {
            Some(pick) => self.begin(now, hedge_at, pick, true),
            None => Action::Await,
        }
    }

    /// Whether anything but time and the budget stands against a dial beside those under way.
    fn may_hedge(&self, begin: Duration, survey: Survey) -> bool {
        // A connection carries the request, and what is to be asked at one endpoint is not taken to another.
        let is_alone = |attempt: &AttemptRecord| {
            (attempt.connected.is_some() || attempt.pick.pool == Pool::Same) && self.is_in_flight(attempt.attempt)
        };
        self.policy.dial_stagger().is_some()
            && only_attempt(self.policy, &self.record.facts).is_none()
            && self.begun() < self.policy.max_attempts()
            && survey.has_untried()
            && !self.record.attempts.iter().any(is_alone)
            && is_enough_time(self.policy, &self.record.facts, begin)
    }
}
