//! Which endpoint is next: never one that was tried while an untried one exists, and among these as the order says.
//!
//! An endpoint whose dial only lost a race was asked nothing, so it is untried again once that dial has ended. It comes
//! behind those that were never dialled, since it is known to be slow to connect. It cannot go back and forth for ever:
//! every dial is an attempt, and those are bounded.
//!
//! A choice leaves a [`Pick`] behind, which holds what it saw and fits in a few words however many endpoints there are:
//! how many were eligible, and the one or two that were compared. From the seed and the pick alone the choice can be made
//! again.

use std::time::Duration;

use crate::random::{Purpose, below};
use crate::record::Attempts;
use crate::words::words;
use crate::{Endpoints, Facts, Order, Policy};

mod bounds;
mod check;
mod members;
use members::Members;

/// Which endpoints a choice was made among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Those not tried for this request that admit traffic: the ones never dialled, or if there is none, the ones whose
    /// dials have lost their races.
    Untried,
    /// Those not tried that do not admit traffic, as no other untried one is left.
    Shedding,
    /// Those tried before, as all have been: first any that no `Retry-After` keeps, then any that admits traffic, then
    /// the least tried. One that said that the request is served elsewhere is not among them.
    Again,
    /// The one that was asked last and said that the request is to be asked there again, on a fresh connection.
    Same,
}

words!(Pool { Untried => "untried", Shedding => "shedding", Again => "again", Same => "same" });

/// An endpoint that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Its index.
    pub endpoint: u32,
    /// Its place among the pool's endpoints, counted from 0.
    pub place: u32,
    /// Its cost then; 0 where the order does not ask for costs.
    pub cost: u64,
}

/// What the choice of an endpoint saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pick {
    /// How many endpoints there were.
    pub endpoints: u32,
    /// Among which of them the choice was.
    pub pool: Pool,
    /// How many were in that pool.
    pub size: u32,
    /// The one that was chosen.
    pub chosen: Candidate,
    /// The one that it was compared with, if any.
    pub other: Option<Candidate>,
    /// How many of those not tried before could not be used.
    pub unusable: u32,
    /// Which of those tried before could not be used any more: a bit per attempt, the lowest for the first.
    pub gone: u32,
    /// The dedup scope of the chosen one.
    pub scope: u32,
    /// How many of those not tried before could be used, but are of another scope than the chosen one.
    pub outside: u32,
}

/// What a choice depends on besides the endpoints.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'s> {
    pub(crate) policy: &'s Policy,
    pub(crate) facts: &'s Facts,
    pub(crate) seed: u64,
    /// Attempts begun before this choice.
    pub(crate) attempts: &'s Attempts,
    pub(crate) begun: usize,
}

/// How many endpoints there are, and of those not tried yet how many may be, and how many not for which reason.
#[derive(Clone, Copy)]
pub(crate) struct Survey {
    pub(crate) count: u32,
    pub(crate) admitting: u32,
    /// Admitting too, but dialled before: they have lost their races.
    pub(crate) beaten: u32,
    pub(crate) shedding: u32,
    pub(crate) unusable: u32,
    /// Usable, but of another scope than the request is bound to.
    pub(crate) outside: u32,
    /// As [`Pick::gone`].
    pub(crate) gone: u32,
}

impl Survey {
    /// Whether there is an endpoint that was not tried yet and may be.
    pub(crate) const fn has_untried(self) -> bool {
        self.admitting + self.beaten + self.shedding > 0
    }
}

/// Which way a further attempt goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// To an endpoint that was not tried.
    Untried,
    /// To one of `count` that were tried, except for those that are `gone`.
    Again { count: u32, gone: u32 },
    /// To this one, which was asked last.
    Same { endpoint: u32 },
}

