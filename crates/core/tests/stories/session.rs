//! Sessions, told line by line.

use handover_core::{Backoff, BackoffBetween, Facts, PolicyParts, Replay};

use crate::text::{Costs, Tokens, ms, parts, tell, tell_with};

#[test]
fn a_dead_first_endpoint_costs_no_wait() {
    tell(
        parts(),
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 3000
         0 poll -> wait until 250
         5 finished 1 refused -> try_next(not_sent)
         5 poll -> try 2 at 1, connect by 3005
         6 connected 2
         6 poll -> await
         9 finished 2 answered 200 -> done(answered)
         9 poll -> finish done(answered)",
    );
}

#[test]
fn a_pending_dial_gets_a_second_one_beside_it_after_the_stagger() {
    tell(
        parts(),
        Facts::default(),
        4,
        "0 poll -> try 1 at 0, connect by 3000
         249 poll -> wait until 250
         250 poll -> dial 2 at 1, connect by 3250
         250 poll -> wait until 500
         300 connected 2
         300 poll -> await
         600 poll -> await
         601 finished 1 lost_race -> try_next(lost_race)
         700 finished 2 answered 200 -> done(answered)
         700 poll -> finish done(answered)",
    );
}

#[test]
fn a_failed_dial_beside_a_pending_one_starts_the_next_at_once() {
    tell(
        parts(),
        Facts::default(),
        4,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         260 finished 1 refused -> try_next(in_flight)
         260 poll -> dial 3 at 2, connect by 3260
         260 poll -> await
         270 finished 3 refused -> try_next(in_flight)
         270 poll -> await
         280 finished 2 timeout -> stop(attempts_exhausted)
         280 poll -> finish stop(attempts_exhausted)",
    );
}

#[test]
fn a_winner_that_dies_unsent_is_followed_by_an_untried_endpoint() {
    tell(
        parts(),
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         251 connected 1
         252 finished 2 lost_race -> try_next(lost_race)
         253 finished 1 closed at send sent no -> try_next(not_sent)
         253 poll -> try 3 at 2, connect by 3253
         254 poll -> await
         255 finished 3 refused -> stop(attempts_exhausted)",
    );
}

#[test]
fn what_was_written_on_the_winner_is_never_written_again() {
    tell(
        parts(),
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         251 connected 2
         260 finished 2 reset at send sent maybe -> stop(maybe_sent)
         260 poll -> finish stop(maybe_sent)
         261 finished 1 lost_race -> stop(maybe_sent)",
    );
}

#[test]
fn one_attempt_means_no_machinery_at_all() {
    for (parts, facts, reason) in [
        (PolicyParts { max_attempts: 1, ..parts() }, Facts::default(), "attempts_exhausted"),
        (parts(), Facts { opted_out: true, ..Facts::default() }, "opted_out"),
    ] {
        let story = format!(
            "0 poll -> try 1 at 0, connect by 3000
             0 poll -> await
             900 poll -> await
             3000 finished 1 timeout -> stop({reason})
             3000 poll -> finish stop({reason})"
        );
        tell(parts, facts, 3, &story);
    }
}

#[test]
fn an_empty_budget_allows_no_hedge_but_what_follows_a_dial_that_failed() {
    tell_with(
        parts(),
        Facts::default(),
        &Costs(vec![Some(1); 4]),
        Tokens(0),
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> await
         251 poll -> await
         3000 finished 1 timeout -> try_next(not_sent)
         3000 poll -> try 2 at 1, connect by 6000
         3300 poll -> await
         3400 connected 2
         3500 finished 2 answered 200 -> done(answered)",
    );
}

#[test]
fn an_empty_budget_ends_what_an_endpoint_has_had_to_do() {
    let always = PolicyParts { replay: Replay::Always, ..parts() };
    for (outcome, verdict) in [("answered 503", "done(budget_empty)"), ("reset sent maybe", "stop(budget_empty)")] {
        let story = format!(
            "0 poll -> try 1 at 0, connect by 3000
             1 finished 1 refused -> try_next(not_sent)
             1 poll -> try 2 at 1, connect by 3001
             1 connected 2
             2 finished 2 {outcome} -> {verdict}"
        );
        tell_with(always, Facts::default(), &Costs(vec![Some(1); 4]), Tokens(0), &story);
    }
}

#[test]
fn no_endpoint_at_all_is_said_at_once() {
    tell(parts(), Facts::default(), 0, "0 poll -> finish stop(no_endpoints)");
}

#[test]
fn when_all_are_tried_the_last_error_stands() {
    tell(
        parts(),
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 1, connect by 3001
         1 poll -> await
         2 finished 2 refused -> stop(endpoints_exhausted)
         2 poll -> finish stop(endpoints_exhausted)",
    );
}

