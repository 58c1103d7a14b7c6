//! The ledger of one request: gathers what its log row will say, and writes the row exactly once.
//!
//! It moves with the request: from the door through the attempts into the response body or the tunnel. Whoever holds it last
//! drops it, and a ledger dropped before it was closed is a request that the client gave up.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::{Facts, Fault, Policy, Record, Stage, Verdict};

use crate::errors::ErrorCode;
use crate::log::{AttemptDetail, Attempts, Door, RequestId, Row};
use crate::node::{NodeState, Platform};
use crate::serve::Active;
use crate::worker::Worker;
use handover_wire::dial::DialError;

/// Who asks for what: known before any attempt.
pub(crate) struct Asked {
    pub(crate) door: Door,
    pub(crate) client: Active,
    pub(crate) account: Box<str>,
    pub(crate) target_host: Box<str>,
    pub(crate) target_url: Box<str>,
    pub(crate) method: http::Method,
}

/// The row of a request in the making.
pub(crate) struct Ledger {
    worker: Rc<Worker>,
    pub(crate) id: RequestId,
    pub(crate) started: Instant,
    asked: Option<Asked>,
    platform: Arc<str>,
    policy: Option<Arc<Policy>>,
    record: Option<Record>,
    attempts: Attempts,
    status: u16,
    error: Option<ErrorCode>,
    net_ok: bool,
    pub(crate) ingress: u64,
    pub(crate) egress: u64,
}

impl Ledger {
    pub(crate) fn new(worker: Rc<Worker>, asked: Asked) -> Box<Self> {
        let started = Instant::now();
        Box::new(Ledger {
            id: worker.next_id(started),
            worker,
            started,
            asked: Some(asked),
            platform: Arc::clone(crate::node::no_platform()),
            policy: None,
            record: None,
            attempts: Attempts::default(),
            status: 0,
            error: None,
            net_ok: false,
            ingress: 0,
            egress: 0,
        })
    }

    /// Writes the row of a request that was turned away before any attempt.
    pub(crate) fn refused(mut self: Box<Self>, platform: &Platform, code: ErrorCode) -> RequestId {
        let id = self.id;
        self.routed(&platform.name, &platform.policy);
        self.record = Some(Record::new(id.0, Facts::default()));
        self.answered(code.status().as_u16(), Some(code));
        self.close(false);
        id
    }

    /// Time since the request began.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn routed(&mut self, platform: &Arc<str>, policy: &Arc<Policy>) {
        self.platform = Arc::clone(platform);
        self.policy = Some(Arc::clone(policy));
    }

    /// An attempt begins.
    pub(crate) fn attempt(&mut self, node: &NodeState, now: Duration) {
        self.attempts.push(AttemptDetail {
            node_tag: Arc::clone(&node.tag),
            node_hash: Arc::clone(&node.hash),
            address: None,
            stage: Stage::Dial,
            fault: None,
            errno: None,
            message: None,
            written_bytes: 0,
            reused: false,
            started: now,
            duration: Duration::ZERO,
        });
    }

    /// The detail of an attempt, counted from 1.
    pub(crate) fn detail(&mut self, attempt: u32) -> &mut AttemptDetail {
        self.attempts.at_mut(attempt as usize - 1).expect("the attempt was begun in this ledger")
    }

    /// The attempt whose answer the client gets, counted from 1; the newest one where there is no such answer yet.
    pub(crate) fn answering(&self) -> u32 {
        let stands = |record: &&Record| matches!(record.verdict, Some(Verdict::Done(_)));
        let decisive = self.record.as_ref().filter(stands).and_then(Record::decisive);
        decisive.map_or_else(|| u32::try_from(self.attempts.len()).unwrap_or(u32::MAX), |attempt| attempt.attempt)
    }

    /// The detail of that attempt; `None` if there was no attempt.
    fn answering_detail(&mut self) -> Option<&mut AttemptDetail> {
        self.attempts.at_mut((self.answering() as usize).checked_sub(1)?)
    }

    /// A dial ended without a connection.
    pub(crate) fn dial_failed(&mut self, attempt: u32, error: &DialError) {
        let now = self.now();
        let detail = self.detail(attempt);
        detail.address = error.peer;
        detail.stage = error.stage;
        detail.fault = Some(if error.denied.is_some() { Fault::Denied } else { error.fault });
        detail.errno = error.errno;
        detail.message = Some(AttemptDetail::message(&error.message));
        detail.duration = now.saturating_sub(detail.started);
    }

    /// Whether it is about a tunnel.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.door == Door::Connect)
    }

    /// The decisions are taken; the response or the failure follows.
    pub(crate) fn decided(&mut self, record: Record) {
        self.record = Some(record);
    }

    /// What the client is told.
    pub(crate) fn answered(&mut self, status: u16, error: Option<ErrorCode>) {
        self.status = status;
        self.error = error;
    }

    /// Something broke after the head, in the attempt that was answered, or before it, in the last one.
    pub(crate) fn broke(&mut self, stage: Stage, fault: Fault, errno: Option<i32>, message: &str) {
        if let Some(detail) = self.answering_detail() {
            detail.stage = stage;
            detail.fault = Some(fault);
            detail.errno = errno;
            detail.message = Some(AttemptDetail::message(message));
        }
    }

    /// Writes the row.
    pub(crate) fn close(self: Box<Self>, net_ok: bool) {
        self.close_at(Instant::now(), net_ok);
    }

    /// Writes the row of a request that ended at this time.
    pub(crate) fn close_at(mut self: Box<Self>, ended: Instant, net_ok: bool) {
        self.net_ok = net_ok;
        self.write(ended.saturating_duration_since(self.started));
    }

    fn write(&mut self, duration: Duration) {
        let Some(asked) = self.asked.take() else { return };
        let Some(policy) = self.policy.take() else { return };
        if let Some(last) = self.answering_detail()
            && last.duration.is_zero()
        {
            last.duration = duration.saturating_sub(last.started);
        }
        let Some(record) = self.record.take() else { return };
        self.worker.log(Row {
            id: self.id,
            door: asked.door,
            client: asked.client.client().ip,
            platform: Arc::clone(&self.platform),
            account: asked.account,
            target_host: asked.target_host,
            target_url: asked.target_url,
            http_method: asked.method,
            http_status: self.status,
            duration,
            net_ok: self.net_ok,
            error: self.error.map(ErrorCode::as_str),
            ingress_bytes: self.ingress,
            egress_bytes: self.egress,
            policy,
            record,
            attempts: std::mem::take(&mut self.attempts),
        });
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Not closed: the client went away. Nobody is to blame (`net_ok` as in the spec of the log).
        if self.asked.is_some() && self.record.is_some() {
            self.net_ok = true;
            if !self.attempts.is_empty() {
                let stage = self.answering_detail().map_or(Stage::Dial, |last| last.stage);
                let cut = self.asked.as_ref().and_then(|asked| asked.client.client().why_cut());
                let late = self.worker.is_cut().then_some("cut off: drain_timeout had passed when the gateway ended");
                self.broke(stage, Fault::Cancelled, None, cut.or(late).unwrap_or("the client went away"));
            }
            self.write(self.now());
        }
    }
}
