//! Goes through every sequence of up to four outcomes, under every combination of policy, facts and endpoints, and
//! checks what must hold on every one of them against a model that shares no code with the core.
//!
//! What is enumerated: which attempt ends, how, whether it connected before, whether the time of the next hedged dial or
//! the end of a backoff comes first, whether a discovery finds anything. What is checked: see `model.rs`.

mod model;
mod walk;

use std::time::Duration;

use handover_core::{Backoff, BackoffBetween, Facts, Order, Policy, PolicyParts, Replay, StatusSet};
use model::rules::{DISCLAIMED, MISDIRECTED, PINNED, UNWELCOME};
use model::{Case, PLACES_MAX, Places, TAKES_UNLIMITED};
use walk::{Alphabet, walk};

const RETRY_AFTER_CAP: Duration = Duration::from_millis(40);

fn facts() -> [Facts; 4] {
    let plain = Facts { preferred: Some(1), ..Facts::default() };
    [
        plain,
        Facts { idempotent: true, ..plain },
        Facts { keyed: true, preferred: Some(9), ..plain },
        Facts { idempotent: true, keyed: true, opted_out: true, ..Facts::default() },
    ]
}

fn base(replay: Replay, order: Order, max_attempts: u32) -> PolicyParts {
    PolicyParts {
        max_attempts,
        replay,
        order,
        retry_statuses: StatusSet::from_iter([UNWELCOME]),
        dial_stagger: None,
        backoff: Backoff {
            base: Duration::from_millis(10),
            cap: Duration::from_millis(25),
            between: BackoffBetween::SameEndpoint,
        },
        retry_after_cap: RETRY_AFTER_CAP,
        ..PolicyParts::default()
    }
}

/// Every combination of what a policy may say on top of a base, without hedged dials.
fn sequential(base: PolicyParts) -> impl Iterator<Item = PolicyParts> {
    let bits = 0_u32..8;
    bits.map(move |bits| PolicyParts {
        same_endpoint_again: bits & 1 != 0,
        discover: bits & 2 != 0,
        backoff: Backoff {
            between: if bits & 4 != 0 { BackoffBetween::EveryAttempt } else { BackoffBetween::SameEndpoint },
            ..base.backoff
        },
        ..base
    })
}

/// Walks all sequences of one policy with all facts and numbers of endpoints.
fn walk_all(
    parts: PolicyParts,
    takes: u32,
    alphabet: Alphabet,
    step: Duration,
    counts: std::ops::RangeInclusive<usize>,
) -> u64 {
    let policy = Policy::try_new(parts).expect("the tests' policies are valid");
    let mut sessions = 0;
    for facts in facts() {
        for count in counts.clone() {
            let places = Places::plain(count);
            sessions += walk(&Case { policy, facts, places, takes, step, length: 4 }, alphabet);
        }
    }
    sessions
}

/// Without hedged dials: everything times everything. How endpoints are ordered has no part in what is said of an outcome,
/// so one order meets every outcome and the others meet one of each kind.
fn check_sequential(replay: Replay) {
    let mut sessions = 0;
    for &order in Order::ALL {
        let alphabet = if order == Order::Affine { Alphabet::Whole } else { Alphabet::Short };
        for max_attempts in 1..=4 {
            for parts in sequential(base(replay, order, max_attempts)) {
                sessions += walk_all(parts, TAKES_UNLIMITED, alphabet, Duration::from_millis(7), 0..=4);
            }
        }
    }
    assert!(sessions > 50_000, "only {sessions} sessions");
}

/// With a deadline that the second, third or fourth attempt misses, and with a budget that runs out.
fn check_limits(replay: Replay) {
    let mut sessions = 0;
    for max_attempts in 2..=4 {
        for parts in sequential(base(replay, Order::Spread, max_attempts)) {
            for takes in 0..=2 {
                sessions += walk_all(parts, takes, Alphabet::Short, Duration::from_millis(7), 0..=3);
            }
            for deadline in [1, 15, 22, 40] {
                let deadline = Some(Duration::from_millis(deadline));
                let parts = PolicyParts { deadline, min_deadline: Duration::from_millis(1), ..parts };
                sessions += walk_all(parts, TAKES_UNLIMITED, Alphabet::Short, Duration::from_millis(7), 0..=3);
            }
        }
    }
    assert!(sessions > 10_000, "only {sessions} sessions");
}

