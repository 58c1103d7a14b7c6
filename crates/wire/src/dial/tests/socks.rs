//! SOCKS5 through a node.

use handover_core::{Blame, Fault, Stage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::kit::{dial, listen, node, peer, read_to_close, reset, rest_of, target, told, with_credentials};
use crate::dial::{DialError, DialNode, Dialled, NodeKind};

const NODE: Option<Blame> = Some(Blame::Node);
const TARGET: Option<Blame> = Some(Blame::Target);

/// What the client of `user:pw` says for `example.com:443`, and what it is answered, in turns.
const TURNS: [(&[u8], &[u8]); 3] = [
    (b"\x05\x02\x00\x02", b"\x05\x02"),
    (b"\x01\x04user\x02pw", b"\x01\x00"),
    (b"\x05\x01\x00\x03\x0bexample.com\x01\xbb", b"\x05\x00\x00\x03\x04node\x1f\x90"),
];

/// Plays the node's side, and stops after so many bytes of its own.
async fn play(tcp: &mut TcpStream, turns: &[(&[u8], &[u8])], mut bytes: usize) {
    for (heard, said) in turns {
        let mut read = vec![0; heard.len()];
        tcp.read_exact(&mut read).await.unwrap();
        assert_eq!(read, *heard);
        let told = &said[..said.len().min(bytes)];
        tcp.write_all(told).await.unwrap();
        bytes -= told.len();
        if told.len() < said.len() {
            return;
        }
    }
}

fn user(node: DialNode) -> DialNode {
    with_credentials(node, "user", "pw")
}

/// The answers to a client without credentials; each reply is sent as soon as the turn's question was heard.
async fn answered(method: &'static [u8], reply: &'static [u8]) -> Result<Dialled, DialError> {
    let (at, _served) = peer(async move |mut tcp| {
        tcp.read_exact(&mut [0; 3]).await.unwrap();
        tcp.write_all(method).await.unwrap();
        if method == b"\x05\x00" {
            tcp.read_exact(&mut [0; 18]).await.unwrap();
            tcp.write_all(reply).await.unwrap();
        }
        read_to_close(&mut tcp).await;
    })
    .await;
    dial(&node(NodeKind::Socks5, at), &target("example.com", 443)).await
}

#[tokio::test]
async fn the_name_is_resolved_by_the_node_and_every_byte_is_as_in_the_rfc() {
    let (at, served) = peer(async |mut tcp| play(&mut tcp, &TURNS, usize::MAX).await).await;
    dial(&user(node(NodeKind::Socks5, at)), &target("example.com", 443)).await.unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn addresses_are_sent_as_addresses() {
    for (host, request) in [
        ("192.0.2.7", b"\x05\x01\x00\x01\xc0\x00\x02\x07\x1f\x90".as_slice()),
        ("2001:db8::1", b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1f\x90"),
    ] {
        let (at, served) = peer(async move |mut tcp| {
            let reply = b"\x05\x00\x00\x01\0\0\0\0\0\0".as_slice();
            play(&mut tcp, &[(b"\x05\x01\x00", b"\x05\x00"), (request, reply)], usize::MAX).await;
        })
        .await;
        dial(&node(NodeKind::Socks5, at), &target(host, 8080)).await.unwrap();
        served.await.unwrap();
    }
}

#[tokio::test]
async fn not_one_byte_behind_the_reply_is_read() {
    for reply in [
        b"\x05\x00\x00\x01\0\0\0\0\0\0HELLO".as_slice(),
        b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0HELLO",
        b"\x05\x00\x00\x03\x00\0\0HELLO",
        b"\x05\x00\x00\x03\x04node\0\0HELLO",
    ] {
        let (at, _served) = peer(async move |mut tcp| {
            tcp.read_exact(&mut [0; 3]).await.unwrap();
            tcp.write_all(b"\x05\x00").await.unwrap();
            tcp.read_exact(&mut [0; 18]).await.unwrap();
            tcp.write_all(reply).await.unwrap();
        })
        .await;
        let dialled = dial(&node(NodeKind::Socks5, at), &target("example.com", 443)).await.unwrap();
        assert_eq!(dialled.early, "");
        assert_eq!(rest_of(dialled).await, "HELLO");
    }
}

#[tokio::test]
async fn a_node_that_offers_no_authentication_is_not_told_the_credentials() {
    let (at, served) = peer(async |mut tcp| {
        let turns: [(&[u8], &[u8]); 2] = [(b"\x05\x02\x00\x02", b"\x05\x00"), (TURNS[2].0, TURNS[2].1)];
        play(&mut tcp, &turns, usize::MAX).await;
    })
    .await;
    dial(&user(node(NodeKind::Socks5, at)), &target("example.com", 443)).await.unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn every_reply_has_its_fault_and_whom_it_speaks_against() {
    for (reply, fault, blame, kind) in [
        (b"\x05\x01\x00\x01", Fault::ProxyRefused, NODE, "proxy_refused"),
        (b"\x05\x02\x00\x01", Fault::ProxyRefused, TARGET, "proxy_refused"),
        (b"\x05\x03\x00\x01", Fault::Unreachable, NODE, "network_unreachable"),
        (b"\x05\x04\x00\x01", Fault::Unreachable, TARGET, "host_unreachable"),
        (b"\x05\x05\x00\x01", Fault::Refused, TARGET, "connection_refused"),
        (b"\x05\x06\x00\x01", Fault::Unreachable, None, "host_unreachable"),
        (b"\x05\x07\x00\x01", Fault::ProxyRefused, NODE, "proxy_refused"),
        (b"\x05\x08\x00\x01", Fault::ProxyRefused, NODE, "proxy_refused"),
        (b"\x05\x09\x00\x01", Fault::ProxyRefused, NODE, "proxy_refused"),
        (b"\x05\xff\x00\x01", Fault::ProxyRefused, NODE, "proxy_refused"),
    ] {
        // Only the first four bytes: a refusal is told without waiting for an address nobody needs.
        let error = answered(b"\x05\x00", reply).await.unwrap_err();
        assert_eq!(told(&error), (Stage::ProxyHandshake, fault, blame), "{error}");
        assert_eq!(error.err_kind(), kind);
        assert!(error.message.contains(&format!("reply {}", reply[1])), "{error}");
        assert_eq!(error.errno, None, "the node's word is not this machine's error");
    }
}

#[tokio::test]
async fn what_is_not_socks5_is_a_protocol_fault() {
    for (method, reply) in [
        (b"HT".as_slice(), b"".as_slice()),
        (b"\x04\x00", b""),
        (b"\x05\x01", b""),
        (b"\x05\x02", b""),
        (b"\x05\x00", b"\x04\x00\x00\x01\0\0\0\0\0\0"),
        (b"\x05\x00", b"\x05\x00\x00\x02\0\0\0\0\0\0"),
    ] {
        let error = answered(method, reply).await.unwrap_err();
        assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Protocol, NODE), "{method:?} {reply:?}: {error}");
    }
}

#[tokio::test]
async fn credentials_that_are_missing_or_wrong_are_proxy_auth() {
    let error = answered(b"\x05\xff", b"").await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::ProxyAuth, NODE));
    assert!(error.message.contains("asks for credentials"), "{error}");

    let (at, _served) = peer(async |mut tcp| {
        play(&mut tcp, &[TURNS[0], (TURNS[1].0, b"\x01\x01")], usize::MAX).await;
        read_to_close(&mut tcp).await;
    })
    .await;
    let error = dial(&user(node(NodeKind::Socks5, at)), &target("example.com", 443)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::ProxyAuth, NODE));
    assert!(error.message.contains("refused the credentials"), "{error}");
}