#[test]
fn cancel_is_final_in_a_dial_a_backoff_and_a_discovery() {
    let parts = PolicyParts { same_endpoint_again: true, ..parts() };
    tell(
        parts,
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         260 finished 1 cancelled -> stop(cancelled)
         260 poll -> finish stop(cancelled)
         260 finished 2 cancelled -> stop(cancelled)",
    );
    tell(
        parts,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         9 finished 1 refused -> try_next(not_sent)
         9 cancelled
         9 poll -> finish stop(cancelled)
         99 poll -> finish stop(cancelled)",
    );
    tell(
        PolicyParts { discover: true, ..parts },
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         9 finished 1 refused -> try_next(not_sent)
         9 poll -> discover
         9 poll -> await
         10 cancelled
         11 discovered yes
         11 poll -> finish stop(cancelled)",
    );
    tell(
        parts,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 connected 1
         9 cancelled
         9 poll -> finish stop(cancelled)",
    );
}

#[test]
fn retry_after_parks_the_endpoint_that_sent_it_and_no_other() {
    let parts = PolicyParts {
        max_attempts: 4,
        replay: Replay::Always,
        same_endpoint_again: true,
        retry_after_cap: ms(60_000),
        backoff: Backoff { base: ms(0), cap: ms(0), between: BackoffBetween::SameEndpoint },
        dial_stagger: None,
        ..parts()
    };
    tell(
        parts,
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         10 finished 1 answered 503 after 2000 -> try_next(replay_always)
         10 poll -> try 2 at 1, connect by 3010
         20 finished 2 answered 503 -> try_next(replay_always)
         20 poll -> wait until 21
         21 poll -> try 3 at 1, connect by 3021
         30 finished 3 answered 503 after 9999999 -> try_next(replay_always)
         30 poll -> wait until 2010
         2010 poll -> try 4 at 0, connect by 5010
         2011 finished 4 answered 503 -> done(attempts_exhausted)",
    );
    tell(
        PolicyParts { retry_after_cap: ms(500), ..parts },
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         10 finished 1 answered 503 after 2000 -> try_next(replay_always)
         10 poll -> wait until 510",
    );
}

#[test]
fn a_deadline_bounds_the_dial_and_ends_what_it_cannot_wait_for() {
    let parts = PolicyParts {
        replay: Replay::Always,
        deadline: Some(ms(1000)),
        min_deadline: ms(100),
        same_endpoint_again: true,
        ..parts()
    };
    tell(
        parts,
        Facts { caller_deadline: Some(ms(900)), ..Facts::default() },
        2,
        "0 poll -> try 1 at 0, connect by 900 until 900
         250 poll -> dial 2 at 1, connect by 900 until 900
         900 finished 1 timeout -> try_next(in_flight)
         900 finished 2 timeout -> stop(deadline_too_short)",
    );
    tell(
        parts,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 1000 until 1000
         10 finished 1 answered 503 after 890 -> try_next(replay_always)
         10 poll -> wait until 900
         901 poll -> finish done(deadline_too_short)",
    );
    tell(
        parts,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 1000 until 1000
         10 finished 1 answered 503 after 891 -> done(deadline_too_short)",
    );
    tell(
        parts,
        Facts { caller_deadline: Some(ms(50)), ..Facts::default() },
        1,
        "0 poll -> try 1 at 0, connect by 50 until 50
         9 finished 1 refused -> stop(deadline_too_short)",
    );
    tell(parts, Facts::default(), 1, "1000 poll -> finish stop(deadline_too_short)");
}

#[test]
fn discovery_is_asked_once_when_the_known_ones_are_tried() {
    let parts = PolicyParts { discover: true, dial_stagger: None, ..parts() };
    tell(
        parts,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 refused -> try_next(not_sent)
         5 poll -> discover
         6 endpoints 2
         6 discovered yes
         6 poll -> try 2 at 1, connect by 3006
         7 finished 2 refused -> stop(endpoints_exhausted)",
    );
    tell(
        PolicyParts { replay: Replay::Always, ..parts },
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         5 finished 1 answered 503 -> try_next(replay_always)
         5 poll -> discover
         6 discovered no
         6 poll -> finish done(nothing_discovered)",
    );
    tell(
        parts,
        Facts::default(),
        0,
        "0 poll -> discover
         6 discovered no
         6 poll -> finish stop(no_endpoints)",
    );
}

#[test]
fn reports_of_what_is_not_under_way_change_nothing() {
    tell(
        parts(),
        Facts::default(),
        3,
        "0 finished 1 refused -> try_next(not_in_flight)
         0 connected 1
         0 discovered no
         0 poll -> try 1 at 0, connect by 3000
         0 finished 0 refused -> try_next(not_in_flight)
         0 finished 99 refused -> try_next(not_in_flight)
         4 finished 1 refused -> try_next(not_sent)
         4 finished 1 answered 200 -> try_next(not_in_flight)
         3 poll -> try 2 at 1, connect by 3004",
    );
}

#[test]
fn endpoints_that_go_away_are_not_tried_and_those_that_come_are() {
    tell(
        parts(),
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         1 endpoints 1
         1 poll -> await
         2 finished 1 refused -> try_next(not_sent)
         2 poll -> finish stop(endpoints_exhausted)",
    );
    tell(
        parts(),
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000
         1 poll -> await
         2 endpoints 2
         300 poll -> dial 2 at 1, connect by 3300",
    );
}
