//! Connections that end without a word: what was in line was not sent, what was written may have been.

use std::pin::Pin;
use std::sync::Arc;

use handover_core::{Fault, Sent, Stage};
use handover_testkit::{End, Gate, RawAct, RawH2, bounded, frame, within};

use http_body::Body as _;

use super::kit::{Conn, LIMIT, SHORT, Upload, connect, connect_narrow, get, post, send, sending, told};

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
const STREAMS_MAX: u16 = 0x3;

/// A server that allows one stream at once, and a connection that knows.
async fn one_at_a_time() -> (RawH2, Conn) {
    let server = RawH2::scripted(|seen| match (seen.kind, seen.flags & frame::ACK) {
        (frame::SETTINGS, 0) => vec![RawAct::Write(frame::settings(&[(STREAMS_MAX, 1)]))],
        _ => vec![],
    })
    .await;
    let conn = connect(server.addr()).await;
    let is_ack = |seen: &&frame::FrameSeen| seen.kind == frame::SETTINGS && seen.flags & frame::ACK != 0;
    server.until(|server| server.frames().iter().filter(is_ack).count() == 2).await;
    (server, conn)
}

#[tokio::test]
async fn an_end_without_a_word_leaves_it_open_whether_the_request_was_processed() {
    for (end, fault) in [(End::Fin, Fault::Closed), (End::Reset, Fault::Reset)] {
        bounded(async {
            let server = RawH2::scripted(move |seen| match seen.ends_request() {
                true => vec![RawAct::End(end)],
                false => vec![],
            })
            .await;
            let conn = connect(server.addr()).await;
            let error = send(&conn, get("/a")).await.err().expect("no answer");
            assert_eq!(
                (error.sent, error.fault, error.stage),
                (Sent::Maybe, fault, Stage::AwaitHead),
                "{}",
                error.text
            );
            assert!(error.written_bytes > 0 && !conn.is_usable());
        })
        .await;
    }
}

