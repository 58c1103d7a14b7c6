//! The words for how an attempt went: how far it got, what went wrong, what of the request was sent, whom to blame.

use std::time::Duration;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
