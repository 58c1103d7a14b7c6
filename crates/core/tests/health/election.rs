//! Which endpoint is preferred.

use std::time::Duration;

use handover_core::health::{Election, FailbackParts, FailbackPolicy, Standing};
use proptest::prelude::*;

use crate::{ms, secs};

const MINUTE: Duration = Duration::from_secs(60);

fn election(parts: FailbackParts) -> Election {
    Election::new(FailbackPolicy::try_new(parts).expect("valid"))
}

const fn good(since_secs: u64, cost: u64) -> Standing {
    Standing { is_good: true, good_since: secs(since_secs), cost }
}

const fn bad(cost: u64) -> Standing {
    Standing { is_good: false, good_since: Duration::ZERO, cost }
}

#[test]
fn the_cheapest_good_one_is_elected_at_once_and_the_first_of_equals() {
    let mut election = election(FailbackParts::default());
    assert_eq!(election.elected(), None);
    assert_eq!(election.elect(ms(0), &[]), None);
    assert_eq!(election.elect(ms(0), &[bad(0), good(0, 5), good(0, 3), good(0, 3)]), Some(2));
    assert_eq!(election.elect(ms(1), &[bad(0), good(0, 5), bad(3), bad(3)]), Some(1), "a failover waits for nothing");
    assert_eq!(election.elect(ms(2), &[bad(0), bad(5), bad(3), bad(3)]), None);
    assert_eq!(election.elect(ms(3), &[good(0, 0)]), Some(0), "an endpoint that is gone is not good");
    assert_eq!(election.elected(), Some(0));
}

#[test]
fn traffic_goes_back_to_the_first_after_the_grace_however_often_the_second_is_used() {
    let mut election = election(FailbackParts::default());
    assert_eq!(election.elect(secs(0), &[good(0, 0), good(0, 1)]), Some(0));
    assert_eq!(election.elect(secs(1), &[bad(0), good(0, 1)]), Some(1));
    // The first is back at 10 s; a vote with every request, ten of them a second.
    for tick in 100..400 {
        assert_eq!(election.elect(ms(tick * 100), &[good(10, 0), good(0, 1)]), Some(1), "{tick}");
    }
    assert_eq!(election.elect(secs(40), &[good(10, 0), good(0, 1)]), Some(0));
}

#[test]
fn an_endpoint_that_comes_and_goes_gets_no_traffic_back() {
    let mut election = election(FailbackParts::default());
    election.elect(secs(0), &[bad(0), good(0, 1)]);
    for second in 1..600 {
        // Good for 20 s, bad for 10 s.
        let first = if second % 30 < 20 { good(second - second % 30, 0) } else { bad(0) };
        assert_eq!(election.elect(secs(second), &[first, good(0, 1)]), Some(1), "{second}");
    }
}

#[test]
fn a_preference_is_kept_against_measured_costs_for_its_time_and_is_not_renewed_by_use() {
    let mut election = election(FailbackParts::default());
    assert_eq!(election.elect(secs(100), &[good(0, 10), good(0, 12)]), Some(0));
    for second in 101..400 {
        assert_eq!(election.elect(secs(second), &[good(0, 10), good(0, 9)]), Some(0), "{second}");
    }
    assert_eq!(election.elect(secs(400), &[good(0, 10), good(0, 9)]), Some(1));
    assert_eq!(election.elect(secs(401), &[good(0, 8), good(0, 9)]), Some(1), "a new preference has begun");
    // At its end the elected one is the best, so the preference begins anew.
    assert_eq!(election.elect(secs(700), &[good(0, 10), good(0, 9)]), Some(1));
    assert_eq!(election.elect(secs(701), &[good(0, 8), good(0, 9)]), Some(1));
    assert_eq!(election.elect(secs(1000), &[good(0, 8), good(0, 9)]), Some(0));
}

#[test]
fn the_cap_holds_back_a_failback_and_never_a_failover() {
    let parts = FailbackParts { grace: ms(0), switches_per_minute: 2, ..FailbackParts::default() };
    let mut election = election(parts);
    let (up, down) = ([good(0, 0), good(0, 1)], [bad(0), good(0, 1)]);
    let back = |second| [good(second, 0), good(0, 1)];
    assert_eq!(election.elect(secs(0), &up), Some(0));
    assert_eq!(election.elect(secs(1), &down), Some(1));
    assert_eq!(election.elect(secs(2), &back(2)), Some(0));
    assert_eq!(election.elect(secs(3), &down), Some(1), "away from what is not good, whatever the cap");
    assert_eq!(election.elect(secs(4), &back(4)), Some(1), "three switches in the last minute");
    assert_eq!(election.elect(secs(61), &back(4)), Some(1), "two switches in the last minute");
    assert_eq!(election.elect(secs(62), &back(4)), Some(0));
    let parts = FailbackParts { switches_per_minute: 0, ..parts };
    let mut never = Election::new(FailbackPolicy::try_new(parts).expect("valid"));
    assert_eq!(never.elect(secs(0), &down), Some(1));
    assert_eq!(never.elect(secs(9000), &back(1)), Some(1));
}

