//! Which endpoint is next: never one that was tried while an untried one exists, and among these as the order says.
//!
//! A choice leaves a [`Pick`] behind, which holds what it saw and fits in a few words however many endpoints there are:
//! how many were eligible, and the one or two that were compared. From the seed and the pick alone the choice can be made
//! again.

use std::time::Duration;

use crate::pause::parked_until;
use crate::random::{Purpose, below};
use crate::record::Attempts;
use crate::words::words;
use crate::{Endpoints, Facts, Order, Policy};

/// Which endpoints a choice was made among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Those not tried for this request that admit traffic.
    Untried,
    /// Those not tried that do not admit traffic, as no other untried one is left.
    Shedding,
    /// Those tried before, as all have been: first any that no `Retry-After` keeps, then any that admits traffic, then
    /// the least tried.
    Again,
}

words!(Pool { Untried => "untried", Shedding => "shedding", Again => "again" });

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

/// How many endpoints there are and how many of them were not tried yet.
#[derive(Clone, Copy)]
pub(crate) struct Survey {
    pub(crate) count: u32,
    pub(crate) admitting: u32,
    pub(crate) shedding: u32,
}

impl Survey {
    /// Whether any endpoint was not tried yet.
    pub(crate) const fn has_untried(self) -> bool {
        self.admitting + self.shedding > 0
    }
}

impl Choice<'_> {
    /// Whether an endpoint was tried for this request, or is being tried.
    pub(crate) fn is_tried(&self, endpoint: u32) -> bool {
        self.attempts.iter().take(self.begun).any(|attempt| attempt.endpoint == endpoint)
    }

    /// Counts the endpoints.
    pub(crate) fn survey(&self, endpoints: &(impl Endpoints + ?Sized)) -> Survey {
        let count = u32::try_from(endpoints.count()).unwrap_or(u32::MAX);
        let mut survey = Survey { count, admitting: 0, shedding: 0 };
        for endpoint in (0..count).filter(|endpoint| !self.is_tried(*endpoint)) {
            if endpoints.admits(endpoint as usize) {
                survey.admitting += 1;
            } else {
                survey.shedding += 1;
            }
        }
        survey
    }

    /// Chooses; `ready` is when the backoff before a repeated endpoint ends. `None` only if there is no endpoint.
    pub(crate) fn choose(
        &self,
        endpoints: &(impl Endpoints + ?Sized),
        survey: Survey,
        ready: Duration,
    ) -> Option<Pick> {
        let count = survey.count;
        let members = |pool, size, is_member: &dyn Fn(u32) -> bool| {
            let members = Members { endpoints, count, pool, size, is_member };
            self.choose_among(&members)
        };
        if survey.admitting > 0 {
            let is_member = |endpoint| !self.is_tried(endpoint) && endpoints.admits(endpoint as usize);
            return members(Pool::Untried, survey.admitting, &is_member);
        }
        if survey.shedding > 0 {
            return members(Pool::Shedding, survey.shedding, &|endpoint| !self.is_tried(endpoint));
        }
        let rank = |endpoint| self.rank_again(endpoint, endpoints.admits(endpoint as usize), ready);
        let best = (0..count).map(rank).min()?;
        let is_member = |endpoint| rank(endpoint) == best;
        let size = (0..count).filter(|endpoint| is_member(*endpoint)).count();
        members(Pool::Again, u32::try_from(size).unwrap_or(u32::MAX), &is_member)
    }

    /// Where an endpoint that was tried stands among those; lower is better.
    fn rank_again(&self, endpoint: u32, admits: bool, ready: Duration) -> (Duration, bool, usize) {
        let parked = parked_until(self.policy, self.attempts, self.begun, endpoint);
        let tries = self.attempts.iter().take(self.begun).filter(|attempt| attempt.endpoint == endpoint).count();
        (if parked <= ready { Duration::ZERO } else { parked }, !admits, tries)
    }

    /// Chooses among the members of a pool as the policy's order says.
    fn choose_among<E: Endpoints + ?Sized>(&self, members: &Members<'_, E>) -> Option<Pick> {
        let order = self.policy.order();
        let preferred = self.facts.preferred.filter(|_| order == Order::Affine);
        let (chosen, other) = match order {
            Order::Affine | Order::Spread => match preferred.and_then(|endpoint| members.find(endpoint)) {
                Some(chosen) => (chosen, None),
                None => members.cheaper_of(self.two_places(members.size))?,
            },
            Order::Priority => (Candidate { cost: 0, ..members.nth(0)? }, None),
            Order::Fastest => members.cheapest()?,
        };
        Some(Pick { endpoints: members.count, pool: members.pool, size: members.size, chosen, other })
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

    /// Whether the choice that left this pick would be made again from what the pick saw.
    pub(crate) fn would_repeat(&self, pick: &Pick, ready: Duration) -> bool {
        let Pick { size, chosen, other, .. } = *pick;
        if !self.is_possible(pick, ready) {
            return false;
        }
        let is_cheaper = other.is_none_or(|other| chosen.cost <= other.cost);
        match self.policy.order() {
            Order::Priority => chosen.place == 0 && other.is_none(),
            Order::Fastest => is_cheaper && other.is_some() == (size > 1),
            Order::Affine if self.facts.preferred == Some(chosen.endpoint) && other.is_none() => true,
            Order::Affine | Order::Spread => {
                let (first, second) = self.two_places(size);
                let places = (chosen.place, other.map(|other| other.place));
                let is_second = second == Some(places.0) && places.1 == Some(first);
                // The first drawn wins a tie.
                (places == (first, second) && is_cheaper)
                    || (is_second && other.is_some_and(|other| chosen.cost < other.cost))
            }
        }
    }

    /// Whether there can have been such a pool with such candidates.
    fn is_possible(&self, pick: &Pick, ready: Duration) -> bool {
        let Pick { endpoints, pool, size, chosen, other } = *pick;
        let parked = |endpoint| self.rank_again(endpoint, true, ready).0;
        let untried = (0..endpoints).filter(|endpoint| !self.is_tried(*endpoint)).count();
        let untried = u32::try_from(untried).unwrap_or(u32::MAX);
        let is_size_possible = match pool {
            Pool::Untried => size <= untried,
            Pool::Shedding => size == untried,
            Pool::Again => untried == 0 && size <= endpoints,
        };
        let is_member = |candidate: Candidate| {
            let Candidate { endpoint, place, .. } = candidate;
            endpoint < endpoints
                && place < size
                && place <= endpoint
                && self.is_tried(endpoint) == (pool == Pool::Again)
                && (pool != Pool::Again || (0..endpoints).all(|other| parked(endpoint) <= parked(other)))
        };
        is_size_possible && is_member(chosen) && other.is_none_or(is_member)
    }
}

