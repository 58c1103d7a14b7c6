//! When one endpoint gets traffic.

use std::time::Duration;

use handover_core::health::CircuitState::{Admitting, Probing, Shedding};
use handover_core::health::{Circuit, CircuitParts, CircuitPolicy, CircuitState};
use proptest::prelude::*;

use crate::{ms, secs};

fn circuit(parts: CircuitParts) -> Circuit {
    Circuit::new(&CircuitPolicy::try_new(parts).expect("valid"), 7)
}

/// A circuit that has just shed traffic, at time zero, and when it stops.
fn shedding(parts: CircuitParts) -> (Circuit, Duration) {
    let mut circuit = circuit(parts);
    (0..parts.failures).for_each(|_| circuit.failed(ms(0)));
    let until = circuit.next_change(ms(0)).expect("it sheds");
    (circuit, until)
}

#[test]
fn failures_in_a_row_shed_traffic_and_a_success_between_them_does_not() {
    let mut circuit = circuit(CircuitParts::default());
    for _ in 0..5 {
        circuit.failed(ms(1));
        circuit.failed(ms(1));
        assert!(circuit.admits(ms(1)));
        circuit.succeeded(ms(1));
    }
    (0..3).for_each(|_| circuit.failed(ms(2)));
    assert_eq!((circuit.state(ms(2)), circuit.admits(ms(2))), (Shedding, false));
}

#[test]
fn one_failure_sheds_nobody_under_any_policy() {
    for failures in [0, 1] {
        let error = CircuitPolicy::try_new(CircuitParts { failures, ..CircuitParts::default() }).expect_err("too few");
        assert_eq!(error.to_string(), format!("circuit.failures: found {failures}, allowed is at least 2"));
    }
    let mut strict = circuit(CircuitParts { failures: 2, ..CircuitParts::default() });
    strict.failed(ms(1));
    assert_eq!(strict.state(ms(1)), Admitting);
}

#[test]
fn everything_wrong_with_a_policy_is_said_at_once() {
    let parts = CircuitParts {
        failures: 1,
        shed: ms(0),
        shed_cap: Duration::from_secs(90_000),
        successes: 0,
        grace: Duration::from_secs(90_000),
    };
    let text = CircuitPolicy::try_new(parts).expect_err("five fields are wrong").to_string();
    let expected = "circuit.failures: found 1, allowed is at least 2
circuit.shed: found 0ns, allowed is 1 ms to circuit.shed_cap
circuit.shed_cap: found 90000s, allowed is at most 24 h
circuit.successes: found 0, allowed is at least 1
circuit.grace: found 90000s, allowed is at most 24 h";
    assert_eq!(text.replace("; ", "\n"), expected);
    assert_eq!(CircuitPolicy::try_new(CircuitParts::default()).map(|policy| *policy.parts()), Ok(Default::default()));
}

#[test]
fn shedding_ends_in_a_single_trial_at_a_time() {
    let (mut circuit, until) = shedding(CircuitParts::default());
    assert!(until >= ms(500) && until <= ms(1000), "{until:?}");
    assert_eq!(circuit.state(until - ms(1)), Shedding);
    assert_eq!((circuit.state(until), circuit.next_change(until)), (Probing, None));
    assert!(circuit.admits(until));
    circuit.began(until);
    assert!(!circuit.admits(until), "the trial is under way");
    circuit.began(until + ms(1));
    circuit.abandoned(until + ms(2));
    assert!(circuit.admits(until + ms(2)), "a trial that said nothing leaves room for another");
    circuit.began(until + ms(2));
    circuit.succeeded(until + ms(3));
    assert_eq!(circuit.state(until + ms(3)), Admitting);
}

#[test]
fn a_trial_that_never_reports_does_not_block_for_ever() {
    let parts = CircuitParts::default();
    let (mut circuit, until) = shedding(parts);
    circuit.began(until);
    assert!(!circuit.admits(until + parts.shed_cap - ms(1)));
    assert!(circuit.admits(until + parts.shed_cap));
    circuit.began(until + parts.shed_cap);
    assert!(!circuit.admits(until + parts.shed_cap), "the next trial has begun");
}

