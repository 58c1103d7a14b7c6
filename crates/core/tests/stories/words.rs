//! Sessions in which servers say more than that they failed, told line by line.

use handover_core::{Backoff, BackoffBetween, Facts, PolicyParts, Replay, StatusSet};

use crate::text::{Costs, Tokens, ms, parts, tell, tell_with};

/// A request that nothing but its key allows to repeat.
pub(crate) const KEYED: Facts = Facts {
    idempotent: false,
    keyed: true,
    opted_out: false,
    gated: false,
    preferred: None,
    attempt_timeout: None,
    caller_deadline: None,
};

/// A policy that listens to all of them, with a pause of no draw: the least one.
pub(crate) fn listening() -> PolicyParts {
    PolicyParts {
        max_attempts: 5,
        disclaimed_statuses: StatusSet::from_iter([500, 421, 425]),
        pin_statuses: StatusSet::from_iter([451]),
        in_progress: true,
        dial_stagger: None,
        backoff: Backoff { base: ms(0), cap: ms(0), between: BackoffBetween::SameEndpoint },
        ..parts()
    }
}

#[test]
fn a_disclaimed_request_goes_on_whatever_its_method_and_the_proof() {
    tell(
        listening(),
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 500 -> try_next(disclaimed)
         5 poll -> try 2 at 1, connect by 3005
         9 finished 2 answered 500 -> done(endpoints_exhausted)",
    );
    tell(
        listening(),
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 500 consumed -> done(body_consumed)",
    );
}

#[test]
fn a_misdirected_request_is_asked_once_more_only_where_no_other_is_left() {
    for status in [421, 425] {
        let story = format!(
            "0 poll -> try 1 at 0, connect by 3000
             5 finished 1 answered {status} -> try_next(disclaimed)
             5 poll -> try 2 at 1, connect by 3005
             6 finished 2 answered {status} -> try_next(once_more)
             6 poll -> wait until 7
             7 poll -> try 3 at 1, connect by 3007
             8 finished 3 answered {status} -> done(endpoints_exhausted)"
        );
        tell(listening(), Facts::default(), 2, &story);
    }
    tell(
        PolicyParts { same_endpoint_again: true, ..listening() },
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 421 after 20 -> try_next(once_more)
         5 poll -> wait until 25
         25 poll -> try 2 at 0, connect by 3025
         26 finished 2 answered 421 -> try_next(disclaimed)
         26 poll -> wait until 27
         27 poll -> try 3 at 0, connect by 3027",
    );
    tell(
        PolicyParts { disclaimed_statuses: StatusSet::new(), ..listening() },
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 421 -> done(answered)",
    );
}

#[test]
fn a_discovery_comes_before_asking_once_more() {
    tell(
        PolicyParts { discover: true, ..listening() },
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 421 -> try_next(disclaimed)
         5 poll -> discover
         6 discovered yes
         6 poll -> try 2 at 0, connect by 3006
         7 finished 2 answered 200 -> done(answered)",
    );
}

#[test]
fn a_keyed_request_in_progress_waits_for_the_same_endpoint_and_no_other() {
    tell(
        listening(),
        KEYED,
        3,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 409 after 40 -> try_next(in_progress)
         5 poll -> wait until 45
         45 poll -> try 2 at 0, connect by 3045
         46 finished 2 answered 409 -> try_next(in_progress)
         46 poll -> wait until 47
         47 poll -> try 3 at 0, connect by 3047
         48 finished 3 answered 200 -> done(answered)",
    );
    let four = PolicyParts { max_attempts: 2, ..listening() };
    let story = "0 poll -> try 1 at 0, connect by 3000
                 5 finished 1 answered 409 -> try_next(in_progress)
                 6 poll -> try 2 at 0, connect by 3006
                 7 finished 2 answered 409 -> done(attempts_exhausted)";
    tell(four, KEYED, 3, story);
    let late = PolicyParts { deadline: Some(ms(30)), ..listening() };
    let story = "0 poll -> try 1 at 0, connect by 30 until 30
                 5 finished 1 answered 409 after 25 -> done(deadline_too_short)";
    tell(late, KEYED, 3, story);
    let plain = "0 poll -> try 1 at 0, connect by 3000
                 5 finished 1 answered 409 -> done(answered)";
    tell(listening(), Facts::default(), 3, plain);
    tell(PolicyParts { in_progress: false, ..listening() }, KEYED, 3, plain);
}

