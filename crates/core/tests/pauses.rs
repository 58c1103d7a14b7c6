//! The pauses between attempts: exponential, over the whole span, bounded, and drawn from the seed.

use std::time::Duration;

use handover_core::{
    Action, Backoff, BackoffBetween, Facts, Failure, Fault, Outcome, Policy, PolicyParts, Session, Stage, Unlimited,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The pauses of one session whose attempts all fail at once.
fn pauses(between: BackoffBetween, endpoints: usize, seed: u64) -> Vec<Duration> {
    let policy = Policy::try_new(PolicyParts {
        max_attempts: 32,
        same_endpoint_again: true,
        backoff: Backoff { base: ms(10), cap: ms(55), between },
        ..PolicyParts::default()
    })
    .expect("valid");
    let refused = Outcome::Failed(Failure::before_send(Stage::Dial, Fault::Refused));
    let mut session = Session::new(&policy, Facts::default(), seed);
    let (mut now, mut since, mut pauses) = (ms(0), ms(0), Vec::new());
    loop {
        match session.poll(now, &endpoints, &mut Unlimited) {
            Action::Wait { until } => now = until,
            Action::Try { attempt, .. } => {
                pauses.push(now - since);
                since = now;
                session.finished(now, attempt, refused, &mut Unlimited);
            }
            _ => return pauses,
        }
    }
}

#[test]
fn pauses_double_to_the_cap_and_use_their_whole_span() {
    for (between, endpoints) in [(BackoffBetween::SameEndpoint, 1), (BackoffBetween::EveryAttempt, 40)] {
        let sessions: Vec<_> = (0..500).map(|seed| pauses(between, endpoints, seed)).collect();
        let spans = [0, 10, 20, 40].into_iter().chain(std::iter::repeat(55)).take(32);
        for (index, span) in spans.enumerate() {
            let drawn = sessions.iter().map(|pauses| pauses[index]);
            let (least, most) = (drawn.clone().min().unwrap_or_default(), drawn.max().unwrap_or_default());
            assert!(most <= ms(span), "attempt {}: {most:?} of {span} ms", index + 1);
            assert!(most >= ms(span) * 9 / 10, "attempt {}: at most {most:?} of {span} ms", index + 1);
            assert!(least <= ms(span) / 10, "attempt {}: at least {least:?} of {span} ms", index + 1);
        }
    }
}

#[test]
fn the_same_endpoint_always_gets_a_pause() {
    let least = (0..2000).flat_map(|seed| pauses(BackoffBetween::SameEndpoint, 1, seed).split_off(1)).min();
    assert_eq!(least, Some(ms(1)), "among 62000 draws one is below the least pause");
}

#[test]
fn another_endpoint_gets_none_unless_the_policy_says_so() {
    assert!(pauses(BackoffBetween::SameEndpoint, 40, 7).iter().all(Duration::is_zero));
    assert!(pauses(BackoffBetween::EveryAttempt, 40, 7).iter().skip(1).any(|pause| !pause.is_zero()));
}

#[test]
fn the_seed_and_nothing_else_draws_the_pauses() {
    let draw = |seed| pauses(BackoffBetween::SameEndpoint, 1, seed);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
