//! `CONNECT` through an HTTP node.

use handover_core::{Blame, Fault, Stage};
use tokio::io::AsyncWriteExt as _;

use super::kit::{dial, listen, node, peer, read_head, read_to_close, reset, rest_of, target, told, with_credentials};
use crate::dial::{DialError, DialNode, Dialled, NodeKind};

const BUSY: Option<Blame> = None;
const NODE: Option<Blame> = Some(Blame::Node);
const TARGET: Option<Blame> = Some(Blame::Target);

/// A node that answers CONNECT with these bytes in one write, and then waits for the close.
async fn answered(answer: impl Into<Vec<u8>>) -> Result<Dialled, DialError> {
    dial_answering(answer, |node| node).await
}

async fn dial_answering(
    answer: impl Into<Vec<u8>>,
    change: impl FnOnce(DialNode) -> DialNode,
) -> Result<Dialled, DialError> {
    let answer = answer.into();
    let (at, _served) = peer(async move |mut tcp| {
        read_head(&mut tcp).await;
        tcp.write_all(&answer).await.unwrap();
        read_to_close(&mut tcp).await;
    })
    .await;
    dial(&change(node(NodeKind::Http, at)), &target("example.com", 443)).await
}

async fn asked_for(host: &str, port: u16, change: impl FnOnce(DialNode) -> DialNode) -> String {
    let (at, asked) = peer(async move |mut tcp| {
        let head = read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        head
    })
    .await;
    dial(&change(node(NodeKind::Http, at)), &target(host, port)).await.unwrap();
    asked.await.unwrap()
}

#[tokio::test]
async fn the_target_is_asked_for_by_connect_with_its_authority() {
    for (host, authority) in
        [("example.com", "example.com"), ("192.0.2.7", "192.0.2.7"), ("2001:db8::1", "[2001:db8::1]")]
    {
        let asked = asked_for(host, 8443, |node| node).await;
        assert_eq!(asked, format!("CONNECT {authority}:8443 HTTP/1.1\r\nHost: {authority}:8443\r\n\r\n"));
    }
}

#[tokio::test]
async fn credentials_go_to_the_node_as_basic() {
    let asked = asked_for("example.com", 80, |node| with_credentials(node, "Aladdin", "open:sesame")).await;
    assert!(asked.ends_with("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ==\r\n\r\n"), "{asked}");
}

#[tokio::test]
async fn any_2xx_opens_the_tunnel_and_its_length_fields_mean_nothing() {
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\nHELLO",
        "HTTP/1.0 200\r\n\r\nHELLO",
        "HTTP/1.1 204 No Content\r\nX: y\r\n\r\nHELLO",
        "HTTP/1.1 299 \r\n\r\nHELLO",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHELLO",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHELLO",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nHELLO",
    ] {
        let dialled = answered(answer).await.unwrap();
        assert_eq!(dialled.early, "HELLO", "{answer}");
        assert!(dialled.io.into_tcp().is_ok());
    }
}

#[tokio::test]
async fn every_byte_behind_the_head_is_kept_in_order() {
    let sent: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &sent].concat();
    let (at, _served) = peer(async move |mut tcp| {
        read_head(&mut tcp).await;
        tcp.write_all(&answer).await.unwrap();
    })
    .await;
    let dialled = dial(&node(NodeKind::Http, at), &target("example.com", 443)).await.unwrap();
    assert!(dialled.early.len() <= 8192, "no more than one head's limit is read ahead");
    assert_eq!(rest_of(dialled).await, sent);
}

