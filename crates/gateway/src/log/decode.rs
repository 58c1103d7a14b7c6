//! What [`super::encode`] stored, read back: complete for people and the API, and exact for replaying the decisions.

use std::fmt;
use std::time::Duration;

use handover_core::{
    AttemptRecord, Backoff, BackoffBetween, BodyLeft, Candidate, Discovery, Facts, Failure, Fault, Order, Outcome,
    Pick, Policy, PolicyParts, Pool, Reason, Record, Replay, Sent, Spent, Stage, StatusSet, Verdict,
};
use serde::{Deserialize, Serialize};

use super::RequestId;

/// One attempt as it is shown: what the network showed and what was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptEntry {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// The node's tag.
    pub node_tag: String,
    /// The node's hash.
    pub node_hash: String,
    /// The address that was dialled; `None` if it did not come so far.
    pub address: Option<String>,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// Whether it began beside another one.
    pub hedged: bool,
    /// Before this it would not have begun, in nanoseconds since the session began, as all the following times.
    pub due_ns: u64,
    /// When it began.
    pub started_ns: u64,
    /// When its connection stood.
    pub connected_ns: Option<u64>,
    /// When the core was told how it ended.
    pub ended_ns: u64,
    /// How long it took, to the end of the response where it had one.
    pub duration_ns: u64,
    /// How far it got.
    pub stage: String,
    /// What went wrong; `None` if nothing did.
    pub fault: Option<String>,
    /// The name of the system's error.
    pub errno: Option<String>,
    /// The error in words.
    pub message: Option<String>,
    /// The status it answered with.
    pub status: Option<u16>,
    /// The `Retry-After` it answered with, in nanoseconds.
    pub retry_after_ns: Option<u64>,
    /// Bytes of the request written to the raw socket.
    pub written_bytes: u64,
    /// What was proven of the request: `no`, `maybe`, `yes`.
    pub sent: String,
    /// Whether part of a body that cannot be had again was read.
    pub body_consumed: bool,
    /// `done`, `try_next` or `stop`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// What the budget answered, if it was asked.
    pub budget: Option<bool>,
    /// The index of its endpoint in the session.
    pub endpoint: u32,
    /// The stage the core was told, where more was known later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_stage: Option<String>,
    /// The fault the core was told, where more was known later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_fault: Option<String>,
    /// What the choice of the endpoint saw.
    pub pick: PickEntry,
    /// What the verdict saw besides the outcome.
    pub spent: SpentEntry,
}

/// What the choice of an endpoint saw; see [`Pick`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are those of Pick and Candidate, and documented there")]
pub struct PickEntry {
    pub endpoints: u32,
    pub pool: Option<String>,
    pub size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<u32>,
    pub place: Option<u32>,
    pub cost: u64,
    pub other: Option<CandidateEntry>,
    #[serde(skip_serializing_if = "is_zero")]
    pub unusable: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub gone: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub scope: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub outside: u32,
}

/// The endpoint that the chosen one was compared with; see [`Candidate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are those of Candidate, and documented there")]
pub struct CandidateEntry {
    pub endpoint: u32,
    pub place: Option<u32>,
    pub cost: u64,
}

/// What a verdict saw besides the outcome; see [`Spent`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are those of Spent, and documented there")]
pub struct SpentEntry {
    pub attempts: Option<u32>,
    pub now_ns: Option<u64>,
    pub untried: Option<bool>,
    pub in_flight: bool,
    pub delay_ns: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub once_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

/// Whether a number is one that no platform's choice leaves, so that it need not be shown.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a record holds besides its attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Decisions {
    seed: Option<String>,
    idempotent: bool,
    keyed: bool,
    opted_out: bool,
    gated: bool,
    preferred: Option<u32>,
    attempt_timeout_ns: Option<u64>,
    caller_deadline_ns: Option<u64>,
    discovery_after: Option<u32>,
    discovery_found: Option<bool>,
    refresh_after: Option<u32>,
    refresh_found: Option<bool>,
    hedges_refused: u32,
    unfinished: bool,
    ended_ns: Option<u64>,
    verdict: Option<String>,
    reason: Option<String>,
}

