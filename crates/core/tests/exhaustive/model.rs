//! What must hold on every path, written down independently of the core: a model is told every action and every report,
//! and panics with the whole story when one is not allowed or one is missing.

use std::time::Duration;

use handover_core::{BodyLeft, Budget, Facts, Fault, Outcome, Policy, Reason, Record, Replay, Sent, Verdict, replay};

/// A status that every policy here wants to try again on.
pub(crate) const UNWELCOME: u16 = 503;
/// A budget that does not run out in four attempts.
pub(crate) const TAKES_UNLIMITED: u32 = u32::MAX;

/// What a walk starts from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) policy: Policy,
    pub(crate) facts: Facts,
    pub(crate) count: usize,
    /// How often the budget says yes.
    pub(crate) takes: u32,
    /// How long every event takes.
    pub(crate) step: Duration,
}

/// A budget that says yes so many times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takes {
    pub(crate) left: u32,
    pub(crate) granted: u32,
}

impl Budget for Takes {
    fn try_take(&mut self) -> bool {
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.granted += u32::from(granted);
        granted
    }
}

/// One attempt as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    endpoint: u32,
    started: Duration,
    connected: bool,
    ended: Option<(Duration, Outcome)>,
    /// How many had ended before it.
    place: usize,
}

/// Everything that happened on one path.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    case: Case,
    pub(crate) count: usize,
    seen: Vec<Seen>,
    /// What forbids any further attempt, once something does.
    forbidden: Option<Outcome>,
    pub(crate) discoveries: u32,
    pub(crate) found_nothing: bool,
}

impl Model {
    pub(crate) fn new(case: &Case) -> Self {
        let Case { count, .. } = *case;
        Self { case: *case, count, seen: Vec::new(), forbidden: None, discoveries: 0, found_nothing: false }
    }

    fn is_tried(&self, endpoint: usize) -> bool {
        self.seen.iter().any(|seen| seen.endpoint as usize == endpoint)
    }

    fn has_untried(&self) -> bool {
        (0..self.count).any(|endpoint| !self.is_tried(endpoint))
    }

    pub(crate) fn in_flight(&self) -> Vec<u32> {
        (1..).zip(&self.seen).filter(|(_, seen)| seen.ended.is_none()).map(|(attempt, _)| attempt).collect()
    }

    pub(crate) fn is_any_connected(&self) -> bool {
        self.seen.iter().any(|seen| seen.connected && seen.ended.is_none())
    }

    /// When the last attempt ended, if none is under way.
    fn idle_since(&self) -> Option<Duration> {
        let ends: Option<Vec<_>> = self.seen.iter().map(|seen| seen.ended.map(|(at, _)| at)).collect();
        ends.and_then(|ends| ends.into_iter().max())
    }

    /// An attempt begins.
    pub(crate) fn begins(&mut self, now: Duration, endpoint: u32, attempt: u32, connect_by: Duration, hedged: bool) {
        let Case { policy, facts, .. } = self.case;
        assert_eq!(attempt as usize, self.seen.len() + 1, "attempts are counted from 1\n{self:#?}");
        assert!(attempt <= policy.max_attempts(), "more attempts than the maximum\n{self:#?}");
        assert!(attempt == 1 || !facts.opted_out, "a further attempt for one who opted out\n{self:#?}");
        assert!((endpoint as usize) < self.count, "no such endpoint\n{self:#?}");
        let again = self.is_tried(endpoint as usize);
        assert!(!again || !self.has_untried(), "endpoint {endpoint} twice while an untried one exists\n{self:#?}");
        assert!(!again || policy.same_endpoint_again(), "the policy does not want an endpoint again\n{self:#?}");
        assert!(self.forbidden.is_none(), "a further attempt after what forbids it\n{self:#?}");
        assert_eq!(connect_by, (now + policy.connect_timeout()).min(policy.deadline().unwrap_or(Duration::MAX)));
        if let Some(deadline) = policy.deadline().filter(|_| attempt > 1) {
            assert!(deadline.saturating_sub(now) >= policy.min_deadline(), "too late to begin\n{self:#?}");
        }
        if hedged {
            self.check_hedge(now);
        } else {
            assert!(self.in_flight().is_empty(), "not a hedged dial, but beside another attempt\n{self:#?}");
            self.check_delay(now, endpoint, again);
        }
        self.seen.push(Seen { endpoint, started: now, connected: false, ended: None, place: 0 });
    }

