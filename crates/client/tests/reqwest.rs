//! reqwest as an inner transport: what its errors prove, and that it does nothing behind one's back. On real sockets.
#![cfg(feature = "reqwest")]

use std::time::Duration;

use bytes::Bytes;
use handover_client::{
    AnswerBody, Client, Error, Failover, Fault, Policy, Reason, Record, ReqwestErrors, ReqwestTransport, Sent, Stage,
    Verdict,
};
use handover_testkit::{Act, Answer, BlackholePort, DeadPort, H2Act, H2Answer, H2Origin, Origin, bounded};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use tower_service::Service as _;

type Around = Failover<ReqwestTransport, ReqwestErrors>;

fn plain() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

fn around<E: AsRef<str>>(settings: reqwest::ClientBuilder, endpoints: impl IntoIterator<Item = E>) -> Around {
    let layer = Client::builder().endpoints(endpoints).policy(Policy::rotation()).layer().expect("valid");
    ReqwestTransport::new(settings).expect("valid").with_failover(layer)
}

fn post() -> Request<Full<Bytes>> {
    Request::post("/kv/x").body(Full::from("x")).expect("valid")
}

async fn text(response: Response<AnswerBody>) -> String {
    let bytes = response.into_body().collect().await.expect("whole").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

type First = (Stage, Option<Fault>, Sent, Verdict);

fn first(record: &Record) -> First {
    let attempt = record.attempts().next().expect("an attempt");
    (attempt.stage(), attempt.fault(), attempt.sent(), attempt.verdict())
}

fn first_of(response: &Response<AnswerBody>) -> First {
    first(response.extensions().get::<Record>().expect("it is there"))
}

fn first_of_error(error: &Error) -> First {
    first(error.record().expect("there were attempts"))
}

const GOES_ON: Verdict = Verdict::TryNext(Reason::NotSent);

#[tokio::test]
async fn a_refused_connection_is_not_sent_and_the_post_goes_on() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let mut service = around(plain(), [format!("http://{}", dead.addr()), origin.url()]);
        let response = service.call(post()).await.expect("answered");
        assert_eq!(first_of(&response), (Stage::Dial, Some(Fault::Refused), Sent::No, GOES_ON));
        assert_eq!(text(response).await, "hello");
        let seen = &origin.requests()[0];
        assert_eq!((seen.body.as_slice(), seen.head.header("content-length")), (&b"x"[..], Some("1")));
    })
    .await;
}

/// Knows no name.
struct Ignorant;

impl reqwest::dns::Resolve for Ignorant {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async { Err("no such name".into()) })
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_fault() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        let endpoints = ["http://nowhere.invalid".to_owned(), origin.url()];
        let mut service = around(plain().dns_resolver(std::sync::Arc::new(Ignorant)), endpoints);
        let response = service.call(post()).await.expect("answered");
        assert_eq!(first_of(&response), (Stage::Resolve, Some(Fault::Dns), Sent::No, GOES_ON));
    })
    .await;
}

