//! Whether one endpoint gets traffic: it sheds it after failures in a row, is tried with one request at a time after a
//! while, and admits it again when that went well.
//!
//! Only failures in a row count, not a rate: a client sees few requests, of which a rate says little, and one answer shows
//! that the endpoint serves. The time of shedding doubles, with jitter, so that many clients do not come back at once.

use std::time::Duration;

use crate::policy::{PolicyError, Problems};
use crate::random::{Purpose, below};
use crate::words::words;

/// One failure sheds nobody: a single timeout or reset says more of the request than of the endpoint.
const FAILURES_MIN: u32 = 2;
/// A millisecond is what timers keep; less would not shed anything.
const SHED_MIN: Duration = Duration::from_millis(1);
/// A day, as for all times of a policy: more is a unit mistaken.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// When an endpoint sheds traffic and admits it again, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitParts {
    /// So many failures in a row shed traffic; at least 2.
    pub failures: u32,
    /// How long it is shed the first time; each further time doubles it.
    pub shed: Duration,
    /// The longest time for which it is shed. A trial of which nothing is heard for so long is over.
    pub shed_cap: Duration,
    /// So many trials that went well in a row admit traffic again; at least 1.
    pub successes: u32,
    /// How long trials must have gone well before traffic is admitted again.
    pub grace: Duration,
}

impl Default for CircuitParts {
    fn default() -> Self {
        Self {
            // One may be the request's fault and a second one chance.
            failures: 3,
            // About the time in which a process restarts; gRPC's connection backoff begins with it too.
            shed: Duration::from_secs(1),
            // An endpoint that was down for long gets a trial twice a minute, which is no load and no long wait.
            shed_cap: Duration::from_secs(30),
            // It answered, so it serves.
            successes: 1,
            grace: Duration::ZERO,
        }
    }
}

/// A checked policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitPolicy(CircuitParts);

impl CircuitPolicy {
    /// Checks the parts.
    ///
    /// # Errors
    /// All problems at once, each with the field, what was found and what is allowed.
    pub fn try_new(parts: CircuitParts) -> Result<Self, PolicyError> {
        let CircuitParts { failures, shed, shed_cap, successes, grace } = parts;
        let mut problems = Problems::default();
        problems.expect(failures >= FAILURES_MIN, "circuit.failures", failures, "at least 2");
        problems.expect((SHED_MIN..=shed_cap).contains(&shed), "circuit.shed", shed, "1 ms to circuit.shed_cap");
        problems.expect(shed_cap <= DURATION_MAX, "circuit.shed_cap", shed_cap, "at most 24 h");
        problems.expect(successes >= 1, "circuit.successes", successes, "at least 1");
        problems.expect(grace <= DURATION_MAX, "circuit.grace", grace, "at most 24 h");
        problems.into_result()?;
        Ok(Self(parts))
    }

    /// The parts, as they were given.
    #[must_use]
    pub const fn parts(&self) -> &CircuitParts {
        &self.0
    }
}

/// What happens to traffic for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// It gets traffic.
    Admitting,
    /// It gets none, unless nothing else is left.
    Shedding,
    /// It gets one request at a time, to see how it goes.
    Probing,
}

words!(CircuitState { Admitting => "admitting", Shedding => "shedding", Probing => "probing" });

/// What a circuit is about, apart from the time.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// So many failures in a row.
    Closed { failures: u32 },
    /// Shedding until then, and probing from then on.
    Open { until: Duration, trial: Option<Duration>, good: Option<Good> },
}

/// Trials that went well.
#[derive(Clone, Copy, Debug)]
struct Good {
    since: Duration,
    successes: u32,
}

/// The circuit of one endpoint.
///
/// Its owner says [`began`](Self::began) when an attempt or a probe begins there, and one of [`succeeded`](Self::succeeded),
/// [`failed`](Self::failed) and [`abandoned`](Self::abandoned) when it ends.
#[derive(Clone, Debug)]
pub struct Circuit {
    policy: CircuitParts,
    seed: u64,
    phase: Phase,
    /// How often traffic was shed since it was last admitted.
    sheds: u32,
    parked_until: Duration,
}

impl Circuit {
    /// A circuit that admits traffic. The seed draws the jitter of its times.
    #[must_use]
    pub const fn new(policy: &CircuitPolicy, seed: u64) -> Self {
        let phase = Phase::Closed { failures: 0 };
        Self { policy: policy.0, seed, phase, sheds: 0, parked_until: Duration::ZERO }
    }

