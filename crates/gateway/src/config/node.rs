//! Nodes: how they are spoken to and where they are.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

pub use handover_wire::dial::NodeKind;

/// A user name and password for a node. `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name, percent-decoded.
    pub user: String,
    /// The password, percent-decoded; may be empty.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name, unique among the nodes.
    pub tag: String,
    /// How it is spoken to.
    pub kind: NodeKind,
    /// Lower-case name or address, without brackets; empty for [`NodeKind::Direct`].
    pub host: String,
    /// Its port; 0 for [`NodeKind::Direct`].
    pub port: u16,
    /// What it asks for.
    pub credentials: Option<Credentials>,
    /// 32 hexadecimal digits that stand for kind, address and credentials, not for the tag: the same in every start.
    ///
    /// Credentials are part of it because providers put the session into them: two nodes that differ only there leave from
    /// different addresses. It is one-way, but a short password can be guessed from it, so it belongs to those who may
    /// read the request log.
    pub hash: String,
}

impl NodeConfig {
    /// A node; without a tag it gets one of kind and address.
    pub(super) fn new(
        kind: NodeKind,
        host: String,
        port: u16,
        credentials: Option<Credentials>,
        tag: Option<String>,
    ) -> Self {
        let hash = hash_of(kind, &host, port, credentials.as_ref());
        let mut node = Self { tag: tag.unwrap_or_default(), kind, host, port, credentials, hash };
        if node.tag.is_empty() {
            node.tag = match kind {
                NodeKind::Direct => "direct".into(),
                _ => format!("{}-{}", kind.as_str(), node.authority()),
            };
        }
        node
    }

    /// `host:port`, an IPv6 address in brackets; empty for [`NodeKind::Direct`].
    pub fn authority(&self) -> String {
        match self.kind {
            NodeKind::Direct => String::new(),
            _ if self.host.contains(':') => format!("[{}]:{}", self.host, self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether the node is at `listen` itself, as far as its URL tells: an address, or `localhost`. No name is looked up.
    pub(super) fn is_at(&self, listen: SocketAddr) -> bool {
        if self.kind == NodeKind::Direct || listen.port() == 0 || self.port != listen.port() {
            return false;
        }
        let own = listen.ip().to_canonical();
        match self.host.parse::<IpAddr>() {
            // Dialling the address of no host reaches this one, and listening on it is listening on every address.
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip == own || (own.is_unspecified() && ip.is_loopback()) || (ip.is_unspecified() && own.is_loopback())
            }
            Err(_) => self.host == "localhost" && (own.is_loopback() || own.is_unspecified()),
        }
    }

    /// The node's URL with `***` for user and password.
    pub fn url_shown(&self) -> String {
        match self.kind {
            NodeKind::Direct => "direct".into(),
            kind => {
                let hidden = if self.credentials.is_some() { "***@" } else { "" };
                format!("{}://{hidden}{}", kind.scheme(), self.authority())
            }
        }
    }
}

/// Length-prefixed parts, so that no two different nodes give the same bytes.
fn hash_of(kind: NodeKind, host: &str, port: u16, credentials: Option<&Credentials>) -> String {
    let (user, password) = credentials.map_or(("", ""), |both| (&both.user, &both.password));
    let role = if kind.is_origin() { "origin" } else { "carrying" };
    let has = if credentials.is_some() { "credentials" } else { "none" };
    let mut digest = Sha256::new();
    for part in ["handover node 1", role, kind.scheme(), host, &port.to_string(), has, user, password] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    // 128 bits: no two of any number of nodes that fits into a memory meet by chance.
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{parse_node_url, parse_origin_url};

    fn hash(url: &str) -> String {
        parse_node_url(url).unwrap().hash
    }

    #[test]
    fn hash_is_the_same_in_every_start_and_does_not_know_the_tag() {
        // Computed apart from this code: SHA-256 over the length-prefixed parts, first 16 bytes.
        assert_eq!(hash("socks5://u:p@127.0.0.1:1080"), "b4a109a44aeab35029bc37a2a5b3e20a");
        assert_eq!(hash("direct"), "f7bd671adf93829d2656f0d2f8ba4a73");
        assert_eq!(hash("socks5://u:p@127.0.0.1:1080#a"), hash("socks5://u:p@127.0.0.1:1080#b"));
    }

    #[test]
    fn hash_differs_for_every_part_of_a_node() {
        let urls = [
            "http://h:1",
            "https://h:1",
            "http://i:1",
            "http://h:2",
            "http://u@h:1",
            "http://u:p@h:1",
            "http://up:@h:1",
        ];
        let mut hashes: Vec<_> = urls.iter().map(|url| hash(url)).collect();
        hashes.push(parse_origin_url("http://h:1").unwrap().hash);
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), urls.len() + 1);
        assert!(hashes.iter().all(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn credentials_are_hidden_wherever_a_node_is_shown() {
        let node = parse_node_url("http://anna:geheim@h:1").unwrap();
        let shown = format!("{node:?} {} {}", node.url_shown(), node.tag);
        assert!(!shown.contains("geheim") && !shown.contains("anna"), "{shown}");
        assert_eq!(node.url_shown(), "http://***@h:1");
    }
}
