//! Takes a record's decisions again, from the record and the policy alone, and says where they differ.
//!
//! A record that replays was written by this code under this policy; one that does not was changed, was written under
//! another policy, or by a version that decided otherwise. What the endpoints and the budget answered is taken from the
//! record; everything that follows from it is computed anew.

use std::fmt;
use std::time::Duration;

use crate::decide::{deadline, decide, is_enough_time, only_attempt};
use crate::ledger::Ledger;
use crate::pick::{Course, Pick, Pool};
use crate::record::{AttemptRecord, Record};
use crate::{Budget, Policy, Reason, Verdict};

/// The first decision that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The attempt, counted from 1; `None` if it is the session's end.
    pub attempt: Option<u32>,
    /// Which decision: `number`, `pick`, `due`, `spent`, `budget`, `verdict`, `end`.
    pub decision: &'static str,
    /// What the record says.
    pub recorded: String,
    /// What was decided now.
    pub decided: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, decision, recorded, decided } = self;
        match attempt {
            Some(attempt) => write!(f, "attempt {attempt}: {decision}")?,
            None => write!(f, "session: {decision}")?,
        }
        write!(f, " is recorded as {recorded}, but decided as {decided}")
    }
}

impl std::error::Error for Difference {}

/// Takes all decisions of a record again: which endpoints, when, and what was said of each attempt and of the whole.
///
/// # Errors
/// The first difference.
pub fn replay(policy: &Policy, record: &Record) -> Result<(), Difference> {
    for (index, attempt) in record.attempts.iter().enumerate() {
        let before = Ledger { policy, record, begun: index };
        begin_again(&before, attempt)?;
        decide_again(policy, record, attempt)?;
    }
    end_again(policy, record)
}

/// The recorded answer of the budget, for the one who asks again.
struct Recorded {
    answer: Option<bool>,
    is_asked: bool,
}

impl Budget for Recorded {
    fn try_take(&mut self) -> bool {
        self.is_asked = true;
        self.answer.unwrap_or(false)
    }
}

/// When an attempt ended: later than all else, if it has not.
const fn end(attempt: &AttemptRecord) -> Duration {
    if attempt.is_under_way() { Duration::MAX } else { attempt.ended }
}

/// Says that a decision differs unless `same`.
fn compare(
    same: bool,
    attempt: Option<&AttemptRecord>,
    decision: &'static str,
    recorded: impl fmt::Debug,
    decided: impl fmt::Debug,
) -> Result<(), Difference> {
    if same {
        return Ok(());
    }
    let attempt = attempt.map(|attempt| attempt.attempt);
    Err(Difference { attempt, decision, recorded: format!("{recorded:?}"), decided: format!("{decided:?}") })
}

/// Checks how an attempt began: its number, the wait before it, the choice of its endpoint.
fn begin_again(before: &Ledger<'_>, attempt: &AttemptRecord) -> Result<(), Difference> {
    let Ledger { policy, record, begun } = *before;
    let at = Some(attempt);
    let number = u32::try_from(begun + 1).unwrap_or(u32::MAX);
    compare(attempt.attempt == number, at, "number", attempt.attempt, number)?;
    let most = if only_attempt(policy, &record.facts).is_some() { 1 } else { policy.max_attempts() };
    compare(number <= most, at, "number", number, format_args!("at most {most}"))?;

    let pick = &attempt.pick;
    let mut others = record.attempts.iter().take(begun);
    let is_begun_beside = others.any(|other| end(other) >= attempt.started);
    let pauses = before.pauses(before.since(), course(pick));
    if attempt.hedged {
        compare(is_begun_beside, at, "due", "beside another attempt", "after all others had ended")?;
        compare(before.is_hedge_due(attempt.due), at, "due", attempt.due, "another time")?;
        let beside = begun.checked_sub(1).and_then(|index| record.attempts.get(index));
        let is_alone = beside.is_some_and(|beside| beside.pick.pool == Pool::Same);
        compare(!is_alone, at, "due", "beside another attempt", "not beside one that only one endpoint may have")?;
    } else {
        compare(attempt.due == pauses.due, at, "due", attempt.due, pauses.due)?;
    }
    compare(attempt.started >= attempt.due, at, "due", attempt.started, format_args!("from {:?}", attempt.due))?;
    let has_time = match deadline(policy, &record.facts) {
        Some(deadline) if begun == 0 => attempt.started < deadline,
        _ => is_enough_time(policy, &record.facts, attempt.started),
    };
    compare(has_time, at, "due", attempt.started, "too late")?;
    compare(attempt.endpoint == pick.chosen.endpoint, at, "pick", attempt.endpoint, pick.chosen.endpoint)?;
    let choice = before.choice();
    let is_same = choice.is_right_pool(pick, attempt.hedged) && choice.would_repeat(pick, pauses.ready);
    compare(is_same, at, "pick", pick, "another choice")
}