    /// What happens to traffic now. A parked endpoint sheds it.
    #[must_use]
    pub fn state(&self, now: Duration) -> CircuitState {
        match self.phase {
            _ if now < self.parked_until => CircuitState::Shedding,
            Phase::Closed { .. } => CircuitState::Admitting,
            Phase::Open { until, .. } if now < until => CircuitState::Shedding,
            Phase::Open { .. } => CircuitState::Probing,
        }
    }

    /// Whether a request may go there now: it admits traffic, or it is being probed and no trial is under way.
    #[must_use]
    pub fn admits(&self, now: Duration) -> bool {
        match self.state(now) {
            CircuitState::Admitting => true,
            CircuitState::Shedding => false,
            CircuitState::Probing => !self.is_on_trial(now),
        }
    }

    /// A request or a probe goes there. While it is being probed, this is the trial.
    pub fn began(&mut self, now: Duration) {
        if self.state(now) != CircuitState::Probing || self.is_on_trial(now) {
            return;
        }
        if let Phase::Open { trial, .. } = &mut self.phase {
            *trial = Some(now);
        }
    }

    /// It answered, in a way that speaks for it.
    ///
    /// Also where it was shedding: the request was sent there because nothing else was left, or was slow, and either way
    /// the endpoint has just served.
    pub fn succeeded(&mut self, now: Duration) {
        let Phase::Open { good, trial, .. } = &mut self.phase else {
            self.phase = Phase::Closed { failures: 0 };
            return;
        };
        let so_far = good.unwrap_or(Good { since: now, successes: 0 });
        let so_far = Good { successes: so_far.successes.saturating_add(1), ..so_far };
        (*good, *trial) = (Some(so_far), None);
        let is_long_enough = now.saturating_sub(so_far.since) >= self.policy.grace;
        if so_far.successes >= self.policy.successes && is_long_enough {
            self.phase = Phase::Closed { failures: 0 };
            self.sheds = 0;
        }
    }

    /// It failed, in a way that speaks against it.
    ///
    /// Where it was shedding, and where no trial is under way, that changes nothing: it is the end of a request that
    /// began earlier, and what it tells is known.
    pub fn failed(&mut self, now: Duration) {
        match &mut self.phase {
            Phase::Closed { failures } => {
                *failures = failures.saturating_add(1);
                if *failures >= self.policy.failures {
                    self.shed(now);
                }
            }
            Phase::Open { until, trial: Some(_), .. } if *until <= now => self.shed(now),
            Phase::Open { .. } => {}
        }
    }

    /// It ended without saying anything of the endpoint: the caller left, another dial was faster, this machine failed.
    pub const fn abandoned(&mut self, now: Duration) {
        let _ = now;
        if let Phase::Open { trial, .. } = &mut self.phase {
            *trial = None;
        }
    }

    /// It asked to be left alone until then (`Retry-After`). The owner caps what it believes.
    pub fn park(&mut self, until: Duration) {
        self.parked_until = self.parked_until.max(until);
    }

    /// When it stops shedding, for one who would probe it then; `None` if it is not shedding.
    #[must_use]
    pub fn next_change(&self, now: Duration) -> Option<Duration> {
        let opens = match self.phase {
            Phase::Closed { .. } => Duration::ZERO,
            Phase::Open { until, .. } => until,
        };
        Some(opens.max(self.parked_until)).filter(|at| now < *at)
    }

    /// Whether a trial is under way. One of which nothing was heard for the longest time of shedding is over: its
    /// request was lost, and must not keep the endpoint out for ever.
    fn is_on_trial(&self, now: Duration) -> bool {
        match self.phase {
            Phase::Open { trial: Some(began), .. } => now.saturating_sub(began) < self.policy.shed_cap,
            Phase::Open { trial: None, .. } | Phase::Closed { .. } => false,
        }
    }

    /// Sheds traffic for a time drawn between the half and the whole of a span that doubles each time.
    fn shed(&mut self, now: Duration) {
        let factor = 1_u32.checked_shl(self.sheds).unwrap_or(u32::MAX);
        self.sheds = self.sheds.saturating_add(1);
        let half = self.policy.shed.saturating_mul(factor).min(self.policy.shed_cap) / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        let drawn = below(nanos.saturating_add(1), self.seed, self.sheds, Purpose::Backoff);
        let until = now.saturating_add(half).saturating_add(Duration::from_nanos(drawn));
        self.phase = Phase::Open { until, trial: None, good: None };
    }
}
