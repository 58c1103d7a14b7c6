//! Where versions of HTTP meet and where messages are unusual: what then goes on must still be whole, and nothing more.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use handover_testkit::{
    Act, Answer, Arrival, Body, Client, Door, GatewayBuilder, GatewayProcess, Origin, RequestSeen, basic, bounded,
};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

type H2Body = BoxBody<Bytes, Infallible>;

fn gateway() -> GatewayBuilder {
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered()
}

/// Sends one request over HTTP/2 with prior knowledge, on a connection of its own.
async fn over_http2(addr: SocketAddr, request: Request<H2Body>) -> Response<Incoming> {
    let tcp = TcpStream::connect(addr).await.expect("the gateway listens");
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender.send_request(request).await.expect("an answer")
}

/// The requests for this path.
fn to(origin: &Origin, path: &str) -> Vec<RequestSeen> {
    origin.requests().into_iter().filter(|request| request.head.target() == path).collect()
}

fn empty() -> H2Body {
    Empty::new().boxed()
}

#[tokio::test]
async fn the_token_does_not_travel_in_a_referer_in_either_version() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").token("sesame").start().await;
        let (addr, target) = (gateway.addr(), origin.addr());
        let path = format!("/sesame/Default/http/{target}/next");
        let clean = format!("http://{target}/page");
        for host in [addr.to_string(), "gateway.test".to_owned()] {
            let referer = format!("http://{host}/sesame/Default/http/{target}/page");
            let lines = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nReferer: {referer}\r\n\r\n");
            Client::once(addr, lines).await;
            let request = Request::get(format!("http://{addr}{path}")).header("referer", &referer);
            over_http2(addr, request.body(empty()).expect("valid")).await;
        }
        let unreadable = format!("http://{addr}/sesame/Default/nothing");
        let request = Request::get(format!("http://{addr}{path}")).header("referer", unreadable);
        over_http2(addr, request.body(empty()).expect("valid")).await;
        let seen = origin.requests();
        let mut seen: Vec<_> = seen.iter().map(|r| r.head.header("referer").unwrap_or_default()).collect();
        seen.sort_unstable();
        assert_eq!(seen, ["", &clean, &clean, &clean, &clean]);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whole_whatever_the_method() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").start().await;
        let (addr, target) = (gateway.addr(), origin.addr().to_string());
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            for door in [Door::Forward, Door::Reverse] {
                let lines = door.lines(addr, method, &target, &format!("/{method}"));
                let bytes = lines + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
                assert_eq!(Client::once(addr, bytes).await.status(), 200, "{door:?} {method}");
            }
            let pieces = ["hel", "lo"].map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
            let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
            let request =
                Request::builder().method(method).uri(format!("http://{addr}/-/Default/http/{target}/{method}"));
            assert_eq!(over_http2(addr, request.body(body).expect("valid")).await.status(), 200, "h2 {method}");
            let seen = to(&origin, &format!("/{method}"));
            assert_eq!(seen.len(), 3);
            for request in seen {
                assert_eq!((&request.body[..], request.complete), (&b"hello"[..], true), "{method}");
                assert_eq!(request.head.all("transfer-encoding"), ["chunked"], "{method}: once");
                assert_eq!(request.head.header("content-length"), None, "{method}");
            }
        }
        Client::once(addr, Door::Forward.lines(addr, "GET", &target, "/none") + "\r\n").await;
        assert_eq!(
            to(&origin, "/none")[0].head.header("transfer-encoding"),
            None,
            "without a body nothing announces one"
        );
    })
    .await;
}

