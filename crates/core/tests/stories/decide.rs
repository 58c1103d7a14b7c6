//! `decide` by itself, a line per question that it asks.

use handover_core::{Facts, Policy, PolicyParts, Replay, Spent, Unlimited, decide};

use crate::text::{Tokens, ms, outcome, parts};

const LEFT: Spent =
    Spent { attempts: 1, now: ms(0), untried: true, in_flight: false, delay: ms(0), once_more: false, outside: false };

/// Checks lines `OUTCOME -> VERDICT`.
#[track_caller]
fn check(parts: PolicyParts, facts: Facts, spent: Spent, table: &str) {
    let policy = Policy::try_new(parts).expect("the tables' policies are valid");
    let lines: Vec<_> = table.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = lines.iter().map(|line| {
        let what = line.split("->").next().unwrap_or_default().trim();
        format!("{what} -> {}", decide(&policy, &facts, &outcome(what), &spent, &mut Unlimited))
    });
    assert_eq!(said.collect::<Vec<_>>().join("\n"), lines.join("\n"));
}

#[test]
fn unsent_goes_on_only_with_proof() {
    let facts = Facts { idempotent: true, keyed: true, ..Facts::default() };
    check(
        parts(),
        facts,
        LEFT,
        "answered 200 -> done(answered)
         answered 404 -> done(answered)
         answered 500 -> done(answered)
         answered 200 consumed -> done(answered)
         answered 503 -> done(was_sent)
         answered 503 consumed -> done(body_consumed)
         refused at dial sent no -> try_next(not_sent)
         proxy_refused at proxy_handshake sent no -> try_next(not_sent)
         status(502) at proxy_handshake sent no -> try_next(not_sent)
         tls at tls sent no -> try_next(not_sent)
         local at dial sent no -> try_next(not_sent)
         reset at send sent no -> try_next(not_sent)
         reset at send sent maybe -> stop(maybe_sent)
         timeout at await_head sent yes -> stop(was_sent)
         closed at send sent no consumed -> stop(body_consumed)
         reset at send sent maybe consumed -> stop(body_consumed)
         cancelled at dial sent no -> stop(cancelled)
         cancelled at send sent maybe consumed -> stop(cancelled)
         lost_race at dial sent no -> try_next(not_sent)",
    );
}

#[test]
fn idempotent_goes_on_with_a_method_or_a_key() {
    let parts = PolicyParts { replay: Replay::Idempotent, ..parts() };
    let table = |reason: &str| {
        format!(
            "answered 503 -> {}
             reset at send sent maybe -> {}
             timeout at await_head sent yes -> {}
             reset at send sent maybe consumed -> stop(body_consumed)
             cancelled at await_head sent yes -> stop(cancelled)
             refused at dial sent no -> try_next(not_sent)",
            if reason.starts_with("stop") { reason.replace("stop", "done") } else { reason.to_owned() },
            reason,
            reason,
        )
    };
    let method = Facts { idempotent: true, ..Facts::default() };
    let key = Facts { keyed: true, ..Facts::default() };
    check(parts, method, LEFT, &table("try_next(idempotent_method)"));
    check(parts, key, LEFT, &table("try_next(idempotency_key)"));
    check(parts, Facts::default(), LEFT, &table("stop(not_idempotent)"));
}

#[test]
fn always_goes_on_except_without_a_body_or_a_caller() {
    check(
        PolicyParts { replay: Replay::Always, ..parts() },
        Facts::default(),
        LEFT,
        "answered 503 -> try_next(replay_always)
         answered 502 -> done(answered)
         timeout at await_head sent yes -> try_next(replay_always)
         timeout at await_head sent yes consumed -> stop(body_consumed)
         cancelled at await_head sent yes -> stop(cancelled)",
    );
}

