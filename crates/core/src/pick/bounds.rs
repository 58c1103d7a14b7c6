//! What a request may not use, from the record alone: what was tried, what is parked, gone or pinned elsewhere, and what
//! does not share the store of keys with an endpoint that may have got it.

use std::time::Duration;

use super::{Choice, Pick, Pool};
use crate::answer::{Meaning, is_of_the_connection, meaning_of};
use crate::decide::is_kept_by_its_key;
use crate::pause::parked_until;
use crate::record::AttemptRecord;
use crate::{Endpoints, Reason, Sent, Verdict};

impl<'s> Choice<'s> {
    /// The attempts that had begun.
    fn begun(&self) -> impl Iterator<Item = &'s AttemptRecord> + Clone + use<'s> {
        self.attempts.iter().take(self.begun)
    }

    /// Whether an endpoint was tried for this request, or is being tried.
    pub(crate) fn is_tried(&self, endpoint: u32) -> bool {
        self.begun().any(|attempt| attempt.endpoint == endpoint && !self.has_only_lost(attempt))
    }

    /// Whether an endpoint was dialled for this request, and lost the race each time, so that it is as untried as before.
    pub(super) fn is_beaten(&self, endpoint: u32) -> bool {
        self.begun().any(|attempt| attempt.endpoint == endpoint) && !self.is_tried(endpoint)
    }

    /// Whether an attempt had ended before this choice as a dial that lost its race: nothing was asked of its endpoint.
    ///
    /// Its verdict tells when it ended, whatever the clock said: it saw the attempts that had begun by then.
    pub(super) fn has_only_lost(&self, attempt: &AttemptRecord) -> bool {
        let has_ended = !attempt.is_under_way() && attempt.spent.attempts as usize <= self.begun;
        has_ended && attempt.outcome.is_lost_race() && attempt.outcome.sent() == Sent::No
    }

    /// Until when an endpoint's own `Retry-After` asks to be left alone; zero if it never asked.
    pub(crate) fn parked_until(&self, endpoint: u32) -> Duration {
        parked_until(self.policy, self.attempts, self.begun, endpoint)
    }

    /// Which of the attempts were at an endpoint that cannot be used any more, a bit each.
    pub(super) fn gone(&self, endpoints: &(impl Endpoints + ?Sized), count: u32) -> u32 {
        let is_gone = |endpoint: u32| endpoint < count && !endpoints.is_usable(endpoint as usize);
        let gone = self.begun().zip(0_u32..).filter(|(attempt, _)| is_gone(attempt.endpoint));
        gone.fold(0, |bits, (_, place)| bits | 1_u32.checked_shl(place).unwrap_or_default())
    }

    /// Whether an endpoint is one that was tried and may be tried again.
    pub(crate) fn may_repeat(&self, endpoint: u32, gone: u32, scope: Option<u32>) -> bool {
        for (attempt, place) in self.begun().zip(0_u32..).filter(|(attempt, _)| attempt.endpoint == endpoint) {
            let is_gone = gone & 1_u32.checked_shl(place).unwrap_or_default() != 0;
            let is_pinned = meaning_of(self.policy, self.facts, &attempt.outcome) == Some(Meaning::Pinned);
            if is_gone || is_pinned || scope.is_some_and(|scope| attempt.pick.scope != scope) {
                return false;
            }
        }
        self.is_tried(endpoint)
    }

    /// The scope to which the request is bound: the one in which it may have been sent, and where its key alone keeps a
    /// repeat from counting. What the server disclaimed binds nobody.
    ///
    /// Only for a choice or a verdict that follows on all that had ended then; see [`Ledger::spent`].
    ///
    /// [`Ledger::spent`]: crate::ledger::Ledger::spent
    pub(crate) fn bound(&self) -> Option<u32> {
        if !is_kept_by_its_key(self.policy, self.facts) {
            return None;
        }
        self.begun().find(|attempt| self.binds(attempt)).map(|attempt| attempt.pick.scope)
    }

    /// Whether an attempt, if it had ended before this choice, binds the request to its scope.
    fn binds(&self, attempt: &AttemptRecord) -> bool {
        let meaning = meaning_of(self.policy, self.facts, &attempt.outcome);
        // Of an attempt that ended later than the choice, the verdict saw more attempts than the choice.
        attempt.spent.attempts as usize <= self.begun
            && attempt.outcome.sent() != Sent::No
            && !matches!(meaning, Some(Meaning::Disclaimed | Meaning::Pinned))
    }

