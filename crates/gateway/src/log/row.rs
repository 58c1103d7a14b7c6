//! What the data path hands to the log: one [`Row`] per request, with one [`AttemptDetail`] per attempt.
//!
//! The strings are owned copies on purpose: a slice of the request head would keep the connection's whole read buffer
//! alive until the batch is handed over, and the connection would have to allocate another one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use handover_core::{Fault, Policy, Record, Stage};

use super::RequestId;

/// The longest message kept of an attempt, in bytes: the length Resin keeps, enough for a nested error of a TLS library.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// Where the documentation of Rust libraries is: rustls names a page there behind what it has to say of a connection that
/// ended without close_notify. It tells the one who builds the gateway, and nobody who reads a log.
const DOCUMENTATION: &str = "https://docs.rs/";

/// The way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Absolute-form: the gateway is the client's forward proxy.
    Forward,
    /// A tunnel.
    Connect,
    /// The target is in the path, or a route or origin node decides it.
    Reverse,
}

impl Door {
    /// The word used in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Connect => "connect",
            Self::Reverse => "reverse",
        }
    }
}

/// One finished request.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its identity, which holds its start.
    pub id: RequestId,
    /// The way it came in.
    pub door: Door,
    /// Who sent it.
    pub client: IpAddr,
    /// The platform that served it; empty if none was chosen.
    pub platform: Arc<str>,
    /// The account it was sent for; empty if none.
    pub account: Box<str>,
    /// Host, with the port where it is not the scheme's own.
    pub target_host: Box<str>,
    /// The whole URL, without credentials and without the reverse form's token; empty for CONNECT.
    pub target_url: Box<str>,
    /// The method.
    pub http_method: http::Method,
    /// The status the client got; 0 if it got none.
    pub http_status: u16,
    /// From the request's head to the end of the response or tunnel.
    pub duration: Duration,
    /// Whether the network did its part; a status that the target chose does not make it false.
    pub net_ok: bool,
    /// The `X-Handover-Error` code of a response that the gateway itself made.
    pub error: Option<&'static str>,
    /// Bytes from upstream to the client, heads included.
    pub ingress_bytes: u64,
    /// Bytes from the client to upstream, heads included.
    pub egress_bytes: u64,
    /// The policy the decisions were taken by. Share one `Arc` between requests: the log knows it again by its address.
    pub policy: Arc<Policy>,
    /// What was decided, enough to decide it again.
    pub record: Record,
    /// What the network showed of each attempt, in the order of `record`'s attempts.
    pub attempts: Attempts,
}

/// What the network showed of one attempt. The decision that followed is in the [`Record`].
#[derive(Clone, Debug)]
pub struct AttemptDetail {
    /// The node's tag.
    pub node_tag: Arc<str>,
    /// The node's hash: the same node under another tag has the same hash.
    pub node_hash: Arc<str>,
    /// The address that was dialled, if it came so far.
    pub address: Option<SocketAddr>,
    /// How far the attempt got.
    pub stage: Stage,
    /// What went wrong, also after the response head.
    pub fault: Option<Fault>,
    /// The system's error number.
    pub errno: Option<i32>,
    /// The error in words; [`AttemptDetail::message`] makes it short enough.
    pub message: Option<Box<str>>,
    /// Bytes of the request written to the raw socket, below TLS.
    pub written_bytes: u64,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// When it began, since the request's start.
    pub started: Duration,
    /// How long it took, to the end of the response where it had one.
    pub duration: Duration,
}

impl AttemptDetail {
    /// `text` with each run of white space as one space, without addresses of a library's documentation, cut to
    /// [`MESSAGE_BYTES_MAX`] bytes at a character's border.
    pub fn message(text: &str) -> Box<str> {
        let mut short = String::with_capacity(text.len().min(MESSAGE_BYTES_MAX));
        let mut is_address_last = false;
        for word in text.split_whitespace() {
            let before = word.find(DOCUMENTATION).map(|at| word[..at].trim_end_matches(['(', '[', '<', '`']));
            is_address_last = before.is_some();
            let word = before.unwrap_or(word);
            if word.is_empty() {
                continue;
            }
            if !short.is_empty() {
                short.push(' ');
            }
            short.push_str(word);
            if short.len() > MESSAGE_BYTES_MAX {
                let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| short.is_char_boundary(*end));
                short.truncate(end.expect("0 is always a border"));
                break;
            }
        }
        if is_address_last {
            // What announced the address: `…: https://…`.
            short.truncate(short.trim_end_matches([':', ',', ' ']).len());
        }
        short.into_boxed_str()
    }
}

/// The attempts of a request, the first one inline: a request that succeeds at once allocates nothing for them.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    first: Option<AttemptDetail>,
    more: Vec<AttemptDetail>,
}

impl Attempts {
    /// Adds one at the end.
    pub fn push(&mut self, attempt: AttemptDetail) {
        if self.first.is_none() {
            self.first = Some(attempt);
        } else {
            self.more.push(attempt);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Whether there is none: the request was refused before a node was chosen.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The attempt at `index`, counted from 0.
    pub fn at(&self, index: usize) -> Option<&AttemptDetail> {
        if index == 0 { self.first.as_ref() } else { self.more.get(index - 1) }
    }

    /// The attempt at `index`, counted from 0, to complete it.
    pub fn at_mut(&mut self, index: usize) -> Option<&mut AttemptDetail> {
        if index == 0 { self.first.as_mut() } else { self.more.get_mut(index - 1) }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &AttemptDetail> {
        self.first.iter().chain(&self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_collapsed_and_cut_at_a_character() {
        assert_eq!(&*AttemptDetail::message("  a\r\n\tb   c "), "a b c");
        let long = AttemptDetail::message(&format!("x{}", "é".repeat(400)));
        assert_eq!(long.len(), 511);
        assert_eq!(AttemptDetail::message(&"ab ".repeat(400)).len(), 512);
    }

    #[test]
    fn a_message_does_not_send_its_reader_to_the_documentation_of_a_library() {
        let shown = |text| AttemptDetail::message(text).into_string();
        let rustls = "peer closed connection without sending TLS close_notify: \n\
            https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
        assert_eq!(shown(rustls), "peer closed connection without sending TLS close_notify");
        assert_eq!(shown("tls:https://docs.rs/x"), "tls");
        assert_eq!(shown("a: (https://docs.rs/x): b:"), "a: b:");
        assert_eq!(shown("not found: https://example.com/docs.rs/"), "not found: https://example.com/docs.rs/");
        assert_eq!(shown("https://docs.rs/x"), "");
    }
}
