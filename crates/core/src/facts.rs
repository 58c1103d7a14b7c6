//! What is known of one request before its first attempt.

use std::time::Duration;

/// What is known of one request and matters for failover. The default is a request about which nothing may be assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Its method is idempotent; see [`is_idempotent`].
    pub idempotent: bool,
    /// It carries an `Idempotency-Key` that the policy trusts the server to honour.
    pub keyed: bool,
    /// The caller wants one attempt and no more.
    pub opted_out: bool,
    /// The endpoint is outside the domains for which the policy fails over: one attempt and no more.
    pub gated: bool,
    /// The endpoint that [`Order::Affine`](crate::Order::Affine) and [`Order::Sticky`](crate::Order::Sticky) take first:
    /// the session key's last good one.
    pub preferred: Option<u32>,
    /// The caller's own time for each attempt, from its begin to the response head; it replaces the policy's.
    pub attempt_timeout: Option<Duration>,
    /// The caller's own time limit for the whole request, from the session's begin.
    pub caller_deadline: Option<Duration>,
}

/// Whether a method is idempotent by RFC 9110 §9.2.2: repeating it has the intended effect of doing it once.
///
/// Methods are case-sensitive (RFC 9110 §9.1), so `get` is a different method of which nothing is known.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::is_idempotent;

    #[test]
    fn only_the_methods_of_the_rfc_are_idempotent() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "LOCK", "get", "Put", "", " GET", "QUERYX"] {
            assert!(!is_idempotent(method), "{method}");
        }
    }
}
