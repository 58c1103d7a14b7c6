//! How far failover may go: a policy is checked once, when it is made, and every decision after that is total.

use std::time::Duration;

use crate::StatusSet;
use crate::words::words;

mod check;
mod presets;
pub(crate) use check::Problems;
pub use check::{PolicyError, PolicyProblem};

/// The most attempts that any policy may allow. One bit per attempt fits a machine word, and a request that failed on
/// 32 endpoints is not helped by a 33rd.
pub const ATTEMPTS_MAX: u32 = 32;

/// The proof that a further attempt needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Nothing of the request was sent.
    #[default]
    Unsent,
    /// Nothing was sent, or the method is idempotent, or the request carries a trusted `Idempotency-Key`.
    Idempotent,
    /// None: the server promises to recognise a repeated request.
    Always,
}

words!(Replay { Unsent => "unsent", Idempotent => "idempotent", Always => "always" });

/// In which order endpoints are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Always from the first, so that a recovered primary serves the very next request.
    Priority,
    /// The one with the lowest cost.
    Fastest,
    /// Two at random, and of these the one with the lower cost. It spreads load without stampeding on the single best.
    #[default]
    Spread,
    /// [`Facts::preferred`](crate::Facts::preferred) first, then as `Spread`.
    Affine,
    /// [`Facts::preferred`](crate::Facts::preferred) first, then as `Priority`.
    Sticky,
}

words!(Order {
    Priority => "priority",
    Fastest => "fastest",
    Spread => "spread",
    Affine => "affine",
    Sticky => "sticky",
});

/// Between which attempts the backoff lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackoffBetween {
    /// Only between attempts at the same endpoint; another endpoint is tried at once.
    #[default]
    SameEndpoint,
    /// Between any two attempts that follow one another. Hedged dials do not wait.
    EveryAttempt,
}

words!(BackoffBetween { SameEndpoint => "same_endpoint", EveryAttempt => "every_attempt" });

/// Exponential backoff with full jitter: before the n-th further attempt a time between nothing and
/// `min(cap, base × 2ⁿ⁻¹)`, drawn from the session's seed. At the same endpoint it is never less than a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// The longest first backoff.
    pub base: Duration,
    /// The longest backoff of all.
    pub cap: Duration,
    /// Between which attempts it lies.
    pub between: BackoffBetween,
}

impl Default for Backoff {
    /// 25 ms doubling to 1 s, at the same endpoint only: the first is about one round trip across a continent, the last
    /// still fits several times into the time a person waits.
    fn default() -> Self {
        Self { base: Duration::from_millis(25), cap: Duration::from_secs(1), between: BackoffBetween::SameEndpoint }
    }
}

/// A policy as written down, not checked yet. The default is safe for a gateway that knows nothing of its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyParts {
    /// Attempts per request, hedged dials included; 1 to [`ATTEMPTS_MAX`]. 1 switches failover off.
    pub max_attempts: u32,
    /// The proof a further attempt needs.
    pub replay: Replay,
    /// Statuses that are no answer while another attempt is possible; 400 to 599.
    pub retry_statuses: StatusSet,
    /// Statuses by which the server says that it did not do the request, or whose word the policy takes for that: the
    /// request goes on whatever its method and `replay`. 400 to 599; they need not be in `retry_statuses`. Where no
    /// endpoint is untried, 421 (RFC 9110 §15.5.20) and 425 (RFC 8470 §5.2) ask the same one once more.
    pub disclaimed_statuses: StatusSet,
    /// Statuses that say that the request is served elsewhere only: it goes on whatever its method, after a discovery of
    /// its own where the policy discovers, and never to that endpoint again; 400 to 599.
    pub pin_statuses: StatusSet,
    /// Whether a 409 to a request with an `Idempotency-Key` means that its first sending is still being worked on, so
    /// that the same endpoint is asked again (draft-ietf-httpapi-idempotency-key-header-07 §2.6).
    pub in_progress: bool,
    /// In which order endpoints are tried.
    pub order: Order,
    /// How long an attempt may take until its connection stands.
    pub connect_timeout: Duration,
    /// How long an attempt may take from there to the response head. The shell keeps it.
    pub response_timeout: Duration,
    /// How long one attempt may take from its begin to the response head. Every attempt has the full time anew. The
    /// caller's own [`Facts::attempt_timeout`](crate::Facts::attempt_timeout) replaces it.
    pub attempt_timeout: Option<Duration>,
    /// No further attempt is made if the attempt timeout in force is below this: a caller in such a hurry would only add
    /// to the load of endpoints that are slow already.
    pub min_attempt_timeout: Duration,
    /// How long a dial may be pending before another endpoint is dialled beside it. `None` switches that off.
    pub dial_stagger: Option<Duration>,
    /// The time for the whole request. The caller's own deadline counts where it is earlier.
    pub deadline: Option<Duration>,
    /// No further attempt begins with less time than this left.
    pub min_deadline: Duration,
    /// Whether endpoints are tried again once all have been tried.
    pub same_endpoint_again: bool,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// The longest `Retry-After` that is believed. It parks the endpoint that sent it and no other.
    pub retry_after_cap: Duration,
    /// Whether to ask for more endpoints, once per session, when all known ones have been tried; and, once more, after an
    /// answer whose status is in `pin_statuses`.
    pub discover: bool,
}

