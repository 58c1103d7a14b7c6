//! The policies that have a name: what two systems that fail over do, and what repeats nothing at all.
//!
//! Each one is a start: copy its [`parts`](Policy::parts), change what differs, and check it with [`Policy::try_new`].

use std::time::Duration;

use super::{ATTEMPTS_MAX, Backoff, BackoffBetween, Order, Policy, PolicyParts, Replay};
use crate::StatusSet;

/// The time of one attempt in both systems that the presets stand for: Classworks' shared HTTP client has 10 000 ms,
/// LiveKit's SDKs take 10 s where the caller names no time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Misdirected Request: the server did not do it (RFC 9110 §15.5.20).
const MISDIRECTED: u16 = 421;
/// Too Early: the server did not do it (RFC 8470 §5.2).
const TOO_EARLY: u16 = 425;
/// Unavailable For Legal Reasons (RFC 7725), which LiveKit's cloud uses to pin a project to its regions.
const PINNED: u16 = 451;
/// The statuses by which a server says that it failed (RFC 9110 §15.6).
const SERVER_ERRORS: std::ops::RangeInclusive<u16> = 500..=599;

impl Policy {
    /// Nothing that may have been sent is repeated, answered or not. What provably was not sent goes on, to each endpoint
    /// once, in their order; dials race, as a dial sends nothing.
    ///
    /// Every other number is the default's: they say how long to wait for a connection, not what to repeat.
    #[must_use]
    pub fn at_most_once() -> Self {
        Self(PolicyParts {
            // Bounded by the endpoints: each is tried once.
            max_attempts: ATTEMPTS_MAX,
            replay: Replay::Unsent,
            order: Order::Priority,
            ..PolicyParts::default()
        })
    }

    /// Servers in order of priority, each tried once, always from the first: what Classworks does.
    ///
    /// An answer of 500 to 599 goes on whatever the method, as the server said that it failed; 421 and 425 do, as the
    /// server did not do it; any other answer is final, but for a 409 that says that a keyed request is in progress. A
    /// connection that failed when the request may have been sent goes on only if the method or a key allows it.
    #[must_use]
    pub fn rotation() -> Self {
        Self(PolicyParts {
            // Bounded by the endpoints: each is tried once.
            max_attempts: ATTEMPTS_MAX,
            replay: Replay::Idempotent,
            disclaimed_statuses: StatusSet::from_iter(SERVER_ERRORS.chain([MISDIRECTED, TOO_EARLY])),
            in_progress: true,
            order: Order::Priority,
            attempt_timeout: Some(ATTEMPT_TIMEOUT),
            // No pause between different servers, as the original has none; the default's at the same one.
            ..PolicyParts::default()
        })
    }

    /// One endpoint, and regions that are asked for when it fails: what LiveKit's SDKs do.
    ///
    /// Every failure and every answer of 500 to 599 goes on, whatever the method, because the server recognises a repeated
    /// request by its id. That is a promise of the server's: use it only where it is made.
    #[must_use]
    pub fn regions() -> Self {
        Self(PolicyParts {
            // LiveKit's fixed number: the first and two regions.
            max_attempts: 3,
            replay: Replay::Always,
            retry_statuses: StatusSet::from_iter(SERVER_ERRORS),
            disclaimed_statuses: StatusSet::from_iter([MISDIRECTED, TOO_EARLY]),
            pin_statuses: StatusSet::from_iter([PINNED]),
            in_progress: true,
            order: Order::Priority,
            attempt_timeout: Some(ATTEMPT_TIMEOUT),
            // LiveKit's guard against a herd of callers in a hurry: 5 s fails over, 4.999 s does not.
            min_attempt_timeout: Duration::from_secs(5),
            // One endpoint is known until regions are asked for, and they are asked for only when it has failed: there is
            // nothing to race. Afterwards a dial to a further region would use up one of the few attempts.
            dial_stagger: None,
            same_endpoint_again: true,
            backoff: Backoff {
                // LiveKit's 200 ms, doubling; its SDKs have no jitter, and start again in step after an outage.
                base: Duration::from_millis(200),
                // The longest pause of LiveKit's signalling; three attempts do not reach it.
                cap: Duration::from_millis(6400),
                between: BackoffBetween::EveryAttempt,
            },
            discover: true,
            ..PolicyParts::default()
        })
    }
}
