//! Nodes and platforms as one worker sees them: configuration, load, and idle connections that can be used again.
//!
//! Every worker has its own: nothing here is shared between threads, so choosing a node and taking a connection needs no lock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use handover_core::{Budget, Endpoints, Policy, TokenBucket};

use crate::conn::NodeConn;
use crate::dial::{DialNode, Host, Target};

/// The platform name of a request that was not routed.
pub(crate) fn no_platform() -> &'static Arc<str> {
    static NONE: OnceLock<Arc<str>> = OnceLock::new();
    NONE.get_or_init(|| Arc::from(""))
}

/// One node.
pub(crate) struct NodeState {
    pub(crate) tag: Arc<str>,
    pub(crate) hash: Arc<str>,
    pub(crate) dial: DialNode,
    /// Requests, tunnels and dials that this worker has on it now; shared with what it was renewed from.
    in_flight: Rc<Cell<u64>>,
    /// It keeps no idle connections any more.
    retired: Cell<bool>,
    idle: RefCell<Idle>,
}

/// Idle connections of one node. Empty stacks are not kept, so it is never larger than the connections it has.
#[derive(Default)]
struct Idle {
    /// Of a node that is the target.
    own: Stack,
    /// Through a node that carries, by target.
    through: HashMap<TargetKey, Stack>,
    /// How many there are, over all targets.
    count: usize,
}

/// Idle connections, the one used last on top.
#[allow(clippy::vec_box, reason = "a connection moves from hand to hand with every request, and is 800 bytes")]
type Stack = Vec<Box<NodeConn>>;

/// What an idle connection leads to: host, port, TLS.
type TargetKey = (Box<str>, u16, bool);

fn key(target: &Target) -> TargetKey {
    let host: Box<str> = match &target.host {
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string().into(),
    };
    (host, target.port, target.tls)
}

impl NodeState {
    pub(crate) fn new(tag: &str, hash: &str, dial: DialNode) -> Self {
        NodeState {
            tag: Arc::from(tag),
            hash: Arc::from(hash),
            dial,
            in_flight: Rc::default(),
            retired: Cell::new(false),
            idle: RefCell::default(),
        }
    }

    /// The same node with the same load, but without the connections that were opened before: neither those that are idle
    /// now nor those that requests still use, which come back to the old state.
    pub(crate) fn renewed(&self) -> Self {
        let fresh = NodeState::new(&self.tag, &self.hash, self.dial.clone());
        NodeState { in_flight: Rc::clone(&self.in_flight), ..fresh }
    }

    /// Takes the idle connection that was used last and is still alive; dead ones are dropped on the way.
    pub(crate) fn take_idle(&self, target: Option<&Target>, now: Instant, careful: bool) -> Option<Box<NodeConn>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut conn) = idle.pop(target) {
            if conn.is_reusable(now, careful) {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection for the next request. Where there are `most` already, over all targets, those that rested longest
    /// go: the latest is the likeliest to be asked for again, and to be alive then.
    pub(crate) fn put_idle(&self, target: Option<&Target>, mut conn: Box<NodeConn>, now: Instant, most: usize) {
        if self.retired.get() || most == 0 {
            return;
        }
        conn.rest(now);
        let mut idle = self.idle.borrow_mut();
        while idle.count >= most {
            idle.evict(now);
        }
        idle.push(target, conn);
    }

    /// Drops connections that are dead or have rested for `most`.
    pub(crate) fn sweep(&self, now: Instant, most: Duration) {
        self.idle.borrow_mut().retain(|conn| conn.rested(now) < most && conn.is_reusable(now, false));
    }

    /// Drops every idle connection, and keeps none from now on.
    pub(crate) fn clear(&self) {
        self.retired.set(true);
        self.idle.take();
    }
}

impl Idle {
    fn push(&mut self, target: Option<&Target>, conn: Box<NodeConn>) {
        self.count += 1;
        match target {
            None => self.own.push(conn),
            Some(target) => self.through.entry(key(target)).or_default().push(conn),
        }
    }

    fn pop(&mut self, target: Option<&Target>) -> Option<Box<NodeConn>> {
        let conn = match target {
            None => self.own.pop()?,
            Some(target) => {
                let Entry::Occupied(mut stack) = self.through.entry(key(target)) else { return None };
                let conn = stack.get_mut().pop()?;
                if stack.get().is_empty() {
                    stack.remove();
                }
                conn
            }
        };
        self.count -= 1;
        Some(conn)
    }

    /// Drops the connection that rested longest. It lies at the bottom of its stack, so one look at every target finds it:
    /// that costs less than an order over all of them that every request would have to keep up.
    fn evict(&mut self, now: Instant) {
        let longest = self.through.iter().max_by_key(|(_, stack)| stack[0].rested(now)).map(|(key, _)| key.clone());
        match longest {
            None => drop(self.own.remove(0)),
            Some(key) => {
                let Entry::Occupied(mut stack) = self.through.entry(key) else { unreachable!("it was just found") };
                stack.get_mut().remove(0);
                if stack.get().is_empty() {
                    stack.remove();
                }
            }
        }
        self.count -= 1;
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Box<NodeConn>) -> bool) {
        self.own.retain_mut(&mut keep);
        self.count = self.own.len();
        self.through.retain(|_, stack| {
            stack.retain_mut(&mut keep);
            self.count += stack.len();
            !stack.is_empty()
        });
    }
}

/// Counts as load on its node for as long as it lives.
pub(crate) struct InFlight(pub(crate) Rc<NodeState>);

impl InFlight {
    pub(crate) fn new(node: &Rc<NodeState>) -> Self {
        node.in_flight.set(node.in_flight.get() + 1);
        InFlight(Rc::clone(node))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// A named pool of nodes with one policy.
pub(crate) struct Platform {
    pub(crate) name: Arc<str>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) nodes: Vec<Rc<NodeState>>,
    /// Its nodes carry to any target; otherwise they are the target.
    pub(crate) carries: bool,
    /// Shared by all workers: atomics only.
    pub(crate) bucket: Option<Arc<TokenBucket>>,
}

impl Endpoints for Platform {
    fn count(&self) -> usize {
        self.nodes.len()
    }

    fn cost(&self, index: usize) -> u64 {
        self.nodes[index].in_flight.get()
    }
}

/// The platform's retry budget, as the core asks for it.
pub(crate) struct PlatformBudget<'a> {
    pub(crate) bucket: Option<&'a TokenBucket>,
    pub(crate) now: Duration,
}

impl Budget for PlatformBudget<'_> {
    fn try_take(&mut self) -> bool {
        self.bucket.is_none_or(|bucket| bucket.try_take_at(self.now))
    }
}

/// The address of a client, as logged and limited: an IPv4 client on an IPv6 socket is an IPv4 client.
pub(crate) fn client_ip(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::dial::{Dialer, Progress, TargetRules, TlsRoots};

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
        assert_eq!(
            (node.idle.borrow().count, node.idle.borrow().through.len()),
            (3, 2),
            "no stack without connections"
        );
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
}
