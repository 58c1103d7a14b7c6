//! The verdict table of the README, generated from [`decide`] itself so that it cannot say anything else.

use std::time::Duration;

use crate::BodyLeft::{Consumed, Whole};
use crate::{
    Budget, Facts, Failure, Fault, Outcome, Policy, PolicyParts, Replay, Sent, Spent, Stage, StatusSet, Unlimited,
    Verdict, decide,
};

/// The columns: a policy's proof, and a request where that makes a difference.
const COLUMNS: [(&str, Replay, bool); 4] = [
    ("`unsent`", Replay::Unsent, true),
    ("`idempotent`: GET, or keyed", Replay::Idempotent, true),
    ("`idempotent`: POST", Replay::Idempotent, false),
    ("`always`", Replay::Always, false),
];

/// A status that the table's policy does not take as an answer.
const UNWELCOME: u16 = 503;
/// A status that it takes for the word that nothing was done.
const DISCLAIMED: u16 = 421;
/// A status that it takes for the word that the request is served elsewhere only.
const PINNED: u16 = 451;
/// A status that speaks of a request with the same key.
const IN_PROGRESS: u16 = 409;
/// The least time of an attempt for which it makes a further one.
const ATTEMPT_MIN: Duration = Duration::from_secs(5);

/// What happened, and what was left when it did.
struct Row {
    what: &'static str,
    outcome: Outcome,
    spent: Spent,
    facts: Facts,
    is_budget_empty: bool,
}

/// The table as Markdown, its last line ended too.
#[must_use]
pub fn verdict_table() -> String {
    let titles: Vec<_> = COLUMNS.iter().map(|(title, ..)| *title).collect();
    let mut table = format!("| what happened | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(COLUMNS.len()));
    for row in rows() {
        let cells: Vec<_> = COLUMNS.iter().map(|(_, replay, repeatable)| cell(&row, *replay, *repeatable)).collect();
        table.push_str(&format!("| {} | {} |\n", row.what, cells.join(" | ")));
    }
    table
}

/// The verdict of one row under one column's policy.
fn cell(row: &Row, replay: Replay, repeatable: bool) -> String {
    let parts = PolicyParts {
        replay,
        retry_statuses: StatusSet::from_iter([UNWELCOME]),
        disclaimed_statuses: StatusSet::from_iter([DISCLAIMED]),
        pin_statuses: StatusSet::from_iter([PINNED]),
        in_progress: true,
        min_attempt_timeout: ATTEMPT_MIN,
        deadline: Some(DEADLINE),
        ..PolicyParts::default()
    };
    let policy = Policy::try_new(parts).expect("the default with a few statuses and times is valid");
    let facts = Facts { idempotent: repeatable, ..row.facts };
    let mut empty = Empty;
    let mut unlimited = Unlimited;
    let budget: &mut dyn Budget = if row.is_budget_empty { &mut empty } else { &mut unlimited };
    let verdict = decide(&policy, &facts, &row.outcome, &row.spent, budget);
    let word = match verdict {
        Verdict::Done(_) => "done",
        Verdict::TryNext(_) => "**next**",
        Verdict::Stop(_) => "stop",
    };
    format!("{word}: {}", verdict.reason().as_str().replace('_', " "))
}

/// The deadline of the table's policy; any will do that the rows can keep or miss.
const DEADLINE: Duration = Duration::from_secs(60);

/// A budget with nothing in it.
struct Empty;

impl Budget for Empty {
    fn try_take(&mut self) -> bool {
        false
    }
}

/// All rows: what may happen to a request first, then what may be used up when it could be tried again.
fn rows() -> Vec<Row> {
    let answered = |status, body| Outcome::Answered { status, retry_after: None, body };
    let failed = |stage, fault, sent, body| Outcome::Failed(Failure { stage, fault, sent, body });
    let refused = failed(Stage::Dial, Fault::Refused, Sent::No, Whole);
    let unsent = failed(Stage::Send, Fault::Closed, Sent::No, Whole);
    let unwelcome = answered(UNWELCOME, Whole);
    let left = Spent { attempts: 1, untried: true, ..Spent::default() };
    let beside = Spent { in_flight: true, ..left };
    let plain = Facts::default();
    let keyed = Facts { keyed: true, ..plain };
    let nowhere = Spent { untried: false, ..left };
    let maybe = failed(Stage::Send, Fault::Reset, Sent::Maybe, Whole);
    let row = |what, outcome, spent| Row { what, outcome, spent, facts: plain, is_budget_empty: false };
    vec![
        row("answered, a status the policy takes", answered(200, Whole), left),
        row("answered, a status to try again on", unwelcome, left),
        row("the same, body already read", answered(UNWELCOME, Consumed), left),
        row("answered, a status that disclaims the request", answered(DISCLAIMED, Whole), left),
        row("421 or 425, all endpoints tried", answered(DISCLAIMED, Whole), Spent { once_more: true, ..nowhere }),
        row("answered, served elsewhere only", answered(PINNED, Whole), left),
        row("the same, all endpoints tried", answered(PINNED, Whole), nowhere),
        Row { facts: keyed, ..row("409, keyed: in progress there", answered(IN_PROGRESS, Whole), nowhere) },
        row("failed, nothing sent", refused, left),
        row("failed, maybe sent", maybe, left),
        row("failed, sent", failed(Stage::AwaitHead, Fault::Timeout, Sent::Yes, Whole), left),
        row("failed, nothing sent, body already read", failed(Stage::Send, Fault::Reset, Sent::No, Consumed), left),
        row("failed, maybe sent, body already read", failed(Stage::Send, Fault::Reset, Sent::Maybe, Consumed), left),
        row("the caller left", failed(Stage::Dial, Fault::Cancelled, Sent::No, Whole), left),
        row("the target is forbidden", failed(Stage::Dial, Fault::Denied, Sent::No, Whole), left),
        row("failed, nothing sent, another dial under way", refused, beside),
        row("another dial connected first", failed(Stage::Dial, Fault::LostRace, Sent::No, Whole), beside),
        Row {
            facts: Facts { opted_out: true, ..plain },
            ..row("nothing sent, the caller wants one attempt", refused, left)
        },
        Row {
            facts: Facts { gated: true, ..plain },
            ..row("nothing sent, outside the domains that fail over", refused, left)
        },
        Row {
            facts: Facts { attempt_timeout: Some(ATTEMPT_MIN - Duration::from_millis(1)), ..plain },
            ..row("nothing sent, an attempt has less time than the least", refused, left)
        },
        row("nothing sent, attempts used up", refused, Spent { attempts: crate::ATTEMPTS_MAX, ..left }),
        row("nothing sent, all endpoints tried", refused, nowhere),
        Row {
            facts: keyed,
            ..row("maybe sent, keyed, its key not known at what is left", maybe, Spent { outside: true, ..nowhere })
        },
        row("nothing sent, no time left", refused, Spent { now: DEADLINE, ..left }),
        Row { is_budget_empty: true, ..row("answered, a status to try again on, budget empty", unwelcome, left) },
        Row { is_budget_empty: true, ..row("maybe sent, budget empty", maybe, left) },
        Row { is_budget_empty: true, ..row("nothing sent, handed to a connection, budget empty", unsent, left) },
        Row { is_budget_empty: true, ..row("nothing sent, no connection had it, budget empty", refused, left) },
    ]
}
