//! Nodes: where they are and how they are spoken to, from URLs.

use std::fmt;

/// How a node is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// The gateway dials the target itself.
    Direct,
    /// An HTTP proxy.
    Http,
    /// An HTTP proxy behind TLS.
    Https,
    /// A SOCKS5 proxy; it resolves names.
    Socks5,
    /// The node is the target.
    Origin {
        /// Whether it is spoken to over TLS.
        tls: bool,
    },
}

/// A user name and password for a node. `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name, percent-decoded.
    pub user: String,
    /// The password, percent-decoded; may be empty.
    pub password: String,
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
    pub hash: String,
}

impl NodeConfig {
    /// The node's URL without its password.
    pub fn url_shown(&self) -> String {
        String::new()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// Why a text is not the URL of a node. Never contains the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUrlError(pub(super) String);

impl fmt::Display for NodeUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NodeUrlError {}

/// Reads `direct` or `http|https|socks5://[user:password@]host:port[#tag]`.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_node_url(text: &str) -> Result<NodeConfig, NodeUrlError> {
    Err(NodeUrlError(text.into()))
}

/// Reads `http|https://host[:port][#tag]` of a node that is the target.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_origin_url(text: &str) -> Result<NodeConfig, NodeUrlError> {
    Err(NodeUrlError(text.into()))
}
