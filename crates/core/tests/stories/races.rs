//! What becomes of an endpoint whose dial lost its race, told line by line: it is as untried as before.

use handover_core::{Facts, PolicyParts, Replay};

use crate::text::{ms, parts, tell};
use crate::words::{KEYED, listening};

#[test]
fn the_loser_of_a_race_is_asked_when_the_winner_fails() {
    let go_on = PolicyParts { replay: Replay::Always, ..parts() };
    for (end, why) in [("answered 503", "replay_always"), ("reset at send sent no", "not_sent")] {
        let story = format!(
            "0 poll -> try 1 at 0, connect by 3000
             250 poll -> dial 2 at 1, connect by 3250
             260 connected 2
             260 finished 1 lost_race -> try_next(lost_race)
             260 poll -> await
             270 finished 2 {end} -> try_next({why})
             270 poll -> try 3 at 0, connect by 3270
             270 poll -> await
             570 connected 3
             580 finished 3 answered 200 -> done(answered)"
        );
        tell(go_on, Facts::default(), 2, &story);
    }
}

#[test]
fn those_never_dialled_come_before_the_loser_of_a_race() {
    tell(
        PolicyParts { replay: Replay::Always, max_attempts: 9, ..parts() },
        Facts::default(),
        3,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         260 connected 2
         260 finished 1 lost_race -> try_next(lost_race)
         270 finished 2 answered 503 -> try_next(replay_always)
         270 poll -> try 3 at 2, connect by 3270
         520 poll -> dial 4 at 0, connect by 3520
         521 connected 3
         521 finished 4 lost_race -> try_next(lost_race)
         530 finished 3 answered 503 -> try_next(replay_always)
         530 poll -> try 5 at 0, connect by 3530
         531 poll -> await
         3530 finished 5 timeout -> done(endpoints_exhausted)",
    );
}

#[test]
fn a_dial_under_way_is_not_begun_again_and_losing_is_bounded_by_the_attempts() {
    tell(
        PolicyParts { replay: Replay::Always, max_attempts: 4, ..parts() },
        Facts::default(),
        2,
        "0 poll -> try 1 at 0, connect by 3000
         250 poll -> dial 2 at 1, connect by 3250
         500 poll -> await
         500 finished 2 lost_race -> try_next(lost_race)
         500 poll -> dial 3 at 1, connect by 3500
         750 finished 3 lost_race -> try_next(lost_race)
         750 poll -> dial 4 at 1, connect by 3750
         760 finished 4 lost_race -> try_next(lost_race)
         760 poll -> await
         761 finished 1 lost_race -> stop(attempts_exhausted)",
    );
}

#[test]
fn a_loser_that_is_gone_or_outside_the_scope_is_not_asked() {
    let parts = PolicyParts { replay: Replay::Idempotent, dial_stagger: Some(ms(250)), ..listening() };
    let race = "0 poll -> try 1 at 0, connect by 3000
                250 poll -> dial 2 at 1, connect by 3250
                260 connected 2
                260 finished 1 lost_race -> try_next(lost_race)";
    let story = format!("0 scope 1 7\n{race}\n270 finished 2 reset at send sent maybe -> stop(outside_scope)");
    tell(parts, KEYED, 2, &story);
    let story = format!(
        "{race}
         260 gone 0
         270 finished 2 answered 500 -> try_next(disclaimed)
         270 poll -> finish done(endpoints_exhausted)"
    );
    tell(parts, KEYED, 2, &story);
}
