//! A dial that is given up tells its true stage, and closes its sockets.

use std::future::Future;
use std::net::SocketAddr;

use handover_core::{Blame, Fault, Stage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::kit::{Pki, listen, node, open_rules, peer, read_head, read_to_close, swallowing, target, tls_target};
use crate::dial::{DialError, DialNode, Dialer, Host, NodeKind, Progress, Target};

/// Gives the dial up as soon as `until` is over; says how far it got, and what a timeout there is.
async fn given_up(dialer: &Dialer, node: &DialNode, target: &Target, until: impl Future) -> DialError {
    let (rules, progress) = (open_rules(), Progress::new());
    tokio::select! {
        biased;
        ended = dialer.dial(node, target, &rules, &progress) => panic!("ended by itself: {ended:?}"),
        _ = until => {}
    }
    DialError::timed_out(node, &progress)
}

/// Gives a dial up at the moment its peer went silent; the peer must then see the close.
async fn at_silence<F>(
    pki: &Pki,
    kind: NodeKind,
    target: impl FnOnce(SocketAddr) -> Target,
    script: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> DialError
where
    F: Future<Output = TcpStream> + Send,
{
    let (silent, is_silent) = oneshot::channel();
    let (at, served) = peer(async move |tcp| {
        let mut tcp = script(tcp).await;
        silent.send(()).unwrap();
        read_to_close(&mut tcp).await
    })
    .await;
    let error = given_up(&pki.dialer(), &node(kind, at), &target(at), is_silent).await;
    served.await.expect("the socket is closed when the dial is dropped");
    assert_eq!((error.fault, error.peer, error.err_kind()), (Fault::Timeout, Some(at), "timeout"));
    error
}

/// Reads the first byte of a TLS handshake and goes silent.
async fn deaf_to_tls(mut tcp: TcpStream) -> TcpStream {
    assert_eq!(tcp.read_u8().await.unwrap(), 22);
    tcp
}

#[tokio::test]
async fn while_resolving() {
    let pki = Pki::for_names(&["localhost"]);
    let dialer = Dialer { resolver: crate::dial::tcp::Resolver::Fixed(Vec::new()), ..pki.dialer() };
    let error =
        given_up(&dialer, &DialNode::direct("direct"), &target("slow.example", 80), tokio::task::yield_now()).await;
    assert_eq!((error.stage, error.blame, error.peer), (Stage::Resolve, None, None));
    let host = Host::Name("slow.example".into());
    let node = DialNode { host, ..node(NodeKind::Http, SocketAddr::from(([127, 0, 0, 1], 1))) };
    let error = given_up(&dialer, &node, &target("example.com", 80), tokio::task::yield_now()).await;
    assert_eq!((error.stage, error.blame), (Stage::Resolve, Some(Blame::Node)));
    assert_eq!(error.to_string(), "eu-2: resolve: timed out waiting for the resolver");
}

#[tokio::test]
async fn while_connecting() {
    let pki = Pki::for_names(&["localhost"]);
    let (_held, at) = swallowing([127, 0, 0, 1].into());
    let until = tokio::task::yield_now;
    let error = given_up(&pki.dialer(), &DialNode::direct("direct"), &target("127.0.0.1", at.port()), until()).await;
    assert_eq!((error.stage, error.blame, error.peer), (Stage::Dial, None, Some(at)));
    let error = given_up(&pki.dialer(), &node(NodeKind::Socks5, at), &target("example.com", 80), until()).await;
    assert_eq!((error.stage, error.blame, error.peer), (Stage::Dial, Some(Blame::Node), Some(at)));
    assert_eq!(error.to_string(), format!("eu-2 ({at}): dial: timed out connecting"));
}

#[tokio::test]
async fn while_the_node_is_asked_for_the_target() {
    let pki = Pki::for_names(&["localhost"]);
    let example = |_| target("example.com", 443);
    let error = at_silence(&pki, NodeKind::Http, example, async |mut tcp| {
        read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 20").await.unwrap();
        tcp
    })
    .await;
    assert_eq!((error.stage, error.blame), (Stage::ProxyHandshake, None), "the node may be waiting for the target");
    let error = at_silence(&pki, NodeKind::Socks5, example, async |mut tcp| {
        tcp.read_exact(&mut [0; 3]).await.unwrap();
        tcp.write_all(b"\x05\x00").await.unwrap();
        tcp.read_exact(&mut [0; 18]).await.unwrap();
        tcp
    })
    .await;
    assert_eq!((error.stage, error.blame), (Stage::ProxyHandshake, None));
}

#[tokio::test]
async fn while_in_the_nodes_own_tls() {
    let pki = Pki::for_names(&["localhost"]);
    let error = at_silence(&pki, NodeKind::Https, |_| target("example.com", 443), deaf_to_tls).await;
    assert_eq!((error.stage, error.blame), (Stage::Tls, Some(Blame::Node)));
    let error = at_silence(&pki, NodeKind::Origin { tls: true }, |_| target("example.com", 443), deaf_to_tls).await;
    assert_eq!((error.stage, error.blame), (Stage::Tls, Some(Blame::Node)));
}

#[tokio::test]
async fn while_in_the_targets_tls() {
    let pki = Pki::for_names(&["localhost"]);
    let error = at_silence(
        &pki,
        NodeKind::Http,
        |_| tls_target("example.com", 443),
        async |mut tcp| {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            deaf_to_tls(tcp).await
        },
    )
    .await;
    assert_eq!((error.stage, error.blame), (Stage::Tls, None), "behind a node it may be either's silence");
    let error = at_silence(&pki, NodeKind::Direct, |at| tls_target("127.0.0.1", at.port()), deaf_to_tls).await;
    assert_eq!((error.stage, error.blame), (Stage::Tls, Some(Blame::Target)));
}

/// What a dial through an `https` node is at when the node goes silent: after CONNECT, or after the target's first byte.
async fn silent_inside_tls(target: Target, answers: bool) -> DialError {
    let pki = Pki::for_names(&["127.0.0.1"]);
    let acceptor = pki.acceptor();
    let (silent, is_silent) = oneshot::channel();
    let (at, served) = peer(async move |tcp| {
        let mut tls = acceptor.accept(tcp).await.unwrap();
        read_head(&mut tls).await;
        if answers {
            tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tls.flush().await.unwrap();
            assert_eq!(tls.read_u8().await.unwrap(), 22, "a TLS handshake record, inside TLS");
        }
        silent.send(()).unwrap();
        read_to_close(&mut tls).await
    })
    .await;
    let error = given_up(&pki.dialer(), &node(NodeKind::Https, at), &target, is_silent).await;
    served.await.expect("the socket is closed when the dial is dropped");
    error
}

#[tokio::test]
async fn while_an_https_node_is_asked_for_the_target() {
    let error = silent_inside_tls(target("example.com", 443), false).await;
    assert_eq!((error.stage, error.blame), (Stage::ProxyHandshake, None));
}

#[tokio::test]
async fn while_in_the_targets_tls_inside_the_nodes() {
    let error = silent_inside_tls(tls_target("example.com", 443), true).await;
    assert_eq!((error.stage, error.blame), (Stage::Tls, None));
}

#[tokio::test]
async fn a_dial_that_lost_or_was_cancelled_blames_nobody() {
    let (_listener, at) = listen().await;
    let node = node(NodeKind::Http, at);
    for fault in [Fault::LostRace, Fault::Cancelled] {
        let error = DialError::given_up(&node, &Progress::new(), fault);
        assert_eq!((error.fault, error.blame, error.err_kind()), (fault, None, "canceled"));
    }
}