/// Checks what was said of an attempt.
fn decide_again(policy: &Policy, record: &Record, attempt: &AttemptRecord) -> Result<(), Difference> {
    let at = Some(attempt);
    if attempt.is_under_way() && record.verdict.is_none() {
        return Ok(());
    }
    let begun = attempt.spent.attempts as usize;
    let fits = begun <= record.attempts.len() && attempt.spent.attempts >= attempt.attempt;
    compare(fits, at, "spent", attempt.spent.attempts, record.attempts.len())?;
    let spent =
        Ledger { policy, record, begun }.spent(attempt.ended, attempt, &attempt.outcome, attempt.spent.in_flight);
    compare(attempt.spent == spent, at, "spent", attempt.spent, spent)?;
    let others = || record.attempts.iter().take(begun).filter(|other| other.attempt != attempt.attempt);
    // Where two ended at the same time, the record alone knows which was first.
    let is_certain = others().any(|other| end(other) > attempt.ended);
    let is_possible = others().any(|other| end(other) >= attempt.ended);
    let fits = if spent.in_flight { is_possible } else { !is_certain };
    compare(fits, at, "spent", spent.in_flight, !spent.in_flight)?;

    let mut budget = Recorded { answer: attempt.budget, is_asked: false };
    let verdict = decide(policy, &record.facts, &attempt.outcome, &spent, &mut budget);
    compare(!budget.is_asked || attempt.budget.is_some(), at, "budget", "not asked", "asked")?;
    compare(attempt.verdict == verdict, at, "verdict", attempt.verdict, verdict)?;
    compare(budget.is_asked || attempt.budget.is_none(), at, "budget", "asked", "not asked")
}

/// Checks how the session ended: as its decisive attempt did, or between attempts, for a reason that held there.
fn end_again(policy: &Policy, record: &Record) -> Result<(), Difference> {
    let (Some(verdict), Some(ended)) = (record.verdict, record.ended) else {
        let both = record.verdict.is_none() && record.ended.is_none();
        return compare(both, None, "end", record.verdict, record.ended);
    };
    if verdict == Verdict::Stop(Reason::Cancelled) {
        return Ok(());
    }
    if let Some(last) = record.attempts.iter().find(|attempt| attempt.verdict.is_final()) {
        let expected = record.ending(last.verdict.reason());
        return compare(expected == verdict, None, "end", verdict, expected);
    }
    let is_none_found =
        [record.discovery, record.refresh].into_iter().flatten().any(|asked| asked.found == Some(false));
    let reason = verdict.reason();
    let holds = match reason {
        Reason::NoEndpoints => record.attempts.is_empty(),
        Reason::NothingDiscovered => is_none_found,
        Reason::EndpointsExhausted => !record.attempts.is_empty(),
        Reason::OutsideScope => Ledger { policy, record, begun: record.attempts.len() }.choice().bound().is_some(),
        Reason::DeadlineTooShort => is_too_late(policy, record, ended),
        _ => false,
    };
    let expected = record.ending(reason);
    compare(holds && verdict == expected, None, "end", verdict, "no end between attempts")
}

/// The way that a choice went.
const fn course(pick: &Pick) -> Course {
    match pick.pool {
        Pool::Untried | Pool::Shedding => Course::Untried,
        Pool::Again => Course::Again { count: pick.endpoints, gone: pick.gone },
        Pool::Same => Course::Same { endpoint: pick.chosen.endpoint },
    }
}

/// Whether no attempt could begin any more at that time, or after the wait that lay ahead. Which endpoints could be used
/// then is not in the record, so the longest of the waits that may have lain ahead counts.
fn is_too_late(policy: &Policy, record: &Record, ended: Duration) -> bool {
    let ledger = Ledger { policy, record, begun: record.attempts.len() };
    let again = |attempt: &AttemptRecord| Course::Same { endpoint: attempt.endpoint };
    let begin = |course| ledger.pauses(ledger.since(), course).due.max(ended);
    match deadline(policy, &record.facts) {
        Some(deadline) if record.attempts.is_empty() => ended >= deadline,
        _ => {
            let courses = record.attempts.iter().map(again).chain([Course::Untried]);
            courses.into_iter().any(|course| !is_enough_time(policy, &record.facts, begin(course)))
        }
    }
}
