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
/// All that is wrong and what is allowed.
pub fn parse_node_url(text: &str) -> Result<NodeConfig, NodeUrlError> {
    let mut problems = Problems::new(NODE_FORM);
    let (rest, tag) = split_tag(text, &mut problems)?;
    if rest.eq_ignore_ascii_case("direct") {
        return problems.or(NodeConfig::new(NodeKind::Direct, String::new(), 0, None, tag));
    }
    let Some((scheme, rest)) = split_scheme(rest) else { return Err(problems.and("not a URL")) };
    let kind = match scheme.as_str() {
        "https" => NodeKind::Https,
        "socks5" | "socks5h" => NodeKind::Socks5,
        other => {
            problems.note_if(other != "http", "unknown scheme");
            NodeKind::Http
        }
    };
    let (userinfo, authority) = split_userinfo(rest);
    let credentials = userinfo.and_then(|text| problems.take(credentials(kind, text)));
    let (host, port) = split_authority(authority, &mut problems)?;
    problems.note_if(port == Port::None, "the port is missing");
    problems.or(NodeConfig::new(kind, host, port.or(0), credentials, tag))
}

/// Reads `http|https://host[:port][#tag]` of a node that is the target; the port is 80 or 443 unless it is given.
///
/// # Errors
/// All that is wrong and what is allowed.
pub fn parse_origin_url(text: &str) -> Result<NodeConfig, NodeUrlError> {
    let mut problems = Problems::new(ORIGIN_FORM);
    let (rest, tag) = split_tag(text, &mut problems)?;
    let Some((scheme, rest)) = split_scheme(rest) else { return Err(problems.and("not a URL")) };
    let (tls, default_port) = if scheme == "https" { (true, 443) } else { (false, 80) };
    match scheme.as_str() {
        "http" | "https" => {}
        "socks5" | "socks5h" => {
            problems
                .note_if(true, "an origin is http or https; a socks5 proxy carries to origins, and --node takes it");
        }
        _ => problems.note_if(true, "unknown scheme: an origin is http or https"),
    }
    let (userinfo, authority) = split_userinfo(rest);
    problems.note_if(userinfo.is_some(), "an origin takes no user and password");
    let (host, port) = split_authority(authority, &mut problems)?;
    problems.or(NodeConfig::new(NodeKind::Origin { tls }, host, port.or(default_port), None, tag))
}

/// The tag that a URL gives, also when all the rest of it is wrong.
pub(super) fn tag_of(text: &str) -> Option<String> {
    let (_, tag) = text.split_once('#')?;
    percent_decoded(tag).filter(|tag| is_tag(tag) && !tag.contains('@'))
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

/// What is wrong with a URL, gathered part by part: who corrects one part should not meet the next at the next start.
struct Problems {
    form: &'static str,
    found: Vec<String>,
    /// Whether some problem is one of form, which is then said; rules say themselves what is allowed.
    of_form: bool,
}

impl Problems {
    fn new(form: &'static str) -> Self {
        Self { form, found: Vec::new(), of_form: false }
    }

    fn note_if(&mut self, wrong: bool, what: &str) {
        if wrong {
            self.found.push(what.into());
            self.of_form = true;
        }
    }

    /// Keeps the rule that was broken, or gives the value.
    fn take<T>(&mut self, part: Result<T, String>) -> Option<T> {
        part.map_err(|rule| self.found.push(rule)).ok()
    }

    /// All problems with one behind which nothing can be told apart.
    fn and(&mut self, what: &str) -> NodeUrlError {
        self.note_if(true, what);
        self.error()
    }

    fn or(self, node: NodeConfig) -> Result<NodeConfig, NodeUrlError> {
        if self.found.is_empty() { Ok(node) } else { Err(self.error()) }
    }

    fn error(&self) -> NodeUrlError {
        let found = self.found.join("; ");
        NodeUrlError(if self.of_form { format!("{found}; allowed: {}", self.form) } else { found })
    }
}

fn split_tag<'a>(text: &'a str, problems: &mut Problems) -> Result<(&'a str, Option<String>), NodeUrlError> {
    // The first `#`, as in RFC 3986 §3.5: in a password it has to be written %23.
    let Some((rest, tag)) = text.split_once('#') else { return Ok((text, None)) };
    if tag.contains('@') {
        return Err(NodeUrlError("a # in user or password is written %23, an @ in the tag %40".into()));
    }
    let tag = percent_decoded(tag).filter(|tag| is_tag(tag)).ok_or_else(|| format!("{TAG_RULE}, % is written %25"));
    Ok((rest, problems.take(tag)))
}

fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    Some((scheme.to_ascii_lowercase(), rest))
}

fn split_userinfo(rest: &str) -> (Option<&str>, &str) {
    match rest.rsplit_once('@') {
        Some((userinfo, authority)) => (Some(userinfo), authority),
        None => (None, rest),
    }
}

fn credentials(kind: NodeKind, userinfo: &str) -> Result<Credentials, String> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let part = |text: &str| {
        let decoded = percent_decoded(text).filter(|text| !text.chars().any(char::is_control));
        decoded.filter(|text| text.len() <= CREDENTIAL_BYTES_MAX).ok_or_else(|| {
            "user and password have at most 255 bytes each, no control characters, and % is written %25".to_owned()
        })
    };
    let (user, password) = (part(user)?, part(password)?);
    if user.is_empty() && kind == NodeKind::Socks5 {
        return Err("a SOCKS5 user name is not empty (RFC 1929)".into());
    }
    if user.contains(':') && kind != NodeKind::Socks5 {
        return Err("a colon cannot be part of a user name in HTTP (RFC 7617 §2)".into());
    }
    Ok(Credentials { user, password })
}

/// The port of a URL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    None,
    Broken,
    Given(u16),
}

impl Port {
    fn or(self, default: u16) -> u16 {
        if let Self::Given(port) = self { port } else { default }
    }
}

/// Host and port; the host is empty if it is noted as wrong.
fn split_authority(text: &str, problems: &mut Problems) -> Result<(String, Port), NodeUrlError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let end = text.find(['/', '?']).unwrap_or(text.len());
    problems.note_if(end < text.len(), "a node has no path and no query");
    let text = &text[..end];
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return Err(problems.and("the ] is missing")) };
        let address: Option<Ipv6Addr> = address.parse().ok();
        problems.note_if(address.is_none(), "not an IPv6 address in the brackets");
        let port = rest.strip_prefix(':');
        if port.is_none() && !rest.is_empty() {
            return Err(problems.and("only a port may follow the ]"));
        }
        (address.map(|address| address.to_string()), port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err(problems.and("more than one colon (an IPv6 address stands in brackets)"));
        }
        let host = host_name(host);
        problems.note_if(host.is_none(), "not a host name or address");
        (host, port)
    };
    let port = port.map_or(Port::None, |text| parse_port(text).map_or(Port::Broken, Port::Given));
    problems.note_if(port == Port::Broken, "a port is 1 to 65535");
    Ok((host.unwrap_or_default(), port))
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
