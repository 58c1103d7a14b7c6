//! Why a dial failed, and how far one got that was given up: every layer says who it was.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use handover_core::{Blame, Fault, Stage};

use super::cause::Cause;
use super::target::DialNode;
use super::targets::Denied;

/// A dial that did not come to a connection. Nothing of the request has left: it is still in the caller's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    /// The tag of the node.
    pub node: Box<str>,
    /// How far the dial got.
    pub stage: Stage,
    /// What went wrong.
    pub fault: Fault,
    /// Whom it speaks against, where that is known. Behind a proxy node this is a hint, not a proof: the node's word.
    pub blame: Option<Blame>,
    /// The operating system's error number, if it was its error.
    pub errno: Option<i32>,
    /// The address of the socket, or the last one tried.
    pub peer: Option<SocketAddr>,
    /// What happened, in one line of lower case.
    pub message: Box<str>,
    /// Set if every address was refused by the target rules: no other node makes such a target right.
    pub denied: Option<Denied>,
    kind: &'static str,
}

impl DialError {
    pub(super) fn new(node: &DialNode, progress: &Progress, cause: Cause) -> Self {
        Self {
            node: node.tag.clone(),
            stage: progress.stage(),
            fault: cause.fault,
            blame: cause.blame,
            errno: cause.errno,
            peer: progress.peer(),
            message: cause.message,
            denied: cause.denied,
            kind: cause.kind,
        }
    }

    /// What to say of a dial whose time limit passed: the caller dropped it, and `progress` tells where it stood.
    pub fn timed_out(node: &DialNode, progress: &Progress) -> Self {
        let cause = Cause::new(Fault::Timeout, progress.seen().silence, "timeout", progress.waited_for());
        Self::new(node, progress, cause)
    }

    /// What to say of a dial that was dropped because the client left or another dial connected first; blames nobody.
    ///
    /// `fault` is [`Fault::Cancelled`] or [`Fault::LostRace`].
    pub fn given_up(node: &DialNode, progress: &Progress, fault: Fault) -> Self {
        Self::new(node, progress, Cause::new(fault, None, "canceled", "given up"))
    }

    /// What to say of a connection that stood but on which the peer spoke something else than its protocol.
    pub fn not_the_protocol(node: &DialNode, progress: &Progress, message: &str) -> Self {
        Self::new(node, progress, Cause::protocol(Some(Blame::Node), message))
    }

    /// The error's kind in one word, such as `connection_refused`, `dns_error` or `tls_unknown_authority`.
    pub fn err_kind(&self) -> &'static str {
        self.kind
    }

    /// The name of [`errno`](Self::errno), such as `ECONNREFUSED`; `ERRNO_<n>` for those that have no name here.
    pub fn errno_name(&self) -> Option<Cow<'static, str>> {
        self.errno.map(super::cause::errno_name)
    }
}

/// One layer after the other: `eu-2 (10.0.0.7:443): dial: connection refused`.
impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        if let Some(peer) = self.peer {
            write!(f, " ({peer})")?;
        }
        write!(f, ": {}: {}", stage_word(self.stage), self.message)
    }
}

impl std::error::Error for DialError {}

/// How far a dial got; outlives the dial, so that one that was dropped can still be told from its true stage.
///
/// Shared between a dial and who may give it up; a lock that is taken a handful of times a dial costs it nothing.
#[derive(Debug)]
pub struct Progress {
    stage: AtomicU8,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    peer: Option<SocketAddr>,
    /// Whom it speaks against if nothing more comes at this stage.
    silence: Option<Blame>,
    /// The stages in the order in which they were entered; in place, as a dial should not allocate for its times.
    entered: [Option<(Stage, Instant)>; ENTERED_MAX],
}

/// The most stages that one dial enters: through an `https` node to a target that speaks TLS it is resolve, dial, tls,
/// proxy_handshake and tls again.
const ENTERED_MAX: usize = 5;

impl Progress {
    /// Of a dial that has not begun.
    pub fn new() -> Self {
        Self { stage: AtomicU8::new(0), seen: Mutex::default() }
    }

    /// The stage the dial is in.
    pub fn stage(&self) -> Stage {
        DIAL_STAGES[usize::from(self.stage.load(Ordering::Relaxed))]
    }

    /// The address of the socket, or the last one tried; `None` until the first is tried.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.seen().peer
    }

    /// The stages that the dial has entered, in order, each with the time at which that was. A stage can be in it twice:
    /// TLS with an `https` node and, through it, with the target. It ends where the next one begins; the last one ends
    /// with the dial.
    pub fn entered(&self) -> Vec<(Stage, Instant)> {
        self.seen().entered.iter().copied().flatten().collect()
    }

    pub(super) fn enter(&self, stage: Stage, silence: Option<Blame>) {
        let number = DIAL_STAGES.iter().position(|known| *known == stage).unwrap_or_default();
        self.stage.store(u8::try_from(number).unwrap_or_default(), Ordering::Relaxed);
        let mut seen = self.seen();
        seen.silence = silence;
        if let Some(free) = seen.entered.iter_mut().find(|entry| entry.is_none()) {
            *free = Some((stage, Instant::now()));
        }
    }

    pub(super) fn tries(&self, peer: SocketAddr) {
        self.seen().peer = Some(peer);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waited_for(&self) -> &'static str {
        match self.stage() {
            Stage::Resolve => "timed out waiting for the resolver",
            Stage::Dial => "timed out connecting",
            Stage::Tls => "timed out in the TLS handshake",
            _ => "timed out waiting for the node's answer",
        }
    }
}

/// The stages of a dial, in order.
const DIAL_STAGES: [Stage; 4] = [Stage::Resolve, Stage::Dial, Stage::ProxyHandshake, Stage::Tls];

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve => "resolve",
        Stage::Dial => "dial",
        Stage::ProxyHandshake => "proxy_handshake",
        Stage::Tls => "tls",
        // A dial ends with the last handshake; the stages behind it are the request's.
        Stage::Send | Stage::AwaitHead | Stage::Body | Stage::Tunnel => "request",
    }
}
