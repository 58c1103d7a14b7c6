//! Names that a proxy node resolves: the tests' own little DNS, so that nothing dials the internet.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Maps `host:port`, as asked of a node, to the address the node really dials. Clones share the map.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    names: Arc<Mutex<HashMap<String, SocketAddr>>>,
    everything: Option<SocketAddr>,
}

impl Directory {
    /// An empty one: only IP addresses resolve, to themselves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One in which every name is at `addr`.
    #[must_use]
    pub fn everything_at(addr: SocketAddr) -> Self {
        Self { everything: Some(addr), ..Self::default() }
    }

    /// Puts `name` (with its port, `example.test:443`) at `addr`.
    #[must_use]
    pub fn with(self, name: &str, addr: SocketAddr) -> Self {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), addr);
        self
    }

    /// Where `authority` is; `None` when the name is unknown.
    #[must_use]
    pub fn resolve(&self, authority: &str) -> Option<SocketAddr> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(authority).copied();
        known.or(self.everything).or_else(|| authority.parse().ok())
    }

    /// As [`resolve`](Self::resolve), from the parts.
    #[must_use]
    pub fn resolve_parts(&self, host: &str, port: u16) -> Option<SocketAddr> {
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => self.resolve(&format!("[{ip}]:{port}")),
            _ => self.resolve(&format!("{host}:{port}")),
        }
    }
}
