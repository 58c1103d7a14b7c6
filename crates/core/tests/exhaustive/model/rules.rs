//! The rules of the model: where a request may go after what happened to it, and why.

use handover_core::{BodyLeft, Fault, Outcome, Reason, Replay, Sent, Stage, Verdict};

use super::{Case, Model, Places, Seen, Takes};

/// A status that every policy here wants to try again on.
pub(crate) const UNWELCOME: u16 = 503;
/// A status that some policies here take for the word that nothing was done.
pub(crate) const DISCLAIMED: u16 = 500;
/// The same, and a fresh connection may help.
pub(crate) const MISDIRECTED: u16 = 421;
/// A status that says that the request is served elsewhere.
pub(crate) const PINNED: u16 = 451;
/// A status that says that a request with the same key is under way.
pub(crate) const IN_PROGRESS: u16 = 409;

impl Model {
    /// What the server said of the request besides its status, if the policy listens to it.
    fn word(&self, outcome: &Outcome) -> Option<Reason> {
        let Case { policy, facts, .. } = self.case;
        match *outcome {
            Outcome::Answered { status: PINNED, .. } if policy.pin_statuses().contains(PINNED) => Some(Reason::Pinned),
            Outcome::Answered { status: IN_PROGRESS, .. } if policy.in_progress() && facts.keyed => {
                Some(Reason::InProgress)
            }
            Outcome::Answered { status, .. } if policy.disclaimed_statuses().contains(status) => {
                Some(Reason::Disclaimed)
            }
            _ => None,
        }
    }

    /// Why an outcome lets the request have another attempt, if it does.
    pub(super) fn leave(&self, outcome: &Outcome) -> Option<Reason> {
        let Case { policy, facts, .. } = self.case;
        if outcome.body() == BodyLeft::Consumed {
            return None;
        }
        let sent = match *outcome {
            Outcome::Answered { .. } if self.word(outcome).is_some() => return self.word(outcome),
            Outcome::Answered { status: UNWELCOME, .. } => Sent::Yes,
            Outcome::Answered { .. } => return None,
            Outcome::Failed(failure) if matches!(failure.fault, Fault::Cancelled | Fault::Denied) => return None,
            Outcome::Failed(failure) => failure.sent,
        };
        match policy.replay() {
            _ if sent == Sent::No => Some(Reason::NotSent),
            Replay::Unsent => None,
            Replay::Idempotent if facts.idempotent => Some(Reason::IdempotentMethod),
            Replay::Idempotent => facts.keyed.then_some(Reason::IdempotencyKey),
            Replay::Always => Some(Reason::ReplayAlways),
        }
    }

    /// Why there is one attempt and no more, whatever becomes of it.
    pub(super) fn single(&self) -> Option<Reason> {
        let Case { policy, facts, .. } = self.case;
        let timeout = facts.attempt_timeout.or(policy.attempt_timeout());
        match () {
            () if facts.opted_out => Some(Reason::OptedOut),
            () if facts.gated => Some(Reason::OutsideGate),
            () if timeout.is_some_and(|time| time < policy.min_attempt_timeout()) => Some(Reason::AttemptTooShort),
            () => None,
        }
    }

    /// What lets the request go on after an attempt that may be repeated for this reason; `None` if it ends.
    pub(super) fn next_reason(&self, leave: Reason, ended: &Seen, verdict: Verdict, budget: &Takes) -> Option<Reason> {
        let policy = &self.case.policy;
        let (_, outcome) = ended.ended?;
        if !self.in_flight().is_empty() {
            let scope = |seen: &Seen| self.places.scopes[seen.endpoint];
            let is_torn = self.binds(ended) && self.seen.iter().any(|seen| scope(seen) != scope(ended));
            assert!(!is_torn || verdict.reason() == Reason::OutsideScope, "{verdict:?}\n{self:#?}");
            let goes_on = if outcome.is_lost_race() { Reason::LostRace } else { Reason::InFlight };
            return Some(goes_on).filter(|_| !is_torn);
        }
        if let Some(reason) = self.single() {
            assert_eq!(verdict.reason(), reason, "{self:#?}");
            return None;
        }
        if self.seen.len() >= policy.max_attempts() as usize {
            assert_eq!(verdict.reason(), Reason::AttemptsExhausted, "{self:#?}");
            return None;
        }
        let Some(reason) = self.somewhere(leave, ended) else {
            let is_outside = self.open(&self.known).1 > 0;
            let reason = if is_outside { Reason::OutsideScope } else { Reason::EndpointsExhausted };
            assert_eq!(verdict.reason(), reason, "{self:#?}");
            return None;
        };
        match verdict.reason() {
            // How long the wait would have been is the core's secret; that it is told from the time left, its reason.
            Reason::DeadlineTooShort => assert!(policy.deadline().is_some(), "{self:#?}"),
            Reason::BudgetEmpty => assert!(budget.left == 0 && !self.is_free(&outcome), "{self:#?}"),
            _ => return Some(reason),
        }
        None
    }

