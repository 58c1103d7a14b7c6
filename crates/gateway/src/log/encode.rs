//! What the core decided and the network showed, as the JSON that the log stores.
//!
//! The words are the glossary's, the times nanoseconds, so that a decision can be taken again exactly. What a request that
//! succeeds at once has in common with all the others is left out ([`super::decode`] puts it back): a row of one attempt
//! is about 350 bytes, and bytes are most of what a row costs.

use std::time::Duration;

use handover_core::{
    AttemptRecord, BodyLeft, Candidate, Failure, Fault, Outcome, Pick, Policy, Pool, Reason, Record, Spent, Stage,
    Verdict,
};

use super::json::{Object, key};
use super::row::{AttemptDetail, Attempts, MESSAGE_BYTES_MAX};
use super::{RequestId, errno};

/// Nanoseconds; a duration beyond 584 years is cut to that.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The index of the attempt whose outcome the client got; 0 if there was none.
pub(super) fn final_attempt(record: &Record) -> usize {
    let decisive = record.decisive().or_else(|| record.attempts.last());
    decisive.map_or(0, |attempt| attempt.attempt.saturating_sub(1) as usize)
}

/// Appends the attempts as an array.
pub(super) fn attempts(out: &mut String, record: &Record, details: &Attempts) {
    out.push('[');
    for index in 0..record.attempts.len().max(details.len()) {
        if index > 0 {
            out.push(',');
        }
        let mut object = Object::begin(out);
        if let Some(detail) = details.at(index) {
            node(&mut object, detail);
        }
        if let Some(attempt) = record.attempts.get(index) {
            decided(&mut object, index, attempt, details.at(index));
        }
        object.end();
    }
    out.push(']');
}

/// What the network showed.
fn node(object: &mut Object<'_>, detail: &AttemptDetail) {
    object.text(key!("node_tag"), &detail.node_tag);
    object.text(key!("node_hash"), &detail.node_hash);
    if let Some(address) = &detail.address {
        object.address(key!("address"), address);
    }
    object.flag(key!("reused"), detail.reused);
    if detail.stage != Stage::Body {
        object.word(key!("stage"), detail.stage.as_str());
    }
    if let Some(shown) = detail.fault {
        fault(object, key!("fault"), shown);
    }
    if let Some(number) = detail.errno {
        match errno::name(number) {
            Some(name) => object.word(key!("errno"), name),
            None => object.plain(key!("errno"), &format_args!("ERRNO_{number}")),
        }
    }
    match detail.message.as_deref() {
        Some(message) if message.len() > MESSAGE_BYTES_MAX => {
            object.text(key!("message"), &AttemptDetail::message(message))
        }
        Some(message) => object.text(key!("message"), message),
        None => {}
    }
    object.number(key!("written_bytes"), detail.written_bytes);
    object.number(key!("duration_ns"), nanoseconds(detail.duration));
}

fn fault(object: &mut Object<'_>, key: &'static str, fault: Fault) {
    match fault {
        Fault::Status(_) => object.plain(key, &fault),
        fault => object.word(key, fault.as_str()),
    }
}

/// What the core saw and said.
fn decided(object: &mut Object<'_>, index: usize, attempt: &AttemptRecord, detail: Option<&AttemptDetail>) {
    object.number(key!("endpoint"), u64::from(attempt.endpoint));
    object.flag(key!("hedged"), attempt.hedged);
    duration_unless_zero(object, key!("due_ns"), attempt.due);
    duration_unless_zero(object, key!("started_ns"), attempt.started);
    if let Some(connected) = attempt.connected {
        object.number(key!("connected_ns"), nanoseconds(connected));
    }
    object.number(key!("ended_ns"), nanoseconds(attempt.ended));
    match &attempt.outcome {
        Outcome::Answered { status, retry_after, .. } => {
            object.number(key!("status"), u64::from(*status));
            if let Some(retry_after) = retry_after {
                object.number(key!("retry_after_ns"), nanoseconds(*retry_after));
            }
        }
        Outcome::Failed(failure) => failed(object, failure, detail),
    }
    object.flag(key!("body_consumed"), attempt.outcome.body() == BodyLeft::Consumed);
    pick(object, attempt);
    spent(object, index, attempt);
    if let Some(answer) = attempt.budget {
        object.truth(key!("budget"), answer);
    }
    if attempt.verdict != Verdict::Done(Reason::Answered) {
        verdict(object, attempt.verdict);
    }
}