/// The members of a pool.
struct Members<'e, E: ?Sized> {
    endpoints: &'e E,
    count: u32,
    pool: Pool,
    size: u32,
    is_member: &'e dyn Fn(u32) -> bool,
}

impl<E: Endpoints + ?Sized> Members<'_, E> {
    /// The members in order of their index.
    fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        let members = (0..self.count).filter(|endpoint| (self.is_member)(*endpoint));
        (0..).zip(members).map(|(place, endpoint)| Candidate { endpoint, place, cost: 0 })
    }

    /// The member with its cost.
    fn with_cost(&self, candidate: Candidate) -> Candidate {
        Candidate { cost: self.endpoints.cost(candidate.endpoint as usize), ..candidate }
    }

    /// The member at a place; the last one if there are fewer.
    fn nth(&self, place: u32) -> Option<Candidate> {
        let upto = usize::try_from(place).unwrap_or(usize::MAX).saturating_add(1);
        self.iter().take(upto).last()
    }

    /// This endpoint as a member.
    fn find(&self, endpoint: u32) -> Option<Candidate> {
        let is_member = endpoint < self.count && (self.is_member)(endpoint);
        if !is_member {
            return None;
        }
        self.iter().find(|candidate| candidate.endpoint == endpoint).map(|candidate| self.with_cost(candidate))
    }

    /// The cheaper of the members at two places, the first on a tie, and the other one.
    fn cheaper_of(&self, (first, second): (u32, Option<u32>)) -> Option<(Candidate, Option<Candidate>)> {
        let first = self.with_cost(self.nth(first)?);
        let Some(second) = second.and_then(|place| self.nth(place)).map(|second| self.with_cost(second)) else {
            return Some((first, None));
        };
        Some(if second.cost < first.cost { (second, Some(first)) } else { (first, Some(second)) })
    }

    /// The cheapest member, the lowest index on a tie, and the next cheapest.
    fn cheapest(&self) -> Option<(Candidate, Option<Candidate>)> {
        let mut ranked: (Option<Candidate>, Option<Candidate>) = (None, None);
        for candidate in self.iter().map(|candidate| self.with_cost(candidate)) {
            let is_under = |than: Option<Candidate>| than.is_none_or(|than| candidate.cost < than.cost);
            if is_under(ranked.0) {
                ranked = (Some(candidate), ranked.0);
            } else if is_under(ranked.1) {
                ranked.1 = Some(candidate);
            }
        }
        ranked.0.map(|cheapest| (cheapest, ranked.1))
    }
}