#[tokio::test]
async fn a_timeout_of_connecting_is_not_sent_and_one_of_waiting_proves_nothing() {
    bounded(async {
        let (blackhole, origin) = (BlackholePort::new().await, Origin::answering("hello").await);
        let endpoints = [format!("http://{}", blackhole.addr()), origin.url()];
        let mut service = around(plain().connect_timeout(Duration::from_millis(100)), endpoints);
        let response = service.call(post()).await.expect("answered");
        assert_eq!(first_of(&response), (Stage::Dial, Some(Fault::Timeout), Sent::No, GOES_ON));

        let hanging = Origin::scripted(|_| Act::Hang).await;
        let mut service = around(plain().timeout(Duration::from_millis(100)), [hanging.url(), origin.url()]);
        let error = service.call(post()).await.expect_err("unknown");
        let stop = Verdict::Stop(Reason::NotIdempotent);
        assert_eq!(first_of_error(&error), (Stage::Send, Some(Fault::Timeout), Sent::Maybe, stop));
        assert!(error.is_timeout() && error.is_maybe_sent(), "{error}");
        assert_eq!(origin.request_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_reqwest_refuses_to_build_is_denied_and_not_sent() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let mut service = around(plain().https_only(true), [origin.url()]);
        let error = service.call(post()).await.expect_err("http is refused");
        let stop = Verdict::Stop(Reason::Denied);
        assert_eq!(first_of_error(&error), (Stage::Send, Some(Fault::Denied), Sent::No, stop));
        assert!(error.is_not_sent(), "{error}");
    })
    .await;
}

/// Pieces as a stream that is always ready.
struct Pieces(std::vec::IntoIter<Result<Frame<Bytes>, reqwest::Error>>);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, reqwest::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn a_body_that_fails_to_connect_elsewhere_is_no_proof_about_this_connection() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let elsewhere = plain().build().expect("valid").get(format!("http://{}/", dead.addr())).send().await;
        let elsewhere = elsewhere.expect_err("refused");
        assert!(elsewhere.is_connect());
        // What is sent on comes from a server that went away in the middle.
        let pieces = vec![Ok(Frame::data(Bytes::from_static(b"begun"))), Err(elsewhere)];
        let request = Request::post("/").body(StreamBody::new(Pieces(pieces.into_iter()))).expect("valid");
        let mut service = around(plain(), [origin.url()]);
        let error = service.call(request).await.expect_err("the body broke off");
        assert_eq!((first_of_error(&error).1, first_of_error(&error).2), (Some(Fault::Cancelled), Sent::Maybe));
        assert!(error.is_body() && !error.is_not_sent(), "{error}");
        assert!(error.to_string().contains("onnection refused"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn reqwest_repeats_nothing_by_itself_and_follows_no_redirect() {
    bounded(async {
        // REFUSED_STREAM is one of the signs after which reqwest's default sends again.
        let origin = H2Origin::scripted(|arrival| match arrival.request {
            0 => H2Act::Reset(h2::Reason::REFUSED_STREAM),
            _ => H2Act::Answer(H2Answer::ok("never")),
        })
        .await;
        let mut service = around(plain().http2_prior_knowledge(), [origin.url()]);
        let request = Request::post("/").body(Empty::<Bytes>::new()).expect("valid");
        let error = service.call(request).await.expect_err("unknown: reqwest cannot prove it");
        assert!(error.is_maybe_sent(), "{error}");
        assert_eq!((origin.requests().len(), error.record().expect("there").attempts().count()), (1, 1));

        let origin = Origin::scripted(|_| Act::Answer(Answer::status(302, "").header("location", "/there"))).await;
        let mut service = around(plain(), [origin.url()]);
        let response = service.call(post()).await.expect("answered");
        assert_eq!((response.status().as_u16(), origin.request_count()), (302, 1));
    })
    .await;
}

#[tokio::test]
async fn a_stream_moves_whole_and_an_empty_body_is_none() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let mut service = around(plain(), [format!("http://{}", dead.addr()), origin.url()]);
        let pieces: Vec<_> = (0..64).map(|_| Ok(Frame::data(Bytes::from(vec![b'a'; 16 * 1024])))).collect();
        let request = Request::post("/").body(StreamBody::new(Pieces(pieces.into_iter()))).expect("valid");
        assert_eq!(text(service.call(request).await.expect("answered")).await, "hello");
        let request = Request::get("/").body(Empty::<Bytes>::new()).expect("valid");
        assert_eq!(text(service.call(request).await.expect("answered")).await, "hello");
        let seen = origin.requests();
        assert_eq!((seen[0].body_bytes, seen[0].complete), (64 * 16 * 1024, true));
        assert_eq!((seen[1].head.header("transfer-encoding"), seen[1].head.header("content-length")), (None, None));
    })
    .await;
}
