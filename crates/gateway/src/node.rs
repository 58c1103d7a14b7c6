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

use crate::body::NodeConn;
use handover_wire::dial::{DialNode, Host, Target};

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
mod tests;