/// A policy as it is stored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct StoredPolicy {
    max_attempts: u32,
    replay: String,
    retry_statuses: Vec<u16>,
    order: String,
    connect_timeout_ns: u64,
    response_timeout_ns: u64,
    dial_stagger_ns: Option<u64>,
    deadline_ns: Option<u64>,
    min_deadline_ns: u64,
    #[serde(default)]
    same_endpoint_again: bool,
    backoff_base_ns: u64,
    backoff_cap_ns: u64,
    backoff_between: String,
    retry_after_cap_ns: u64,
    #[serde(default)]
    discover: bool,
    attempt_timeout_ns: Option<u64>,
    #[serde(default)]
    min_attempt_timeout_ns: u64,
    #[serde(default)]
    disclaimed_statuses: Vec<u16>,
    #[serde(default)]
    pin_statuses: Vec<u16>,
    #[serde(default)]
    in_progress: bool,
}

/// Why a stored row cannot be made into a record: what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record cannot be read: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// The value that `word` stands for, or an error that names both.
fn known<T>(what: &'static str, word: &str, value: Option<T>) -> Result<T, Unreadable> {
    value.ok_or_else(|| Unreadable(format!("{what} `{word}` is unknown")))
}

/// Reads the stored attempts and puts back what was left out.
pub(super) fn attempts(json: &str) -> Result<Vec<AttemptEntry>, Unreadable> {
    let mut attempts: Vec<AttemptEntry> =
        serde_json::from_str(json).map_err(|error| Unreadable(format!("attempts: {error}")))?;
    for (attempt, number) in attempts.iter_mut().zip(1..) {
        attempt.attempt = number;
        if attempt.status.is_some() {
            attempt.sent = Sent::Yes.as_str().to_owned();
        }
        if attempt.stage.is_empty() {
            attempt.stage = Stage::Body.as_str().to_owned();
        }
        if attempt.verdict.is_empty() {
            attempt.verdict = "done".to_owned();
            attempt.reason = Reason::Answered.as_str().to_owned();
        }
        let AttemptEntry { endpoint, ended_ns, pick, spent, .. } = attempt;
        pick.pool.get_or_insert_with(|| Pool::Untried.as_str().to_owned());
        pick.size.get_or_insert(pick.endpoints);
        pick.place.get_or_insert(pick.endpoint.unwrap_or(*endpoint));
        if let Some(other) = &mut pick.other {
            other.place.get_or_insert(other.endpoint);
        }
        spent.attempts.get_or_insert(number);
        spent.now_ns.get_or_insert(*ended_ns);
        spent.untried.get_or_insert(pick.endpoints > number);
    }
    Ok(attempts)
}

impl AttemptEntry {
    /// The attempt as the core recorded it.
    fn record(&self) -> Result<AttemptRecord, Unreadable> {
        let verdict = Verdict::parse(&self.verdict, &self.reason);
        Ok(AttemptRecord {
            attempt: self.attempt,
            endpoint: self.endpoint,
            due: Duration::from_nanos(self.due_ns),
            started: Duration::from_nanos(self.started_ns),
            connected: self.connected_ns.map(Duration::from_nanos),
            ended: Duration::from_nanos(self.ended_ns),
            hedged: self.hedged,
            pick: self.pick.pick(self.endpoint)?,
            outcome: self.outcome()?,
            spent: self.spent.spent(),
            budget: self.budget,
            verdict: known("verdict", &format!("{}({})", self.verdict, self.reason), verdict)?,
        })
    }

    fn outcome(&self) -> Result<Outcome, Unreadable> {
        let body = if self.body_consumed { BodyLeft::Consumed } else { BodyLeft::Whole };
        if let Some(status) = self.status {
            let retry_after = self.retry_after_ns.map(Duration::from_nanos);
            return Ok(Outcome::Answered { status, retry_after, body });
        }
        let stage = self.decided_stage.as_deref().unwrap_or(&self.stage);
        let fault = self.decided_fault.as_deref().or(self.fault.as_deref()).unwrap_or_default();
        Ok(Outcome::Failed(Failure {
            stage: known("stage", stage, Stage::parse(stage))?,
            fault: known("fault", fault, Fault::parse(fault))?,
            sent: known("sent", &self.sent, Sent::parse(&self.sent))?,
            body,
        }))
    }
}

impl PickEntry {
    fn pick(&self, endpoint: u32) -> Result<Pick, Unreadable> {
        let pool = self.pool.as_deref().unwrap_or_default();
        Ok(Pick {
            endpoints: self.endpoints,
            pool: known("pool", pool, Pool::parse(pool))?,
            size: self.size.unwrap_or(self.endpoints),
            chosen: Candidate {
                endpoint: self.endpoint.unwrap_or(endpoint),
                place: self.place.unwrap_or(endpoint),
                cost: self.cost,
            },
            other: self.other.as_ref().map(|other| Candidate {
                endpoint: other.endpoint,
                place: other.place.unwrap_or(other.endpoint),
                cost: other.cost,
            }),
            unusable: self.unusable,
            gone: self.gone,
            scope: self.scope,
            outside: self.outside,
        })
    }
}

