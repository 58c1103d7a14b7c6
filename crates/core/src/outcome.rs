//! The words for how an attempt went: how far it got, what went wrong, what of the request was sent, whom to blame.

use std::fmt;
use std::time::Duration;

use crate::words::words;

/// How far an attempt got. Ordered: a later stage compares greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Resolving the endpoint's name.
    Resolve,
    /// Opening the connection to the endpoint.
    Dial,
    /// Asking a proxy node (CONNECT, SOCKS5) for the target.
    ProxyHandshake,
    /// The TLS handshake, with the node or with the target.
    Tls,
    /// The request was handed to a connection and is being written.
    Send,
    /// The request was written; the response head has not come.
    AwaitHead,
    /// The response head has come; the body is flowing.
    Body,
    /// A tunnel is open; bytes flow both ways.
    Tunnel,
}

/// What is proven of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sent {
    /// Not one byte of it left.
    No,
    /// Some or all of it may have left.
    Maybe,
    /// It left, and the endpoint answered or acknowledged it.
    Yes,
}

/// What went wrong with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection was refused (`ECONNREFUSED`).
    Refused,
    /// A time limit passed.
    Timeout,
    /// The connection was reset or broke (`ECONNRESET`, `EPIPE`, `ECONNABORTED`).
    Reset,
    /// The name did not resolve.
    Dns,
    /// No route (`ENETUNREACH`, `EHOSTUNREACH`).
    Unreachable,
    /// The TLS handshake failed.
    Tls,
    /// The node wants credentials, or refused those it was given.
    ProxyAuth,
    /// The node answered that it cannot or will not reach the target.
    ProxyRefused,
    /// The peer spoke something that is not the protocol.
    Protocol,
    /// The connection was closed before the answer was whole.
    Closed,
    /// The answer's status is one that the policy does not take.
    Status(u16),
    /// The caller gave the request up.
    Cancelled,
    /// Another dial of the same request connected first; nothing is wrong with this endpoint.
    LostRace,
    /// The target is one that the shell's rules forbid; no endpoint may be asked for it.
    Denied,
    /// This machine could not: out of descriptors, ports or memory.
    Local,
}

/// Whom a fault speaks against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The endpoint that was tried.
    Node,
    /// The target behind the node.
    Target,
    /// The client that sent the request.
    Client,
    /// This machine.
    Local,
}

/// What is left of the request's body after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyLeft {
    /// The request has no body, or one that can be produced again.
    Whole,
    /// Part of a body that cannot be produced again was read: no further attempt is possible.
    Consumed,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A response head came.
    Answered {
        /// Its status code.
        status: u16,
        /// Its `Retry-After`, if it had a valid one.
        retry_after: Option<Duration>,
        /// What is left of the request's body.
        body: BodyLeft,
    },
    /// No response head came.
    Failed(Failure),
}

/// An attempt that got no response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// How far it got.
    pub stage: Stage,
    /// What went wrong.
    pub fault: Fault,
    /// What is proven of the request.
    pub sent: Sent,
    /// What is left of the request's body.
    pub body: BodyLeft,
}

words!(Stage {
    Resolve => "resolve",
    Dial => "dial",
    ProxyHandshake => "proxy_handshake",
    Tls => "tls",
    Send => "send",
    AwaitHead => "await_head",
    Body => "body",
    Tunnel => "tunnel",
});

words!(Sent { No => "no", Maybe => "maybe", Yes => "yes" });

words!(Blame { Node => "node", Target => "target", Client => "client", Local => "local" });

words!(BodyLeft { Whole => "whole", Consumed => "consumed" });