impl Choice<'_> {
    /// Counts the endpoints.
    pub(crate) fn survey(&self, endpoints: &(impl Endpoints + ?Sized)) -> Survey {
        let count = u32::try_from(endpoints.count()).unwrap_or(u32::MAX);
        let scope = self.bound();
        let gone = self.gone(endpoints, count);
        let mut survey = Survey { count, admitting: 0, beaten: 0, shedding: 0, unusable: 0, outside: 0, gone };
        for endpoint in (0..count).filter(|endpoint| !self.is_tried(*endpoint)) {
            let index = endpoint as usize;
            if !endpoints.is_usable(index) {
                survey.unusable += 1;
            } else if scope.is_some_and(|scope| endpoints.scope(index) != scope) {
                survey.outside += 1;
            } else if !endpoints.admits(index) {
                survey.shedding += 1;
            } else if self.is_beaten(endpoint) {
                survey.beaten += 1;
            } else {
                survey.admitting += 1;
            }
        }
        survey
    }

    /// Chooses; `ready` is when the backoff before a repeated endpoint ends. `None` only if there is no endpoint that way.
    pub(crate) fn choose(
        &self,
        endpoints: &(impl Endpoints + ?Sized),
        survey: Survey,
        course: Course,
        ready: Duration,
    ) -> Option<Pick> {
        let count = survey.count;
        let members = |pool, size, is_member: &dyn Fn(u32) -> bool| {
            let members = Members { endpoints, count, pool, size, is_member };
            self.choose_among(&members, survey)
        };
        let scope = self.bound();
        let is_open = |endpoint: u32| {
            let index = endpoint as usize;
            !self.is_tried(endpoint)
                && endpoints.is_usable(index)
                && scope.is_none_or(|scope| endpoints.scope(index) == scope)
        };
        match course {
            Course::Untried if survey.admitting > 0 => {
                let is_new = |endpoint| endpoints.admits(endpoint as usize) && !self.is_beaten(endpoint);
                members(Pool::Untried, survey.admitting, &|endpoint| is_open(endpoint) && is_new(endpoint))
            }
            Course::Untried if survey.beaten > 0 => {
                let is_member = |endpoint| is_open(endpoint) && endpoints.admits(endpoint as usize);
                members(Pool::Untried, survey.beaten, &is_member)
            }
            Course::Untried => members(Pool::Shedding, survey.shedding, &is_open),
            Course::Again { gone, .. } => {
                let may = |endpoint: &u32| self.may_repeat(*endpoint, gone, scope);
                let rank = |endpoint| self.rank_again(endpoint, endpoints.admits(endpoint as usize), ready);
                let best = (0..count).filter(may).map(rank).min()?;
                let is_member = |endpoint| may(&endpoint) && rank(endpoint) == best;
                let size = (0..count).filter(|endpoint| is_member(*endpoint)).count();
                members(Pool::Again, u32::try_from(size).unwrap_or(u32::MAX), &is_member)
            }
            Course::Same { endpoint } => {
                let chosen = Candidate { endpoint, place: 0, cost: 0 };
                Some(self.leave(endpoints, survey, Pool::Same, 1, (chosen, None)))
            }
        }
    }

    /// Where an endpoint that was tried stands among those; lower is better.
    fn rank_again(&self, endpoint: u32, admits: bool, ready: Duration) -> (Duration, bool, usize) {
        let parked = self.parked_until(endpoint);
        let begun = self.attempts.iter().take(self.begun);
        let tries = begun.filter(|attempt| attempt.endpoint == endpoint && !self.has_only_lost(attempt)).count();
        (if parked <= ready { Duration::ZERO } else { parked }, !admits, tries)
    }

    /// Chooses among the members of a pool as the policy's order says.
    fn choose_among<E: Endpoints + ?Sized>(&self, members: &Members<'_, E>, survey: Survey) -> Option<Pick> {
        let order = self.policy.order();
        let preferred = self.facts.preferred.filter(|_| matches!(order, Order::Affine | Order::Sticky));
        let preferred = preferred.and_then(|endpoint| members.find(endpoint));
        let free = |candidate| (Candidate { cost: 0, ..candidate }, None);
        let compared = match (order, preferred) {
            (Order::Affine, Some(chosen)) => (chosen, None),
            (Order::Affine | Order::Spread, _) => members.cheaper_of(self.two_places(members.size))?,
            (Order::Sticky, Some(chosen)) => free(chosen),
            (Order::Sticky | Order::Priority, _) => free(members.nth(0)?),
            (Order::Fastest, _) => members.cheapest()?,
        };
        Some(self.leave(members.endpoints, survey, members.pool, members.size, compared))
    }

    /// What a choice leaves behind.
    fn leave(
        &self,
        endpoints: &(impl Endpoints + ?Sized),
        survey: Survey,
        pool: Pool,
        size: u32,
        (chosen, other): (Candidate, Option<Candidate>),
    ) -> Pick {
        let scope = endpoints.scope(chosen.endpoint as usize);
        let is_outside = |index: usize| endpoints.is_usable(index) && endpoints.scope(index) != scope;
        let untried = (0..survey.count).filter(|endpoint| !self.is_tried(*endpoint));
        let outside = untried.filter(|endpoint| is_outside(*endpoint as usize)).count();
        let outside = u32::try_from(outside).unwrap_or(u32::MAX);
        let Survey { count, unusable, gone, .. } = survey;
        Pick { endpoints: count, pool, size, chosen, other, unusable, gone, scope, outside }
    }

    /// The places of the two endpoints to compare; one place if there is no second.
    fn two_places(&self, size: u32) -> (u32, Option<u32>) {
        let attempt = u32::try_from(self.begun + 1).unwrap_or(u32::MAX);
        let draw = |bound: u32, purpose| {
            u32::try_from(below(u64::from(bound), self.seed, attempt, purpose)).unwrap_or_default()
        };
        if size < 2 {
            return (0, None);
        }
        let first = draw(size, Purpose::First);
        // The second is drawn from the rest, so it takes the place behind if it would be at or behind the first.
        let second = draw(size - 1, Purpose::Second);
        (first, Some(if second >= first { second + 1 } else { second }))
    }
}