/// A failure as the core was told of it; stage and fault only where the network showed something else later.
fn failed(object: &mut Object<'_>, failure: &Failure, detail: Option<&AttemptDetail>) {
    object.word(key!("sent"), failure.sent.as_str());
    if detail.is_none_or(|detail| detail.stage != failure.stage) {
        object.word(key!("decided_stage"), failure.stage.as_str());
    }
    if detail.is_none_or(|detail| detail.fault != Some(failure.fault)) {
        fault(object, key!("decided_fault"), failure.fault);
    }
}

fn pick(object: &mut Object<'_>, attempt: &AttemptRecord) {
    let Pick { endpoints, pool, size, chosen, other, unusable, gone, scope, outside } = attempt.pick;
    let mut pick = object.object(key!("pick"));
    pick.number(key!("endpoints"), u64::from(endpoints));
    if pool != Pool::Untried {
        pick.word(key!("pool"), pool.as_str());
    }
    if size != endpoints {
        pick.number(key!("size"), u64::from(size));
    }
    if chosen.endpoint != attempt.endpoint {
        pick.number(key!("endpoint"), u64::from(chosen.endpoint));
    }
    place_and_cost(&mut pick, chosen);
    if let Some(candidate) = other {
        let mut other = pick.object(key!("other"));
        other.number(key!("endpoint"), u64::from(candidate.endpoint));
        place_and_cost(&mut other, candidate);
        other.end_within();
    }
    number_unless_zero(&mut pick, key!("unusable"), unusable);
    number_unless_zero(&mut pick, key!("gone"), gone);
    number_unless_zero(&mut pick, key!("scope"), scope);
    number_unless_zero(&mut pick, key!("outside"), outside);
    pick.end_within();
}

fn place_and_cost(object: &mut Object<'_>, candidate: Candidate) {
    // As long as all endpoints are in the pool, each one's place is its index.
    if candidate.place != candidate.endpoint {
        object.number(key!("place"), u64::from(candidate.place));
    }
    if candidate.cost != 0 {
        object.number(key!("cost"), candidate.cost);
    }
}

/// What the verdict saw besides the outcome, unless it is what the attempt itself says.
fn spent(object: &mut Object<'_>, index: usize, attempt: &AttemptRecord) {
    let begun = index as u32 + 1;
    let untried = attempt.pick.endpoints > begun;
    let usual = Spent { attempts: begun, now: attempt.ended, untried, ..Spent::default() };
    if attempt.spent == usual {
        return;
    }
    let mut spent = object.object(key!("spent"));
    if attempt.spent.attempts != usual.attempts {
        spent.number(key!("attempts"), u64::from(attempt.spent.attempts));
    }
    if attempt.spent.now != usual.now {
        spent.number(key!("now_ns"), nanoseconds(attempt.spent.now));
    }
    if attempt.spent.untried != usual.untried {
        spent.truth(key!("untried"), attempt.spent.untried);
    }
    spent.flag(key!("in_flight"), attempt.spent.in_flight);
    duration_unless_zero(&mut spent, key!("delay_ns"), attempt.spent.delay);
    spent.flag(key!("once_more"), attempt.spent.once_more);
    spent.flag(key!("outside"), attempt.spent.outside);
    spent.end_within();
}

fn verdict(object: &mut Object<'_>, verdict: Verdict) {
    object.word(key!("verdict"), verdict.as_str());
    object.word(key!("reason"), verdict.reason().as_str());
}

fn number_unless_zero(object: &mut Object<'_>, key: &'static str, number: u32) {
    if number != 0 {
        object.number(key, u64::from(number));
    }
}

fn duration_unless_zero(object: &mut Object<'_>, key: &'static str, duration: Duration) {
    if !duration.is_zero() {
        object.number(key, nanoseconds(duration));
    }
}

