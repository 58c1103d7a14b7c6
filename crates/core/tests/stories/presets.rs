//! What the presets do, told line by line.

use handover_core::{Facts, Policy, PolicyParts};

use crate::text::{ms, tell};

#[test]
fn rotation_goes_on_after_a_5xx_for_every_method_and_after_a_break_only_for_some() {
    let rotation = *Policy::rotation().parts();
    tell(
        rotation,
        Facts::default(),
        4,
        "0 poll -> try 1 at 0, connect by 3000 head by 10000
         5 finished 1 answered 500 -> try_next(disclaimed)
         5 poll -> try 2 at 1, connect by 3005 head by 10005
         6 finished 2 refused -> try_next(not_sent)
         6 poll -> try 3 at 2, connect by 3006 head by 10006
         7 finished 3 reset at send sent maybe -> stop(not_idempotent)
         7 outcome -> unknown of 3",
    );
    let get = Facts { idempotent: true, ..Facts::default() };
    let story = "0 poll -> try 1 at 0, connect by 3000 head by 10000
                 5 finished 1 timeout at await_head sent maybe -> try_next(idempotent_method)
                 5 poll -> try 2 at 1, connect by 3005 head by 10005
                 6 finished 2 answered 599 -> done(endpoints_exhausted)";
    tell(rotation, get, 2, story);
    for status in [400, 404, 408, 409, 429, 451] {
        let story = format!(
            "0 poll -> try 1 at 0, connect by 3000 head by 10000
             5 finished 1 answered {status} -> done(answered)"
        );
        tell(rotation, Facts::default(), 4, &story);
    }
}

#[test]
fn rotation_and_regions_wait_for_a_keyed_request_in_progress() {
    let keyed = Facts { keyed: true, ..Facts::default() };
    for parts in [Policy::rotation(), Policy::regions()].map(|policy| *policy.parts()) {
        let story = "0 poll -> try 1 at 0, connect by 3000 head by 10000
                     5 finished 1 answered 409 -> try_next(in_progress)
                     5000 poll -> try 2 at 0, connect by 8000 head by 15000
                     5001 finished 2 answered 200 -> done(answered)";
        tell(parts, keyed, 2, story);
    }
}

#[test]
fn rotation_reaches_every_server_and_each_once() {
    let mut story = "0 poll -> try 1 at 0, connect by 3000 head by 10000\n".to_owned();
    for attempt in 1..32 {
        story += &format!(
            "{attempt} finished {attempt} refused -> try_next(not_sent)
             {attempt} poll -> try {} at {attempt}, connect by {} head by {}\n",
            attempt + 1,
            3000 + attempt,
            10_000 + attempt
        );
    }
    tell(
        *Policy::rotation().parts(),
        Facts::default(),
        40,
        &format!("{story} 32 finished 32 refused -> stop(attempts_exhausted)"),
    );
    tell(
        *Policy::rotation().parts(),
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000 head by 10000
         1 finished 1 refused -> stop(endpoints_exhausted)",
    );
}

#[test]
fn regions_are_asked_for_on_the_first_failure_and_three_attempts_are_all() {
    let still = handover_core::Backoff { base: ms(0), cap: ms(0), ..Policy::regions().backoff() };
    let regions = PolicyParts { backoff: still, ..*Policy::regions().parts() };
    tell(
        regions,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000 head by 10000
         0 poll -> await
         5 finished 1 answered 503 -> try_next(replay_always)
         5 poll -> discover
         6 endpoints 4
         6 discovered yes
         6 poll -> try 2 at 1, connect by 3006 head by 10006
         7 finished 2 timeout at await_head sent maybe -> try_next(replay_always)
         7 poll -> try 3 at 2, connect by 3007 head by 10007
         8 finished 3 answered 502 -> done(attempts_exhausted)",
    );
    // No other region: the same host again. No list at all: the first answer.
    tell(
        regions,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000 head by 10000
         5 finished 1 answered 503 -> try_next(replay_always)
         5 poll -> discover
         6 discovered yes
         6 poll -> try 2 at 0, connect by 3006 head by 10006
         7 finished 2 answered 400 -> done(answered)",
    );
    tell(
        regions,
        Facts::default(),
        1,
        "0 poll -> try 1 at 0, connect by 3000 head by 10000
         5 finished 1 answered 503 -> try_next(replay_always)
         5 poll -> discover
         6 discovered no
         6 poll -> finish done(nothing_discovered)",
    );
}

#[test]
fn regions_pause_between_every_attempt_and_hurry_nobody() {
    let backoff = Policy::regions().backoff();
    assert_eq!((backoff.base, backoff.between.as_str()), (ms(200), "every_attempt"));
    let hurried = Facts { attempt_timeout: Some(ms(4999)), ..Facts::default() };
    tell(
        *Policy::regions().parts(),
        hurried,
        1,
        "0 poll -> try 1 at 0, connect by 3000 head by 4999
         5 finished 1 answered 503 -> done(attempt_too_short)",
    );
    let just = Facts { attempt_timeout: Some(ms(5000)), ..Facts::default() };
    tell(
        *Policy::regions().parts(),
        just,
        1,
        "0 poll -> try 1 at 0, connect by 3000 head by 5000
         5 finished 1 answered 503 -> try_next(replay_always)",
    );
}

#[test]
fn at_most_once_repeats_nothing_that_may_have_been_sent_and_moves_on_with_what_was_not() {
    let once = *Policy::at_most_once().parts();
    tell(
        once,
        Facts { idempotent: true, keyed: true, ..Facts::default() },
        6,
        "0 poll -> try 1 at 0, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 1, connect by 3001
         251 poll -> dial 3 at 2, connect by 3251
         252 finished 2 dns at resolve -> try_next(in_flight)
         253 finished 3 tls at tls sent no -> try_next(not_sent)
         253 poll -> try 4 at 3, connect by 3253
         254 finished 4 reset at send sent no -> try_next(not_sent)
         254 poll -> try 5 at 4, connect by 3254
         255 finished 5 reset at send sent maybe -> stop(maybe_sent)
         255 outcome -> unknown of 5",
    );
    for status in [503, 421, 409, 451] {
        let story = format!(
            "0 poll -> try 1 at 0, connect by 3000
             5 finished 1 answered {status} -> done(answered)"
        );
        tell(once, Facts { idempotent: true, keyed: true, ..Facts::default() }, 4, &story);
    }
}