#[test]
fn no_dial_begins_beside_what_only_one_endpoint_may_have() {
    tell(
        PolicyParts { dial_stagger: Some(ms(250)), ..listening() },
        KEYED,
        3,
        "0 poll -> try 1 at 0, connect by 3000
         1 connected 1
         5 finished 1 answered 409 -> try_next(in_progress)
         6 poll -> try 2 at 0, connect by 3006
         300 poll -> await
         3006 finished 2 timeout -> try_next(not_sent)
         3006 poll -> try 3 at 1, connect by 6006",
    );
}

#[test]
fn an_answer_stands_when_the_endpoint_it_is_in_progress_at_is_gone() {
    tell(
        listening(),
        KEYED,
        2,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 409 -> try_next(in_progress)
         5 gone 0
         6 poll -> finish done(endpoints_exhausted)
         6 outcome -> answered of 1",
    );
}

#[test]
fn a_pinned_request_asks_anew_where_it_is_served() {
    let discovering = PolicyParts { discover: true, same_endpoint_again: true, ..listening() };
    tell(
        discovering,
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 451 -> try_next(pinned)
         5 poll -> discover anew
         5 poll -> await
         6 endpoints 3
         6 gone 1
         6 discovered yes
         6 poll -> try 2 at 2, connect by 3006
         7 finished 2 answered 451 -> done(endpoints_exhausted)",
    );
    // Once for what is pinned, also behind the discovery that a failure asks for; and it may fail.
    tell(
        discovering,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 refused -> try_next(not_sent)
         5 poll -> discover
         6 endpoints 3
         6 discovered yes
         6 poll -> try 2 at 1, connect by 3006
         7 finished 2 answered 451 -> try_next(pinned)
         7 poll -> discover anew
         8 discovered no
         8 poll -> try 3 at 2, connect by 3008
         9 finished 3 answered 451 -> done(endpoints_exhausted)",
    );
    tell(
        discovering,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 451 -> try_next(pinned)
         5 poll -> discover anew
         6 discovered no
         6 poll -> finish done(nothing_discovered)",
    );
}

#[test]
fn an_endpoint_that_does_not_serve_the_request_is_never_asked_again() {
    tell(
        PolicyParts { same_endpoint_again: true, ..listening() },
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 451 -> try_next(pinned)
         5 poll -> try 2 at 1, connect by 3005
         6 finished 2 refused -> try_next(not_sent)
         7 poll -> try 3 at 1, connect by 3007
         8 finished 3 refused -> try_next(not_sent)
         9 poll -> try 4 at 1, connect by 3009
         9 gone 1
         10 finished 4 refused -> try_next(not_sent)
         11 poll -> finish done(endpoints_exhausted)
         11 outcome -> answered of 1",
    );
}

#[test]
fn what_failed_on_this_machine_takes_nothing_from_the_budget() {
    tell_with(
        PolicyParts { max_attempts: 9, ..listening() },
        Facts::default(),
        &Costs(vec![Some(1); 6]),
        Tokens(1),
        "0 poll -> try 1 at 0, connect by 3000
         1 finished 1 dns at resolve -> try_next(not_sent)
         1 poll -> try 2 at 1, connect by 3001
         2 finished 2 unreachable at dial -> try_next(not_sent)
         2 poll -> try 3 at 2, connect by 3002
         3 finished 3 local at dial -> try_next(not_sent)
         3 poll -> try 4 at 3, connect by 3003
         4 finished 4 refused -> try_next(not_sent)
         4 poll -> try 5 at 4, connect by 3004
         5 finished 5 closed at send -> try_next(not_sent)
         5 poll -> try 6 at 5, connect by 3005
         6 finished 6 dns at resolve -> stop(endpoints_exhausted)
         6 outcome -> not_sent of 6",
    );
}