/// With hedged dials; also with events at the very same moment. The other orders leave out what does not concern dials.
fn check_hedged(replay: Replay) {
    let mut sessions = 0;
    for &order in Order::ALL {
        for max_attempts in 1..=4 {
            for parts in sequential(base(replay, order, max_attempts)) {
                let is_plain = !parts.discover && parts.backoff.between == BackoffBetween::SameEndpoint;
                if !is_plain && order != Order::Affine {
                    continue;
                }
                let parts = PolicyParts { dial_stagger: Some(Duration::from_millis(10)), ..parts };
                sessions += walk_all(parts, TAKES_UNLIMITED, Alphabet::Short, Duration::from_millis(7), 0..=3);
                let takes = max_attempts - 1;
                sessions += walk_all(parts, takes / 2, Alphabet::Short, Duration::ZERO, 2..=3);
            }
        }
    }
    assert!(sessions > 10_000, "only {sessions} sessions");
}

/// Facts that make a difference to what a server says of a request.
fn facts_of_words() -> [Facts; 6] {
    let plain = Facts::default();
    [
        plain,
        Facts { keyed: true, ..plain },
        Facts { keyed: true, idempotent: true, ..plain },
        Facts { keyed: true, attempt_timeout: Some(Duration::from_millis(50)), ..plain },
        Facts { keyed: true, attempt_timeout: Some(Duration::from_millis(49)), ..plain },
        Facts { keyed: true, gated: true, ..plain },
    ]
}

/// Endpoints that are apart in one way each: by scope, by not being there, by leaving.
fn places() -> [Places; 9] {
    let scoped = |count, scopes| Places { scopes, ..Places::plain(count) };
    let mut apart = [0; PLACES_MAX];
    apart[1] = 5;
    let each = std::array::from_fn(|at| at as u32);
    [
        Places::plain(1),
        Places::plain(2),
        Places::plain(3),
        scoped(2, each),
        scoped(3, apart),
        Places { gone: Some(1), ..Places::plain(2) },
        Places { gone: Some(0), ..Places::plain(3) },
        Places { leaves: Some(0), ..Places::plain(2) },
        Places { leaves: Some(2), ..scoped(3, apart) },
    ]
}

/// With statuses by which servers disclaim, pin or are at work, with dedup scopes, and with endpoints that cannot be used.
fn check_words(replay: Replay) {
    let mut sessions = 0;
    for parts in sequential(base(replay, Order::Priority, 4)) {
        let parts = PolicyParts {
            disclaimed_statuses: StatusSet::from_iter([DISCLAIMED, MISDIRECTED]),
            pin_statuses: StatusSet::from_iter([PINNED]),
            in_progress: true,
            attempt_timeout: Some(Duration::from_millis(70)),
            min_attempt_timeout: Duration::from_millis(50),
            ..parts
        };
        for (facts, places) in facts_of_words().into_iter().flat_map(|facts| places().map(|places| (facts, places))) {
            for (takes, stagger) in [(TAKES_UNLIMITED, None), (1, None), (TAKES_UNLIMITED, Some(10))] {
                // What a verdict knows of one that leaves is what the newest choice saw; with dials in a race there are several.
                if stagger.is_some() && (places.leaves.is_some() || parts.discover) {
                    continue;
                }
                let dial_stagger = stagger.map(Duration::from_millis);
                let policy = Policy::try_new(PolicyParts { dial_stagger, ..parts }).expect("valid");
                let step = Duration::from_millis(7);
                sessions += walk(&Case { policy, facts, places, takes, step, length: 3 }, Alphabet::Words);
            }
        }
    }
    assert!(sessions > 10_000, "only {sessions} sessions");
}

macro_rules! for_every_replay {
    ($($check:ident: $unsent:ident, $idempotent:ident, $always:ident;)+) => { $(
        #[test]
        fn $unsent() { $check(Replay::Unsent) }
        #[test]
        fn $idempotent() { $check(Replay::Idempotent) }
        #[test]
        fn $always() { $check(Replay::Always) }
    )+ };
}

for_every_replay! {
    check_sequential: all_sequences_hold_under_unsent, all_sequences_hold_under_idempotent,
        all_sequences_hold_under_always;
    check_words: words_hold_under_unsent, words_hold_under_idempotent, words_hold_under_always;
    check_limits: limits_hold_under_unsent, limits_hold_under_idempotent, limits_hold_under_always;
    check_hedged: hedged_dials_hold_under_unsent, hedged_dials_hold_under_idempotent, hedged_dials_hold_under_always;
}
