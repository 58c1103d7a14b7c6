//! Idle connections of a node, on real sockets.

use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use handover_wire::dial::{Dialer, Progress, TargetRules, TlsRoots};

const LONG: Duration = Duration::from_secs(60);

fn node() -> NodeState {
    NodeState::new("a", "hash", DialNode::direct("a"))
}

fn target(host: &str) -> Target {
    Target { host: Host::parse(host), port: 80, tls: false }
}

/// Connections to a listener, and their far ends.
struct Peer(TcpListener);

impl Peer {
    async fn new() -> Self {
        Peer(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    async fn connect(&self) -> (Box<NodeConn>, TcpStream) {
        let at = self.0.local_addr().unwrap();
        let (rules, progress) = (TargetRules { allow_private: true, own: Vec::new() }, Progress::new());
        let to = Target { host: Host::Ip(at.ip()), port: at.port(), tls: false };
        let (node, dialer) = (DialNode::direct("a"), Dialer::new(TlsRoots::only(Vec::new())));
        let (dialled, accepted) = tokio::join!(dialer.dial(&node, &to, &rules, &progress), self.0.accept());
        let (far, near) = accepted.unwrap();
        // Its own end tells it from the others.
        let conn = NodeConn::start(dialled.unwrap().io, near, LONG).await;
        (conn.unwrap_or_else(|error| panic!("{}", error.text)), far)
    }
}

/// Puts a connection for each of the targets, a second apart; gives them by their addresses, and their far ends.
async fn filled(node: &NodeState, targets: &[&Target], begun: Instant, most: usize) -> (Vec<u16>, Vec<TcpStream>) {
    let (peer, mut ports, mut far_ends) = (Peer::new().await, Vec::new(), Vec::new());
    for (target, second) in targets.iter().zip(0..) {
        let (conn, far) = peer.connect().await;
        ports.push(conn.peer.port());
        far_ends.push(far);
        node.put_idle(Some(target), conn, begun + Duration::from_secs(second), most);
    }
    (ports, far_ends)
}

/// Waits until the event loop has heard that the connection cannot be used.
async fn known_dead(conn: &mut NodeConn) {
    while conn.is_reusable(Instant::now(), true) {
        tokio::task::yield_now().await;
    }
}

fn taken(node: &NodeState, target: &Target, now: Instant) -> Option<u16> {
    node.take_idle(Some(target), now, false).map(|conn| conn.peer.port())
}

#[tokio::test]
async fn the_connection_used_last_is_used_next_and_only_for_its_own_target() {
    let (node, now) = (node(), Instant::now());
    let (a, b) = (target("a.test"), target("b.test"));
    let (ports, _far) = filled(&node, &[&a, &a, &b], now, 9).await;
    let tls = Target { tls: true, ..target("a.test") };
    let other_port = Target { port: 81, ..target("a.test") };
    for other in [&tls, &other_port] {
        assert_eq!(taken(&node, other, now), None, "{other}");
    }
    assert_eq!(node.take_idle(None, now, false).map(|conn| conn.peer), None);
    assert_eq!([taken(&node, &a, now), taken(&node, &a, now)], [Some(ports[1]), Some(ports[0])]);
    assert_eq!([taken(&node, &a, now), taken(&node, &b, now)], [None, Some(ports[2])]);
    assert_eq!(node.idle.borrow().count, 0);
}

#[tokio::test]
async fn a_connection_whose_peer_has_closed_or_spoken_is_not_used_again() {
    let (node, now, peer) = (node(), Instant::now(), Peer::new().await);
    let (alive, _far) = peer.connect().await;
    let (mut closed, closing) = peer.connect().await;
    let (mut spoken, mut speaking) = peer.connect().await;
    let port = alive.peer.port();
    drop(closing);
    speaking.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    for conn in [&mut closed, &mut spoken] {
        known_dead(conn).await;
    }
    for conn in [alive, closed, spoken] {
        node.put_idle(None, conn, now, 9);
    }
    assert_eq!(node.take_idle(None, now, false).map(|conn| conn.peer.port()), Some(port));
    assert_eq!(node.idle.borrow().count, 0, "the dead ones are gone");
}

#[tokio::test]
async fn a_sweep_drops_what_rested_too_long_and_what_is_dead() {
    let (node, begun) = (node(), Instant::now());
    let (a, b) = (target("a.test"), target("b.test"));
    let (ports, _far) = filled(&node, &[&a, &b, &b], begun, 9).await;
    let (mut dead, far) = Peer::new().await.connect().await;
    drop(far);
    known_dead(&mut dead).await;
    let now = begun + Duration::from_secs(11);
    node.put_idle(Some(&b), dead, now, 9);
    node.sweep(now, Duration::from_secs(10));
    assert_eq!((node.idle.borrow().count, node.idle.borrow().through.len()), (1, 1), "the third is left");
    assert_eq!([taken(&node, &b, now), taken(&node, &a, now)], [Some(ports[2]), None]);
}

#[tokio::test]
async fn beyond_the_most_over_all_targets_those_go_that_rested_longest() {
    let (node, begun) = (node(), Instant::now());
    let (a, b, c) = (target("a.test"), target("b.test"), target("c.test"));
    let (ports, _far) = filled(&node, &[&a, &b, &b, &c, &b], begun, 3).await;
    assert_eq!((node.idle.borrow().count, node.idle.borrow().through.len()), (3, 2), "no stack without connections");
    let now = begun + LONG;
    assert_eq!(taken(&node, &a, now), None);
    assert_eq!([taken(&node, &b, now), taken(&node, &b, now)], [Some(ports[4]), Some(ports[2])]);
    assert_eq!([taken(&node, &b, now), taken(&node, &c, now)], [None, Some(ports[3])]);
}

#[tokio::test]
async fn a_node_that_is_the_target_keeps_its_latest_too_and_none_if_none_are_to_be_kept() {
    let (node, now, peer) = (node(), Instant::now(), Peer::new().await);
    let ((first, _first), (second, _second), (third, _third)) =
        (peer.connect().await, peer.connect().await, peer.connect().await);
    let latest = third.peer;
    for conn in [first, second, third] {
        node.put_idle(None, conn, now, 1);
    }
    assert_eq!(node.take_idle(None, now, false).map(|conn| conn.peer), Some(latest));
    assert!(node.take_idle(None, now, false).is_none());
    let (conn, _far) = peer.connect().await;
    node.put_idle(None, conn, now, 0);
    assert!(node.take_idle(None, now, false).is_none(), "a most of 0 keeps none");
}

#[tokio::test]
async fn a_renewed_node_has_the_load_of_the_old_one_which_keeps_no_connection_any_more() {
    let (old, now, a) = (Rc::new(node()), Instant::now(), target("a.test"));
    let (_ports, _far) = filled(&old, &[&a], now, 9).await;
    let running = InFlight::new(&old);
    let new = Rc::new(old.renewed());
    old.clear();
    let (_ports, _far) = filled(&old, &[&a], now, 9).await;
    assert_eq!([taken(&old, &a, now), taken(&new, &a, now)], [None, None]);
    assert_eq!(new.in_flight.get(), 1);
    drop(running);
    assert_eq!(new.in_flight.get(), 0);
}

#[test]
fn a_node_costs_what_is_in_flight_on_it() {
    let nodes = vec![Rc::new(node()), Rc::new(node())];
    let policy = Arc::new(Policy::default());
    let platform = Platform { name: Arc::clone(no_platform()), policy, nodes, carries: true, bucket: None };
    let (one, two) = (InFlight::new(&platform.nodes[1]), InFlight::new(&platform.nodes[1]));
    assert_eq!((platform.count(), platform.cost(0), platform.cost(1)), (2, 0, 2));
    drop(one);
    assert_eq!(platform.cost(1), 1);
    drop(two);
    assert_eq!(platform.cost(1), 0);
}
