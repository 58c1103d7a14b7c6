//! One attempt's exchange: the request goes out on the connection that was won, and what came of it is reported.

use std::time::Duration;

use handover_core::{BodyLeft, Failure, Outcome, Stage, Verdict};
use http::{HeaderMap, Response};
use hyper::body::Incoming;

use super::{Conn, Head, Sending, Trip};
use crate::body::{NodeConn, RequestBody};
use crate::node::InFlight;
use handover_wire::conn::ExchangeError;

impl Trip<'_> {
    /// Sends the request on a connection.
    pub(super) async fn send(
        &mut self,
        attempt: u32,
        in_flight: &InFlight,
        conn: Conn,
        head: &Head,
        body: &RequestBody,
    ) -> Result<(Box<NodeConn>, Response<Incoming>), ExchangeError> {
        let was_idle = matches!(conn, Conn::Idle(_));
        self.ledger().detail(attempt).stage = Stage::Send;
        let error = match self.send_once(attempt, conn, head, body).await {
            Err(error) if was_idle && error.is_of_the_connection() && body.is_whole() => error,
            result => return result,
        };
        // An idle connection that broke before a byte of the request left says nothing about the node: it may have
        // closed the connection for its age. The same attempt dials it once afresh.
        tracing::debug!(node = %in_flight.0.tag, error = %error.text, "an idle connection was closed; dialling afresh");
        self.ledger().detail(attempt).reused = false;
        self.time_passed();
        let by = self.until(self.now() + self.platform.policy.connect_timeout()).expect("the trip has its ledger");
        self.dials.start(self.worker, attempt, InFlight::new(&in_flight.0), self.target.clone(), by);
        let ended = self.dials.next(None).await.expect("one dial was started");
        match ended.result {
            Ok(dialled) => self.send_once(attempt, Conn::Fresh(dialled), head, body).await,
            Err(error) => Err(ExchangeError::of_dial(&error)),
        }
    }

    async fn send_once(
        &mut self,
        attempt: u32,
        conn: Conn,
        head: &Head,
        body: &RequestBody,
    ) -> Result<(Box<NodeConn>, Response<Incoming>), ExchangeError> {
        let timeout = self.platform.policy.response_timeout();
        let conn = match conn {
            Conn::Idle(conn) => conn,
            Conn::Fresh(dialled) => NodeConn::start(dialled.io, dialled.peer, timeout).await?,
        };
        let (raw, before) = conn.counter();
        self.sending = Some(Sending { attempt, raw, before, body: body.clone() });
        let give_up = self.until(self.now() + timeout).expect("the trip has its ledger until it arrives");
        conn.exchange(head.clone().with(body.clone()), timeout, give_up).await
    }

    /// A response head came.
    pub(super) fn answered(
        &mut self,
        attempt: u32,
        conn: &NodeConn,
        response: &Response<Incoming>,
        body: &RequestBody,
    ) -> Verdict {
        let detail = self.ledger().detail(attempt);
        (detail.stage, detail.written_bytes) = (Stage::Body, conn.moved().0);
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let verdict = self.finished(attempt, Outcome::Answered { status, retry_after, body: left(body) });
        if matches!(verdict, Verdict::TryNext(_)) {
            let now = self.now();
            let detail = self.ledger().detail(attempt);
            detail.duration = now.saturating_sub(detail.started);
        }
        verdict
    }

    pub(super) fn send_failed(&mut self, attempt: u32, error: &ExchangeError, body: &RequestBody) {
        let now = self.now();
        let detail = self.ledger().detail(attempt);
        (detail.stage, detail.fault, detail.errno) = (error.stage, Some(error.fault), error.errno);
        detail.message = Some(crate::log::AttemptDetail::message(&error.text));
        detail.written_bytes = error.written_bytes;
        detail.duration = now.saturating_sub(detail.started);
        self.ledger().egress = error.written_bytes;
        self.client = error.client;
        let failure = Failure { stage: error.stage, fault: error.fault, sent: error.sent, body: left(body) };
        self.finished(attempt, Outcome::Failed(failure));
    }
}

fn left(body: &RequestBody) -> BodyLeft {
    if body.is_whole() { BodyLeft::Whole } else { BodyLeft::Consumed }
}

/// `Retry-After` in seconds; the form with a date is rare and needs a wall clock, so it is not honoured.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
