//! Rows as the gateway makes them: the decisions are a real session's, only the network is made up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use handover_core::{
    Action, BodyLeft, Facts, Failure, Fault, Outcome, Policy, PolicyParts, Record, Sent, Session, Stage, Unlimited,
};
use handover_gateway::log::{AttemptDetail, Attempts, Door, RequestId, Row};

/// 2026-01-01T00:00:00Z, in nanoseconds since the Unix epoch.
pub(crate) const NEW_YEAR: u64 = 1_767_225_600_000_000_000;

/// How long each attempt of the scripts takes.
pub(crate) const ATTEMPT: Duration = Duration::from_micros(800);

/// An answer with this status.
pub(crate) fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, retry_after: None, body: BodyLeft::Whole }
}

/// A refused connection.
pub(crate) fn refused() -> Outcome {
    Outcome::Failed(Failure::before_send(Stage::Dial, Fault::Refused))
}

/// A connection that broke after the request was written.
pub(crate) fn broke() -> Outcome {
    let (stage, fault, sent) = (Stage::AwaitHead, Fault::Reset, Sent::Maybe);
    Outcome::Failed(Failure { stage, fault, sent, body: BodyLeft::Whole })
}

/// The policy of the scripts: three attempts, no hedged dial.
pub(crate) fn policy() -> Arc<Policy> {
    let parts = PolicyParts { dial_stagger: None, ..PolicyParts::default() };
    Arc::new(Policy::try_new(parts).expect("the default is valid"))
}

/// Lets a session of three endpoints play the script, each attempt taking [`ATTEMPT`].
pub(crate) fn record(policy: &Policy, facts: Facts, seed: u64, script: &[Outcome]) -> Record {
    let mut session = Session::new(policy, facts, seed);
    let mut script = script.iter();
    let mut now = Duration::ZERO;
    loop {
        match session.poll(now, &3, &mut Unlimited) {
            Action::Try { attempt, .. } | Action::Dial { attempt, .. } => {
                let Some(outcome) = script.next() else { return session.into_record() };
                now += ATTEMPT / 4;
                if outcome.sent() != Sent::No {
                    session.connected(now, attempt);
                }
                now += ATTEMPT * 3 / 4;
                session.finished(now, attempt, *outcome, &mut Unlimited);
            }
            Action::Wait { until } => now = until,
            Action::Await => unreachable!("every attempt is finished at once"),
            Action::Discover { .. } => session.discovered(now, false),
            Action::Finish(_) => return session.into_record(),
        }
    }
}

/// What the network would have shown of a record's attempts.
pub(crate) fn details(record: &Record) -> Attempts {
    let mut details = Attempts::default();
    for attempt in record.attempts.iter() {
        let (stage, fault) = match attempt.outcome {
            Outcome::Answered { .. } => (Stage::Body, None),
            Outcome::Failed(failure) => (failure.stage, Some(failure.fault)),
        };
        let port = 9001 + attempt.endpoint as u16;
        details.push(AttemptDetail {
            node_tag: format!("eu-{}", attempt.endpoint + 1).into(),
            node_hash: format!("5f2b8c0a{:08x}", attempt.endpoint).into(),
            address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            stage,
            fault,
            errno: (fault == Some(Fault::Refused)).then_some(111),
            message: fault.map(|_| "connect to 127.0.0.1: connection refused".into()),
            written_bytes: if attempt.outcome.sent() == Sent::No { 0 } else { 214 },
            reused: false,
            started: attempt.started,
            duration: attempt.ended - attempt.started,
        });
    }
    details
}

/// A finished GET whose record is this.
pub(crate) fn row(id: RequestId, policy: &Arc<Policy>, record: Record) -> Row {
    let details = details(&record);
    let status = match record.decisive().map(|attempt| attempt.outcome) {
        Some(Outcome::Answered { status, .. }) => Some(status),
        _ => None,
    };
    Row {
        id,
        door: Door::Forward,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        platform: "Default".into(),
        account: "".into(),
        target_host: "api.example.com".into(),
        target_url: "http://api.example.com/v1/things?page=2".into(),
        http_method: http::Method::GET,
        http_status: status.unwrap_or(502),
        duration: record.ended.unwrap_or_default() + Duration::from_micros(50),
        net_ok: status.is_some(),
        error: status.is_none().then_some("UPSTREAM_CONNECT_FAILED"),
        ingress_bytes: 312,
        egress_bytes: 214,
        policy: Arc::clone(policy),
        record,
        attempts: details,
    }
}

/// A GET that was answered at once.
pub(crate) fn ok(id: u64, policy: &Arc<Policy>) -> Row {
    let facts = Facts { idempotent: true, ..Facts::default() };
    row(RequestId(id), policy, record(policy, facts, id, &[answered(200)]))
}

/// A GET whose first node refused the connection and whose second one answered.
pub(crate) fn failed_over(id: u64, policy: &Arc<Policy>) -> Row {
    row(RequestId(id), policy, record(policy, Facts::default(), id, &[refused(), answered(200)]))
}
