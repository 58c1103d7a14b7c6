//! Makes a choice again from the pick that it left.

use std::time::Duration;

use super::{Candidate, Choice, Pick, Pool};
use crate::{Order, Reason};

impl Choice<'_> {
    /// Whether the choice that left this pick would be made again from what the pick saw.
    pub(crate) fn would_repeat(&self, pick: &Pick, ready: Duration) -> bool {
        let Pick { size, chosen, other, .. } = *pick;
        if !self.is_possible(pick, ready) {
            return false;
        }
        let is_cheaper = other.is_none_or(|other| chosen.cost <= other.cost);
        let is_preferred = self.facts.preferred == Some(chosen.endpoint) && other.is_none();
        match self.policy.order() {
            _ if pick.pool == Pool::Same => chosen.place == 0 && chosen.cost == 0 && other.is_none(),
            Order::Affine | Order::Sticky if is_preferred => true,
            Order::Priority | Order::Sticky => chosen.place == 0 && other.is_none(),
            Order::Fastest => is_cheaper && other.is_some() == (size > 1),
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

    /// Whether the choice was among those among which it had to be.
    pub(crate) fn is_right_pool(&self, pick: &Pick, hedged: bool) -> bool {
        let cause = if hedged { None } else { self.cause() };
        let must_be_same = cause.is_some_and(|(_, reason)| matches!(reason, Reason::InProgress | Reason::OnceMore));
        let once_more =
            cause.is_some_and(|(attempt, reason)| reason == Reason::Disclaimed && self.is_once_more(attempt));
        let is_pinned = cause.is_some_and(|(_, reason)| reason == Reason::Pinned);
        match pick.pool {
            Pool::Same => {
                let is_it = cause.is_some_and(|(attempt, _)| attempt.endpoint == pick.chosen.endpoint);
                is_it && (must_be_same || once_more)
            }
            Pool::Untried | Pool::Shedding => !must_be_same,
            Pool::Again => self.policy.same_endpoint_again() && !must_be_same && !once_more && !is_pinned && !hedged,
        }
    }

    /// Whether there can have been such a pool with such candidates.
    fn is_possible(&self, pick: &Pick, ready: Duration) -> bool {
        let Pick { endpoints, pool, size, chosen, other, gone, scope, .. } = *pick;
        let bound = self.bound();
        let open = self.open_before(pick);
        let untried = if bound.is_some() { open.saturating_sub(pick.outside) } else { open };
        let may_repeat = |endpoint: u32| self.may_repeat(endpoint, gone, bound);
        let repeated = || (0..endpoints).filter(|endpoint| self.is_tried(*endpoint) && may_repeat(*endpoint));
        let is_beaten = self.is_beaten(chosen.endpoint);
        let beaten = (0..endpoints).filter(|endpoint| self.is_beaten(*endpoint)).count();
        let is_size_possible = match pool {
            Pool::Untried => size <= untried && (!is_beaten || size as usize <= beaten),
            Pool::Shedding => size == untried,
            Pool::Again => untried == 0 && size as usize <= repeated().count(),
            Pool::Same => size == 1,
        };
        let rank = |endpoint| {
            let parked = self.parked_until(endpoint);
            if parked <= ready { Duration::ZERO } else { parked }
        };
        let is_member = |candidate: Candidate| {
            let Candidate { endpoint, place, .. } = candidate;
            let is_one = match pool {
                Pool::Untried => !self.is_tried(endpoint) && self.is_beaten(endpoint) == is_beaten,
                Pool::Shedding => !self.is_tried(endpoint),
                Pool::Again => may_repeat(endpoint) && repeated().all(|other| rank(endpoint) <= rank(other)),
                Pool::Same => may_repeat(endpoint),
            };
            endpoint < endpoints && place < size && place <= endpoint && is_one
        };
        let is_of_its_scope = bound.is_none_or(|bound| bound == scope) && self.is_scope_known(pick);
        is_size_possible && is_of_its_scope && is_member(chosen) && other.is_none_or(is_member)
    }

    /// Whether the pick says of the chosen one's scope what earlier picks of it said, and leaves room for those outside.
    fn is_scope_known(&self, pick: &Pick) -> bool {
        let mut earlier = self.attempts.iter().take(self.begun);
        let is_taken = u32::from(matches!(pick.pool, Pool::Untried | Pool::Shedding));
        pick.outside.saturating_add(is_taken) <= self.open_before(pick)
            && earlier.all(|other| other.endpoint != pick.chosen.endpoint || other.pick.scope == pick.scope)
    }
}
