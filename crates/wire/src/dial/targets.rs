//! Which targets a client may reach: the rules against server-side request forgery and against a gateway that calls itself.
//!
//! Two checks, because there are two moments. [`TargetRules::check_literal`] looks at the request before anything is dialled,
//! for every kind of node: addresses, and names that mean this machine or are addresses in disguise.
//! [`TargetRules::check_addr`] looks at the address a direct node is about to connect to, after the name was resolved, so
//! that a name which resolves to something else the second time gains nothing. A proxy node resolves names itself: there
//! the second check cannot be made here, and the node's own rules must do it.
//!
//! Private networks (RFC 1918, unique-local) are refused together with loopback unless `allow_private` is set: to a client
//! that may not reach this machine's loopback, the machine's neighbours are as foreign. The addresses in `own` (the
//! gateway's, unless private targets are allowed), multicast, and numbers that are not addresses in full (`127.1`,
//! `0x7f.1`) are refused always.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::target::{Host, Target};

/// What a client may reach through this gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetRules {
    /// Whether loopback, link-local and private addresses are let through.
    pub allow_private: bool,
    /// The addresses the gateway listens on, as bound: `0.0.0.0` stands for every address of this machine.
    pub own: Vec<SocketAddr>,
}

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// The gateway's own listening address: a request to it would go round in circles.
    OwnAddress,
    /// This machine: `127.0.0.0/8`, `::1`, `0.0.0.0/8`, `::`, `localhost` and names below it.
    Loopback,
    /// `169.254.0.0/16` (also where clouds keep their instance secrets) and `fe80::/10`.
    LinkLocal,
    /// RFC 1918, `100.64.0.0/10`, `fc00::/7` and the old site-local `fec0::/10`.
    Private,
    /// Multicast, broadcast and addresses reserved by IANA: no TCP peer has one.
    NotUnicast,
    /// A number that is not an address written in full, such as `127.1`, `0x7f.1` or `2130706433`: resolvers differ on it.
    NumericName,
    /// Not a host name: empty, too long, or with a byte that no host name has.
    BadName,
}

impl Denied {
    /// What is wrong, for the client and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnAddress => "the target is this gateway itself",
            Self::Loopback => "the target is a loopback address (allow_private_targets lets it through)",
            Self::LinkLocal => "the target is a link-local address (allow_private_targets lets it through)",
            Self::Private => "the target is a private address (allow_private_targets lets it through)",
            Self::NotUnicast => "the target is not a unicast address",
            Self::NumericName => "the target is a number that is not an address in full",
            Self::BadName => "the target is not a host name",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Denied {}

impl TargetRules {
    /// Whether a request may name this target at all, through any kind of node; nothing is resolved.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_literal(&self, target: &Target) -> Result<(), Denied> {
        let name = match &target.host {
            Host::Ip(address) => return self.check_addr(SocketAddr::new(*address, target.port)),
            Host::Name(name) if !target.host.is_sendable() => {
                return Err(if ends_in_number(name) { Denied::NumericName } else { Denied::BadName });
            }
            Host::Name(name) => name.strip_suffix('.').unwrap_or(name),
        };
        if ends_in_number(name) {
            return Err(Denied::NumericName);
        }
        if !is_localhost(name) {
            return Ok(());
        }
        // `localhost` is both; a gateway that listens on either is meant.
        let [v4, v6] = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        self.check_addr(SocketAddr::new(v4, target.port))?;
        self.check_addr(SocketAddr::new(v6, target.port))
    }

    /// Whether this address may be connected to for a client.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_addr(&self, address: SocketAddr) -> Result<(), Denied> {
        let ip = reached(address.ip());
        if self.own.iter().any(|own| is_own(*own, ip, address.port())) {
            return Err(Denied::OwnAddress);
        }
        match class(ip) {
            None => Ok(()),
            Some(Denied::NotUnicast) => Err(Denied::NotUnicast),
            Some(_) if self.allow_private => Ok(()),
            Some(denied) => Err(denied),
        }
    }
}

/// Whether a connection to `ip` and `port` would come out at a socket bound to `own`.
fn is_own(own: SocketAddr, ip: IpAddr, port: u16) -> bool {
    if own.port() != port {
        return false;
    }
    let own_ip = reached(own.ip());
    // Connecting to the unspecified address connects to this machine's loopback.
    let ip_is = |loopback: IpAddr| own_ip == loopback && ip.is_unspecified();
    own_ip == ip
        || ip_is(Ipv4Addr::LOCALHOST.into())
        || ip_is(Ipv6Addr::LOCALHOST.into())
        || (own_ip.is_unspecified() && is_local(ip))
}

/// Whether the address is one of this machine's: only such can be bound. Loopback and unspecified need no system call.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// The address a connection ends at: an IPv6 address that only wraps an IPv4 address is that IPv4 address.
///
/// Mapped (`::ffff:0:0/96`), compatible (`::/96`), NAT64 (`64:ff9b::/96`) and 6to4 (`2002::/16`).
fn reached(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let parts = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

fn class(ip: IpAddr) -> Option<Denied> {
    match ip {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

/// Ranges of the IANA IPv4 special-purpose registry that lead into this machine or its networks, or nowhere.
/// `198.18.0.0/15` is not among them: resolvers on client machines hand it out as stand-ins for real names.
fn class_v4(ip: Ipv4Addr) -> Option<Denied> {
    match ip.octets() {
        [0 | 127, ..] => Some(Denied::Loopback),
        [169, 254, ..] => Some(Denied::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Denied::Private),
        [192, 0, 0, _] | [224..=255, ..] => Some(Denied::NotUnicast),
        _ => None,
    }
}

fn class_v6(ip: Ipv6Addr) -> Option<Denied> {
    let first = ip.segments()[0];
    match first {
        _ if ip.is_loopback() || ip.is_unspecified() => Some(Denied::Loopback),
        0xfe80..=0xfebf => Some(Denied::LinkLocal),
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Some(Denied::Private),
        0xff00..=0xffff => Some(Denied::NotUnicast),
        // NAT64 of a local operator (RFC 8215): it leads into the operator's own networks.
        0x64 if ip.segments()[1] == 0xff9b && ip.segments()[2] == 1 => Some(Denied::Private),
        _ => None,
    }
}

/// RFC 6761 §6.3: `localhost` and every name below it mean this machine.
fn is_localhost(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// Whether the last label is a decimal or hexadecimal number. No top-level domain is one, but many resolvers read such a
/// text as an IPv4 address, each in its own way (the URL Standard's IPv4 parser takes the same sign).
fn ends_in_number(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hex = hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}