#[test]
fn everything_wrong_with_a_policy_is_said_at_once() {
    let day = Duration::from_secs(86_401);
    let parts = FailbackParts { grace: day, switches_per_minute: 61, preference_ttl: day };
    let text = FailbackPolicy::try_new(parts).expect_err("three fields are wrong").to_string();
    let expected = "failback.grace: found 86401s, allowed is at most 24 h
failback.switches_per_minute: found 61, allowed is at most 60
failback.preference_ttl: found 86401s, allowed is at most 24 h";
    assert_eq!(text.replace("; ", "\n"), expected);
    assert_eq!(FailbackPolicy::default().parts(), &FailbackParts::default());
}

/// One endpoint of a random world: it changes between good and bad, and its cost moves.
#[derive(Clone, Debug)]
struct Change {
    after: Duration,
    endpoint: usize,
    is_good: bool,
    cost: u64,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (0_u64..20_000, 0_usize..4, any::<bool>(), 0_u64..6);
    let change =
        change.prop_map(|(after, endpoint, is_good, cost)| Change { after: ms(after), endpoint, is_good, cost });
    proptest::collection::vec(change, 1..150)
}

fn policies() -> impl Strategy<Value = FailbackParts> {
    (0_u64..40_000, 0_u32..8, 0_u64..400_000).prop_map(|(grace, switches_per_minute, ttl)| FailbackParts {
        grace: ms(grace),
        switches_per_minute,
        preference_ttl: ms(ttl),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_good_one_is_always_elected_and_failbacks_keep_to_the_cap(parts in policies(), changes in changes()) {
        let mut election = election(parts);
        let mut standings = [good(0, 0), good(0, 1), bad(2), bad(3)];
        let (mut now, mut failbacks) = (secs(0), Vec::new());
        for change in changes {
            now += change.after;
            let standing = &mut standings[change.endpoint];
            if change.is_good && !standing.is_good {
                standing.good_since = now;
            }
            (standing.is_good, standing.cost) = (change.is_good, change.cost);
            let before = election.elected();
            let elected = election.elect(now, &standings);
            let is_good = |endpoint: Option<u32>| endpoint.is_some_and(|at| standings[at as usize].is_good);
            prop_assert_eq!(is_good(elected), standings.iter().any(|standing| standing.is_good));
            prop_assert_eq!(elected.is_some(), is_good(elected));
            if elected != before && is_good(before) {
                failbacks.push(now);
                let earned = standings[elected.expect("it is good") as usize].good_since + parts.grace;
                prop_assert!(earned <= now, "before its grace was over");
            }
            prop_assert_eq!(election.elect(now, &standings), elected, "asking again changes nothing");
        }
        for (index, begin) in failbacks.iter().enumerate() {
            let within = failbacks[index..].iter().filter(|at| **at - *begin < MINUTE).count();
            prop_assert!(within <= parts.switches_per_minute as usize, "{within} failbacks in a minute");
        }
    }

    #[test]
    fn a_better_one_that_stays_gets_the_traffic_back_within_the_grace_and_one_vote(
        parts in policies(),
        votes in proptest::collection::vec(1_u64..3000, 1..100),
        back_at in 1_u64..20_000,
    ) {
        prop_assume!(parts.switches_per_minute > 1);
        let mut election = election(parts);
        election.elect(ms(0), &[good(0, 0), good(0, 1)]);
        election.elect(ms(0), &[bad(0), good(0, 1)]);
        let mut now = ms(0);
        for step in votes {
            now += ms(step);
            let is_back = now >= ms(back_at);
            let first = if is_back { Standing { good_since: ms(back_at), ..good(0, 0) } } else { bad(0) };
            let elected = election.elect(now, &[first, good(0, 1)]);
            let is_due = is_back && now >= ms(back_at) + parts.grace;
            prop_assert_eq!(elected, Some(u32::from(!is_due)));
        }
    }
}