#[tokio::test]
async fn credentials_too_long_for_the_protocol_are_our_fault_and_not_sent() {
    let (at, served) = peer(async |mut tcp| read_to_close(&mut tcp).await).await;
    let node = with_credentials(node(NodeKind::Socks5, at), "user", &"x".repeat(256));
    let error = dial(&node, &target("example.com", 443)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::ProxyAuth, Some(Blame::Local)));
    assert_eq!(served.await.unwrap(), b"");
}

#[tokio::test]
async fn a_name_too_long_for_the_protocol_is_refused_before_the_node_is_dialled() {
    let (listener, at) = listen().await;
    let error = dial(&node(NodeKind::Socks5, at), &target(&"a".repeat(256), 443)).await.unwrap_err();
    assert_eq!(error.blame, Some(Blame::Client));
    let nobody_came = tokio::select! { biased; _ = listener.accept() => false, () = tokio::task::yield_now() => true };
    assert!(nobody_came);
}

#[tokio::test]
async fn a_node_that_closes_after_any_byte_of_its_replies_has_closed() {
    let whole: usize = TURNS.iter().map(|(_, said)| said.len()).sum();
    for bytes in 0..=whole {
        let (at, served) = peer(async move |mut tcp| play(&mut tcp, &TURNS, bytes).await).await;
        let ended = dial(&user(node(NodeKind::Socks5, at)), &target("example.com", 443)).await;
        served.await.unwrap();
        if bytes == whole {
            ended.expect("the whole reply is enough");
        } else {
            let error = ended.unwrap_err();
            assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Closed, NODE), "after {bytes} bytes: {error}");
        }
    }
}

#[tokio::test]
async fn a_node_that_resets_after_any_byte_of_its_replies_has_reset() {
    let whole: usize = TURNS.iter().map(|(_, said)| said.len()).sum();
    for bytes in 0..whole {
        let (at, _served) = peer(async move |mut tcp| {
            play(&mut tcp, &TURNS, bytes).await;
            reset(tcp);
        })
        .await;
        let error = dial(&user(node(NodeKind::Socks5, at)), &target("example.com", 443)).await.unwrap_err();
        assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Reset, NODE), "after {bytes} bytes: {error}");
    }
}
