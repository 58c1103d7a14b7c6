//! Not one byte of a request after it was given up: the peer stops reading, requests are given up, the peer reads again.

use std::sync::Arc;
use std::task::{Context, Waker};

use handover_core::{Fault, Sent, Stage};
use handover_testkit::{Authority, Gate, RawH2, TEST_DEADLINE, bounded, frame, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::kit::{Conn, LIMIT, SHORT, Upload, connect_counted, connect_narrow, connect_tls, get, post, sending, told};
use crate::dial::RawCounter;
use crate::h2::driver::Shared;
use crate::h2::exchange::Exchange;
use crate::h2::frames::{PREFACE_BYTES, Passing, Scanner};

/// The receive buffer of a peer that does not read: soon full.
const SMALL: usize = 4096;

/// A server that reads nothing until the gate opens, and a connection to it.
async fn unread(tls: Option<&Authority>) -> (Gate, RawH2, Conn, RawCounter) {
    let gate = Gate::new();
    let mut builder = RawH2::builder().script(|_| vec![]).unread_until(&gate).receive_buffer(SMALL);
    if let Some(authority) = tls {
        builder = builder.tls(authority.acceptor(&["127.0.0.1"], &["h2"]));
    }
    let server = builder.start().await;
    let (conn, raw) = match tls {
        Some(authority) => connect_tls(server.addr(), authority).await,
        None => connect_counted(server.addr()).await,
    };
    (gate, server, conn, raw)
}

/// Lets time pass in which the socket must not take more: it is full for as long as nobody reads.
async fn blocked(raw: &RawCounter) {
    let (mut before, mut still) = (0, 0);
    within(LIMIT, "the socket is full", async {
        while still < 20 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            still = if raw.written() == before { still + 1 } else { 0 };
            before = raw.written();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_flows_of_what_was_given_up_while_the_peer_did_not_read() {
    let authority = Authority::new();
    for tls in [None, Some(&authority)] {
        bounded(async {
            let (gate, server, conn, raw) = unread(tls).await;
            let big = sending(&conn, post("/big", Upload::zeros(usize::MAX / 2)), LIMIT);
            blocked(&raw).await;
            let bodies: Vec<Upload> = (0..5).map(|_| Upload::of(b"never")).collect();
            let waiting: Vec<_> = bodies.iter().map(|body| sending(&conn, post("/w", body.clone()), SHORT)).collect();
            for answered in waiting {
                assert_eq!(told(answered.await.unwrap()).0, Sent::No, "it never got out of the line");
            }
            assert!(bodies.iter().all(|body| !body.was_polled()));
            big.abort();
            assert!(big.await.is_err_and(|error| error.is_cancelled()));
            let written = raw.written();
            gate.open();
            within(TEST_DEADLINE, "the connection was closed", server.until(|server| server.ended(0))).await;
            assert_eq!(raw.written(), written, "not one byte after it was given up");
            let streams: Vec<u32> = server.frames().iter().filter(|f| f.is_of_request()).map(|f| f.stream).collect();
            assert!(streams.iter().all(|stream| *stream == 1), "only what was written before: {streams:?}");
            assert_eq!(server.whole_requests(), 0);
        })
        .await;
    }
}

/// Bytes of the largest frame by default (RFC 9113 §4.2), with its header.
const FRAME: u64 = 16_384 + 9;

/// A peer that opens its windows wide and reads in sips, so that an upload always fills the socket. It answers stream 3, and
/// says at which byte that began.
async fn sipping(listener: TcpListener) -> u64 {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let wide = [frame::settings(&[(4, frame::LAST_STREAM_MAX)]), frame::window_update(0, 1 << 30)].concat();
    tcp.write_all(&wide).await.unwrap();
    let (mut scanner, mut at) = (Scanner::skipping(PREFACE_BYTES), 0);
    let mut sip = [0; 512];
    loop {
        let read = tcp.read(&mut sip).await.unwrap();
        let mut found = false;
        at += read as u64;
        scanner.feed(&sip[..read], |passing| {
            found |= matches!(passing, Passing::Begun(header) if header.kind == frame::HEADERS && header.stream == 3);
        });
        if found {
            tcp.write_all(&frame::answer(3)).await.unwrap();
            // Whatever else comes is read, so that the answer is not lost in a reset.
            tokio::spawn(async move { while tcp.read(&mut sip).await.is_ok_and(|read| read > 0) {} });
            return at;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_in_line_goes_out_in_the_next_turn_beside_an_upload_that_always_fills_the_socket() {
    bounded(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let peer = tokio::spawn(sipping(listener));
        let (conn, raw) = connect_narrow(at).await;
        let big = sending(&conn, post("/big", Upload::zeros(usize::MAX / 2)), LIMIT);
        within(LIMIT, "the upload is under way", async {
            while raw.written() < 30 * FRAME {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let before = raw.written();
        let answered = sending(&conn, get("/small"), LIMIT).await.unwrap();
        assert_eq!(answered.map_err(|error| error.text).expect("an answer").status(), 200);
        let began = peer.await.unwrap();
        // The frame that is half written, one that h2 may have made ready behind it, and what a turn before wrote.
        assert!(began <= before + 3 * FRAME, "it began {} bytes later", began - before);
        big.abort();
    })
    .await;
}

/// Where each frame of a stream's message ends, in bytes from the connection's begin.
fn ends_of(server: &RawH2, stream: u32) -> Vec<u64> {
    let mut at = PREFACE_BYTES as u64;
    let mut ends = Vec::new();
    for seen in server.frames() {
        at += 9 + seen.length as u64;
        if seen.stream == stream && seen.is_of_request() {
            ends.push(at);
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_half_written_costs_the_connection_and_no_body_is_asked_for_behind_it() {
    bounded(async {
        let gate = Gate::new();
        let builder = RawH2::builder().script(|_| vec![]).receive_buffer(SMALL).unread_until(&gate);
        let server = builder.start().await;
        let (conn, raw) = connect_narrow(server.addr()).await;
        let neighbour = sending(&conn, get("/neighbour"), LIMIT);
        blocked(&raw).await;
        let body = Upload::of(b"never");
        let mut request = post("/long", body.clone());
        // Several frames long, and more than both sockets take.
        request.headers_mut().insert("x-long", "x".repeat(500_000).parse().unwrap());
        let error = conn.exchange(request, Instant::now() + SHORT).await.err().expect("no answer");
        assert_eq!((error.sent, error.fault, error.stage), (Sent::Maybe, Fault::Timeout, Stage::Send));
        assert!(error.written_bytes > 0 && !body.was_polled() && !conn.is_usable());
        let written = raw.written();
        let (sent, fault, text) = told(neighbour.await.unwrap());
        assert_eq!((sent, fault), (Sent::Maybe, Fault::Closed));
        assert_eq!(text, "the connection was closed: a request on it was given up half written");
        gate.open();
        within(LIMIT, "the connection is closed", server.until(|server| server.ended(0))).await;
        assert_eq!(raw.written(), written, "not one byte after it was given up");
        assert_eq!(server.whole_requests(), 1, "the neighbour's, which was written before");
    })
    .await;
}

/// Eight requests on one connection: with long bodies, with bodies in many small pieces, without.
fn eight(shared: &Arc<Shared>) -> Vec<Exchange<Upload>> {
    let body = |n| match n % 4 {
        0 => Upload::zeros(3_000_000),
        2 => Upload::dribbling(3_000_000),
        _ => Upload::none(),
    };
    let begin = |n| Exchange::begin(shared, post("/p", body(n)), tokio::time::sleep_until(Instant::now() + LIMIT));
    (0..8).map(|n| begin(n).map_err(|error| error.text).expect("the connection stands")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_moment_of_giving_up_no_byte_of_the_request_follows_it() {
    let (mut closed, mut lived, mut unsent) = (0, 0, 0);
    for round in 0..80u64 {
        bounded(async {
            let gate = Gate::new();
            if round % 2 == 0 {
                gate.open();
            }
            let builder = RawH2::builder().script(|_| vec![]).receive_buffer(SMALL).unread_until(&gate);
            let server = builder.start().await;
            let (conn, raw) = connect_narrow(server.addr()).await;
            let shared = Arc::clone(&conn.handle.0);
            let mut exchanges = eight(&shared);
            for _ in 0..round * 4 {
                for exchange in &mut exchanges {
                    assert!(exchange.poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
                tokio::task::yield_now().await;
            }
            let mut given_up = Vec::new();
            for mut exchange in exchanges.drain(..) {
                match exchange.give_up() {
                    Some(handed) => given_up.push((handed.stream, raw.written())),
                    None => unsent += 1,
                }
            }
            if shared.wire.is_closed() {
                closed += 1
            } else {
                lived += 1
            }
            drop((conn, shared));
            gate.open();
            within(LIMIT, "the connection ends", server.until(|server| server.ended(0))).await;
            for (stream, written) in &given_up {
                let ends = ends_of(&server, *stream);
                assert!(ends.iter().all(|end| end <= written), "round {round}, stream {stream}: {ends:?}, {written}");
            }
            let heads = server.frames().iter().filter(|f| f.kind == frame::HEADERS).count();
            assert!(heads <= given_up.len(), "round {round}: what was not taken was not written");
        })
        .await;
    }
    println!("{closed} closed, {lived} lived on, {unsent} requests never sent");
    assert!(closed > 0 && lived > 0 && unsent > 0, "all ways were gone: {closed} {lived} {unsent}");
}