impl SpentEntry {
    fn spent(&self) -> Spent {
        Spent {
            attempts: self.attempts.unwrap_or_default(),
            now: Duration::from_nanos(self.now_ns.unwrap_or_default()),
            untried: self.untried.unwrap_or_default(),
            in_flight: self.in_flight,
            delay: Duration::from_nanos(self.delay_ns),
            once_more: self.once_more,
            outside: self.outside,
        }
    }
}

/// Puts the record together again, with `last` as the index of the final attempt.
pub(super) fn record(
    id: RequestId,
    attempts: &[AttemptEntry],
    decisions: &str,
    last: usize,
) -> Result<Record, Unreadable> {
    let stored: Decisions =
        serde_json::from_str(decisions).map_err(|error| Unreadable(format!("decisions: {error}")))?;
    let facts = Facts {
        idempotent: stored.idempotent,
        keyed: stored.keyed,
        opted_out: stored.opted_out,
        gated: stored.gated,
        preferred: stored.preferred,
        attempt_timeout: stored.attempt_timeout_ns.map(Duration::from_nanos),
        caller_deadline: stored.caller_deadline_ns.map(Duration::from_nanos),
    };
    let seed = match &stored.seed {
        Some(seed) => known("seed", seed, seed.parse().ok())?,
        None => id.0,
    };
    let mut record = Record::new(seed, facts);
    for attempt in attempts {
        record.attempts.push(attempt.record()?);
    }
    let last = record.attempts.get(last);
    let ended = stored.ended_ns.map(Duration::from_nanos).or_else(|| last.map(|last| last.ended));
    let verdict = match (&stored.verdict, &stored.reason) {
        (Some(word), Some(reason)) => Some(known("verdict", word, Verdict::parse(word, reason))?),
        _ => last.map(|last| last.verdict),
    };
    if !stored.unfinished {
        (record.ended, record.verdict) = (ended, verdict);
    }
    record.discovery = stored.discovery_after.map(|after| Discovery { after, found: stored.discovery_found });
    record.refresh = stored.refresh_after.map(|after| Discovery { after, found: stored.refresh_found });
    record.hedges_refused = stored.hedges_refused;
    Ok(record)
}

/// Reads a stored policy.
pub(super) fn policy(json: &str) -> Result<Policy, Unreadable> {
    let stored: StoredPolicy = serde_json::from_str(json).map_err(|error| Unreadable(format!("policy: {error}")))?;
    let between = BackoffBetween::parse(&stored.backoff_between);
    let parts = PolicyParts {
        max_attempts: stored.max_attempts,
        replay: known("replay", &stored.replay, Replay::parse(&stored.replay))?,
        retry_statuses: StatusSet::from_iter(stored.retry_statuses),
        disclaimed_statuses: StatusSet::from_iter(stored.disclaimed_statuses),
        pin_statuses: StatusSet::from_iter(stored.pin_statuses),
        in_progress: stored.in_progress,
        order: known("order", &stored.order, Order::parse(&stored.order))?,
        connect_timeout: Duration::from_nanos(stored.connect_timeout_ns),
        response_timeout: Duration::from_nanos(stored.response_timeout_ns),
        attempt_timeout: stored.attempt_timeout_ns.map(Duration::from_nanos),
        min_attempt_timeout: Duration::from_nanos(stored.min_attempt_timeout_ns),
        dial_stagger: stored.dial_stagger_ns.map(Duration::from_nanos),
        deadline: stored.deadline_ns.map(Duration::from_nanos),
        min_deadline: Duration::from_nanos(stored.min_deadline_ns),
        same_endpoint_again: stored.same_endpoint_again,
        backoff: Backoff {
            base: Duration::from_nanos(stored.backoff_base_ns),
            cap: Duration::from_nanos(stored.backoff_cap_ns),
            between: known("backoff_between", &stored.backoff_between, between)?,
        },
        retry_after_cap: Duration::from_nanos(stored.retry_after_cap_ns),
        discover: stored.discover,
    };
    Policy::try_new(parts).map_err(|error| Unreadable(format!("policy: {error}")))
}

#[cfg(test)]
mod tests;
