//! Where versions of HTTP meet and where messages are unusual: what then goes on must still be whole, and nothing more.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use handover_testkit::{Client, GatewayBuilder, GatewayProcess, Origin, bounded};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

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
        let seen: Vec<_> =
            origin.requests().iter().map(|r| r.head.header("referer").unwrap_or_default().to_owned()).collect();
        assert_eq!(seen, [&clean[..], &clean, &clean, &clean, ""]);
    })
    .await;
}
