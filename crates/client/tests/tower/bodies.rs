//! Request bodies under an inner service: moved whole, never shared between attempts, empty where they are empty.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use handover_client::{Reason, SentBody, Verdict};
use handover_testkit::{Act, BodyFraming, DeadPort, End, Origin, bounded, pattern_at};
use http::Request;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tower_service::Service;

use super::plain::{self, Plain, PlainError};
use super::{around, builder, connect_errors, text};

/// A body of `pieces` times 64 KiB of pattern, whose length is not known, and which counts how often it was asked.
fn stream(pieces: usize, asked: &Arc<AtomicUsize>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    const PIECE: usize = 64 * 1024;
    let asked = Arc::clone(asked);
    let pieces = (0..pieces).map(move |at| {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok(Frame::data(Bytes::from_static(pattern_at((at * PIECE) as u64, PIECE))))
    });
    StreamBody::new(Iter(pieces)).boxed_unsync()
}

/// An iterator as a stream.
struct Iter<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn a_stream_of_which_nothing_was_read_moves_whole_to_the_next_endpoint() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let endpoints = [format!("http://{}", dead.addr()), origin.url()];
        let mut service = around(builder(endpoints), connect_errors(), Plain);
        let asked = Arc::default();
        let request = Request::post("/").body(stream(16, &asked)).expect("valid");
        assert_eq!(text(service.call(request).await.expect("answered")).await, "hello");
        let seen = &origin.requests()[0];
        assert!(seen.complete && seen.patterned, "{seen:?}");
        assert_eq!((seen.body_bytes, asked.load(Ordering::Relaxed)), (16 * 64 * 1024, 16));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_empty_is_sent_as_none() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        let mut service = around(builder([origin.url()]), connect_errors(), Plain);
        for request in [Request::get("/"), Request::post("/")] {
            let request = request.body(Empty::<Bytes>::new()).expect("valid");
            service.call(request).await.expect("answered");
        }
        let request = Request::post("/").body(Full::<Bytes>::from("abc")).expect("valid");
        service.call(request).await.expect("answered");
        let seen = origin.requests();
        assert_eq!(seen[0].head.header("transfer-encoding"), None);
        assert_eq!(seen[0].head.header("content-length"), None);
        assert_eq!(seen[1].head.header("content-length"), Some("0"));
        assert_eq!(seen[2].head.request_framing(), BodyFraming::Length(3));
    })
    .await;
}

#[tokio::test]
async fn a_body_in_one_piece_is_sent_again_and_a_stream_that_was_read_is_not() {
    bounded(async {
        let broken = Origin::scripted(|_| Act::EndAfter(u64::MAX, End::Fin)).await;
        let origin = Origin::answering("hello").await;
        let mut service = around(builder([broken.url(), origin.url()]), connect_errors(), Plain);
        let full = Request::put("/").body(Full::<Bytes>::from("abc")).expect("valid");
        service.call(full).await.expect("answered");
        let string = Request::put("/").body("abc".to_owned()).expect("valid");
        service.call(string).await.expect("answered");
        let streamed = Request::put("/").body(stream(1, &Arc::default())).expect("valid");
        let error = service.call(streamed).await.expect_err("it was read");
        let verdict = error.record().and_then(|record| record.verdict());
        assert_eq!(verdict, Some(Verdict::Stop(Reason::BodyConsumed)), "{error}");
        assert!(origin.requests().iter().all(|seen| seen.body == b"abc") && origin.request_count() == 2);
    })
    .await;
}

/// Keeps the first request, as a client does that has queued it, and sends the others.
#[derive(Clone, Default)]
struct Hoarder {
    kept: Arc<Mutex<Option<SentBody>>>,
    calls: Arc<AtomicUsize>,
}

impl Service<Request<SentBody>> for Hoarder {
    type Response = <Plain as Service<Request<SentBody>>>::Response;
    type Error = PlainError;
    type Future = plain::Future<PlainError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PlainError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SentBody>) -> Self::Future {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            *self.kept.lock().expect("nobody panics with it") = Some(request.into_body());
            return Box::pin(std::future::pending());
        }
        // The first request's connection gets round to it, before the second one's body has left.
        let (kept, response) = (self.kept.lock().expect("nobody panics with it").take(), Plain.call(request));
        Box::pin(async move {
            let mut kept = kept.expect("the first call left it");
            let late = kept.frame().await.expect("not at its end");
            assert!(late.is_err(), "the attempt that was given up reads on in the body");
            response.await
        })
    }
}

#[tokio::test]
async fn an_attempt_that_was_given_up_takes_nothing_from_the_body_of_the_next() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        let endpoints = ["http://first.invalid".to_owned(), origin.url()];
        let builder = builder(endpoints).attempt_timeout(Duration::from_millis(50));
        let mut service = around(builder, connect_errors(), Hoarder::default());
        let asked = Arc::default();
        // PUT may be repeated, and nothing of the body was read when the first attempt's time was over.
        let request = Request::put("/").body(stream(4, &asked)).expect("valid");
        assert_eq!(text(service.call(request).await.expect("answered")).await, "hello");
        let seen = &origin.requests()[0];
        assert!(seen.complete && seen.patterned && seen.body_bytes == 4 * 64 * 1024, "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_dropped_takes_its_body_back() {
    bounded(async {
        let hoarder = Hoarder::default();
        let mut service = around(builder(["http://first.invalid"]), connect_errors(), hoarder.clone());
        let asked = Arc::default();
        let request = Request::put("/").body(stream(4, &asked)).expect("valid");
        let response = service.call(request);
        tokio::select! {
            biased;
            _ = response => panic!("nobody answers"),
            () = tokio::task::yield_now() => {}
        }
        let mut kept = hoarder.kept.lock().expect("nobody panics with it").take().expect("the call left it");
        assert!(kept.frame().await.expect("not at its end").is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    })
    .await;
}
