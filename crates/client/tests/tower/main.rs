//! Failover around services that know nothing of it: what they declare, what they do not, and what they do behind one's
//! back. All on real sockets.
#![cfg(feature = "tower")]

mod bodies;
mod plain;
mod settings;

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use handover_client::{
    AnswerBody, BoxError, Client, ClientBuilder, ConnectCauses, ConnectErrors, Error, Evidence, Failover, Fault,
    Policy, Reason, Record, RequestOptions, Sent, SentBody, Stage, TransportFailure, Verdict,
};
use handover_testkit::{Act, DeadPort, End, Origin, bounded};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use plain::{Plain, PlainError};
use tower_layer::Layer as _;
use tower_service::Service;

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation())
}

fn around<S, P: Clone>(builder: ClientBuilder, evidence: P, inner: S) -> Failover<S, P> {
    builder.layer().expect("valid").evidence(evidence).layer(inner)
}

fn connect_errors() -> ConnectErrors<fn(&PlainError) -> bool> {
    ConnectErrors::new(PlainError::is_connect as fn(&PlainError) -> bool)
}

fn post(path: &str) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::from("x")).expect("valid")
}

async fn text(response: Response<AnswerBody>) -> String {
    let bytes = response.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn first(error: &Error) -> (Stage, Option<Fault>, Sent, Verdict) {
    let attempt = error.record().and_then(|record| record.attempts().next()).expect("an attempt");
    (attempt.stage(), attempt.fault(), attempt.sent(), attempt.verdict())
}

#[tokio::test]
async fn a_declared_connect_error_lets_a_post_go_on_and_the_record_is_with_the_response() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let endpoints = [format!("http://{}", dead.addr()), origin.url()];
        let mut service = around(builder(endpoints), connect_errors(), Plain);
        let response = service.call(post("/kv/x")).await.expect("answered");
        let record = response.extensions().get::<Record>().expect("the record is there").clone();
        let attempts: Vec<_> = record.attempts().collect();
        assert_eq!((attempts[0].stage(), attempts[0].fault()), (Stage::Dial, Some(Fault::Refused)));
        assert_eq!((attempts[0].sent(), attempts[0].verdict()), (Sent::No, Verdict::TryNext(Reason::NotSent)));
        assert_eq!(attempts[1].verdict(), Verdict::Done(Reason::Answered));
        assert_eq!(text(response).await, "hello");
        assert_eq!(origin.requests()[0].body, b"x");
    })
    .await;
}

#[tokio::test]
async fn without_evidence_a_refused_post_is_unknown_and_a_get_goes_on() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let layer = builder([format!("http://{}", dead.addr()), origin.url()]).layer().expect("valid");
        let mut service = layer.layer(Plain);
        let error = service.call(post("/")).await.expect_err("unknown");
        assert!(error.is_maybe_sent(), "{error}");
        let stop = Verdict::Stop(Reason::NotIdempotent);
        assert_eq!(first(&error), (Stage::Send, Some(Fault::Refused), Sent::Maybe, stop));
        assert_eq!(origin.request_count(), 0);
        let get = Request::get("/").body(Empty::<Bytes>::new()).expect("valid");
        assert_eq!(text(service.call(get).await.expect("answered")).await, "hello");
        let mut marked = post("/");
        marked.extensions_mut().insert(RequestOptions::new().idempotent());
        assert_eq!(text(service.call(marked).await.expect("answered")).await, "hello");
    })
    .await;
}

#[tokio::test]
async fn an_error_after_the_connection_stood_proves_nothing_even_with_evidence() {
    bounded(async {
        let broken = Origin::scripted(|_| Act::EndAfter(0, End::Fin)).await;
        let other = Origin::answering("never").await;
        let mut service = around(builder([broken.url(), other.url()]), connect_errors(), Plain);
        let error = service.call(post("/")).await.expect_err("unknown");
        assert!(error.is_maybe_sent(), "{error}");
        assert_eq!(first(&error).1, Some(Fault::Closed));
        assert_eq!(other.request_count(), 0);
    })
    .await;
}

/// Declares an early stage, and no proof with it.
#[derive(Clone)]
struct Careless;

impl<E> Evidence<E> for Careless {
    fn failure(&self, _: &E) -> TransportFailure {
        TransportFailure { stage: Stage::Dial, fault: Some(Fault::Refused), sent: Sent::Maybe }
    }
}

#[tokio::test]
async fn an_early_stage_without_a_proof_is_no_proof() {
    bounded(async {
        let broken = Origin::scripted(|_| Act::EndAfter(0, End::Fin)).await;
        let other = Origin::answering("never").await;
        let mut service = around(builder([broken.url(), other.url()]), Careless, Plain);
        let error = service.call(post("/")).await.expect_err("unknown");
        assert!(error.is_maybe_sent(), "{error}");
        assert_eq!((first(&error).0, other.request_count()), (Stage::Send, 0));
    })
    .await;
}

/// A service below layers that box errors.
#[derive(Clone)]
struct Boxed(Plain);