    /// Whether there is an endpoint for it, as far as a verdict can know, and what lets it go there.
    fn somewhere(&self, leave: Reason, ended: &Seen) -> Option<Reason> {
        let policy = &self.case.policy;
        let may_refresh = leave == Reason::Pinned && policy.discover() && self.refreshes == 0;
        let is_open = self.is_any_new() || may_refresh;
        match leave {
            Reason::InProgress => Some(leave),
            _ if is_open => Some(leave),
            Reason::Disclaimed if self.is_once_more(ended) => Some(Reason::OnceMore),
            Reason::Pinned => None,
            _ => policy.same_endpoint_again().then_some(leave),
        }
    }

    /// Whether a further attempt behind this outcome costs nothing: no endpoint was handed the request and the next one
    /// is new to it, or the failure was on this machine.
    pub(super) fn is_free(&self, outcome: &Outcome) -> bool {
        let Outcome::Failed(failure) = outcome else { return false };
        let is_offline = matches!(failure.fault, Fault::Dns | Fault::Unreachable | Fault::Local);
        let is_near = is_offline && failure.stage < Stage::ProxyHandshake;
        failure.sent == Sent::No && failure.stage < Stage::Send && (self.is_any_new() || is_near)
    }

    /// Whether an untried endpoint is there for the request, or may be found, as far as a verdict can know.
    fn is_any_new(&self) -> bool {
        self.open(&self.known).0 > 0 || self.may_discover()
    }

    fn may_discover(&self) -> bool {
        self.case.policy.discover() && self.discoveries == 0 && self.refreshes == 0
    }

    pub(super) fn is_tried(&self, endpoint: usize) -> bool {
        let is_nothing = |outcome: Outcome| outcome.is_lost_race() && outcome.sent() == Sent::No;
        let is_try = |seen: &Seen| !seen.ended.is_some_and(|(_, outcome)| is_nothing(outcome));
        self.seen.iter().any(|seen| seen.endpoint == endpoint && is_try(seen))
    }

    /// How many untried endpoints the request may go to, and how many only the scope keeps it from.
    pub(super) fn open(&self, places: &Places) -> (usize, usize) {
        let usable = (0..places.count).filter(|endpoint| !self.is_tried(*endpoint) && places.gone != Some(*endpoint));
        let (open, outside): (Vec<_>, Vec<_>) = usable.partition(|endpoint| self.is_in_scope(*endpoint));
        (open.len(), outside.len())
    }

    /// Whether an attempt may have reached a server that keeps it apart from a repeat by its key alone.
    fn binds(&self, seen: &Seen) -> bool {
        let Case { policy, facts, .. } = self.case;
        let may_be_done = seen.ended.is_some_and(|(_, outcome)| {
            let is_undone = matches!(self.word(&outcome), Some(Reason::Disclaimed | Reason::Pinned));
            outcome.sent() != Sent::No && !is_undone
        });
        may_be_done && facts.keyed && !facts.idempotent && policy.replay() != Replay::Always
    }

    fn is_in_scope(&self, endpoint: usize) -> bool {
        let scopes = &self.places.scopes;
        self.seen.iter().filter(|seen| self.binds(seen)).all(|seen| scopes[seen.endpoint] == scopes[endpoint])
    }

    /// The attempt that ended last, if none is under way, and what its server said.
    fn cause(&self) -> Option<(&Seen, Option<Reason>)> {
        if !self.in_flight().is_empty() {
            return None;
        }
        let last = self.seen.iter().max_by_key(|seen| seen.place)?;
        last.ended.map(|(_, outcome)| (last, self.word(&outcome)))
    }

