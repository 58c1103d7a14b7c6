//! The token bucket: what it allows over time, and that threads never overdraw it together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handover_core::{Budget, TokenBucket};

const SECOND: Duration = Duration::from_secs(1);

/// How often the bucket says yes at this moment, up to a thousand times.
fn drain(bucket: &TokenBucket, now: Duration) -> usize {
    (0..1000).take_while(|_| bucket.try_take_at(now)).count()
}

#[test]
fn a_share_of_the_requests_may_be_tried_again() {
    let bucket = TokenBucket::try_new(20, 0, 10 * SECOND).expect("valid");
    assert_eq!(drain(&bucket, SECOND), 0, "nothing was deposited");
    for _ in 0..100 {
        bucket.deposit(SECOND);
    }
    assert_eq!(bucket.available(SECOND), 20);
    assert_eq!(drain(&bucket, SECOND), 20);
    assert_eq!(drain(&bucket, 2 * SECOND), 0);
}

#[test]
fn the_reserve_serves_those_with_few_requests_and_comes_back() {
    let bucket = TokenBucket::try_new(0, 3, 10 * SECOND).expect("valid");
    assert_eq!(drain(&bucket, Duration::ZERO), 30, "3 a second over 10 s");
    assert_eq!(drain(&bucket, 9 * SECOND), 0);
    assert_eq!(drain(&bucket, 10 * SECOND), 30, "what was taken 10 s ago is forgotten");
}

#[test]
fn deposits_are_forgotten_after_the_time_to_live() {
    let bucket = TokenBucket::try_new(100, 0, 10 * SECOND).expect("valid");
    bucket.deposit(Duration::ZERO);
    bucket.deposit(5 * SECOND);
    assert_eq!(bucket.available(9 * SECOND), 2);
    assert_eq!(bucket.available(10 * SECOND), 1);
    assert_eq!(bucket.available(15 * SECOND), 0);
    bucket.deposit(1000 * SECOND);
    assert_eq!(bucket.available(1000 * SECOND), 1, "a slot used long ago is emptied first");
    assert_eq!(bucket.available(u32::MAX * SECOND), 0);
}

#[test]
fn a_thread_that_is_late_wipes_out_nothing() {
    let bucket = TokenBucket::try_new(100, 0, 10 * SECOND).expect("valid");
    bucket.deposit(100 * SECOND);
    bucket.deposit(90 * SECOND);
    bucket.deposit(Duration::ZERO);
    assert_eq!(bucket.available(100 * SECOND), 1);
}

#[test]
fn the_default_allows_a_fifth_and_ten_a_second() {
    let bucket = TokenBucket::default();
    for _ in 0..50 {
        bucket.deposit(SECOND);
    }
    assert_eq!(drain(&bucket, SECOND), 110);
}

#[test]
fn it_is_a_budget_at_a_moment() {
    let bucket = TokenBucket::try_new(100, 0, 10 * SECOND).expect("valid");
    bucket.deposit(SECOND);
    assert!(bucket.at(SECOND).try_take());
    assert!(!bucket.at(SECOND).try_take());
}

#[test]
fn what_makes_no_sense_is_refused_with_all_problems() {
    let error = TokenBucket::try_new(1001, 1_000_001, Duration::ZERO).expect_err("three problems");
    let fields: Vec<_> = error.problems().iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["budget.percent", "budget.per_second", "budget.ttl"]);
    assert!(TokenBucket::try_new(1000, 1_000_000, Duration::from_secs(600)).is_ok());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "only threads can race for the last token")]
fn threads_never_take_more_than_there_is() {
    for round in 0..50 {
        let bucket = TokenBucket::try_new(100, 0, 10 * SECOND).expect("valid");
        for _ in 0..100 {
            bucket.deposit(SECOND);
        }
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = (0..100).filter(|_| bucket.try_take_at(SECOND)).count();
                    taken.fetch_add(u64::try_from(mine).expect("at most 100"), Ordering::Relaxed);
                });
            }
        });
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken <= 100, "round {round}: {taken} of 100");
        // Those who went without gave back, so what is left can still be taken.
        assert_eq!(taken + bucket.available(SECOND), 100, "round {round}");
    }
}