impl Service<Request<SentBody>> for Boxed {
    type Response = <Plain as Service<Request<SentBody>>>::Response;
    type Error = BoxError;
    type Future = plain::Future<BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SentBody>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move { response.await.map_err(|error| std::io::Error::other(error).into()) })
    }
}

#[tokio::test]
async fn a_connect_error_is_found_below_boxes() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::scripted(|_| Act::EndAfter(0, End::Reset)).await);
        let evidence = ConnectCauses::new(PlainError::is_connect as fn(&PlainError) -> bool);
        let endpoints = [format!("http://{}", dead.addr()), origin.url()];
        let mut service = around(builder(endpoints), evidence, Boxed(Plain));
        let error = service.call(post("/")).await.expect_err("the second one breaks");
        assert_eq!((first(&error).2, origin.request_count()), (Sent::No, 1));
        assert!(error.is_maybe_sent(), "{error}");
    })
    .await;
}

/// Every attempt has a clone; the first clone is not ready.
struct Busy {
    says: Poll<Result<(), &'static str>>,
    clones: Arc<AtomicUsize>,
    number: usize,
}

impl Busy {
    fn saying(says: Poll<Result<(), &'static str>>) -> Self {
        Self { says, clones: Arc::default(), number: 0 }
    }
}

impl Clone for Busy {
    fn clone(&self) -> Self {
        let number = self.clones.fetch_add(1, Ordering::Relaxed) + 1;
        Self { says: self.says, clones: Arc::clone(&self.clones), number }
    }
}

impl Service<Request<SentBody>> for Busy {
    type Response = <Plain as Service<Request<SentBody>>>::Response;
    type Error = BoxError;
    type Future = plain::Future<BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.number == 1 { self.says.map_err(Into::into) } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, request: Request<SentBody>) -> Self::Future {
        let response = Plain.call(request);
        Box::pin(async move { Ok(response.await?) })
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_costs_its_attempt_and_nothing_was_sent() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        for (says, fault) in
            [(Poll::Pending, Fault::Timeout), (Poll::Ready(Err("no permits are left")), Fault::Protocol)]
        {
            let endpoints = [origin.url(), format!("{}/second", origin.url())];
            let builder = builder(endpoints).attempt_timeout(Duration::from_millis(50));
            let mut service = builder.layer().expect("valid").layer(Busy::saying(says));
            let response = service.call(post("/")).await.expect("answered");
            let record = response.extensions().get::<Record>().expect("there").clone();
            let attempt = record.attempts().next().expect("one");
            assert_eq!((attempt.stage(), attempt.fault()), (Stage::Dial, Some(fault)));
            assert_eq!((attempt.sent(), attempt.verdict()), (Sent::No, Verdict::TryNext(Reason::NotSent)));
        }
        assert_eq!(origin.request_count(), 2);
        assert!(origin.requests().iter().all(|seen| seen.head.target() == "/second"));
    })
    .await;
}

/// Takes requests and never answers.
#[derive(Clone)]
struct Silent;

impl Service<Request<SentBody>> for Silent {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Empty<Bytes>>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<SentBody>) -> Self::Future {
        Box::pin(pending())
    }
}

#[tokio::test]
async fn a_timeout_proves_nothing() {
    bounded(async {
        let builder = builder(["http://a.invalid", "http://b.invalid"]).attempt_timeout(Duration::from_millis(20));
        let mut service = builder.layer().expect("valid").layer(Silent);
        let error = service.call(post("/")).await.expect_err("nobody answers");
        assert!(error.is_maybe_sent() && error.is_timeout(), "{error}");
        let stop = Verdict::Stop(Reason::NotIdempotent);
        assert_eq!(first(&error), (Stage::AwaitHead, Some(Fault::Timeout), Sent::Maybe, stop));
    })
    .await;
}

/// Answers with what it was asked.
#[derive(Clone)]
struct Echo;

impl Service<Request<SentBody>> for Echo {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SentBody>) -> Self::Future {
        let has_options = request.extensions().get::<RequestOptions>().is_some();
        let marker = request.extensions().get::<u32>();
        let said = format!("{} {:?} {has_options} {marker:?}", request.uri(), request.headers());
        ready(Ok(Response::new(Full::from(said))))
    }
}

#[tokio::test]
async fn the_inner_service_sees_the_endpoints_place_and_none_of_the_options() {
    bounded(async {
        let mut service = builder(["https://u:pw@kv.example:8443/api"]).layer().expect("valid").layer(Echo);
        let mut request = Request::get("http://placeholder/kv/x?a=1").header("x-a", "1").body(String::new());
        let request = request.as_mut().expect("valid");
        request.extensions_mut().insert(RequestOptions::new().path_template("/kv/{key}"));
        request.extensions_mut().insert(7_u32);
        let said = text(service.call(std::mem::take(request)).await.expect("answered")).await;
        let fields = r#"{"x-a": "1", "authorization": Sensitive}"#;
        assert_eq!(said, format!("https://kv.example:8443/api/kv/x?a=1 {fields} false Some(7)"));
        let connect = Request::connect("kv.example:443").body(String::new()).expect("valid");
        let error = service.call(connect).await.expect_err("it names its own target");
        assert!(error.is_builder() && error.is_not_sent(), "{error}");
    })
    .await;
}