#[test]
fn an_unknown_or_an_answer_is_never_hidden_by_a_later_refusal() {
    let parts = PolicyParts { replay: Replay::Always, ..listening() };
    tell(
        parts,
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         1 finished 1 answered 503 -> try_next(replay_always)
         1 poll -> try 2 at 1, connect by 3001
         2 finished 2 refused -> done(endpoints_exhausted)
         2 poll -> finish done(endpoints_exhausted)
         2 outcome -> answered of 1",
    );
    tell(
        parts,
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 3000
         1 finished 1 answered 503 -> try_next(replay_always)
         1 poll -> try 2 at 1, connect by 3001
         2 finished 2 timeout at await_head sent maybe -> try_next(replay_always)
         2 poll -> try 3 at 2, connect by 3002
         3 finished 3 refused -> stop(endpoints_exhausted)
         3 outcome -> unknown of 2",
    );
    tell(
        parts,
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         1 finished 1 answered 503 -> try_next(replay_always)
         1 poll -> try 2 at 1, connect by 3001
         2 finished 2 cancelled -> stop(cancelled)
         2 outcome -> unknown of 1",
    );
    tell(
        parts,
        Facts::default(),
        2,
        "0 outcome -> not_sent of 0
         0 poll -> try 1 at 0, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 1, connect by 3001
         2 finished 2 timeout -> stop(endpoints_exhausted)
         2 outcome -> not_sent of 2",
    );
    // An answer that stands does so also beside another attempt that ended at the same moment.
    tell(
        PolicyParts { dial_stagger: Some(ms(250)), ..parts },
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         500 poll -> dial 3 at 2, connect by 3500
         501 finished 3 reset at send sent maybe -> try_next(in_flight)
         501 finished 2 answered 200 -> done(answered)
         501 outcome -> answered of 2",
    );
}

#[test]
fn each_attempt_has_its_whole_time_anew_within_the_deadline() {
    let parts = PolicyParts { attempt_timeout: Some(ms(500)), deadline: Some(ms(1200)), ..listening() };
    tell(
        parts,
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 500 head by 500 until 1200
         500 finished 1 timeout -> try_next(not_sent)
         500 poll -> try 2 at 1, connect by 1000 head by 1000 until 1200
         1000 finished 2 timeout -> try_next(not_sent)
         1000 poll -> try 3 at 2, connect by 1200 until 1200",
    );
    let own = Facts { attempt_timeout: Some(ms(40)), ..Facts::default() };
    tell(parts, own, 3, "0 poll -> try 1 at 0, connect by 40 head by 40 until 1200");
    let long = Facts { attempt_timeout: Some(ms(9000)), ..Facts::default() };
    let story = "0 poll -> try 1 at 0, connect by 3000 head by 9000";
    tell(PolicyParts { deadline: None, ..parts }, long, 3, story);
}

#[test]
fn a_caller_in_a_hurry_or_outside_the_gate_gets_one_attempt_and_no_dial_beside_it() {
    let parts = PolicyParts {
        attempt_timeout: Some(ms(10_000)),
        min_attempt_timeout: ms(5000),
        dial_stagger: Some(ms(250)),
        ..listening()
    };
    let with = |timeout| Facts { attempt_timeout: Some(timeout), ..Facts::default() };
    let one = |reason| {
        format!(
            "0 poll -> try 1 at 0, connect by 3000 head by {{}}
             0 poll -> await
             300 poll -> await
             3000 finished 1 timeout -> stop({reason})"
        )
    };
    tell(parts, with(ms(4999)), 3, &one("attempt_too_short").replace("{}", "4999"));
    let gated = Facts { gated: true, ..Facts::default() };
    tell(parts, gated, 3, &one("outside_gate").replace("{}", "10000"));
    let enough = "0 poll -> try 1 at 0, connect by 3000 head by 5000
                  0 poll -> wait until 250
                  250 poll -> dial 2 at 1, connect by 3250 head by 5250";
    tell(parts, with(ms(5000)), 3, enough);
    let unset = PolicyParts { attempt_timeout: None, ..parts };
    let story = "0 poll -> try 1 at 0, connect by 3000
                 5 finished 1 refused -> try_next(not_sent)";
    tell(unset, Facts::default(), 3, story);
}
