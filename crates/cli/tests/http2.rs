//! Clients that speak HTTP/2, bodies that are watched as they grow, and trailers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use handover_testkit::{
    Act, Answer, Authority, Body, BodyWriter, Client, ConnectionSeen, DOORS, DeadPort, Door, Framing, GatewayBuilder,
    GatewayProcess, Origin, Upload, bounded, idle_memory, pattern_at, peak_memory, reset_peak_memory,
};
use http::{HeaderMap, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type H2Body = BoxBody<Bytes, Infallible>;

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

fn dead(tag: &str) -> (DeadPort, String) {
    let port = DeadPort::new();
    let url = format!("http://{}#{tag}", port.addr());
    (port, url)
}

fn full(bytes: impl Into<Bytes>) -> H2Body {
    Full::new(bytes.into()).boxed()
}

/// An h2c connection with prior knowledge (RFC 9113 §3.3).
async fn connect(addr: SocketAddr) -> SendRequest<H2Body> {
    let tcp = TcpStream::connect(addr).await.expect("the gateway listens");
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// An answer of an origin that the test writes piece by piece, for the first request only.
async fn streaming_origin() -> (Origin, BodyWriter) {
    let (answer, writer) = Answer::stream();
    let answer = Mutex::new(Some(answer.header("Content-Type", "text/event-stream")));
    let script = move |_: handover_testkit::Arrival<'_>| {
        Act::Answer(answer.lock().expect("not poisoned").take().expect("asked once"))
    };
    (Origin::scripted(script).await, writer)
}

#[tokio::test]
async fn many_streams_of_one_connection_fail_over_on_their_own() {
    bounded(async {
        let (_port, a) = dead("a");
        let origin = Origin::scripted(|arrival| Act::Answer(Answer::ok(arrival.head.target().to_owned()))).await;
        let gateway = gateway().origin(&a).origin(&origin.tagged("live")).start().await;
        let sender = connect(gateway.addr()).await;
        let mut streams = tokio::task::JoinSet::new();
        for n in 0..50 {
            let mut sender = sender.clone();
            streams.spawn(async move {
                let request = Request::post(format!("http://h/{n}")).body(full(format!("body {n}"))).expect("valid");
                let answer = sender.send_request(request).await.expect("an answer");
                let (status, body) = (answer.status(), answer.into_body().collect().await.expect("whole").to_bytes());
                assert_eq!((status.as_u16(), body), (200, Bytes::from(format!("/{n}"))));
            });
        }
        streams.join_all().await;
        assert_eq!(origin.request_count(), 50);
        for request in origin.requests() {
            let n = request.head.target().trim_start_matches('/');
            assert_eq!(request.body, format!("body {n}").into_bytes());
            assert_eq!(request.head.all("host"), ["h"], "the authority is the Host");
        }
    })
    .await;
}

#[tokio::test]
async fn the_reverse_form_works_over_http2() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").start().await;
        let mut sender = connect(gateway.addr()).await;
        let url = format!("http://{}/-/Default/http/{}/a?b=c", gateway.addr(), origin.addr());
        let answer = sender.send_request(Request::get(url).body(full("")).expect("valid")).await.expect("an answer");
        assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes(), "served");
        let head = &origin.requests()[0].head;
        assert_eq!((head.target(), head.header("host")), ("/a?b=c", Some(origin.addr().to_string().as_str())));
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_works_over_http2() {
    bounded(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let (_port, a) = dead("a");
        let gateway = gateway().node(&a).node("direct").start().await;
        let mut sender = connect(gateway.addr()).await;
        let authority = listener.local_addr().expect("bound").to_string();
        let request = Request::connect(authority).body(Empty::new().boxed()).expect("valid");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.expect("a tunnel"));
        let mut target = listener.accept().await.expect("the gateway connects").0;
        tunnel.write_all(b"ping").await.expect("sent");
        let mut ping = [0; 4];
        target.read_exact(&mut ping).await.expect("the ping");
        target.write_all(b"pong").await.expect("sent");
        drop(target);
        let mut pong = Vec::new();
        tunnel.read_to_end(&mut pong).await.expect("up to the end of the stream");
        assert_eq!((&ping, &pong[..]), (b"ping", &b"pong"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_listener_with_tls_speaks_both_versions_by_alpn() {
    bounded(async {
        let (authority, files) = (Authority::new(), tempfile::tempdir().expect("writable"));
        let (cert, key) = authority.files(&["localhost"], files.path());
        let origin = Origin::answering("served").await;
        let config = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n");
        let gateway = gateway().config(&config).origin(&origin.tagged("a")).start().await;

        let tcp = TcpStream::connect(gateway.addr()).await.expect("the gateway listens");
        let name = "localhost".to_owned().try_into().expect("valid");
        let tls = authority.connector(&["h2", "http/1.1"]).connect(name, tcp).await.expect("trusted");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::get("https://localhost/").body(full("")).expect("valid");
        assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);

        let client = Client::connect(gateway.addr()).await;
        let mut client = client.start_tls(&authority, "localhost").await.expect("trusted");
        let answer = client.request("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("an answer");
        assert_eq!(answer.text(), "served");
    })
    .await;
}

#[tokio::test]
async fn server_sent_events_pass_one_by_one() {
    for door in DOORS {
        bounded(async {
            let (origin, writer) = streaming_origin().await;
            let gateway = gateway().node("direct").start().await;
            let target = origin.addr().to_string();
            let mut client = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
            client.send(door.lines(gateway.addr(), "GET", &target, "/") + "\r\n").await.expect("sent");
            // The head comes before there is any event, and each event before there is a next.
            assert_eq!(client.read_head().await.expect("a head").status(), 200, "{door:?}");
            for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
                writer.send(event);
                assert_eq!(client.read_chunk().await.expect("a chunk"), event.as_bytes(), "{door:?}");
            }
            drop(writer);
            assert!(client.read_chunk().await.expect("the last chunk").is_empty(), "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn server_sent_events_pass_one_by_one_over_http2() {
    bounded(async {
        let (origin, writer) = streaming_origin().await;
        let gateway = gateway().origin(&origin.tagged("a")).start().await;
        let mut sender = connect(gateway.addr()).await;
        let request = Request::get("http://h/").body(full("")).expect("valid");
        let mut body = sender.send_request(request).await.expect("the head comes first").into_body();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            writer.send(event);
            let frame = body.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), event);
        }
        drop(writer);
        assert!(body.collect().await.expect("the end").to_bytes().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_upload_reaches_the_origin_while_it_is_still_being_sent() {
    for door in DOORS {
        bounded(async {
            let origin = Origin::answering("stored").await;
            let gateway = gateway().node("direct").start().await;
            let target = origin.addr().to_string();
            let mut client = door.enter(gateway.addr(), &target).await.expect("direct lets it in");
            let head = door.lines(gateway.addr(), "POST", &target, "/");
            let upload = Upload { head, bytes: 0, framing: Framing::Chunked, expect: false };
            client.send(upload.head_bytes()).await.expect("sent");
            for sent in 1..=3 {
                client.send("5\r\nhello\r\n").await.expect("sent");
                let arrived = |c: &ConnectionSeen| c.requests.iter().any(|r| r.body_bytes == sent * 5);
                origin.ledger().until(|connections| connections.iter().any(arrived)).await;
            }
            client.send("0\r\n\r\n").await.expect("sent");
            assert_eq!(client.read_response("POST").await.expect("an answer").text(), "stored", "{door:?}");
        })
        .await;
    }
}

fn with_trailers() -> Act {
    let trailers = vec![("X-Checksum", "abc"), ("Server-Timing", "db;dur=1")];
    let body = Body::Chunked(Bytes::from_static(b"data"), trailers);
    Act::Answer(Answer::ok("").header("Trailer", "X-Checksum, Server-Timing").body(body))
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    for door in [Door::Forward, Door::Reverse] {
        bounded(async {
            let origin = Origin::scripted(|_| with_trailers()).await;
            let gateway = gateway().node("direct").start().await;
            let lines = door.lines(gateway.addr(), "POST", &origin.addr().to_string(), "/");
            let head = format!("{lines}TE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
            let request = format!("{head}4\r\nbody\r\n0\r\nX-Sum: 4\r\n\r\n");
            let answer = Client::once(gateway.addr(), request).await;
            let trailers: HeaderMap = to_map(&answer.trailers);
            assert_eq!((answer.text().as_str(), &trailers["x-checksum"]), ("data", &"abc".parse().expect("valid")));
            assert_eq!(trailers.len(), 2, "{door:?}");
            let seen = &origin.requests()[0];
            assert_eq!(to_map(&seen.trailers)["x-sum"], "4", "{door:?}");
            assert_eq!(seen.body, b"body", "{door:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http2() {
    bounded(async {
        let origin = Origin::scripted(|_| with_trailers()).await;
        let gateway = gateway().origin(&origin.tagged("a")).start().await;
        let mut sender = connect(gateway.addr()).await;
        let sum = to_map(&[("x-sum".to_owned(), "4".to_owned())]);
        let frames = [Frame::data(Bytes::from_static(b"body")), Frame::trailers(sum)].map(Ok::<_, Infallible>);
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request =
            Request::post("http://h/").header("te", "trailers").header("trailer", "x-sum").body(body).expect("valid");
        let answer = sender.send_request(request).await.expect("an answer");
        let collected = answer.into_body().collect().await.expect("whole");
        assert_eq!(collected.trailers().expect("trailers")["x-checksum"], "abc");
        assert_eq!(collected.to_bytes(), "data");
        assert_eq!(to_map(&origin.requests()[0].trailers)["x-sum"], "4");
    })
    .await;
}

#[tokio::test]
async fn a_large_upload_over_http2_fails_over_without_being_kept() {
    bounded(async {
        const PIECES: usize = 1024;
        let (_port, a) = dead("a");
        let origin = Origin::answering("stored").await;
        let gateway = gateway().origin(&a).origin(&origin.tagged("live")).start().await;
        let mut sender = connect(gateway.addr()).await;
        let idle = idle_memory(gateway.pid());
        reset_peak_memory(gateway.pid());
        let piece = |n: usize| Ok(Frame::data(Bytes::from_static(pattern_at((n * 65_536) as u64, 65_536))));
        let body = StreamBody::new(futures_util::stream::iter((0..PIECES).map(piece))).boxed();
        let answer = sender.send_request(Request::post("http://h/").body(body).expect("valid")).await;
        assert_eq!(answer.expect("an answer").into_body().collect().await.expect("whole").to_bytes(), "stored");
        let cost = peak_memory(gateway.pid()).saturating_sub(idle);
        assert!(cost < 16 * 1024 * 1024, "{cost} bytes above idle");
        let seen = &origin.requests()[0];
        assert_eq!((seen.body_bytes, seen.patterned, seen.complete), ((PIECES * 65_536) as u64, true, true));
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_the_client_resets_is_cancelled_and_its_upload_never_whole() {
    bounded(async {
        let origin = Origin::answering("never").await;
        let gateway = gateway().origin(&origin.tagged("a")).start().await;
        let mut sender = connect(gateway.addr()).await;
        let first = futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"hello")))]);
        let body = StreamBody::new(futures_util::StreamExt::chain(first, futures_util::stream::pending())).boxed();
        let request = sender.send_request(Request::post("http://h/").body(body).expect("valid"));
        let begun = |c: &ConnectionSeen| c.requests.iter().any(|r| r.body_bytes == 5);
        tokio::select! {
            answer = request => panic!("answered before the end: {answer:?}"),
            () = origin.ledger().until(|connections| connections.iter().any(begun)) => {}
        }
        // Dropping the future of the request resets its stream; the connection goes on.
        origin.ledger().until(|connections| connections.iter().all(|c| c.ended)).await;
        assert!(!origin.requests()[0].complete);
        assert_eq!(gateway.only_row().await.story(), ["a: send cancelled sent=maybe -> stop(cancelled)"]);
        let next = sender.send_request(Request::get("http://h/").body(full("")).expect("valid")).await;
        assert_eq!(next.expect("an answer").status(), 200);
    })
    .await;
}

fn to_map(trailers: &[(String, String)]) -> HeaderMap {
    let pairs = trailers.iter().map(|(name, value)| {
        (name.parse::<http::HeaderName>().expect("a name"), value.parse::<http::HeaderValue>().expect("a value"))
    });
    pairs.collect()
}