    /// A hedged dial: only while dials are pending, and not before the stagger unless one of them failed.
    fn check_hedge(&self, now: Duration) {
        let stagger = self.case.policy.dial_stagger().expect("no hedged dial without a stagger");
        assert!(!self.in_flight().is_empty() && !self.is_any_connected(), "a hedge at the wrong time\n{self:#?}");
        let newest = self.seen.last().expect("a dial is pending").started;
        let is_failed_since = self.seen.iter().any(|seen| seen.ended.is_some_and(|(ended, _)| ended >= newest));
        assert!(now >= newest + stagger || is_failed_since, "a hedge before the stagger\n{self:#?}");
    }

    /// The wait before an attempt that follows another: long enough, not too long, and none where none is due.
    fn check_delay(&self, now: Duration, endpoint: u32, again: bool) {
        let Some(since) = self.idle_since() else { return };
        let policy = &self.case.policy;
        let delay = now - since;
        let every = policy.backoff().between == handover_core::BackoffBetween::EveryAttempt;
        let span = if again || every { policy.backoff().cap } else { Duration::ZERO };
        let parked = if again { policy.retry_after_cap() } else { Duration::ZERO };
        assert!(delay <= span.max(parked).max(Duration::from_millis(u64::from(again))), "too long a wait\n{self:#?}");
        if again {
            assert!(delay >= Duration::from_millis(1), "no pause at the same endpoint\n{self:#?}");
            for (ended, wait) in self.seen.iter().filter(|seen| seen.endpoint == endpoint).filter_map(asked_to_wait) {
                assert!(now >= ended + wait.min(policy.retry_after_cap()), "too early for Retry-After\n{self:#?}");
            }
        }
    }

    pub(crate) fn connects(&mut self, attempt: u32) {
        self.seen[attempt as usize - 1].connected = true;
    }

    /// An attempt ended, and the core said something of it.
    pub(crate) fn ends(&mut self, now: Duration, attempt: u32, outcome: Outcome, verdict: Verdict, budget: &Takes) {
        let place = self.seen.iter().filter(|seen| seen.ended.is_some()).count();
        let seen = &mut self.seen[attempt as usize - 1];
        (seen.ended, seen.place) = (Some((now, outcome)), place);
        let is_forbidding = !self.may_go_on(&outcome);
        if is_forbidding {
            self.forbidden = Some(outcome);
        }
        assert_eq!(verdict.is_final(), is_forbidding || !self.can_go_on(&verdict, budget), "{verdict:?}\n{self:#?}");
        let is_cancelled = matches!(outcome, Outcome::Failed(failure) if failure.fault == Fault::Cancelled);
        if verdict.is_final() {
            let is_answered = self.is_answered() && !is_cancelled;
            assert_eq!(matches!(verdict, Verdict::Done(_)), is_answered, "{verdict:?}\n{self:#?}");
        }
    }

    /// Whether the caller gets an answer if the session ends now: if the last of the attempts by which the request may have
    /// been sent was answered.
    fn is_answered(&self) -> bool {
        let ends = self.seen.iter().filter_map(|seen| seen.ended.map(|(_, outcome)| (seen.place, outcome)));
        let sent = ends.filter(|(_, outcome)| outcome.sent() != Sent::No && !outcome.is_lost_race());
        sent.max_by_key(|(place, _)| *place).is_some_and(|(_, outcome)| outcome.is_answered())
    }