#[tokio::test]
async fn a_head_that_drips_byte_by_byte_is_read_whole() {
    let (at, _served) = peer(async |mut tcp| {
        read_head(&mut tcp).await;
        for byte in b"HTTP/1.1 200 OK\r\nVia: 1.1 slow\r\n\r\nHELLO" {
            tcp.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let dialled = dial(&node(NodeKind::Http, at), &target("example.com", 443)).await.unwrap();
    assert_eq!(rest_of(dialled).await, "HELLO");
}

#[tokio::test]
async fn a_head_may_have_8192_bytes_and_not_one_more() {
    let head = |bytes: usize| {
        let (start, end) = ("HTTP/1.1 200 OK\r\nX: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    assert_eq!(answered(head(8192)).await.unwrap().early, "");
    let error = answered(head(8193)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Protocol, NODE));
    assert!(error.message.contains("over 8192 bytes"), "{error}");
}

#[tokio::test]
async fn informational_heads_share_the_limit_of_one() {
    let error = answered("HTTP/1.1 100 Continue\r\n\r\n".repeat(400)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Protocol, NODE));
}

#[tokio::test]
async fn a_refusal_names_its_status_and_blames_by_what_it_says() {
    for (answer, blame) in [
        ("403 Forbidden", NODE),
        ("405 Method Not Allowed", NODE),
        ("500 Oops", NODE),
        ("301 Moved", NODE),
        ("502 Bad Gateway", TARGET),
        ("504 Gateway Timeout", TARGET),
        ("503 Service Unavailable", BUSY),
        ("503 Busy\r\nProxy-Status: eu2; error=connection_refused", TARGET),
        ("502 Bad\r\nproxy-status: eu2;error=proxy_internal_error;details=\"x\"", NODE),
        ("502 Bad\r\nProxy-Status: far; error=dns_error, near; error=http_protocol_error", TARGET),
        ("500 Bad\r\nProxy-Status: far\r\nProxy-Status: near; Error=Connection_Timeout", TARGET),
        ("502 Bad\r\nProxy-Status: eu2", TARGET),
    ] {
        let error = answered(format!("HTTP/1.1 {answer}\r\n\r\n")).await.unwrap_err();
        assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::ProxyRefused, blame), "{answer}");
        assert_eq!(error.err_kind(), "proxy_refused");
        assert!(error.message.contains(answer.lines().next().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_407_is_the_nodes_and_says_whether_credentials_were_given() {
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
    let error = answered(answer).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::ProxyAuth, NODE));
    assert!(error.message.contains("asks for credentials"), "{error}");
    let error = dial_answering(answer, |node| with_credentials(node, "u", "p")).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::ProxyAuth, NODE));
    assert!(error.message.contains("refused the credentials"), "{error}");
}

#[tokio::test]
async fn what_is_not_an_http_answer_is_a_protocol_fault_without_waiting_for_more() {
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\x16\x03\x01",
        "HTTP/2",
        "HTTP/1.1 200 OK\nX: y\n\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.x 200 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let error = answered(answer).await.unwrap_err();
        assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Protocol, NODE), "{answer:?}: {error}");
        assert_eq!(error.err_kind(), "protocol_error");
    }
}

#[tokio::test]
async fn a_node_that_closes_after_any_byte_of_its_head_has_closed() {
    let answer = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n";
    let (listener, at) = listen().await;
    let served = tokio::spawn(async move {
        for bytes in 0..=answer.len() {
            let (mut tcp, _) = listener.accept().await.unwrap();
            read_head(&mut tcp).await;
            tcp.write_all(&answer[..bytes]).await.unwrap();
        }
    });
    for bytes in 0..answer.len() {
        let error = dial(&node(NodeKind::Http, at), &target("example.com", 443)).await.unwrap_err();
        assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Closed, NODE), "after {bytes} bytes: {error}");
        assert_eq!((error.err_kind(), error.errno, error.peer), ("eof", None, Some(at)));
    }
    dial(&node(NodeKind::Http, at), &target("example.com", 443)).await.expect("the whole head is enough");
    served.await.unwrap();
}

#[tokio::test]
async fn a_node_that_resets_is_told_from_one_that_closes() {
    let (at, _served) = peer(async |mut tcp| {
        read_head(&mut tcp).await;
        reset(tcp);
    })
    .await;
    let error = dial(&node(NodeKind::Http, at), &target("example.com", 443)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::ProxyHandshake, Fault::Reset, NODE));
    assert_eq!((error.err_kind(), error.errno_name().as_deref()), ("connection_reset", Some("ECONNRESET")));
}

#[tokio::test]
async fn a_host_that_would_end_the_request_line_is_never_sent() {
    let (listener, at) = listen().await;
    for host in ["a\r\nX: y", "a b", "", "a..b", ".a", "a/b", "fe80::1%eth0", "ä.example", &"a".repeat(254)] {
        let error = dial(&node(NodeKind::Http, at), &target(host, 80)).await.unwrap_err();
        assert_eq!((error.fault, error.blame), (Fault::Unreachable, Some(Blame::Client)), "{host:?}");
        assert!(error.denied.is_some());
    }
    let nobody_came = tokio::select! { biased; _ = listener.accept() => false, () = tokio::task::yield_now() => true };
    assert!(nobody_came);
}

#[tokio::test]
async fn what_a_node_says_cannot_forge_a_line_of_the_log_or_fill_it() {
    let long = "\u{1b}[31mred ".repeat(300);
    let error = answered(format!("HTTP/1.1 500 {long}\r\n\r\n")).await.unwrap_err();
    assert!(!error.to_string().chars().any(char::is_control), "{error}");
    assert!(error.message.len() <= 512);
}
