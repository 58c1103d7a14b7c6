//! Failover as a `tower` layer around any HTTP service, for users of hyper, axum, tonic or reqwest.
//!
//! The inner service carries the attempts, each to the endpoint that the request's URI names. What is proven of a request
//! that failed is what the service can prove: it declares that as [`Evidence`]. Without one nothing is proven
//! ([`NothingProven`]), so that after an error only requests that may be repeated go on. Two things are known of every
//! service: an error before it was given the request means that nothing was sent, and a request body of which nothing was
//! read is still whole.
//!
//! The inner service is cloned for every attempt and asked there whether it is ready, within the attempt's time: one that
//! is never ready costs an attempt and does not stop failover. Dials are not hedged; the service does not say when it has
//! connected.

mod around;
mod evidence;
mod options;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tower_layer::Layer;
use tower_service::Service;

use crate::answer::Answer;
use crate::answer_body::AnswerBody;
use crate::body::{Body, BoxError, SentBody};
use crate::call::Call;
use crate::carrier::Carrier;
use crate::discover::BoxFuture;
use crate::error::Error;
use crate::prober::{Probe, Prober};
use crate::request::IDEMPOTENCY_KEY;
use crate::set::EndpointStatus;
use crate::shared::Shared;
use crate::trip::{Engine, run};

use around::Around;

pub use evidence::{ConnectCauses, ConnectErrors, Evidence, NothingProven, TransportFailure};
pub use options::RequestOptions;

#[cfg(feature = "reqwest")]
pub(crate) use evidence::fault_of;

/// Puts failover around a service. From [`ClientBuilder::layer`](crate::ClientBuilder::layer).
///
/// Services that one layer was put around share endpoints, health and budget.
#[derive(Clone)]
pub struct FailoverLayer<P = NothingProven> {
    settings: Settings,
    evidence: P,
}

#[derive(Clone)]
struct Settings {
    shared: Arc<Shared>,
    default_headers: HeaderMap,
    probe: Option<Probe>,
    redirects: u32,
}

impl FailoverLayer {
    pub(crate) fn new(shared: Shared, default_headers: HeaderMap, probe: Option<Probe>, redirects: u32) -> Self {
        let settings = Settings { shared: Arc::new(shared), default_headers, probe, redirects };
        Self { settings, evidence: NothingProven }
    }
}

impl<P> FailoverLayer<P> {
    /// What the inner service's errors prove. Default: [`NothingProven`].
    #[must_use]
    pub fn evidence<Q>(self, evidence: Q) -> FailoverLayer<Q> {
        FailoverLayer { settings: self.settings, evidence }
    }
}

impl<S, P: Clone> Layer<S> for FailoverLayer<P> {
    type Service = Failover<S, P>;

    fn layer(&self, inner: S) -> Failover<S, P> {
        let Settings { shared, default_headers, probe, redirects } = self.settings.clone();
        let engine = Arc::new(Engine { shared, carrier: Around::new(inner, self.evidence.clone()) });
        Failover(Arc::new(Inner {
            engine,
            prober: Prober::new(probe, default_headers.clone()),
            default_headers,
            redirects,
        }))
    }
}

impl<P> fmt::Debug for FailoverLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.settings.shared.set.endpoints();
        f.debug_struct("FailoverLayer").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

/// A service with failover around it. Cheap to clone; clones share everything.
///
/// Of a request's URI only path and query count. Scheme and authority become the endpoint's, before whose path its prefix
/// is put; a `Host` field stays as it is. What is to hold for one request is said by [`RequestOptions`] among its
/// extensions. The response has its [`Record`](crate::Record) among its extensions; its body is as the inner service gave
/// it, encoded or not.
///
/// A request's body is sent once: it goes to a further endpoint as long as none of it was read. Bodies that are there in one
/// piece, `Full<Bytes>` and `String`, can be sent again.
///
/// It is always ready itself: the inner service is asked in each attempt. Dropping the response future gives the request
/// up: backoff and discovery end, and nothing more of the body is read. What else an inner service does then, such as
/// writing a head that it has queued, is out of this one's hands.
pub struct Failover<S, P = NothingProven>(Arc<Inner<S, P>>);

struct Inner<S, P> {
    engine: Arc<Engine<Around<S, P>>>,
    default_headers: HeaderMap,
    prober: Prober,
    redirects: u32,
}

impl<S, P> Failover<S, P> {
    /// What is known of each endpoint at this moment, in the order in which they were given.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let shared = &self.0.engine.shared;
        shared.set.status(shared.uptime())
    }

    /// How many further attempts the budget could pay for now; `None` if there is no budget.
    #[must_use]
    pub fn budget_available(&self) -> Option<u64> {
        self.0.engine.shared.budget_available()
    }
}

impl<S, P> Inner<S, P>
where
    Around<S, P>: Carrier,
{
    async fn answer(&self, call: Call) -> Result<Answer, Error> {
        self.prober.wake(&self.engine);
        match self.redirects {
            0 => run(&self.engine, &call).await,
            most => crate::redirect::follow(&self.engine, call, most).await,
        }
    }

    fn call<B>(&self, request: Request<B>) -> Result<Call, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Err(Error::builder("CONNECT names its own target, so no endpoint can take another's place"));
        }
        let path = head.uri.into_parts().path_and_query;
        let mut call = Call::new(head.method, path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
        if let Some(options) = head.extensions.remove::<RequestOptions>() {
            options.apply(&mut call);
        }
        call.headers = head.headers;
        call.add_missing(&self.default_headers);
        call.check()?;
        call.keyed = call.headers.contains_key(IDEMPOTENCY_KEY);
        // Decoding is for layers of its own.
        call.decodes = false;
        (call.body, call.extensions) = (body_of(body), head.extensions);
        self.engine.shared.stamp(&mut call);
        Ok(call)
    }
}

/// A body that is there in one piece can be sent again, which a body in general cannot.
fn body_of<B>(mut body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let any: &mut dyn Any = &mut body;
    if let Some(text) = any.downcast_mut::<String>() {
        return std::mem::take(text).into();
    }
    if let Some(full) = any.downcast_mut::<Full<Bytes>>() {
        let mut full = std::mem::take(full);
        let frame = Pin::new(&mut full).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = frame else { return Body::default() };
        return frame.into_data().unwrap_or_default().into();
    }
    Body::from_http(body)
}

impl<S, P, B, RB> Service<Request<B>> for Failover<S, P>
where
    S: Service<Request<SentBody>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    P: Evidence<S::Error>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    RB: http_body::Body + Send + 'static,
    RB::Data: Buf,
    RB::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<AnswerBody>, Error>>;

    /// Always ready: readiness is a matter of each attempt.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        let call = inner.call(request);
        Box::pin(async move {
            let answer = inner.answer(call?).await?;
            let record = answer.record().clone();
            let (head, body) = answer.into_parts();
            let mut response = Response::from_parts(head, body);
            response.extensions_mut().insert(record);
            Ok(response)
        })
    }
}

impl<S, P> Clone for Failover<S, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, P> fmt::Debug for Failover<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.0.engine.shared.set.endpoints();
        f.debug_struct("Failover").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}
