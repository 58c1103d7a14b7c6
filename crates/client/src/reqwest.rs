//! reqwest as what carries the attempts, with what it does behind one's back switched off.
//!
//! By default reqwest sends a request again by itself after an HTTP/2 GOAWAY, as hyper reports it. That report also comes
//! for requests that the server has taken, so a POST is done twice (measured: 201 executions for 200 calls). It also
//! follows redirects, of which the policy would know nothing. Both are off here: one attempt is one request.
//!
//! Of reqwest's errors only those of connecting prove that nothing was sent. A timeout proves nothing: those of connecting
//! and of waiting for an answer look alike. TLS is what reqwest was built with: switch its feature on in your own
//! `Cargo.toml`.

use std::error::Error as StdError;
use std::fmt;
use std::task::{Context, Poll};

use handover_core::{Fault, Sent, Stage};
use http::{Request, Response};
use http_body::Body as _;
use reqwest::redirect::Policy as Redirects;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::body::SentBody;
use crate::discover::BoxFuture;
use crate::tower::{Evidence, Failover, FailoverLayer, TransportFailure, fault_of};

/// A reqwest client that carries attempts. Cheap to clone; clones share connections.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover_client::{Client, Policy, ReqwestTransport};
///
/// let transport = ReqwestTransport::new(reqwest::Client::builder().tcp_nodelay(true))?;
/// let layer = Client::builder().endpoints(["https://kv-1.example", "https://kv-2.example"]).layer()?;
/// let service = transport.with_failover(layer); // a tower service
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReqwestTransport(reqwest::Client);

impl ReqwestTransport {
    /// A client with these settings. Its own retries and redirects are switched off, whatever the settings say. A
    /// `timeout` of its own cuts bodies of answers off too; the policy's times are for attempts.
    ///
    /// # Errors
    /// As [`reqwest::ClientBuilder::build`].
    pub fn new(settings: reqwest::ClientBuilder) -> reqwest::Result<Self> {
        let settings = settings.retry(reqwest::retry::never()).redirect(Redirects::none());
        settings.build().map(Self)
    }

    /// This transport with failover around it, and with what its errors prove.
    #[must_use]
    pub fn with_failover(self, layer: FailoverLayer) -> Failover<Self, ReqwestErrors> {
        layer.evidence(ReqwestErrors).layer(self)
    }
}

impl Service<Request<SentBody>> for ReqwestTransport {
    type Response = Response<reqwest::Body>;
    type Error = reqwest::Error;
    type Future = BoxFuture<'static, Result<Response<reqwest::Body>, reqwest::Error>>;

    /// Always ready: reqwest has no limit of its own.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SentBody>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.execute(converted(request)?).await.map(Response::from) })
    }
}

/// A body that is known to be empty stays none: wrapped, it would be announced as one of unknown length.
fn converted(request: Request<SentBody>) -> reqwest::Result<reqwest::Request> {
    let (head, body) = request.into_parts();
    let body = (!body.is_end_stream()).then(|| reqwest::Body::wrap(body));
    let mut request = reqwest::Request::try_from(Request::from_parts(head, ""))?;
    *request.body_mut() = body;
    Ok(request)
}

impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReqwestTransport")
    }
}

/// What reqwest's errors prove: those of connecting, and those of requests that it could not even build, that nothing was
/// sent; the others nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReqwestErrors;

impl Evidence<reqwest::Error> for ReqwestErrors {
    fn failure(&self, error: &reqwest::Error) -> TransportFailure {
        if error.is_builder() {
            return TransportFailure { stage: Stage::Send, fault: Some(Fault::Denied), sent: Sent::No };
        }
        // Before anything else: a connection that timed out is a timeout too.
        if error.is_connect() {
            let (stage, fault) = connecting(error);
            return TransportFailure { stage, fault: Some(fault), sent: Sent::No };
        }
        let fault = error.is_timeout().then_some(Fault::Timeout);
        TransportFailure { fault, ..TransportFailure::unproven() }
    }
}

fn connecting(error: &reqwest::Error) -> (Stage, Fault) {
    if error.is_dns() {
        return (Stage::Resolve, Fault::Dns);
    }
    let error_chain: &(dyn StdError + 'static) = error;
    (Stage::Dial, if error.is_timeout() { Fault::Timeout } else { fault_of(error_chain) })
}
