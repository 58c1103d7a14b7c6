//! `CONNECT` towards an HTTP proxy node: the request, and a reader of its answer that keeps every byte behind the head.
//!
//! The reader is its own because what comes behind the head belongs to the tunnel (a server may speak first), and because
//! a general HTTP parser would wait for a body that a 2xx answer to `CONNECT` never has (RFC 9110 §9.3.6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use handover_core::{Blame, Fault};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::cause::Cause;
use super::target::{Credentials, Target};

/// Longest head of an answer, its blank line included, and longest run of heads with 1xx ones before it. A proxy's answer to
/// `CONNECT` is some hundred bytes; 8 KiB is what servers of this field allow a request head. Smaller cuts off chatty nodes,
/// larger lets a hostile one hold more of this machine's memory.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Asks for the target and reads the answer; returns the bytes that came behind it, which belong to the tunnel.
///
/// Not cancel safe in the sense that the connection is of no use after it was dropped: close it.
pub(super) async fn connect<S>(io: &mut S, target: &Target, credentials: Option<&Credentials>) -> Result<Bytes, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(target, credentials);
    let written = async { io.write_all(request.as_bytes()).await.and(io.flush().await) };
    written.await.map_err(|error| Cause::io(&error, Some(Blame::Node), "before it read CONNECT"))?;
    let mut read = BytesMut::with_capacity(HEAD_BYTES_MAX);
    let mut heads = 0;
    loop {
        let end = read_head(io, &mut read, HEAD_BYTES_MAX - heads).await?;
        let head = Head::parse(&read[..end])?;
        read.advance(end);
        heads += end;
        match head.status {
            // 101 would switch to a protocol that was not asked for.
            100 | 102..=199 => {}
            200..=299 => return Ok(read.freeze()),
            _ => return Err(refusal(&head, credentials.is_some())),
        }
    }
}

fn request(target: &Target, credentials: Option<&Credentials>) -> String {
    let authorization = credentials.map_or_else(String::new, |Credentials { user, password }| {
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
    });
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
}

/// Reads until `read` begins with a whole head, and says where it ends.
async fn read_head<S>(io: &mut S, read: &mut BytesMut, bytes_max: usize) -> Result<usize, Cause>
where
    S: AsyncRead + Unpin,
{
    let mut lines = Lines::default();
    loop {
        if let Some(end) = lines.end_of_head(read)? {
            return Ok(end);
        }
        // Never more than one limit's worth is read: what is behind it stays in the socket.
        let room = bytes_max.saturating_sub(read.len());
        if room == 0 {
            return Err(node_protocol(format!("the answer's head is over {HEAD_BYTES_MAX} bytes")));
        }
        let got = io.read_buf(&mut read.limit(room)).await;
        let got = got.map_err(|error| Cause::io(&error, Some(Blame::Node), "before it answered CONNECT"))?;
        if got == 0 {
            return Err(Cause::closed(Some(Blame::Node), "before it answered CONNECT"));
        }
    }
}

/// Finds the blank line, looking at every byte once however they drip in.
#[derive(Default)]
struct Lines {
    line_start: usize,
    looked_at: usize,
}

impl Lines {
    fn end_of_head(&mut self, read: &[u8]) -> Result<Option<usize>, Cause> {
        // A peer that speaks another protocol may never send a line end: do not wait for it.
        if !read.iter().zip(b"HTTP/1.").all(|(is, should)| is == should) {
            return Err(node_protocol("the node does not speak HTTP/1 here"));
        }
        while let Some(at) = read[self.looked_at..].iter().position(|byte| *byte == b'\n') {
            let line_end = self.looked_at + at;
            self.looked_at = line_end + 1;
            let line = &read[self.line_start..line_end];
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(node_protocol("a line of the answer's head does not end in CRLF"));
            };
            if line.is_empty() {
                return Ok(Some(line_end + 1));
            }
            self.line_start = line_end + 1;
        }
        self.looked_at = read.len();
        Ok(None)
    }
}

/// What of an answer's head matters.
struct Head {
    status: u16,
    /// The status line behind the version, for the message.
    told: String,
    /// The values of `Proxy-Status` (RFC 9209), lower case.
    proxy_status: String,
}

impl Head {
    /// Parses a head with its blank line.
    fn parse(head: &[u8]) -> Result<Self, Cause> {
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = lines.next().unwrap_or_default();
        let status = status(first).ok_or_else(|| node_protocol("the answer's status line is malformed"))?;
        let told = String::from_utf8_lossy(first.get(9..).unwrap_or_default()).trim_end().to_owned();
        let mut proxy_status = String::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = field(line)?;
            if name.eq_ignore_ascii_case(b"proxy-status") {
                proxy_status.push_str(&String::from_utf8_lossy(value).to_ascii_lowercase());
                proxy_status.push(',');
            }
        }
        Ok(Self { status, told, proxy_status })
    }
}

/// `HTTP/1.x SP 3DIGIT [SP reason]` (RFC 9112 §4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [minor, b' ', digits @ ..] = rest else { return None };
    let (digits, reason) = digits.split_at_checked(3)?;
    let well_formed = minor.is_ascii_digit()
        && digits.iter().all(u8::is_ascii_digit)
        && reason.first().is_none_or(|byte| *byte == b' ');
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit.wrapping_sub(b'0')));
    (well_formed && status >= 100).then_some(status)
}

/// `name: value`; a name is a token, so folded lines and white space before the colon are malformed (RFC 9112 §5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Cause> {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(token) || value.iter().any(|byte| matches!(byte, 0 | b'\r')) {
        return Err(node_protocol("a header line of the answer is malformed"));
    }
    Ok((name, &value[1..]))
}

fn refusal(head: &Head, had_credentials: bool) -> Cause {
    let told = &head.told;
    match head.status {
        407 if had_credentials => proxy_auth(format!("the node refused the credentials: {told}")),
        407 => proxy_auth(format!("the node asks for credentials: {told}")),
        101 => node_protocol(format!("the node answered CONNECT with {told}")),
        status => {
            let blame = hinted(&head.proxy_status).unwrap_or_else(|| by_status(status));
            Cause::new(Fault::ProxyRefused, blame, "proxy_refused", format!("the node answered CONNECT with {told}"))
        }
    }
}

fn proxy_auth(message: String) -> Cause {
    Cause::new(Fault::ProxyAuth, Some(Blame::Node), "proxy_auth", message)
}

fn node_protocol(message: impl Into<Box<str>>) -> Cause {
    Cause::protocol(Some(Blame::Node), message)
}

/// `Proxy-Status: …; error=…` says what the node met (RFC 9209 §2.3); the next hop it speaks of is the target.
const TARGETS_FAULT: [&str; 11] = [
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "tls_certificate_error",
];

/// `None` without a hint; a hint of anything else than the target's fault speaks against the node.
fn hinted(proxy_status: &str) -> Option<Option<Blame>> {
    let parameters = proxy_status.split([';', ',']).filter_map(|part| part.trim().strip_prefix("error="));
    // The last entry is the proxy nearest to this machine (RFC 9209 §2), but the first is where it went wrong.
    let error = parameters.map(str::trim).next()?;
    Some(Some(if TARGETS_FAULT.contains(&error) { Blame::Target } else { Blame::Node }))
}

/// Without a hint the status is all there is: a gateway error is about what is behind the node, anything else but an
/// overload, which may be either's, is the node's own decision or trouble.
fn by_status(status: u16) -> Option<Blame> {
    match status {
        502 | 504 => Some(Blame::Target),
        503 => None,
        _ => Some(Blame::Node),
    }
}
