//! One attempt's exchange: the request goes out on the connection that was won, and what came of it is reported.

use std::sync::Arc;
use std::time::Duration;

use handover_core::{Failure, Fault, Outcome, Sent, Stage, Verdict};
use handover_wire::conn::{ClientFault, ExchangeError};
use handover_wire::dial::DialError;
use http::Response;
use tokio::time::Instant;

use super::{Held, Trip, Won, outcome_of, reading};
use crate::answer_body::AnswerBody;
use crate::carrier::{Carrier, Ready, Wanted};
use crate::direct::unsendable;

/// How often one attempt dials afresh because a connection that others have used ended before the request left. Nothing
/// is repeated by it, but a server that takes connections and ends them at once must come to count as one that failed.
const REDIALS_MAX: usize = 3;

impl<C: Carrier> Trip<'_, C> {
    /// Sends the request on a connection.
    ///
    /// A connection that others have used, and that broke before a byte of this request left, says nothing about the
    /// endpoint: it may have been closed for its age, or leave in good order. The same attempt then dials afresh.
    pub(super) async fn send(&mut self, won: Won<C::Conn>) -> Result<Response<AnswerBody>, ExchangeError> {
        let Won { attempt, mut ready, head_by } = won;
        for _ in 0..REDIALS_MAX {
            let is_fresh = ready.is_fresh;
            let error = match self.send_once(attempt, ready.conn, head_by).await {
                Err(error) if !is_fresh && error.is_of_the_connection() && self.is_body_whole() => error,
                result => return result,
            };
            tracing::debug!(error = %error.text, "a connection was closed under a request that had not been sent");
            self.details[attempt as usize - 1].redials += 1;
            ready = self.redial(attempt, head_by).await.map_err(|error| ExchangeError::of_dial(&error))?;
            let detail = &mut self.details[attempt as usize - 1];
            (detail.address, detail.reused) = (ready.address, !ready.is_fresh);
        }
        self.send_once(attempt, ready.conn, head_by).await
    }

    async fn redial(&mut self, attempt: u32, head_by: Option<Duration>) -> Result<Ready<C::Conn>, DialError> {
        let connect_by = self.now().saturating_add(self.engine.shared.policy.connect_timeout());
        let by = self.at(head_by.map_or(connect_by, |head_by| head_by.min(connect_by)));
        let endpoint = Arc::clone(self.tried[attempt as usize - 1].endpoint());
        let wanted = if self.call.is_upgrade { Wanted::Switchable } else { Wanted::Careful };
        self.dials.start(&self.engine.carrier, attempt, endpoint, wanted, by, head_by);
        self.dials.next(None).await.expect("one dial was started").result
    }

    async fn send_once(
        &mut self,
        attempt: u32,
        conn: C::Conn,
        head_by: Option<Duration>,
    ) -> Result<Response<AnswerBody>, ExchangeError> {
        let shared = &self.engine.shared;
        let endpoint = Arc::clone(self.tried[attempt as usize - 1].endpoint());
        let request = match self.call.request(shared, &endpoint) {
            Ok(request) => request,
            Err(why) => return Err(unsendable(why)),
        };
        // An attempt that was answered early may have read on behind the verdict.
        if !self.is_body_whole() {
            return Err(unsendable("part of the body was read for the attempt before this one".to_owned()));
        }
        let respond_by = self.now().saturating_add(shared.policy.response_timeout());
        // Where an attempt has a time for all of it, that is its time.
        let by = head_by.unwrap_or(respond_by);
        let by = self.deadline.map_or(by, |deadline| deadline.min(by));
        let sent = request.body().clone();
        let give_up: Instant = self.at(by);
        let result = self.engine.carrier.exchange(&endpoint, conn, request, give_up).await;
        // Whose stream it was that failed is known here, not on the connection.
        let result = result.map_err(|error| match error.client {
            // The time was over while the caller's stream produced nothing: a timeout all the same.
            Some(ClientFault::Silent) => ExchangeError { fault: Fault::Timeout, ..error },
            _ => error,
        });
        result.map_err(|error| match sent.broken() {
            Some(why) => ExchangeError {
                fault: Fault::Cancelled,
                text: format!("the request's own body failed: {why}"),
                ..error
            },
            None => error,
        })
    }

    fn is_body_whole(&self) -> bool {
        self.call.body.left() == handover_core::BodyLeft::Whole
    }

    /// A response head came; true if that ended the session.
    pub(super) fn answered(&mut self, attempt: u32, response: Response<AnswerBody>) -> bool {
        let status = response.status().as_u16();
        let cap = self.engine.shared.policy.retry_after_cap();
        let retry_after = reading::retry_after(response.headers(), cap, std::time::SystemTime::now());
        let body = self.call.body.left();
        let outcome = match reading::unknown_behind_proxy(status, response.headers()) {
            Some((fault, why)) => {
                self.details[attempt as usize - 1].message = Some(why.into());
                Outcome::Failed(Failure { stage: Stage::AwaitHead, fault, sent: Sent::Maybe, body })
            }
            None => Outcome::Answered { status, retry_after, body },
        };
        let verdict = self.finished(attempt, outcome);
        let goes_on = matches!(verdict, Verdict::TryNext(_));
        if goes_on {
            response.body().give_request_up();
        }
        self.held = Some(Held { response, attempt });
        !goes_on
    }

    /// An exchange failed; true if that ended the session.
    pub(super) fn send_failed(&mut self, attempt: u32, error: &ExchangeError) -> bool {
        let detail = &mut self.details[attempt as usize - 1];
        detail.message = Some(error.text.as_str().into());
        detail.written_bytes = Some(error.written_bytes).filter(|bytes| *bytes > 0);
        let verdict = self.finished(attempt, outcome_of(error, self.call.body.left()));
        !matches!(verdict, Verdict::TryNext(_))
    }
}