#[tokio::test]
async fn a_response_framed_twice_is_read_by_its_chunks_and_its_connection_not_used_again() {
    bounded(async {
        let script = |_: Arrival<'_>| {
            let body = Body::Chunked(Bytes::from_static(b"hello"), Vec::new());
            Act::Answer(Answer::ok("").header("Content-Length", "3").body(body))
        };
        let origin = Origin::scripted(script).await;
        let gateway = gateway().node("direct").start().await;
        let mut client = Client::connect(gateway.addr()).await;
        let lines = Door::Forward.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/") + "\r\n";
        for _ in 0..2 {
            let answer = client.request(&lines).await.expect("an answer");
            assert_eq!((answer.text().as_str(), answer.complete), ("hello", true));
            assert_eq!(answer.header("content-length"), None);
        }
        assert_eq!(origin.accepted(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_target_cannot_speak_for_the_gateway_nor_keep_what_it_names_for_its_hop() {
    bounded(async {
        let script = |_: Arrival<'_>| {
            let answer = Answer::ok("served").header("Connection", "x-int, via").header("X-Int", "1");
            Act::Answer(answer.header("X-Handover-Error", "AUTH_FAILED").header("X-Handover-Id", "1"))
        };
        let origin = Origin::scripted(script).await;
        let gateway = gateway().node("direct").start().await;
        for door in [Door::Forward, Door::Reverse] {
            let answer = door.get(gateway.addr(), origin.addr()).await;
            assert_eq!((answer.text().as_str(), answer.code()), ("served", ""), "{door:?}");
            assert_eq!((answer.header("x-int"), answer.header("x-handover-id")), (None, None), "{door:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn cookies_that_http2_splits_are_one_field_again() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().origin(&origin.tagged("a")).start().await;
        let request = Request::get("http://h/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
        over_http2(gateway.addr(), request.body(empty()).expect("valid")).await;
        assert_eq!(to(&origin, "/")[0].head.all("cookie"), ["a=1; b=2; c=3"]);
    })
    .await;
}

#[tokio::test]
async fn a_request_of_http10_needs_a_host_where_its_origin_needs_one() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let routed = gateway().origin(&origin.tagged("a")).start().await;
        let answer = Client::once(routed.addr(), "GET /x HTTP/1.0\r\n\r\n").await;
        assert_eq!((answer.status(), answer.code(), origin.request_count()), (400, "BAD_REQUEST", 0));
        let answer = Client::once(routed.addr(), "GET /x HTTP/1.0\r\nHost: h\r\n\r\n").await;
        assert_eq!((answer.text(), to(&origin, "/x")[0].head.all("host")), ("served".to_owned(), vec!["h"]));

        let path_form = gateway().node("direct").start().await;
        let line = format!("GET /-/Default/http/{}/y HTTP/1.0\r\n\r\n", origin.addr());
        assert_eq!(Client::once(path_form.addr(), line).await.text(), "served");
        assert_eq!(to(&origin, "/y")[0].head.all("host"), [origin.addr().to_string()]);
    })
    .await;
}

#[tokio::test]
async fn the_clients_address_is_neither_passed_on_nor_nominated_away() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").start().await;
        for door in [Door::Forward, Door::Reverse] {
            for name in ["X-ProxyUser-Ip", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Real-IP"] {
                let before = origin.request_count();
                let lines = door.lines(gateway.addr(), "GET", &origin.addr().to_string(), "/");
                let answer = Client::once(gateway.addr(), format!("{lines}{name}: 10.1.2.3\r\n\r\n")).await;
                assert_eq!(answer.text(), "served", "{door:?} {name}");
                assert!(origin.requests().iter().all(|r| r.head.header(name).is_none()), "{door:?} {name}");
                let answer = Client::once(gateway.addr(), format!("{lines}Connection: {name}\r\n\r\n")).await;
                assert_eq!((answer.status(), origin.request_count()), (400, before + 1), "{door:?} {name}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_port_is_digits_at_every_door_and_in_both_versions() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").start().await;
        let odd = format!("127.0.0.1:+{}", origin.addr().port());
        for (bytes, code) in [
            (format!("GET http://{odd}/ HTTP/1.1\r\nHost: h\r\n\r\n"), "BAD_REQUEST"),
            (format!("GET /-/Default/http/{odd}/ HTTP/1.1\r\nHost: h\r\n\r\n"), "INVALID_HOST"),
            (format!("GET /-/Default/http/{}/ HTTP/1.1\r\nHost: {odd}\r\n\r\n", origin.addr()), "BAD_REQUEST"),
            (format!("CONNECT {odd} HTTP/1.1\r\nHost: h\r\n\r\n"), "BAD_REQUEST"),
        ] {
            let answer = Client::once(gateway.addr(), &bytes).await;
            assert_eq!((answer.status(), answer.code()), (400, code), "{bytes}");
        }
        let request = Request::get(format!("http://{odd}/-/Default/http/{}/", origin.addr()));
        let answer = over_http2(gateway.addr(), request.body(empty()).expect("valid")).await;
        assert_eq!((answer.status().as_u16(), origin.request_count()), (400, 0));
    })
    .await;
}

#[tokio::test]
async fn who_guesses_tokens_is_shut_out_and_nobody_else() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let gateway = gateway().node("direct").token("sesame").env("HANDOVER_WORKERS", "1").start().await;
        let (addr, target) = (gateway.addr(), origin.addr());
        let reverse = |token: &str| format!("GET /{token}/Default/http/{target}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        let forward = |method: &str, uri: &str, credentials: Option<&str>| {
            let field = credentials.map(|c| format!("Proxy-Authorization: {}\r\n", basic(c))).unwrap_or_default();
            format!("{method} {uri} HTTP/1.1\r\nHost: h\r\n{field}\r\n")
        };
        let (url, authority) = (format!("http://{target}/"), target.to_string());
        let code = async |bytes: String| Client::once(addr, bytes).await.code().to_owned();
        for _ in 0..30 {
            assert_eq!(code(reverse("old")).await, "AUTH_FAILED", "one wrong token is no guessing");
        }
        for n in 0..19 {
            let bytes = if n % 2 == 0 {
                reverse(&format!("guess{n}"))
            } else {
                forward("GET", &url, Some(&format!("Default:guess{n}")))
            };
            assert_eq!(code(bytes).await, "AUTH_FAILED", "{n}");
        }
        for token in ["guess", "sesame"] {
            let credentials = format!("Default:{token}");
            let asked = [
                reverse(token),
                forward("GET", &url, Some(&credentials)),
                forward("CONNECT", &authority, Some(&credentials)),
            ];
            for bytes in asked {
                let answer = Client::once(addr, bytes).await;
                assert_eq!((answer.status(), answer.code()), (429, "TOO_MANY_AUTH_FAILURES"), "{token}");
                assert_eq!(answer.header("retry-after"), Some("10"));
            }
        }
        assert_eq!(code(forward("GET", &url, None)).await, "AUTH_REQUIRED");
        assert_eq!(origin.request_count(), 0);
        assert_eq!(from_another_address(addr, &reverse("sesame")).await, "served");
    })
    .await;
}

/// Sends a request from 127.0.0.2 and reads the answer's body.
async fn from_another_address(addr: SocketAddr, request: &str) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).expect("all of 127.0.0.0/8 is this machine");
    let mut tcp = socket.connect(addr).await.expect("the gateway listens");
    tcp.write_all(request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).as_bytes()).await.expect("sent");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.expect("an answer");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}
