//! Attempts that another service carries.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Buf;
use handover_core::{Fault, Sent, Stage};
use handover_wire::conn::ExchangeError;
use handover_wire::dial::Progress;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::evidence::{Evidence, TransportFailure, fault_of};
use crate::answer_body::AnswerBody;
use crate::body::{BoxError, SentBody, in_one_line};
use crate::carrier::{Carrier, Dial, Ready, Wanted};
use crate::endpoint::Endpoint;

/// The carrier of [`Failover`](super::Failover): an inner service, and what its errors prove.
pub(crate) struct Around<S, P> {
    /// Behind a lock because services may be cloned and moved between threads, but need not be shared by them. It is held
    /// for a clone.
    service: Mutex<S>,
    evidence: P,
}

impl<S, P> Around<S, P> {
    pub(super) fn new(service: S, evidence: P) -> Self {
        Self { service: Mutex::new(service), evidence }
    }
}

impl<S: Clone, P> Around<S, P> {
    fn ready(&self) -> Ready<S> {
        let conn = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Whether it will use a connection that others have used, the service does not say; nothing is repeated for that.
        Ready { conn, address: None, is_fresh: true }
    }
}

impl<S, P, RB> Carrier for Around<S, P>
where
    S: Service<Request<SentBody>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    P: Evidence<S::Error>,
    RB: http_body::Body + Send + 'static,
    RB::Data: Buf,
    RB::Error: Into<BoxError>,
{
    type Conn = S;

    fn take(&self, _: &Endpoint, _: Wanted) -> Option<Ready<S>> {
        Some(self.ready())
    }

    fn dial(&self, _: Arc<Endpoint>, _: Wanted, _: Arc<Progress>) -> Dial<S> {
        let ready = self.ready();
        Box::pin(async move { Ok(ready) })
    }

    async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        mut conn: S,
        mut request: Request<SentBody>,
        give_up: Instant,
    ) -> Result<Response<AnswerBody>, ExchangeError> {
        aim(&mut request, endpoint).map_err(|why| failed(UNSENDABLE, Fault::Denied, why))?;
        match timeout_at(give_up, poll_fn(|cx| conn.poll_ready(cx))).await {
            Ok(Ok(())) if Instant::now() < give_up => {}
            Ok(Err(error)) => {
                let told = self.evidence.failure(&error);
                return Err(of_error(TransportFailure { stage: Stage::Dial, sent: Sent::No, ..told }, error.into()));
            }
            // Ready too late is not ready: a request that is begun without time left would only become unknown.
            Ok(Ok(())) | Err(_) => {
                let why = "timed out: the inner service was not ready".to_owned();
                return Err(failed(NOT_READY, Fault::Timeout, why));
            }
        }
        let lease = Lease(Some(request.body().clone()));
        match timeout_at(give_up, conn.call(request)).await {
            Ok(Ok(response)) => {
                lease.keep();
                Ok(response.map(AnswerBody::other))
            }
            Ok(Err(error)) => {
                let told = self.evidence.failure(&error);
                Err(of_error(told, error.into()))
            }
            Err(_) => {
                let why = "timed out waiting for the inner service's answer".to_owned();
                Err(failed(GIVEN_UP, Fault::Timeout, why))
            }
        }
    }
}

type Point = (Stage, Sent);
/// The request cannot be put to this endpoint.
const UNSENDABLE: Point = (Stage::Send, Sent::No);
/// The service never got the request.
const NOT_READY: Point = (Stage::Dial, Sent::No);
/// The service had the request, and nobody can say what it did with it.
const GIVEN_UP: Point = (Stage::AwaitHead, Sent::Maybe);

/// Keeps the body for an attempt. Dropped before the answer came, it takes the body back: a service may still hold the
/// request in a task of its own, which must not go on reading what the next attempt will send.
struct Lease(Option<SentBody>);

impl Lease {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(body) = &self.0 {
            body.revoke();
        }
    }
}

/// Makes the request's URI lead to the endpoint. `Host` is left to the service, which makes it of the URI, unless the caller
/// set one.
fn aim(request: &mut Request<SentBody>, endpoint: &Endpoint) -> Result<(), String> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if endpoint.url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP });
    let authority = Authority::try_from(endpoint.host.as_bytes());
    parts.authority = Some(authority.map_err(|error| format!("the endpoint's host cannot be put in a URI: {error}"))?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| format!("the path cannot be put in a URI: {error}"))?;
    Ok(())
}

fn of_error(told: TransportFailure, error: BoxError) -> ExchangeError {
    let error: &(dyn StdError + 'static) = &*error;
    let fault = told.fault.unwrap_or_else(|| fault_of(error));
    // A stage before the request is handed over says that nothing was sent; only a proof may say so.
    let stage = if told.sent == Sent::No { told.stage } else { told.stage.max(Stage::Send) };
    failed((stage, told.sent), fault, in_one_line(error))
}

fn failed((stage, sent): Point, fault: Fault, text: String) -> ExchangeError {
    ExchangeError { stage, fault, sent, errno: None, written_bytes: 0, text, client: None, is_connection_alive: false }
}
