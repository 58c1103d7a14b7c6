//! The endpoints that a choice is made among, as the choice looks at them: by place, by index, by cost.

use super::{Candidate, Pool};
use crate::Endpoints;

/// The members of a pool.
pub(super) struct Members<'e, E: ?Sized> {
    pub(super) endpoints: &'e E,
    pub(super) count: u32,
    pub(super) pool: Pool,
    pub(super) size: u32,
    pub(super) is_member: &'e dyn Fn(u32) -> bool,
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
    pub(super) fn nth(&self, place: u32) -> Option<Candidate> {
        let upto = usize::try_from(place).unwrap_or(usize::MAX).saturating_add(1);
        self.iter().take(upto).last()
    }

    /// This endpoint as a member.
    pub(super) fn find(&self, endpoint: u32) -> Option<Candidate> {
        let is_member = endpoint < self.count && (self.is_member)(endpoint);
        if !is_member {
            return None;
        }
        self.iter().find(|candidate| candidate.endpoint == endpoint).map(|candidate| self.with_cost(candidate))
    }

    /// The cheaper of the members at two places, the first on a tie, and the other one.
    pub(super) fn cheaper_of(&self, (first, second): (u32, Option<u32>)) -> Option<(Candidate, Option<Candidate>)> {
        let first = self.with_cost(self.nth(first)?);
        let Some(second) = second.and_then(|place| self.nth(place)).map(|second| self.with_cost(second)) else {
            return Some((first, None));
        };
        Some(if second.cost < first.cost { (second, Some(first)) } else { (first, Some(second)) })
    }

    /// The cheapest member, the lowest index on a tie, and the next cheapest.
    pub(super) fn cheapest(&self) -> Option<(Candidate, Option<Candidate>)> {
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
