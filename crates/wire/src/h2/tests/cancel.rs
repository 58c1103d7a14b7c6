//! Giving one request up leaves the others of its connection alone.

use handover_core::{Fault, Sent};
use handover_testkit::{RawAct, RawH2, bounded, frame};

use super::kit::{LIMIT, SHORT, Upload, connect, get, post, read, send, sending};
use crate::conn::ClientFault;

fn resets(server: &RawH2) -> Vec<u32> {
    server.frames().iter().filter(|seen| seen.kind == frame::RST_STREAM).map(|seen| seen.stream).collect()
}

#[tokio::test]
async fn a_request_that_is_dropped_is_reset_and_its_neighbour_is_answered() {
    bounded(async {
        let server = RawH2::scripted(|_| vec![]).await;
        let conn = connect(server.addr()).await;
        let first = sending(&conn, get("/1"), LIMIT);
        server.until(|server| server.whole_requests() == 1).await;
        let second = sending(&conn, post("/2", Upload::stalling(b"begun")), LIMIT);
        server.until(|server| server.of_stream(0, 3).len() == 2).await;
        second.abort();
        server.until(|server| resets(server) == [3]).await;
        server.perform(0, vec![RawAct::Write(frame::answer_with(1, b"mine"))]);
        assert_eq!(read(first.await.unwrap().ok().expect("an answer")).await.0, b"mine");
        assert!(conn.is_usable());
    })
    .await;
}

#[tokio::test]
async fn a_response_body_that_is_dropped_resets_its_stream_only() {
    bounded(async {
        let server = RawH2::scripted(|seen| match seen.ends_request() {
            true if seen.stream == 1 => {
                let head = frame::frame(frame::HEADERS, frame::END_HEADERS, 1, &[0x88]);
                vec![RawAct::Write(head), RawAct::Write(frame::frame(frame::DATA, 0, 1, b"part"))]
            }
            true => vec![RawAct::Write(frame::answer(seen.stream))],
            false => vec![],
        })
        .await;
        let conn = connect(server.addr()).await;
        let response = send(&conn, get("/1")).await.ok().expect("a head");
        assert_eq!(conn.in_flight(), 1);
        drop(response);
        server.until(|server| resets(server) == [1]).await;
        assert_eq!(send(&conn, get("/2")).await.ok().expect("an answer").status(), 200);
        assert!(conn.is_usable() && conn.in_flight() == 0);
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_stops_sending_is_told_so_and_blames_nobody_else() {
    bounded(async {
        let server = RawH2::scripted(|_| vec![]).await;
        let conn = connect(server.addr()).await;
        let request = post("/1", Upload::stalling(b"begun"));
        let error = conn.exchange(request, tokio::time::Instant::now() + SHORT).await.err().expect("no answer");
        assert_eq!((error.sent, error.fault, error.client), (Sent::Maybe, Fault::Cancelled, Some(ClientFault::Silent)));
        server.until(|server| resets(server) == [1]).await;
    })
    .await;
}
