//! What must hold on every path, written down independently of the core: a model is told every action and every report,
//! and panics with the whole story when one is not allowed or one is missing.

use std::time::Duration;

use handover_core::{Budget, Endpoints, Facts, Outcome, Policy, Reason, Record, Sent, Verdict, replay};

pub(crate) mod rules;

/// A budget that does not run out in four attempts.
pub(crate) const TAKES_UNLIMITED: u32 = u32::MAX;
/// No walk has more endpoints than this, one that is discovered included.
pub(crate) const PLACES_MAX: usize = 6;

/// What a walk starts from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) policy: Policy,
    pub(crate) facts: Facts,
    pub(crate) places: Places,
    /// How often the budget says yes.
    pub(crate) takes: u32,
    /// How long every event takes.
    pub(crate) step: Duration,
    /// How many outcomes a sequence has at most.
    pub(crate) length: u32,
}

/// The endpoints of a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) count: usize,
    pub(crate) scopes: [u32; PLACES_MAX],
    /// One that cannot be used; from the begin, or from the end of the first attempt on.
    pub(crate) gone: Option<usize>,
    /// One that leaves when the first attempt ends.
    pub(crate) leaves: Option<usize>,
}

impl Places {
    pub(crate) const fn plain(count: usize) -> Self {
        Self { count, scopes: [0; PLACES_MAX], gone: None, leaves: None }
    }
}

impl Endpoints for Places {
    fn count(&self) -> usize {
        self.count
    }
    fn is_usable(&self, index: usize) -> bool {
        self.gone != Some(index)
    }
    fn scope(&self, index: usize) -> u32 {
        self.scopes[index]
    }
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
    endpoint: usize,
    started: Duration,
    /// Whether its endpoint had been tried before.
    again: bool,
    connected: bool,
    ended: Option<(Duration, Outcome)>,
    /// How many had ended before it.
    place: usize,
}

/// Everything that happened on one path.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) case: Case,
    /// The endpoints as they are now.
    pub(crate) places: Places,
    /// The endpoints as they were when the newest attempt began: what a verdict can know.
    known: Places,
    seen: Vec<Seen>,
    /// What forbids any further attempt, once something does.
    forbidden: Option<Outcome>,
    pub(crate) discoveries: u32,
    pub(crate) refreshes: u32,
    pub(crate) found_nothing: bool,
    /// What the budget must have granted: one for each hedged dial, and one for each verdict whose further attempt may
    /// repeat what an endpoint has had to do.
    owed: u32,
}

