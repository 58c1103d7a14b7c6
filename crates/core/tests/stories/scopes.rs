//! Sessions with endpoints that a request may not use, told line by line: for the store of keys, or because they are gone.

use handover_core::{Facts, PolicyParts, Replay};

use crate::text::{ms, tell};
use crate::words::{KEYED, listening};

#[test]
fn a_keyed_request_that_may_have_been_sent_stays_within_its_scope() {
    let parts = PolicyParts { replay: Replay::Idempotent, ..listening() };
    tell(
        parts,
        KEYED,
        4,
        "0 scope 1 7
         0 scope 3 7
         0 poll -> try 1 at 0, connect by 3000
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> try 2 at 1, connect by 3001
         2 finished 2 reset at send sent maybe -> try_next(idempotency_key)
         2 poll -> try 3 at 3, connect by 3002
         3 finished 3 refused -> stop(outside_scope)
         3 outcome -> unknown of 2",
    );
    let story = "0 scope 1 7
                 0 poll -> try 1 at 0, connect by 3000
                 1 finished 1 answered 500 -> try_next(disclaimed)
                 1 poll -> try 2 at 1, connect by 3001
                 2 finished 2 answered 503 -> done(endpoints_exhausted)";
    tell(parts, KEYED, 2, story);
    let free = "0 scope 1 7
                0 poll -> try 1 at 0, connect by 3000
                1 finished 1 reset at send sent maybe -> try_next(REASON)
                1 poll -> try 2 at 1, connect by 3001";
    let method = Facts { idempotent: true, ..KEYED };
    tell(parts, method, 2, &free.replace("REASON", "idempotent_method"));
    tell(PolicyParts { replay: Replay::Always, ..parts }, KEYED, 2, &free.replace("REASON", "replay_always"));
    tell(
        PolicyParts { same_endpoint_again: true, ..parts },
        KEYED,
        2,
        "0 scope 1 7
         0 poll -> try 1 at 0, connect by 3000
         1 finished 1 reset at send sent maybe -> try_next(idempotency_key)
         2 poll -> try 2 at 0, connect by 3002
         2 gone 0
         3 finished 2 refused -> try_next(not_sent)
         4 poll -> finish stop(outside_scope)",
    );
}

#[test]
fn a_dial_in_another_scope_does_not_carry_on_what_may_have_been_sent() {
    let parts = PolicyParts { replay: Replay::Idempotent, dial_stagger: Some(ms(250)), ..listening() };
    tell(
        parts,
        KEYED,
        2,
        "0 scope 1 7
         0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         260 finished 1 reset at send sent maybe -> stop(outside_scope)
         260 poll -> finish stop(outside_scope)",
    );
}

#[test]
fn what_cannot_be_used_is_not_used_even_when_nothing_else_is_left() {
    let again = PolicyParts { same_endpoint_again: true, ..listening() };
    tell(again, Facts::default(), 1, "0 gone 0\n 0 poll -> finish stop(no_endpoints)");
    tell(
        again,
        Facts::default(),
        3,
        "0 gone 0
         0 poll -> try 1 at 1, connect by 3000
         0 gone 2
         1 finished 1 refused -> try_next(not_sent)
         1 poll -> wait until 2
         2 poll -> try 2 at 1, connect by 3002
         2 gone 1
         3 finished 2 refused -> try_next(not_sent)
         4 poll -> finish stop(endpoints_exhausted)",
    );
}