#[tokio::test]
async fn what_waits_for_a_stream_was_not_sent_when_the_connection_dies() {
    bounded(async {
        let (server, conn) = one_at_a_time().await;
        let first = sending(&conn, get("/1"), LIMIT);
        server.until(|server| server.whole_requests() == 1).await;
        assert!(!conn.is_usable(), "its only stream is in use");
        let body = Upload::of(b"body");
        let second = sending(&conn, post("/2", body.clone()), LIMIT);
        within(LIMIT, "the second waits", async {
            while conn.in_flight() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server.perform(0, vec![RawAct::End(End::Reset)]);
        assert_eq!(told(first.await.unwrap()).0, Sent::Maybe);
        assert_eq!(told(second.await.unwrap()).0, Sent::No);
        assert!(!body.was_polled());
        assert_eq!(server.of_stream(0, 3), [], "not a frame of it");
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_a_stream_goes_out_when_one_is_free_and_not_if_it_was_given_up() {
    bounded(async {
        let (server, conn) = one_at_a_time().await;
        let first = sending(&conn, get("/1"), LIMIT);
        server.until(|server| server.whole_requests() == 1).await;
        let error =
            conn.exchange(get("/given-up"), tokio::time::Instant::now() + SHORT).await.err().expect("no answer");
        assert_eq!((error.sent, error.fault, error.stage), (Sent::No, Fault::Timeout, Stage::Send));
        let third = sending(&conn, get("/3"), LIMIT);
        server.perform(0, vec![RawAct::Write(frame::answer(1))]);
        assert!(first.await.unwrap().is_ok());
        server.until(|server| server.whole_requests() == 2).await;
        server.perform(0, vec![RawAct::Write(frame::answer(3))]);
        assert!(third.await.unwrap().is_ok());
        assert_eq!((server.whole_requests(), server.of_stream(0, 5).len()), (2, 0));
    })
    .await;
}

#[tokio::test]
async fn a_request_without_an_answer_is_reset_and_a_silent_connection_takes_no_more() {
    bounded(async {
        let server = RawH2::scripted(|_| vec![]).await;
        let conn = connect(server.addr()).await;
        let is_ack = |seen: &frame::FrameSeen| seen.kind == frame::SETTINGS && seen.flags & frame::ACK != 0;
        server.until(|server| server.frames().iter().any(is_ack)).await;
        // The acknowledgement of the client's own SETTINGS is the last word it hears.
        let error = conn.exchange(get("/a"), tokio::time::Instant::now() + SHORT).await.err().expect("no answer");
        assert_eq!((error.sent, error.fault, error.stage), (Sent::Maybe, Fault::Timeout, Stage::AwaitHead));
        assert_eq!(error.text, "no response head in time");
        let is_reset = |seen: &frame::FrameSeen| seen.kind == frame::RST_STREAM && seen.stream == 1;
        server.until(|server| server.frames().iter().any(is_reset)).await;
        assert!(!conn.is_usable(), "nothing was heard since");
        server.perform(0, vec![RawAct::Write(frame::frame(frame::PING, 0, 0, &[0; 8]))]);
        within(LIMIT, "it is usable once something is heard", async {
            while !conn.is_usable() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_closed_is_not_usable_and_sends_nothing() {
    bounded(async {
        let server = RawH2::builder().start().await;
        let conn = connect(server.addr()).await;
        assert!(send(&conn, get("/a")).await.is_ok());
        assert!(conn.is_usable() && conn.in_flight() == 0 && conn.idle_since().is_some());
        server.perform(0, vec![RawAct::End(End::Fin)]);
        within(LIMIT, "the end is noticed", async {
            while conn.is_usable() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let told = told(send(&conn, get("/b")).await);
        assert!(told.0 == Sent::No || server.whole_requests() == 1, "{told:?}");
    })
    .await;
}

#[tokio::test]
async fn the_connection_ends_when_its_last_handle_and_body_are_gone() {
    bounded(async {
        let server = RawH2::scripted(|seen| match seen.ends_request() {
            true => vec![RawAct::Write(frame::frame(frame::HEADERS, frame::END_HEADERS, seen.stream, &[0x88]))],
            false => vec![],
        })
        .await;
        let conn = connect(server.addr()).await;
        let response = send(&conn, get("/a")).await.ok().expect("a head");
        drop(conn.clone());
        drop(conn);
        server.perform(0, vec![RawAct::Write(frame::frame(frame::DATA, frame::END_STREAM, 1, b"still"))]);
        assert_eq!(super::kit::read(response).await.0, b"still", "a body keeps its connection");
        server.until(|server| server.ended(0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_request_that_http2_cannot_carry_is_not_sent_and_costs_nothing() {
    bounded(async {
        let server = RawH2::builder().start().await;
        let conn = connect(server.addr()).await;
        let mut request = get("/a");
        *request.uri_mut() = "/no-host".parse().unwrap();
        let error = send(&conn, request).await.err().expect("no answer");
        assert_eq!((error.sent, error.fault, error.stage), (Sent::No, Fault::Protocol, Stage::Send), "{}", error.text);
        assert_eq!(conn.in_flight(), 0);
        assert!(send(&conn, get("/b")).await.is_ok());
        assert_eq!(server.whole_requests(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_nobody_uses_does_not_wait_for_a_peer_that_never_reads() {
    bounded(async {
        let gate = Gate::new();
        let shut = gate.clone();
        let builder = RawH2::builder().receive_buffer(4096).script(move |seen| match seen.kind {
            frame::HEADERS => {
                let head = frame::frame(frame::HEADERS, frame::END_HEADERS, seen.stream, &[0x88]);
                vec![RawAct::Write(head), RawAct::StopReading(shut.clone())]
            }
            _ => vec![],
        });
        let server = builder.start().await;
        let (conn, _) = connect_narrow(server.addr()).await;
        let shared = Arc::clone(&conn.handle.0);
        let mut response = send(&conn, post("/up", Upload::zeros(usize::MAX / 2))).await.ok().expect("a head");
        // The rest of the upload fills the socket, and nothing more comes.
        let read = std::future::poll_fn(|cx| Pin::new(response.body_mut()).poll_frame(cx));
        assert!(tokio::time::timeout(SHORT, read).await.is_err());
        drop((response, conn));
        assert!(!shared.wire.is_closed(), "it says goodbye first");
        within(LIMIT, "it gives the socket back", async {
            while !shared.wire.is_closed() {
                tokio::time::sleep(SHORT / 10).await;
            }
        })
        .await;
    })
    .await;
}
