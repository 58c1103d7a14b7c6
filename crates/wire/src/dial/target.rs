//! Who is dialled: the target of a request, and the node that carries to it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest host name that DNS can carry, in bytes: 255 octets on the wire (RFC 1035 §2.3.4) less the length of the
/// first label and the root label. SOCKS5 could take 255; a name that DNS cannot carry reaches nothing there either.
const NAME_BYTES_MAX: usize = 253;

/// A host as a request or a config file names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, still to be resolved: by this machine for direct and origin nodes, else by the node.
    Name(Box<str>),
    /// An address; no resolving.
    Ip(IpAddr),
}

impl Host {
    /// Reads a host as it stands in an authority: a name, an IPv4 address or an IPv6 address, in brackets or without.
    ///
    /// Nothing is refused here: whether a name may be dialled is said by [`TargetRules`](super::TargetRules), and
    /// [`Host::is_sendable`] whether it may be written into a node's handshake.
    pub fn parse(text: &str) -> Self {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bracketed.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
            return Self::Ip(address.into());
        }
        text.parse::<IpAddr>().map_or_else(|_| Self::Name(text.into()), Self::Ip)
    }

    /// Whether this is an address or a plain host name: labels of letters, digits, `-` and `_`, at most 253 bytes.
    ///
    /// Anything else is never sent to a node: a line break would end the node's request line and begin a header of the
    /// client's choice, and a `%` or `:` lets the node's resolver read an address out of what looks like a name.
    pub fn is_sendable(&self) -> bool {
        let Self::Name(name) = self else { return true };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // A single dot at the end is the root; an empty label anywhere else is read differently by every resolver.
        let labels = name.strip_suffix('.').unwrap_or(name).split('.');
        name.len() <= NAME_BYTES_MAX && labels.into_iter().all(|label| !label.is_empty() && label.bytes().all(plain))
    }
}

/// As in an authority: IPv6 addresses in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// What a request wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its host.
    pub host: Host,
    /// Its TCP port.
    pub port: u16,
    /// Whether this gateway speaks TLS with the target, inside whatever the node carries; the host is the server name.
    pub tls: bool,
}

/// The authority, `host:port`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// This machine itself: the target is dialled without anything between.
    Direct,
    /// A proxy that takes `CONNECT` over plain TCP.
    Http,
    /// A proxy that takes `CONNECT` inside TLS.
    Https,
    /// A SOCKS5 proxy (RFC 1928) that resolves names itself.
    Socks5,
    /// The node is the target.
    Origin {
        /// Whether it is spoken to with TLS.
        tls: bool,
    },
}

impl NodeKind {
    /// The kind's word, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Origin { .. } => "origin",
        }
    }

    /// Whether nodes of this kind are the target, rather than carrying to any.
    pub fn is_origin(self) -> bool {
        matches!(self, Self::Origin { .. })
    }

    /// The scheme of its URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Origin { tls: true } => "https",
            Self::Origin { tls: false } => "http",
            carrying => carrying.as_str(),
        }
    }
}

/// User name and password for a node.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user: Box<str>,
    /// The password.
    pub password: Box<str>,
}

/// Shows the user name only: a debug print must not carry a password into a log.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What of a node is needed to dial through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialNode {
    /// The node's tag, for messages.
    pub tag: Box<str>,
    /// What it speaks.
    pub kind: NodeKind,
    /// Where it is; not looked at for [`NodeKind::Direct`].
    pub host: Host,
    /// Its TCP port; not looked at for [`NodeKind::Direct`].
    pub port: u16,
    /// What it is told if it asks who we are; only ever sent to this node.
    pub credentials: Option<Credentials>,
}

impl DialNode {
    /// A node of kind [`NodeKind::Direct`], which has no address of its own.
    pub fn direct(tag: &str) -> Self {
        let nowhere = Host::Ip(Ipv6Addr::UNSPECIFIED.into());
        Self { tag: tag.into(), kind: NodeKind::Direct, host: nowhere, port: 0, credentials: None }
    }
}