    /// Whether an attempt is the first at its endpoint whose answer a fresh connection may better.
    fn is_once_more(&self, seen: &Seen) -> bool {
        let is_such = |seen: &&Seen| {
            let status = |outcome| matches!(outcome, Outcome::Answered { status: MISDIRECTED, .. });
            seen.ended.is_some_and(|(_, outcome)| status(outcome) && self.word(&outcome) == Some(Reason::Disclaimed))
        };
        let of_it = self.seen.iter().filter(|other| other.endpoint == seen.endpoint);
        is_such(&seen) && of_it.filter(is_such).count() == 1
    }

    /// Whether what is under way was begun because only that endpoint may have the request.
    pub(super) fn must_be_same(&self) -> bool {
        let ended = self.seen.iter().filter(|seen| seen.ended.is_some()).max_by_key(|seen| seen.place);
        let word = ended.and_then(|seen| seen.ended).and_then(|(_, outcome)| self.word(&outcome));
        matches!(word, Some(Reason::InProgress | Reason::Disclaimed))
    }

    fn is_pinned(&self, endpoint: usize) -> bool {
        let is_pin = |seen: &Seen| seen.ended.is_some_and(|(_, outcome)| self.word(&outcome) == Some(Reason::Pinned));
        self.seen.iter().any(|seen| seen.endpoint == endpoint && is_pin(seen))
    }

    /// Whether the next attempt may go there.
    pub(super) fn check_place(&self, endpoint: usize, again: bool, hedged: bool) {
        let policy = &self.case.policy;
        assert!(self.is_in_scope(endpoint), "a repeat where its key is not known\n{self:#?}");
        assert!(!again || !self.is_pinned(endpoint), "to an endpoint that does not serve it\n{self:#?}");
        let is_dialled = |endpoint: usize| self.seen.iter().any(|seen| seen.endpoint == endpoint);
        let is_new = |at: &usize| !is_dialled(*at) && self.places.gone != Some(*at) && self.is_in_scope(*at);
        let is_any_new = (0..self.places.count).any(|at| is_new(&at));
        assert!(again || !is_dialled(endpoint) || !is_any_new, "a slow one before one never dialled\n{self:#?}");
        let Some((last, word)) = self.cause().filter(|_| !hedged) else {
            return assert!(!again, "endpoint {endpoint} twice at once\n{self:#?}");
        };
        let is_same = last.endpoint == endpoint;
        let is_open = self.open(&self.places).0 > 0;
        match word {
            Some(Reason::InProgress) => assert!(is_same, "away from where it is in progress\n{self:#?}"),
            Some(Reason::Disclaimed) if self.is_once_more(last) && !is_open => {
                assert!(is_same, "not once more\n{self:#?}");
            }
            Some(Reason::Pinned) => {
                assert!(!again, "nobody who was tried serves it\n{self:#?}");
                assert!(!policy.discover() || self.refreshes == 1, "nobody asked where it is served\n{self:#?}");
            }
            _ if again => {
                assert!(!is_open, "endpoint {endpoint} twice while an untried one exists\n{self:#?}");
                assert!(policy.same_endpoint_again(), "the policy does not want an endpoint again\n{self:#?}");
            }
            _ => {}
        }
    }

    /// Whether no endpoint is left for the request, between two attempts.
    pub(super) fn is_nothing_left(&self) -> bool {
        let repeats = |endpoint: &usize| {
            self.is_tried(*endpoint)
                && self.places.gone != Some(*endpoint)
                && !self.is_pinned(*endpoint)
                && self.is_in_scope(*endpoint)
        };
        let is_any_again = self.case.policy.same_endpoint_again() && (0..self.places.count).any(|at| repeats(&at));
        let is_open = self.open(&self.places).0 > 0;
        match self.cause() {
            Some((last, Some(Reason::InProgress))) => !repeats(&last.endpoint),
            Some((last, Some(Reason::Disclaimed))) if self.is_once_more(last) => {
                !repeats(&last.endpoint) || !(is_open || is_any_again)
            }
            Some((_, Some(Reason::Pinned))) => !is_open,
            _ => !is_open && !is_any_again,
        }
    }
}