    /// Whether an attempt that ended while others were under way forbids that one of these carries the request on.
    ///
    /// Which of the others were under way then is not looked at: in doubt the request does not go on.
    pub(crate) fn is_beside_outsiders(&self, attempt: &AttemptRecord) -> bool {
        is_kept_by_its_key(self.policy, self.facts)
            && self.binds(attempt)
            && self.begun().any(|other| other.pick.scope != attempt.pick.scope)
    }

    /// How many endpoints were untried and usable behind the newest choice, in all scopes. What has ended since is not
    /// looked at.
    pub(crate) fn open(&self) -> u32 {
        self.begun().last().map_or(0, |newest| self.open_behind(newest, false))
    }

    /// How many endpoints are untried, usable and of this scope, or of any, as the newest choice within it saw them. Only
    /// where every attempt has ended: those whose dials have lost since are untried again.
    pub(crate) fn open_at_rest(&self, scope: Option<u32>) -> u32 {
        let is_within = |attempt: &&AttemptRecord| scope.is_none_or(|scope| attempt.pick.scope == scope);
        let Some(newest) = self.begun().filter(is_within).last() else { return 0 };
        let before = self.before(newest);
        let was_taken = |endpoint| endpoint == newest.endpoint || before.is_tried(endpoint);
        let is_gone = |endpoint| {
            let mut places = self.begun().zip(0_u32..).filter(|(attempt, _)| attempt.endpoint == endpoint);
            places.any(|(_, place)| newest.pick.gone & 1_u32.checked_shl(place).unwrap_or_default() != 0)
        };
        let is_back = |attempt: &AttemptRecord| {
            let endpoint = attempt.endpoint;
            was_taken(endpoint) && !is_gone(endpoint) && !self.is_tried(endpoint)
        };
        let back = self.firsts().filter(is_within).filter(|attempt| is_back(attempt)).count();
        self.open_behind(newest, scope.is_some()).saturating_add(u32::try_from(back).unwrap_or(u32::MAX))
    }

    /// What the choice of an attempt looked at.
    fn before(&self, attempt: &AttemptRecord) -> Self {
        Choice { begun: (attempt.attempt as usize).saturating_sub(1), ..*self }
    }

    /// The first attempt at each endpoint.
    fn firsts(&self) -> impl Iterator<Item = &'s AttemptRecord> {
        let attempts = self.attempts;
        let is_first = move |place: usize, attempt: &AttemptRecord| {
            !attempts.iter().take(place).any(|other| other.endpoint == attempt.endpoint)
        };
        self.begun().enumerate().filter(move |(place, attempt)| is_first(*place, attempt)).map(|(_, attempt)| attempt)
    }

    /// How many endpoints were untried and usable behind a choice; only those of its own scope if `within`.
    fn open_behind(&self, attempt: &AttemptRecord, within: bool) -> u32 {
        let Pick { pool, outside, .. } = attempt.pick;
        let taken = u32::from(matches!(pool, Pool::Untried | Pool::Shedding)) + if within { outside } else { 0 };
        self.before(attempt).open_before(&attempt.pick).saturating_sub(taken)
    }

    /// How many endpoints a choice could count as untried and usable, in all scopes.
    pub(super) fn open_before(&self, pick: &Pick) -> u32 {
        let is_taken = |attempt: &&AttemptRecord| attempt.endpoint < pick.endpoints && self.is_tried(attempt.endpoint);
        let tried = self.firsts().filter(is_taken).count();
        let tried = u32::try_from(tried).unwrap_or(u32::MAX);
        pick.endpoints.saturating_sub(tried).saturating_sub(pick.unusable)
    }

    /// Whether a fresh connection to the same endpoint may have a better answer than this attempt, the first time.
    pub(crate) fn is_once_more(&self, attempt: &AttemptRecord) -> bool {
        let is_such = |attempt: &AttemptRecord| is_of_the_connection(self.policy, self.facts, &attempt.outcome);
        let of_it = self.begun().filter(|other| other.endpoint == attempt.endpoint && is_such(other));
        is_such(attempt) && of_it.count() == 1
    }

    /// The attempt whose verdict the next one follows, and why the request goes on from it. `None` before the first
    /// attempt and while one is under way.
    pub(crate) fn cause(&self) -> Option<(&'s AttemptRecord, Reason)> {
        self.begun().find_map(|attempt| match attempt.verdict {
            Verdict::TryNext(reason) if attempt.spent.attempts as usize == self.begun && !attempt.spent.in_flight => {
                Some((attempt, reason))
            }
            _ => None,
        })
    }
}