#[test]
fn what_is_used_up_ends_the_request_with_its_own_reason() {
    let table = |reason: &str| format!("refused at dial sent no -> stop({reason})");
    let plain = Facts::default();
    check(parts(), Facts { opted_out: true, ..plain }, LEFT, &table("opted_out"));
    check(parts(), plain, Spent { attempts: 3, ..LEFT }, &table("attempts_exhausted"));
    check(parts(), plain, Spent { untried: false, ..LEFT }, &table("endpoints_exhausted"));
    let hurried = PolicyParts { deadline: Some(ms(100)), min_deadline: ms(20), ..parts() };
    let go_on = "refused at dial sent no -> try_next(not_sent)";
    check(hurried, plain, Spent { now: ms(80), ..LEFT }, go_on);
    check(hurried, plain, Spent { now: ms(81), ..LEFT }, &table("deadline_too_short"));
    check(hurried, plain, Spent { now: ms(60), delay: ms(21), ..LEFT }, &table("deadline_too_short"));
    let caller = Facts { caller_deadline: Some(ms(50)), ..plain };
    check(hurried, caller, Spent { now: ms(31), ..LEFT }, &table("deadline_too_short"));
    let late = Facts { caller_deadline: Some(ms(5000)), ..plain };
    check(hurried, late, Spent { now: ms(81), ..LEFT }, &table("deadline_too_short"));
    // No time at all is too little even where the policy sets no least time.
    check(parts(), caller, Spent { now: ms(50), ..LEFT }, &table("deadline_too_short"));
    let again = PolicyParts { same_endpoint_again: true, ..parts() };
    check(again, plain, Spent { untried: false, ..LEFT }, go_on);
}

#[test]
fn an_answer_stands_when_nothing_is_left_to_try() {
    let always = PolicyParts { replay: Replay::Always, ..parts() };
    check(always, Facts::default(), Spent { attempts: 3, ..LEFT }, "answered 503 -> done(attempts_exhausted)");
    check(always, Facts::default(), Spent { untried: false, ..LEFT }, "answered 503 -> done(endpoints_exhausted)");
}

#[test]
fn another_dial_under_way_carries_the_request_on_whatever_is_used_up() {
    let used_up = Spent { attempts: 3, untried: false, in_flight: true, ..LEFT };
    check(
        parts(),
        Facts::default(),
        used_up,
        "refused at dial sent no -> try_next(in_flight)
         lost_race at dial sent no -> try_next(lost_race)
         lost_race at send sent maybe -> stop(maybe_sent)
         cancelled at dial sent no -> stop(cancelled)",
    );
}

#[test]
fn the_budget_is_asked_last_and_only_once() {
    let unsent = outcome("closed at send sent no");
    let maybe = outcome("reset at send sent maybe");
    let policy = Policy::try_new(parts()).expect("valid");
    let mut tokens = Tokens(1);
    let mut say = |outcome, spent| decide(&policy, &Facts::default(), &outcome, &spent, &mut tokens).to_string();
    assert_eq!(say(maybe, LEFT), "stop(maybe_sent)");
    assert_eq!(say(unsent, Spent { attempts: 3, ..LEFT }), "stop(attempts_exhausted)");
    assert_eq!(say(unsent, Spent { in_flight: true, ..LEFT }), "try_next(in_flight)");
    assert_eq!(say(unsent, LEFT), "try_next(not_sent)", "the token was still there");
    assert_eq!(say(unsent, LEFT), "stop(budget_empty)");
}

#[test]
fn the_budget_is_not_asked_where_no_endpoint_was_handed_the_request() {
    let parts = PolicyParts { replay: Replay::Always, same_endpoint_again: true, ..parts() };
    let policy = Policy::try_new(parts).expect("valid");
    let say = |what, spent| decide(&policy, &Facts::default(), &outcome(what), &spent, &mut Tokens(0)).to_string();
    let again = Spent { untried: false, ..LEFT };
    for (what, to_untried, to_tried) in [
        ("refused at dial sent no", "try_next(not_sent)", "stop(budget_empty)"),
        ("timeout at dial sent no", "try_next(not_sent)", "stop(budget_empty)"),
        ("dns at resolve sent no", "try_next(not_sent)", "try_next(not_sent)"),
        ("unreachable at dial sent no", "try_next(not_sent)", "try_next(not_sent)"),
        ("local at dial sent no", "try_next(not_sent)", "try_next(not_sent)"),
        ("proxy_refused at proxy_handshake sent no", "try_next(not_sent)", "stop(budget_empty)"),
        ("status(502) at proxy_handshake sent no", "try_next(not_sent)", "stop(budget_empty)"),
        ("tls at tls sent no", "try_next(not_sent)", "stop(budget_empty)"),
        ("closed at send sent no", "stop(budget_empty)", "stop(budget_empty)"),
        ("timeout at await_head sent no", "stop(budget_empty)", "stop(budget_empty)"),
        ("reset at send sent maybe", "stop(budget_empty)", "stop(budget_empty)"),
        ("timeout at await_head sent yes", "stop(budget_empty)", "stop(budget_empty)"),
        ("answered 503", "done(budget_empty)", "done(budget_empty)"),
        ("answered 200", "done(answered)", "done(answered)"),
    ] {
        assert_eq!((say(what, LEFT), say(what, again)), (to_untried.to_owned(), to_tried.to_owned()), "{what}");
    }
}