/// Appends what the record holds besides its attempts. The seed is left out where it is the request's id; the verdict and
/// its time where they are those of the final attempt, as they are unless the session ended between two attempts.
pub(super) fn decisions(out: &mut String, id: RequestId, record: &Record) {
    let mut object = Object::begin(out);
    if record.seed != id.0 {
        object.number_as_text(key!("seed"), record.seed);
    }
    object.flag(key!("idempotent"), record.facts.idempotent);
    object.flag(key!("keyed"), record.facts.keyed);
    object.flag(key!("opted_out"), record.facts.opted_out);
    if let Some(endpoint) = record.facts.preferred {
        object.number(key!("preferred"), u64::from(endpoint));
    }
    object.flag(key!("gated"), record.facts.gated);
    if let Some(timeout) = record.facts.attempt_timeout {
        object.number(key!("attempt_timeout_ns"), nanoseconds(timeout));
    }
    if let Some(deadline) = record.facts.caller_deadline {
        object.number(key!("caller_deadline_ns"), nanoseconds(deadline));
    }
    if let Some(discovery) = record.discovery {
        object.number(key!("discovery_after"), u64::from(discovery.after));
        if let Some(found) = discovery.found {
            object.truth(key!("discovery_found"), found);
        }
    }
    if let Some(refresh) = record.refresh {
        object.number(key!("refresh_after"), u64::from(refresh.after));
        if let Some(found) = refresh.found {
            object.truth(key!("refresh_found"), found);
        }
    }
    if record.hedges_refused != 0 {
        object.number(key!("hedges_refused"), u64::from(record.hedges_refused));
    }
    let last = record.attempts.get(final_attempt(record));
    match record.ended {
        None => object.flag(key!("unfinished"), true),
        Some(ended) if last.is_none_or(|last| last.ended != ended) => {
            object.number(key!("ended_ns"), nanoseconds(ended))
        }
        Some(_) => {}
    }
    if let Some(said) = record.verdict.filter(|said| last.is_none_or(|last| last.verdict != *said)) {
        verdict(&mut object, said);
    }
    object.end();
}

/// A policy as JSON, whole but for what no platform has: it is stored once for all the requests that it decided.
pub(super) fn policy(policy: &Policy) -> String {
    let parts = policy.parts();
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    object.number(key!("max_attempts"), u64::from(parts.max_attempts));
    object.word(key!("replay"), parts.replay.as_str());
    object.numbers(key!("retry_statuses"), parts.retry_statuses.iter().map(u64::from));
    object.word(key!("order"), parts.order.as_str());
    object.number(key!("connect_timeout_ns"), nanoseconds(parts.connect_timeout));
    object.number(key!("response_timeout_ns"), nanoseconds(parts.response_timeout));
    if let Some(stagger) = parts.dial_stagger {
        object.number(key!("dial_stagger_ns"), nanoseconds(stagger));
    }
    if let Some(deadline) = parts.deadline {
        object.number(key!("deadline_ns"), nanoseconds(deadline));
    }
    object.number(key!("min_deadline_ns"), nanoseconds(parts.min_deadline));
    object.flag(key!("same_endpoint_again"), parts.same_endpoint_again);
    object.number(key!("backoff_base_ns"), nanoseconds(parts.backoff.base));
    object.number(key!("backoff_cap_ns"), nanoseconds(parts.backoff.cap));
    object.word(key!("backoff_between"), parts.backoff.between.as_str());
    object.number(key!("retry_after_cap_ns"), nanoseconds(parts.retry_after_cap));
    object.flag(key!("discover"), parts.discover);
    if let Some(timeout) = parts.attempt_timeout {
        object.number(key!("attempt_timeout_ns"), nanoseconds(timeout));
    }
    duration_unless_zero(&mut object, key!("min_attempt_timeout_ns"), parts.min_attempt_timeout);
    if !parts.disclaimed_statuses.is_empty() {
        object.numbers(key!("disclaimed_statuses"), parts.disclaimed_statuses.iter().map(u64::from));
    }
    if !parts.pin_statuses.is_empty() {
        object.numbers(key!("pin_statuses"), parts.pin_statuses.iter().map(u64::from));
    }
    object.flag(key!("in_progress"), parts.in_progress);
    object.end();
    out
}