impl Model {
    pub(crate) fn new(case: &Case) -> Self {
        let Case { places, .. } = *case;
        Self {
            case: *case,
            places,
            known: places,
            seen: Vec::new(),
            forbidden: None,
            discoveries: 0,
            refreshes: 0,
            found_nothing: false,
            owed: 0,
        }
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
    pub(crate) fn begins(
        &mut self,
        now: Duration,
        endpoint: u32,
        attempt: u32,
        by: [Option<Duration>; 2],
        hedged: bool,
    ) {
        let (Case { policy, facts, .. }, endpoint) = (self.case, endpoint as usize);
        assert_eq!(attempt as usize, self.seen.len() + 1, "attempts are counted from 1\n{self:#?}");
        assert!(attempt <= policy.max_attempts(), "more attempts than the maximum\n{self:#?}");
        assert!(attempt == 1 || self.single().is_none(), "a further attempt where one is all\n{self:#?}");
        assert!(endpoint < self.places.count && self.places.gone != Some(endpoint), "no such endpoint\n{self:#?}");
        assert!(self.forbidden.is_none(), "a further attempt after what forbids it\n{self:#?}");
        let again = self.is_tried(endpoint);
        self.check_place(endpoint, again, hedged);
        let timeout = facts.attempt_timeout.or(policy.attempt_timeout()).map(|timeout| now + timeout);
        let head_by = timeout.into_iter().chain(policy.deadline()).min();
        let connect_by = (now + policy.connect_timeout()).min(head_by.unwrap_or(Duration::MAX));
        assert_eq!(by, [Some(connect_by), head_by], "{self:#?}");
        if let Some(deadline) = policy.deadline().filter(|_| attempt > 1) {
            assert!(deadline.saturating_sub(now) >= policy.min_deadline(), "too late to begin\n{self:#?}");
        }
        if hedged {
            self.owed += 1;
            self.check_hedge(now);
        } else {
            assert!(self.in_flight().is_empty(), "not a hedged dial, but beside another attempt\n{self:#?}");
            self.check_delay(now, endpoint, again);
        }
        self.known = self.places;
        self.seen.push(Seen { endpoint, started: now, again, connected: false, ended: None, place: 0 });
    }

    /// A hedged dial: only while dials are pending, and not before the stagger unless one of them failed.
    fn check_hedge(&self, now: Duration) {
        let stagger = self.case.policy.dial_stagger().expect("no hedged dial without a stagger");
        assert!(!self.in_flight().is_empty() && !self.is_any_connected(), "a hedge at the wrong time\n{self:#?}");
        let is_beside_again = self.seen.iter().any(|seen| seen.ended.is_none() && seen.again && self.must_be_same());
        assert!(!is_beside_again, "a hedge beside what only one endpoint may have\n{self:#?}");
        let newest = self.seen.last().expect("a dial is pending").started;
        let is_failed_since = self.seen.iter().any(|seen| seen.ended.is_some_and(|(ended, _)| ended >= newest));
        assert!(now >= newest + stagger || is_failed_since, "a hedge before the stagger\n{self:#?}");
    }

    /// The wait before an attempt that follows another: long enough, not too long, and none where none is due.
    fn check_delay(&self, now: Duration, endpoint: usize, again: bool) {
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
        let ended = *seen;
        let leave = self.leave(&outcome);
        if leave.is_none() {
            self.forbidden = Some(outcome);
        }
        let next = leave.and_then(|reason| self.next_reason(reason, &ended, verdict, budget));
        self.owed += u32::from(next.is_some() && self.in_flight().is_empty() && !self.is_free(&outcome));
        match next {
            Some(reason) => assert_eq!(verdict, Verdict::TryNext(reason), "{self:#?}"),
            None => assert!(verdict.is_final(), "{verdict:?}\n{self:#?}"),
        }
        if verdict.is_final() {
            let is_answered = self.is_answered() && verdict.reason() != Reason::Cancelled;
            assert_eq!(matches!(verdict, Verdict::Done(_)), is_answered, "{verdict:?}\n{self:#?}");
        }
        if self.seen.len() == 1 {
            self.places.gone = self.places.leaves.or(self.places.gone);
        }
    }

    /// Whether the caller gets an answer if the session ends now: if the last of the attempts by which the request may have
    /// been sent was answered.
    fn is_answered(&self) -> bool {
        let ends = self.seen.iter().filter_map(|seen| seen.ended.map(|(_, outcome)| (seen.place, outcome)));
        let sent = ends.filter(|(_, outcome)| outcome.sent() != Sent::No && !outcome.is_lost_race());
        sent.max_by_key(|(place, _)| *place).is_some_and(|(_, outcome)| outcome.is_answered())
    }

    /// The walk has come to an end, or as far as it goes.
    pub(crate) fn is_over(&self, record: &Record, budget: &Takes) {
        let Case { policy, places, .. } = self.case;
        assert_eq!(budget.granted, self.owed, "not what the further attempts cost\n{self:#?}");
        if let Err(difference) = replay(&policy, record) {
            panic!("{difference}\n{record:#?}");
        }
        if places.count > usize::from(places.gone.is_some()) && policy.deadline().is_none() {
            assert!(!record.attempts.is_empty(), "no attempt although there are endpoints\n{self:#?}");
        }
        assert_eq!(record.attempts.len(), self.seen.len());
        for (attempt, seen) in record.attempts.iter().zip(&self.seen) {
            assert_eq!((attempt.endpoint as usize, attempt.started), (seen.endpoint, seen.started));
            if let Some((ended, outcome)) = seen.ended {
                assert_eq!((attempt.ended, attempt.outcome), (ended, outcome), "{self:#?}");
            }
        }
    }

    /// The session ended between attempts.
    pub(crate) fn gives_up(&self, now: Duration, verdict: Verdict) {
        let policy = &self.case.policy;
        assert_eq!(matches!(verdict, Verdict::Done(_)), self.is_answered(), "the wrong outcome stands\n{self:#?}");
        let (open, outside) = self.open(&self.places);
        let holds = match verdict.reason() {
            Reason::NoEndpoints => self.seen.is_empty() && open == 0,
            Reason::EndpointsExhausted => self.is_nothing_left() && outside == 0,
            Reason::OutsideScope => self.is_nothing_left() && outside > 0,
            Reason::NothingDiscovered => self.found_nothing && (self.refreshes == 0 || self.is_nothing_left()),
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