impl Fault {
    /// The glossary's word for this fault. A status is `status`; [`Display`](fmt::Display) adds its number.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Refused => "refused",
            Fault::Timeout => "timeout",
            Fault::Reset => "reset",
            Fault::Dns => "dns",
            Fault::Unreachable => "unreachable",
            Fault::Tls => "tls",
            Fault::ProxyAuth => "proxy_auth",
            Fault::ProxyRefused => "proxy_refused",
            Fault::Protocol => "protocol",
            Fault::Closed => "closed",
            Fault::Status(_) => "status",
            Fault::Cancelled => "cancelled",
            Fault::LostRace => "lost_race",
            Fault::Denied => "denied",
            Fault::Local => "local",
        }
    }

    /// Reads back what [`Display`](fmt::Display) writes: a fault's word, or `status(503)`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        const PLAIN: [Fault; 14] = [
            Fault::Refused,
            Fault::Timeout,
            Fault::Reset,
            Fault::Dns,
            Fault::Unreachable,
            Fault::Tls,
            Fault::ProxyAuth,
            Fault::ProxyRefused,
            Fault::Protocol,
            Fault::Closed,
            Fault::Cancelled,
            Fault::LostRace,
            Fault::Denied,
            Fault::Local,
        ];
        if let Some(number) = word.strip_prefix("status(").and_then(|rest| rest.strip_suffix(')')) {
            return number.parse().ok().map(Fault::Status);
        }
        PLAIN.into_iter().find(|fault| fault.as_str() == word)
    }

    /// Whom this fault speaks against when nothing more is known; a shell that knows better says so itself.
    ///
    /// `None` for a caller who left and for a dial that lost its race: they say nothing against anybody.
    #[must_use]
    pub const fn blame(self) -> Option<Blame> {
        match self {
            Fault::Cancelled | Fault::LostRace => None,
            Fault::Denied => Some(Blame::Client),
            Fault::Local => Some(Blame::Local),
            Fault::ProxyRefused => Some(Blame::Target),
            Fault::Refused
            | Fault::Timeout
            | Fault::Reset
            | Fault::Dns
            | Fault::Unreachable
            | Fault::Tls
            | Fault::ProxyAuth
            | Fault::Protocol
            | Fault::Closed
            | Fault::Status(_) => Some(Blame::Node),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(number) => write!(f, "status({number})"),
            fault => f.write_str(fault.as_str()),
        }
    }
}

impl Outcome {
    /// `answered` or `failed`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Outcome::Answered { .. } => "answered",
            Outcome::Failed(_) => "failed",
        }
    }

    /// Whether a response head came.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        matches!(self, Outcome::Answered { .. })
    }

    /// Whether this attempt only lost the race to another dial of the same request.
    #[must_use]
    pub const fn is_lost_race(&self) -> bool {
        matches!(self, Outcome::Failed(Failure { fault: Fault::LostRace, .. }))
    }

    /// What is proven of the request. An answer proves that it was sent.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        match self {
            Outcome::Answered { .. } => Sent::Yes,
            Outcome::Failed(failure) => failure.sent,
        }
    }

    /// What is left of the request's body.
    #[must_use]
    pub const fn body(&self) -> BodyLeft {
        match self {
            Outcome::Answered { body, .. } => *body,
            Outcome::Failed(failure) => failure.body,
        }
    }
}

impl Failure {
    /// A failure before the request was handed to a connection: nothing was sent and the body is whole.
    #[must_use]
    pub const fn before_send(stage: Stage, fault: Fault) -> Self {
        Self { stage, fault, sent: Sent::No, body: BodyLeft::Whole }
    }

    /// Whether the request had not been handed to a connection yet, so that no endpoint has had any of it to do: one that
    /// refuses a connection, or does not take it, has had no request.
    ///
    /// A connection that broke with the request in its hands counts as more than that, also where it is proven that not
    /// one byte had left: the endpoint had accepted it.
    #[must_use]
    pub const fn is_before_send(&self) -> bool {
        matches!(self.sent, Sent::No)
            && matches!(self.stage, Stage::Resolve | Stage::Dial | Stage::ProxyHandshake | Stage::Tls)
    }

    /// Whether it failed on this machine or right beside it, so that no endpoint had any load of it: no name, no route, no
    /// descriptor. A refused connection is not among these, as it proves that the other side was reached.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.sent, Sent::No)
            && matches!(self.stage, Stage::Resolve | Stage::Dial)
            && matches!(self.fault, Fault::Dns | Fault::Unreachable | Fault::Local)
    }
}
