//! Bodies in both directions: windows, trailers, early answers, many at once.

use std::pin::Pin;

use ::h2::Reason;
use bytes::Bytes;
use handover_testkit::{Authority, H2Act, H2Answer, H2Origin, RawAct, RawH2, bounded, frame, within};
use http::HeaderMap;
use http_body::{Body, Frame};

use super::kit::{LIMIT, Upload, connect, connect_tls, get, post, read, send, sending};
use crate::body::TrackedBody;
use crate::h2::{H2Body, H2Conn, STREAM_WINDOW_BYTES};

/// What multi-threaded runtimes ask of every type that is held across an await.
#[test]
fn everything_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn check(conn: &H2Conn<Upload>) {
        is_send(conn);
        is_send(&conn.exchange(get("/"), tokio::time::Instant::now()));
    }
    fn body<T: Send + Unpin + 'static>() {}
    body::<H2Body>();
    let _ = check;
}

#[tokio::test]
async fn a_body_larger_than_every_window_streams_through_plain_and_by_tls() {
    /// More than the 64 MiB that the origin's window opens at once.
    const LENGTH: usize = 70 * 1024 * 1024;
    let authority = Authority::new();
    for tls in [false, true] {
        bounded(async {
            let mut builder = H2Origin::builder();
            if tls {
                builder = builder.tls(authority.acceptor(&["127.0.0.1"], &["h2"]));
            }
            let origin = builder.script(|_| H2Act::Answer(H2Answer::ok("done"))).start().await;
            let conn = match tls {
                true => connect_tls(origin.addr(), &authority).await.0,
                false => connect(origin.addr()).await,
            };
            let body = Upload::zeros(LENGTH);
            let response = send(&conn, post("/up", body.clone())).await.map_err(|e| e.text).expect("an answer");
            assert_eq!(read(response).await.0, b"done");
            assert!(body.is_ended());
            assert_eq!(origin.requests()[0].body.len(), LENGTH);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_at_once_are_each_answered_with_their_own() {
    bounded(async {
        let origin =
            H2Origin::scripted(|arrival| H2Act::Answer(H2Answer::ok(arrival.head.uri.path().to_owned()))).await;
        let conn = connect(origin.addr()).await;
        let all: Vec<_> = (0..200).map(|n| sending(&conn, get(&format!("/{n}")), LIMIT)).collect();
        for (n, answered) in all.into_iter().enumerate() {
            let response = answered.await.unwrap().map_err(|error| error.text).expect("an answer");
            assert_eq!(read(response).await.0, format!("/{n}").as_bytes());
        }
        assert_eq!((origin.accepted(), conn.in_flight(), origin.executions().total()), (1, 0, 200));
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    bounded(async {
        /// A literal field without indexing, `x: y` (RFC 7541 §6.2.2).
        const FIELD: [u8; 5] = [0, 1, b'x', 1, b'y'];
        let server = RawH2::scripted(|seen| match seen.ends_request() {
            true => {
                let end = frame::END_HEADERS | frame::END_STREAM;
                let head = frame::frame(frame::HEADERS, frame::END_HEADERS, seen.stream, &[0x88]);
                let data = frame::frame(frame::DATA, 0, seen.stream, b"data");
                vec![head, data, frame::frame(frame::HEADERS, end, seen.stream, &FIELD)]
                    .into_iter()
                    .map(RawAct::Write)
                    .collect()
            }
            false => vec![],
        })
        .await;
        let conn = connect(server.addr()).await;
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
        let body = Upload::frames([Frame::data(Bytes::from_static(b"up")), Frame::trailers(trailers)]);
        let (bytes, trailers) = read(send(&conn, post("/a", body)).await.ok().expect("an answer")).await;
        assert_eq!((&bytes[..], trailers.expect("trailers")["x"].as_bytes()), (&b"data"[..], &b"y"[..]));
        let kinds: Vec<(u8, bool)> = server.of_stream(0, 1).iter().map(|f| (f.kind, f.ends_request())).collect();
        assert_eq!(kinds, [(frame::HEADERS, false), (frame::DATA, false), (frame::HEADERS, true)]);
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_opens_the_window_only_as_it_reads_and_holds_up_nobody() {
    bounded(async {
        let server = RawH2::scripted(|seen| match seen.ends_request() {
            true if seen.stream == 1 => {
                let head = frame::frame(frame::HEADERS, frame::END_HEADERS, 1, &[0x88]);
                let piece = frame::frame(frame::DATA, 0, 1, &[0; 16 * 1024]);
                let pieces = STREAM_WINDOW_BYTES as usize / (16 * 1024);
                std::iter::once(head).chain(std::iter::repeat_n(piece, pieces)).map(RawAct::Write).collect()
            }
            true => vec![RawAct::Write(frame::answer(seen.stream))],
            false => vec![],
        })
        .await;
        let conn = connect(server.addr()).await;
        let mut slow = send(&conn, get("/slow")).await.ok().expect("a head").into_body();
        assert_eq!(send(&conn, get("/other")).await.ok().expect("an answer").status(), 200);
        let updates =
            |server: &RawH2| server.frames().iter().filter(|f| f.kind == frame::WINDOW_UPDATE && f.stream == 1).count();
        assert_eq!(updates(&server), 0, "nothing was read");
        let mut read = 0;
        while read < STREAM_WINDOW_BYTES as usize {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut slow).poll_frame(cx)).await;
            read += frame.expect("more").expect("whole").into_data().expect("data").len();
        }
        server.until(|server| updates(server) > 0).await;
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_lets_the_upload_go_on_behind_the_head_until_it_is_cut() {
    for cut in [false, true] {
        bounded(async {
            let server = RawH2::scripted(move |seen| match (seen.kind, seen.ends_request()) {
                (frame::HEADERS, _) if cut => vec![
                    RawAct::Write(frame::answer_with(seen.stream, b"early")),
                    RawAct::Write(frame::rst_stream(seen.stream, Reason::NO_ERROR)),
                ],
                (frame::HEADERS, _) => {
                    vec![RawAct::Write(frame::frame(frame::HEADERS, frame::END_HEADERS, seen.stream, &[0x88]))]
                }
                (_, true) => vec![RawAct::Write(frame::frame(frame::DATA, frame::END_STREAM, seen.stream, b"whole"))],
                _ => vec![],
            })
            .await;
            let conn = connect(server.addr()).await;
            let length = 20_000_000;
            let body = Upload::zeros(length);
            let response = send(&conn, post("/up", body.clone())).await.map_err(|e| e.text).expect("a head");
            assert!(!body.is_ended(), "the answer is early");
            let expected: &[u8] = if cut { b"early" } else { b"whole" };
            assert_eq!(within(LIMIT, "the answer is whole", read(response)).await.0, expected);
            let sent: usize = server.of_stream(0, 1).iter().filter(|f| f.kind == frame::DATA).map(|f| f.length).sum();
            assert_eq!((sent == length, body.is_ended()), (!cut, !cut));
            assert!(conn.is_usable() && conn.in_flight() == 0);
        })
        .await;
    }
}
