//! Direct and origin nodes: resolving, racing addresses, the rules on what is really dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use handover_core::{Blame, Fault, Stage};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::kit::{
    dial, dial_with, listen, node, open_rules, peer, plain_dialer, read_to_close, refusing, rest_of, swallowing,
    target, told,
};
use crate::dial::cause::{Cause, errno_name};
use crate::dial::tcp::{ADDRESSES_MAX, Resolver, connect, interleave, not_itself};
use crate::dial::{Denied, DialNode, Dialer, Host, NodeKind, Progress, TargetRules};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn direct() -> DialNode {
    DialNode::direct("direct")
}

/// A dialer for which `name.example` has these addresses.
fn knowing(addresses: &[IpAddr]) -> Dialer {
    Dialer { resolver: Resolver::Fixed(vec![("name.example", addresses.to_vec())]), ..plain_dialer() }
}

#[tokio::test]
async fn a_direct_dial_reaches_the_target_with_small_writes_undelayed() {
    let (at, _served) = peer(async |mut tcp| tcp.write_all(b"HELLO").await.unwrap()).await;
    let dialled = dial(&direct(), &target("127.0.0.1", at.port())).await.unwrap();
    assert_eq!((dialled.peer, dialled.early.len(), dialled.io.written_raw()), (at, 0, 0));
    assert!(dialled.io.tcp().nodelay().unwrap());
    assert_eq!(rest_of(dialled).await, "HELLO");
}

#[tokio::test]
async fn an_origin_node_is_dialled_itself_whatever_the_target() {
    let (at, _served) = peer(async |mut tcp| read_to_close(&mut tcp).await).await;
    let node = node(NodeKind::Origin { tls: false }, at);
    let (rules, progress) = (TargetRules::default(), Progress::new());
    let dialled = plain_dialer().dial(&node, &target("elsewhere.example", 1), &rules, &progress).await.unwrap();
    assert_eq!(dialled.peer, at, "no target rule applies to what the operator configured");
}

#[tokio::test]
async fn the_system_resolver_knows_localhost() {
    let (at, _served) = peer(async |mut tcp| read_to_close(&mut tcp).await).await;
    let dialled = dial(&direct(), &target("localhost", at.port())).await.unwrap();
    assert_eq!(dialled.peer.port(), at.port());
}

#[tokio::test]
async fn a_name_that_no_resolver_can_answer_is_dns_and_blames_nobody_when_direct() {
    // A label of 64 bytes cannot be asked for (RFC 1035 §2.3.4), so the answer needs no network.
    let name = "a".repeat(64);
    let error = dial(&direct(), &target(&name, 80)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::Resolve, Fault::Dns, None));
    assert_eq!((error.err_kind(), error.peer), ("dns_error", None));
    assert!(error.to_string().starts_with("direct: resolve: aaaa"), "{error}");

    let host = Host::Name(name.into());
    let node = DialNode { host, ..node(NodeKind::Http, SocketAddr::new(LOOPBACK, 1)) };
    let error = dial(&node, &target("example.com", 80)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::Resolve, Fault::Dns, Some(Blame::Node)));
}

#[tokio::test]
async fn a_refusal_blames_who_was_dialled_and_names_every_layer() {
    let (_held, at) = refusing(LOOPBACK);
    let error = dial(&direct(), &target("127.0.0.1", at.port())).await.unwrap_err();
    assert_eq!(told(&error), (Stage::Dial, Fault::Refused, Some(Blame::Target)));
    for kind in [NodeKind::Http, NodeKind::Https, NodeKind::Socks5, NodeKind::Origin { tls: true }] {
        let error = dial(&node(kind, at), &target("example.com", 443)).await.unwrap_err();
        assert_eq!(told(&error), (Stage::Dial, Fault::Refused, Some(Blame::Node)));
        assert_eq!(error.to_string(), format!("eu-2 ({at}): dial: connection refused"));
        assert_eq!((error.err_kind(), error.errno_name().as_deref()), ("connection_refused", Some("ECONNREFUSED")));
    }
}

