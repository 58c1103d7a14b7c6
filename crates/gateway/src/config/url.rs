//! Reads the URLs of nodes.
//!
//! Written here rather than taken from a URL crate: only scheme, credentials, host, port and tag can occur, anything else is
//! an error with a remedy, and no error may repeat the credentials, however the URL is broken.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Credentials, NodeConfig, NodeKind};

/// Why a text is not the URL of a node. Never contains the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUrlError(String);

impl fmt::Display for NodeUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NodeUrlError {}

/// The form of a carrying node's URL.
const NODE_FORM: &str = "direct or http|https|socks5://[user:password@]host:port[#tag]";
/// The form of an origin's URL.
const ORIGIN_FORM: &str = "http|https://host[:port][#tag]";

/// Length of a DNS name without its trailing dot, RFC 1035 §2.3.4; SOCKS5 cannot carry more than 255 either.
const HOST_BYTES_MAX: usize = 253;
/// Lengths of user name and password in RFC 1929 have one octet each.
const CREDENTIAL_BYTES_MAX: usize = 255;
/// A tag is a name in every row of the log: long enough for any name, short enough not to fill it.
const TAG_BYTES_MAX: usize = 128;

/// Reads `direct` or `http|https|socks5://[user:password@]host:port[#tag]`; `socks5h` is read as `socks5`, for that is how
/// this gateway speaks it.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_node_url(text: &str) -> Result<NodeConfig, NodeUrlError> {
    let (rest, tag) = split_tag(text)?;
    if rest.eq_ignore_ascii_case("direct") {
        return Ok(NodeConfig::new(NodeKind::Direct, String::new(), 0, None, tag));
    }
    let (scheme, rest) = split_scheme(rest, NODE_FORM)?;
    let kind = match scheme.as_str() {
        "http" => NodeKind::Http,
        "https" => NodeKind::Https,
        "socks5" | "socks5h" => NodeKind::Socks5,
        _ => return Err(wrong("unknown scheme", NODE_FORM)),
    };
    let (userinfo, authority) = split_userinfo(rest);
    let credentials = userinfo.map(|text| credentials(kind, text)).transpose()?;
    let (host, port) = split_authority(authority, NODE_FORM)?;
    let port = port.ok_or_else(|| wrong("the port is missing", NODE_FORM))?;
    Ok(NodeConfig::new(kind, host, port, credentials, tag))
}

/// Reads `http|https://host[:port][#tag]` of a node that is the target; the port is 80 or 443 unless it is given.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn parse_origin_url(text: &str) -> Result<NodeConfig, NodeUrlError> {
    let (rest, tag) = split_tag(text)?;
    let (scheme, rest) = split_scheme(rest, ORIGIN_FORM)?;
    let (tls, default_port) = match scheme.as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(wrong("unknown scheme", ORIGIN_FORM)),
    };
    let (userinfo, authority) = split_userinfo(rest);
    if userinfo.is_some() {
        return Err(wrong("an origin takes no user and password", ORIGIN_FORM));
    }
    let (host, port) = split_authority(authority, ORIGIN_FORM)?;
    Ok(NodeConfig::new(NodeKind::Origin { tls }, host, port.unwrap_or(default_port), None, tag))
}

/// A URL, or any other text, as it may be shown: what may be credentials in it is replaced by `***`.
///
/// Works on broken URLs too. With an `@` all before the last one is hidden; without one everything behind the first colon
/// of the authority is, unless it is a port.
pub(super) fn without_credentials(text: &str) -> String {
    let (scheme, rest) = text.find("://").map_or(("", text), |at| text.split_at(at + 3));
    if let Some((_, address)) = rest.rsplit_once('@') {
        return format!("{scheme}***@{address}");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].split_once(':') {
        Some((host, port)) if !scheme.is_empty() && !rest.starts_with('[') && !is_digits(port) => {
            format!("{scheme}{host}:***")
        }
        _ => text.to_owned(),
    }
}

/// The rule for the tag of a node, in words.
pub(super) const TAG_RULE: &str = "a tag has 1 to 128 bytes and no control characters";

