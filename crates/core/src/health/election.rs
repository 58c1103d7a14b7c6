//! Which endpoint is preferred, with hysteresis: away from one that is not good at once, back to a better one only when
//! that has been good for a while, and not too often.
//!
//! The preference has an age, and use does not renew it. In a design where each success did, steady traffic kept every
//! client on the endpoint to which it had once failed over, for ever.
//!
//! Two things can make another endpoint the better one. It came back: then it has to be good for the grace, and nothing
//! else. Or it was there all the time and its measured cost has sunk under that of the elected one: then the preference
//! has to reach its age first, because two endpoints of nearly the same cost pass one another all the time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::{PolicyError, Problems};

/// What the cap on switches counts over.
const MINUTE: Duration = Duration::from_secs(60);
/// One a second; more is no cap.
const SWITCHES_MAX: u32 = 60;
/// A day, as for all times of a policy: more is a unit mistaken.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// When traffic goes back to a better endpoint, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailbackParts {
    /// How long a better endpoint must have been good before traffic goes back to it.
    pub grace: Duration,
    /// With so many switches in the last minute traffic does not go back, if only the endpoint that it goes to is good;
    /// 0 switches going back off.
    pub switches_per_minute: u32,
    /// How long an elected endpoint is kept although another one that was good too has become cheaper.
    pub preference_ttl: Duration,
}

impl Default for FailbackParts {
    fn default() -> Self {
        Self {
            // As long as the longest shedding of a circuit: what comes and goes within it is not back.
            grace: Duration::from_secs(30),
            // One in ten seconds on average; a session that is established anew that often is still of use.
            switches_per_minute: 6,
            // Classworks' preference: SERVER_PREFERENCE_TTL.
            preference_ttl: Duration::from_secs(300),
        }
    }
}

/// A checked policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailbackPolicy(FailbackParts);

impl FailbackPolicy {
    /// Checks the parts.
    ///
    /// # Errors
    /// All problems at once, each with the field, what was found and what is allowed.
    pub fn try_new(parts: FailbackParts) -> Result<Self, PolicyError> {
        let FailbackParts { grace, switches_per_minute: switches, preference_ttl: ttl } = parts;
        let mut problems = Problems::default();
        problems.expect(grace <= DURATION_MAX, "failback.grace", grace, "at most 24 h");
        problems.expect(switches <= SWITCHES_MAX, "failback.switches_per_minute", switches, "at most 60");
        problems.expect(ttl <= DURATION_MAX, "failback.preference_ttl", ttl, "at most 24 h");
        problems.into_result()?;
        Ok(Self(parts))
    }

    /// The parts, as they were given.
    #[must_use]
    pub const fn parts(&self) -> &FailbackParts {
        &self.0
    }
}

/// How an endpoint stands when it is voted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may be elected.
    pub is_good: bool,
    /// Since when it has been good without a break.
    pub good_since: Duration,
    /// What using it costs; lower is better, and of two with the same cost the first is. The place in the list for a
    /// fixed order of priority, the measured latency for the fastest.
    pub cost: u64,
}

/// Who is elected, and since when.
#[derive(Clone, Copy, Debug)]
struct Elected {
    endpoint: u32,
    /// When it was last found to be the best.
    at: Duration,
}

/// The election of the preferred endpoint.
#[derive(Clone, Debug)]
pub struct Election {
    policy: FailbackParts,
    elected: Option<Elected>,
    /// When the last switches were, the newest last; not more of them than the cap.
    switches: VecDeque<Duration>,
    /// The latest time it was told; an earlier one is taken for this one.
    latest: Duration,
}

impl Election {
    /// Nobody is elected yet.
    #[must_use]
    pub const fn new(policy: FailbackPolicy) -> Self {
        Self { policy: policy.0, elected: None, switches: VecDeque::new(), latest: Duration::ZERO }
    }

    /// The one that is elected, as the last vote left it.
    #[must_use]
    pub fn elected(&self) -> Option<u32> {
        self.elected.map(|elected| elected.endpoint)
    }

    /// Votes: `standings` are the endpoints by their index. Says who is elected now; `None` if none is good.
    ///
    /// It may be asked as often as wanted, also with each request: asking changes nothing by itself.
    pub fn elect(&mut self, now: Duration, standings: &[Standing]) -> Option<u32> {
        self.latest = self.latest.max(now);
        let now = self.latest;
        let good = self
            .elected
            .filter(|elected| standings.get(elected.endpoint as usize).is_some_and(|standing| standing.is_good));
        match good {
            Some(elected) => self.fail_back(now, elected, standings),
            None => self.fail_over(now, standings),
        }
        self.elected()
    }

    /// The elected one is not good: the cheapest good one takes its place, whatever the cap says.
    fn fail_over(&mut self, now: Duration, standings: &[Standing]) {
        let best = cheapest(standings, |_| true);
        if best.is_some() && self.elected.is_some() {
            self.note_switch(now);
        }
        self.elected = best.map(|endpoint| Elected { endpoint, at: now });
    }

    /// The elected one is good: a cheaper one takes its place if it has earned it and the cap allows it.
    fn fail_back(&mut self, now: Duration, elected: Elected, standings: &[Standing]) {
        let FailbackParts { grace, preference_ttl, .. } = self.policy;
        let cost = standings.get(elected.endpoint as usize).map_or(u64::MAX, |standing| standing.cost);
        let is_old = now.saturating_sub(elected.at) >= preference_ttl;
        let has_earned_it = |standing: &Standing| {
            let earned_at = standing.good_since.saturating_add(grace);
            // Whoever had earned it when this one was elected lost then, and was overtaken by costs since.
            let came_back = earned_at > elected.at;
            standing.cost < cost && earned_at <= now && (came_back || is_old)
        };
        match cheapest(standings, has_earned_it) {
            Some(endpoint) if self.is_under_cap(now) => {
                self.note_switch(now);
                self.elected = Some(Elected { endpoint, at: now });
            }
            // It is still the best: the preference begins anew, from a vote and not from use.
            None if is_old => self.elected = Some(Elected { at: now, ..elected }),
            Some(_) | None => {}
        }
    }

    /// Whether there were fewer switches in the last minute than the cap.
    fn is_under_cap(&self, now: Duration) -> bool {
        let is_recent = |at: &&Duration| now.saturating_sub(**at) < MINUTE;
        self.switches.iter().filter(is_recent).count() < self.policy.switches_per_minute as usize
    }

    /// Notes a switch, and forgets what the cap does not look at.
    fn note_switch(&mut self, now: Duration) {
        self.switches.push_back(now);
        while self.switches.len() > self.policy.switches_per_minute as usize {
            self.switches.pop_front();
        }
    }
}

/// The cheapest good one of those that `may`, the first on a tie.
fn cheapest(standings: &[Standing], may: impl Fn(&Standing) -> bool) -> Option<u32> {
    let candidates = (0..).zip(standings).filter(|(_, standing)| standing.is_good && may(standing));
    candidates.min_by_key(|(_, standing)| standing.cost).map(|(endpoint, _)| endpoint)
}