#[test]
fn each_failed_trial_doubles_the_time_up_to_the_cap_and_a_success_begins_anew() {
    let parts = CircuitParts { shed: ms(100), shed_cap: ms(1000), ..CircuitParts::default() };
    let (mut circuit, mut until) = shedding(parts);
    for span in [200, 400, 800, 1000, 1000] {
        circuit.began(until);
        circuit.failed(until);
        let next = circuit.next_change(until).expect("it sheds again");
        assert!(next - until >= ms(span / 2) && next - until <= ms(span), "{:?} of {span} ms", next - until);
        until = next;
    }
    circuit.succeeded(until);
    (0..3).for_each(|_| circuit.failed(until));
    let next = circuit.next_change(until).expect("it sheds again");
    assert!(next - until <= ms(100), "the time began anew: {:?}", next - until);
}

#[test]
fn the_times_of_many_circuits_are_spread_over_half_the_span() {
    let policy = CircuitPolicy::default();
    let ends: Vec<_> = (0..500)
        .map(|seed| {
            let mut circuit = Circuit::new(&policy, seed);
            (0..3).for_each(|_| circuit.failed(ms(0)));
            circuit.next_change(ms(0)).expect("it sheds")
        })
        .collect();
    let (least, most) = (ends.iter().min().expect("many"), ends.iter().max().expect("many"));
    assert!(*least >= ms(500) && *least < ms(550) && *most > ms(950) && *most <= ms(1000), "{least:?} {most:?}");
}

#[test]
fn stragglers_of_before_change_nothing_while_it_sheds() {
    let (mut circuit, until) = shedding(CircuitParts::default());
    (0..100).for_each(|_| circuit.failed(until - ms(1)));
    assert_eq!(circuit.next_change(until - ms(1)), Some(until));
    circuit.failed(until + ms(1));
    assert_eq!(circuit.state(until + ms(1)), Probing, "no trial was under way that could have failed");
    circuit.succeeded(until + ms(1));
    assert_eq!(circuit.state(until + ms(1)), Admitting);
}

#[test]
fn several_trials_over_the_grace_are_wanted_where_the_policy_says_so() {
    let (mut several, until) = shedding(CircuitParts { successes: 3, ..CircuitParts::default() });
    for _ in 0..2 {
        several.began(until);
        several.succeeded(until);
        assert_eq!(several.state(until), Probing);
    }
    several.succeeded(until);
    assert_eq!(several.state(until), Admitting);

    let (mut slow, until) = shedding(CircuitParts { grace: secs(5), ..CircuitParts::default() });
    for at in [0, 2, 4] {
        slow.began(until + secs(at));
        slow.succeeded(until + secs(at));
        assert_eq!(slow.state(until + secs(at)), Probing);
    }
    slow.succeeded(until + secs(5));
    assert_eq!(slow.state(until + secs(5)), Admitting);
}

#[test]
fn a_parked_endpoint_gets_nothing_until_the_time_it_asked_for() {
    let mut admitting = circuit(CircuitParts::default());
    admitting.park(secs(9));
    admitting.park(secs(4));
    assert_eq!((admitting.state(secs(8)), admitting.admits(secs(8))), (Shedding, false));
    assert_eq!(admitting.next_change(secs(8)), Some(secs(9)));
    assert_eq!((admitting.state(secs(9)), admitting.next_change(secs(9))), (Admitting, None));
    let (mut probing, _) = shedding(CircuitParts::default());
    probing.park(secs(60));
    assert!(!probing.admits(secs(59)));
    assert_eq!(probing.state(secs(60)), Probing);
}

#[test]
fn the_words_read_back() {
    for (state, word) in [(Admitting, "admitting"), (Shedding, "shedding"), (Probing, "probing")] {
        assert_eq!((state.as_str(), CircuitState::parse(word)), (word, Some(state)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is reported, an endpoint that is left alone for the cap gets a request again.
    #[test]
    fn no_report_keeps_an_endpoint_out_for_longer_than_the_cap(
        events in proptest::collection::vec((0_u8..4, 0_u64..40_000), 0..200),
        seed in any::<u64>(),
    ) {
        let parts = CircuitParts::default();
        let mut circuit = Circuit::new(&CircuitPolicy::default(), seed);
        let mut now = ms(0);
        for (event, step) in events {
            now += ms(step);
            match event {
                0 => circuit.began(now),
                1 => circuit.succeeded(now),
                2 => circuit.abandoned(now),
                _ => circuit.failed(now),
            }
            prop_assert!(circuit.next_change(now).is_none_or(|at| at > now && at - now <= parts.shed_cap));
            prop_assert_eq!(circuit.next_change(now).is_some(), circuit.state(now) == Shedding);
            prop_assert!(circuit.admits(now + parts.shed_cap));
        }
    }
}