/// Whether a text may be the tag of a node.
pub(super) fn is_tag(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= TAG_BYTES_MAX && !text.chars().any(char::is_control)
}

fn wrong(what: &str, form: &str) -> NodeUrlError {
    NodeUrlError(format!("{what}; allowed: {form}"))
}

fn split_tag(text: &str) -> Result<(&str, Option<String>), NodeUrlError> {
    // The first `#`, as in RFC 3986 §3.5: in a password it has to be written %23.
    let Some((rest, tag)) = text.split_once('#') else { return Ok((text, None)) };
    if tag.contains('@') {
        return Err(NodeUrlError("a # in user or password is written %23, an @ in the tag %40".into()));
    }
    let tag = percent_decoded(tag)
        .filter(|tag| is_tag(tag))
        .ok_or_else(|| NodeUrlError(format!("{TAG_RULE}, % is written %25")))?;
    Ok((rest, Some(tag)))
}

fn split_scheme<'a>(text: &'a str, form: &str) -> Result<(String, &'a str), NodeUrlError> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("not a URL", form))?;
    Ok((scheme.to_ascii_lowercase(), rest))
}

fn split_userinfo(rest: &str) -> (Option<&str>, &str) {
    match rest.rsplit_once('@') {
        Some((userinfo, authority)) => (Some(userinfo), authority),
        None => (None, rest),
    }
}

fn credentials(kind: NodeKind, userinfo: &str) -> Result<Credentials, NodeUrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let part = |text: &str| {
        let decoded = percent_decoded(text).filter(|text| !text.chars().any(char::is_control));
        decoded.filter(|text| text.len() <= CREDENTIAL_BYTES_MAX).ok_or_else(|| {
            let rule = "user and password have at most 255 bytes each, no control characters, and % is written %25";
            NodeUrlError(rule.into())
        })
    };
    let (user, password) = (part(user)?, part(password)?);
    if user.is_empty() && kind == NodeKind::Socks5 {
        return Err(NodeUrlError("a SOCKS5 user name is not empty (RFC 1929)".into()));
    }
    if user.contains(':') && kind != NodeKind::Socks5 {
        return Err(NodeUrlError("a colon cannot be part of a user name in HTTP (RFC 7617 §2)".into()));
    }
    Ok(Credentials { user, password })
}

fn split_authority(text: &str, form: &str) -> Result<(String, Option<u16>), NodeUrlError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?']) {
        return Err(wrong("a node has no path and no query", form));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(|| wrong("the ] is missing", form))?;
        let address: Ipv6Addr = address.parse().map_err(|_| wrong("not an IPv6 address in the brackets", form))?;
        let port = rest.strip_prefix(':');
        if port.is_none() && !rest.is_empty() {
            return Err(wrong("only a port may follow the ]", form));
        }
        (address.to_string(), port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err(wrong("more than one colon (an IPv6 address stands in brackets)", form));
        }
        (host_name(host).ok_or_else(|| wrong("not a host name or address", form))?, port)
    };
    let port = port.map(|text| parse_port(text).ok_or_else(|| wrong("a port is 1 to 65535", form))).transpose()?;
    Ok((host, port))
}

fn parse_port(text: &str) -> Option<u16> {
    // Rust's own parser takes a plus sign.
    if !is_digits(text) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A host name or IPv4 address in lower case without the root's trailing dot, if it is one. Names in other scripts are
/// written in their ASCII form (`xn--…`), so that what is shown is what is resolved.
pub(super) fn host_name(text: &str) -> Option<String> {
    let host = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.len() > HOST_BYTES_MAX || !host.split('.').all(label) {
        return None;
    }
    // `127.1` and `256.1.1.1` look like addresses and are none: what a resolver makes of them depends on the system.
    let numeric = host.rsplit('.').next().is_some_and(is_digits);
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    Some(host.to_ascii_lowercase())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'%' => {
                let value = digit(rest.next())? * 16 + digit(rest.next())?;
                bytes.push(u8::try_from(value).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}