#[tokio::test]
async fn when_no_address_answers_the_error_of_the_one_that_came_closest_is_told() {
    let (_held, at) = refusing(LOOPBACK);
    // No TCP connection to the broadcast address exists: the kernel says so without sending anything.
    let nowhere = SocketAddr::new(Ipv4Addr::BROADCAST.into(), at.port());
    let unreachable = connect(vec![nowhere], Some(Blame::Node), &Progress::new()).await.unwrap_err();
    assert_eq!((unreachable.fault, unreachable.kind), (Fault::Unreachable, "network_unreachable"));
    let progress = Progress::new();
    let cause = connect(vec![nowhere, at], Some(Blame::Node), &progress).await.unwrap_err();
    assert_eq!((cause.fault, progress.peer()), (Fault::Refused, Some(at)));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_swallows_packets_costs_250_ms_and_not_the_time_limit() {
    let (_held, silent) = swallowing(LOOPBACK);
    let (_listener, live) = listen().await;
    let (began, progress) = (Instant::now(), Progress::new());
    let (_tcp, reached) = connect(vec![silent, live], None, &progress).await.unwrap();
    assert_eq!((reached, progress.peer()), (live, Some(live)));
    // The clock is paused: it only moves when nothing but the stagger is left to wait for.
    assert_eq!(began.elapsed().as_millis(), 250);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_refuses_costs_no_time_at_all() {
    let (_held, dead) = refusing(LOOPBACK);
    let (_listener, live) = listen().await;
    let began = Instant::now();
    let (_tcp, reached) = connect(vec![dead, live], None, &Progress::new()).await.unwrap();
    assert_eq!((reached, began.elapsed()), (live, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_name_with_hundreds_of_addresses_is_not_tried_at_hundreds() {
    let (_held, dead) = refusing(LOOPBACK);
    let (_listener, live) = listen().await;
    let behind = |count: usize| [vec![dead; count], vec![live]].concat();
    connect(behind(ADDRESSES_MAX - 1), None, &Progress::new()).await.expect("the last one that is tried");
    let cause = connect(behind(ADDRESSES_MAX), None, &Progress::new()).await.unwrap_err();
    assert_eq!(cause.fault, Fault::Refused);
}

#[test]
fn address_families_take_turns_beginning_with_the_resolvers_first() {
    let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
    let (a4, b4, a6, b6, c6) =
        (at("192.0.2.1"), at("192.0.2.2"), at("2001:db8::1"), at("2001:db8::2"), at("2001:db8::3"));
    assert_eq!(interleave(vec![a6, b6, c6, a4, b4]), [a6, a4, b6, b4, c6]);
    assert_eq!(interleave(vec![a4, a6, b6, c6]), [a4, a6, b6, c6]);
    assert_eq!(interleave(vec![a4, b4]), [a4, b4]);
}

#[tokio::test]
async fn a_socket_that_met_itself_counts_as_refused() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(LOOPBACK, 0)).unwrap();
    let own = socket.local_addr().unwrap();
    let tcp = socket.connect(own).await.expect("the kernel connects it to itself");
    assert_eq!(not_itself(&tcp, own).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_name_that_resolves_to_what_is_denied_is_denied_though_it_looked_well() {
    let (listener, at) = listen().await;
    let wanted = target("name.example", at.port());
    let rules = TargetRules::default();
    assert_eq!(rules.check_literal(&wanted), Ok(()));
    let error = knowing(&[LOOPBACK]).dial(&direct(), &wanted, &rules, &Progress::new()).await.unwrap_err();
    assert_eq!((error.denied, error.blame), (Some(Denied::Loopback), Some(Blame::Client)));
    assert_eq!((error.err_kind(), error.peer), ("target_denied", None));
    let nobody_came = tokio::select! { biased; _ = listener.accept() => false, () = tokio::task::yield_now() => true };
    assert!(nobody_came);
}

#[tokio::test]
async fn of_a_names_addresses_only_those_that_are_allowed_are_dialled() {
    let (listener, at) = listen().await;
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let rules = TargetRules { own: vec![at], ..open_rules() };
    let wanted = target("name.example", at.port());
    // 127.0.0.1 is the gateway's own; 127.0.0.9 is dialled, where nobody listens.
    let error = knowing(&[LOOPBACK, other]).dial(&direct(), &wanted, &rules, &Progress::new()).await.unwrap_err();
    assert_eq!((error.denied, error.fault, error.peer.map(|peer| peer.ip())), (None, Fault::Refused, Some(other)));
    let nobody_came = tokio::select! { biased; _ = listener.accept() => false, () = tokio::task::yield_now() => true };
    assert!(nobody_came);
}

#[tokio::test]
async fn a_name_without_addresses_is_dns() {
    let error = dial_with(&knowing(&[]), &direct(), &target("name.example", 80)).await.unwrap_err();
    assert_eq!(told(&error), (Stage::Resolve, Fault::Dns, None));
}

#[test]
fn every_error_number_has_its_fault_its_blame_and_its_name() {
    use rustix::io::Errno;
    let (node, local) = (Some(Blame::Node), Some(Blame::Local));
    for (errno, fault, blame, kind, name) in [
        (Errno::CONNREFUSED, Fault::Refused, node, "connection_refused", "ECONNREFUSED"),
        (Errno::CONNRESET, Fault::Reset, node, "connection_reset", "ECONNRESET"),
        (Errno::CONNABORTED, Fault::Reset, node, "connection_aborted", "ECONNABORTED"),
        (Errno::PIPE, Fault::Reset, node, "broken_pipe", "EPIPE"),
        (Errno::TIMEDOUT, Fault::Timeout, node, "timeout", "ETIMEDOUT"),
        (Errno::NETUNREACH, Fault::Unreachable, node, "network_unreachable", "ENETUNREACH"),
        (Errno::HOSTUNREACH, Fault::Unreachable, node, "host_unreachable", "EHOSTUNREACH"),
        (Errno::HOSTDOWN, Fault::Unreachable, node, "network_unreachable", "ERRNO_"),
        (Errno::MFILE, Fault::Local, local, "dial_error", "ERRNO_"),
        (Errno::NFILE, Fault::Local, local, "dial_error", "ERRNO_"),
        (Errno::ADDRNOTAVAIL, Fault::Local, local, "dial_error", "ERRNO_"),
        (Errno::NOMEM, Fault::Local, local, "dial_error", "ERRNO_"),
        (Errno::NOBUFS, Fault::Local, local, "dial_error", "ERRNO_"),
        (Errno::ACCESS, Fault::Local, local, "dial_error", "ERRNO_"),
        (Errno::XDEV, Fault::Local, local, "dial_error", "ERRNO_"),
    ] {
        let cause = Cause::io(&errno.into(), node, "in a test");
        assert_eq!(
            (cause.fault, cause.blame, cause.kind, cause.errno),
            (fault, blame, kind, Some(errno.raw_os_error()))
        );
        let expected = if name == "ERRNO_" { format!("ERRNO_{}", errno.raw_os_error()) } else { name.to_owned() };
        assert_eq!(errno_name(errno.raw_os_error()), expected);
    }
}

#[test]
fn an_error_without_a_number_keeps_its_meaning() {
    let fault = |kind: io::ErrorKind| Cause::io(&kind.into(), None, "in a test").fault;
    assert_eq!(fault(io::ErrorKind::ConnectionReset), Fault::Reset);
    assert_eq!(fault(io::ErrorKind::UnexpectedEof), Fault::Closed);
    assert_eq!(fault(io::ErrorKind::InvalidData), Fault::Protocol);
}