    /// Whether an outcome lets the request have another attempt at all.
    fn may_go_on(&self, outcome: &Outcome) -> bool {
        let Case { policy, facts, .. } = self.case;
        let (fault, sent, body) = match *outcome {
            Outcome::Answered { status: UNWELCOME, body, .. } => (Fault::Status(UNWELCOME), Sent::Yes, body),
            Outcome::Answered { .. } => return false,
            Outcome::Failed(failure) => (failure.fault, failure.sent, failure.body),
        };
        let is_proven = match policy.replay() {
            Replay::Unsent => sent == Sent::No,
            Replay::Idempotent => sent == Sent::No || facts.idempotent || facts.keyed,
            Replay::Always => true,
        };
        is_proven && body == BodyLeft::Whole && !matches!(fault, Fault::Cancelled | Fault::Denied)
    }

    /// Whether what is left allows the request to go on.
    fn can_go_on(&self, verdict: &Verdict, budget: &Takes) -> bool {
        let Case { policy, facts, .. } = self.case;
        if !self.in_flight().is_empty() {
            return true;
        }
        let may_discover = policy.discover() && self.discoveries == 0;
        if facts.opted_out
            || self.seen.len() >= policy.max_attempts() as usize
            || !(self.has_untried() || policy.same_endpoint_again() || may_discover)
        {
            return false;
        }
        match verdict.reason() {
            // How long the wait would have been is the core's secret; that it is told from the time left, its reason.
            Reason::DeadlineTooShort => policy.deadline().is_none(),
            Reason::BudgetEmpty => budget.left > 0,
            _ => budget.granted > 0 || policy.max_attempts() == 1,
        }
    }

    /// The walk has come to an end, or as far as it goes.
    pub(crate) fn is_over(&self, record: &Record, budget: &Takes) {
        let Case { policy, count, .. } = self.case;
        let granted = budget.granted as usize;
        assert!(self.seen.len() <= 1 + granted, "an attempt that nobody paid for\n{self:#?}");
        if let Err(difference) = replay(&policy, record) {
            panic!("{difference}\n{record:#?}");
        }
        if count > 0 && policy.deadline().is_none() {
            assert!(!record.attempts.is_empty(), "no attempt although there are endpoints\n{self:#?}");
        }
        assert_eq!(record.attempts.len(), self.seen.len());
        for (attempt, seen) in record.attempts.iter().zip(&self.seen) {
            assert_eq!((attempt.endpoint, attempt.started), (seen.endpoint, seen.started));
            if let Some((ended, outcome)) = seen.ended {
                assert_eq!((attempt.ended, attempt.outcome), (ended, outcome), "{self:#?}");
            }
        }
    }

    /// The session ended between attempts.
    pub(crate) fn gives_up(&self, now: Duration, verdict: Verdict) {
        let policy = &self.case.policy;
        assert_eq!(matches!(verdict, Verdict::Done(_)), self.is_answered(), "the wrong outcome stands\n{self:#?}");
        let holds = match verdict.reason() {
            Reason::NoEndpoints => self.seen.is_empty() && self.count == 0,
            Reason::EndpointsExhausted => !self.has_untried() && !policy.same_endpoint_again(),
            Reason::NothingDiscovered => self.found_nothing,
            Reason::DeadlineTooShort => {
                policy.deadline().is_some_and(|deadline| now + RETRY_WAIT_MAX + policy.min_deadline() > deadline)
            }
            _ => false,
        };
        assert!(holds, "gave up with {verdict:?}\n{self:#?}");
    }
}

/// No wait in these tests is longer: the cap of `Retry-After`.
const RETRY_WAIT_MAX: Duration = Duration::from_millis(40);

fn asked_to_wait(seen: &Seen) -> Option<(Duration, Duration)> {
    match seen.ended {
        Some((ended, Outcome::Answered { retry_after: Some(wait), .. })) => Some((ended, wait)),
        _ => None,
    }
}