impl Default for PolicyParts {
    fn default() -> Self {
        Self {
            // The first and two more: enough to outlive one dead endpoint and one that is just dying.
            max_attempts: 3,
            replay: Replay::Unsent,
            retry_statuses: StatusSet::new(),
            disclaimed_statuses: StatusSet::new(),
            pin_statuses: StatusSet::new(),
            in_progress: false,
            order: Order::Spread,
            // One lost SYN is repeated after 1 s and a second one after 3 s: this leaves room for one loss.
            connect_timeout: Duration::from_secs(3),
            // Longer than a slow but healthy handler takes, shorter than a person waits.
            response_timeout: Duration::from_secs(30),
            attempt_timeout: None,
            min_attempt_timeout: Duration::ZERO,
            // RFC 8305 §5 recommends 250 ms between connection attempts.
            dial_stagger: Some(Duration::from_millis(250)),
            deadline: None,
            min_deadline: Duration::ZERO,
            same_endpoint_again: false,
            backoff: Backoff::default(),
            // A minute: whoever asks for more will not be worth waiting for.
            retry_after_cap: Duration::from_secs(60),
            discover: false,
        }
    }
}

/// A checked policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(PolicyParts);

impl Policy {
    /// Checks the parts.
    ///
    /// # Errors
    /// All problems at once, each with the field, what was found and what is allowed.
    pub fn try_new(parts: PolicyParts) -> Result<Self, PolicyError> {
        check::check(&parts)?;
        Ok(Self(parts))
    }

    /// The parts, as they were given.
    #[must_use]
    pub const fn parts(&self) -> &PolicyParts {
        &self.0
    }

    /// Attempts per request, hedged dials included.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// The proof a further attempt needs.
    #[must_use]
    pub const fn replay(&self) -> Replay {
        self.0.replay
    }

    /// Statuses that are no answer while another attempt is possible.
    #[must_use]
    pub const fn retry_statuses(&self) -> &StatusSet {
        &self.0.retry_statuses
    }

    /// Statuses by which the server says that it did not do the request.
    #[must_use]
    pub const fn disclaimed_statuses(&self) -> &StatusSet {
        &self.0.disclaimed_statuses
    }

    /// Statuses that say that the request is served elsewhere only.
    #[must_use]
    pub const fn pin_statuses(&self) -> &StatusSet {
        &self.0.pin_statuses
    }

    /// Whether a 409 to a request with an `Idempotency-Key` asks the same endpoint again.
    #[must_use]
    pub const fn in_progress(&self) -> bool {
        self.0.in_progress
    }

    /// In which order endpoints are tried.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.0.order
    }

    /// How long an attempt may take until its connection stands.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        self.0.connect_timeout
    }

    /// How long an attempt may take from there to the response head.
    #[must_use]
    pub const fn response_timeout(&self) -> Duration {
        self.0.response_timeout
    }

    /// How long one attempt may take from its begin to the response head.
    #[must_use]
    pub const fn attempt_timeout(&self) -> Option<Duration> {
        self.0.attempt_timeout
    }

    /// No further attempt is made if the attempt timeout in force is below this.
    #[must_use]
    pub const fn min_attempt_timeout(&self) -> Duration {
        self.0.min_attempt_timeout
    }

    /// How long a dial may be pending before another endpoint is dialled beside it.
    #[must_use]
    pub const fn dial_stagger(&self) -> Option<Duration> {
        self.0.dial_stagger
    }

    /// The time for the whole request.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        self.0.deadline
    }

    /// No further attempt begins with less time than this left.
    #[must_use]
    pub const fn min_deadline(&self) -> Duration {
        self.0.min_deadline
    }

    /// Whether endpoints are tried again once all have been tried.
    #[must_use]
    pub const fn same_endpoint_again(&self) -> bool {
        self.0.same_endpoint_again
    }

    /// The pauses between attempts.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        self.0.backoff
    }

    /// The longest `Retry-After` that is believed.
    #[must_use]
    pub const fn retry_after_cap(&self) -> Duration {
        self.0.retry_after_cap
    }

    /// Whether to ask for more endpoints when all known ones have been tried.
    #[must_use]
    pub const fn discover(&self) -> bool {
        self.0.discover
    }
}

impl Default for Policy {
    /// [`PolicyParts::default`], which is valid.
    fn default() -> Self {
        Self(PolicyParts::default())
    }
}
