//! The one place that maps what went wrong to what the client sees: status, code, body and headers.
//!
//! Every response that the gateway makes itself carries `X-Handover-Error: CODE` and `Proxy-Status` (RFC 9209), so that a
//! client can tell the gateway's own words from the origin's.

use handover_core::{Fault, Stage};
use http::{HeaderValue, StatusCode, header};

use handover_wire::conn::ClientFault;

use crate::auth_limit;

/// The header that names the error code.
pub const ERROR_HEADER: http::HeaderName = http::HeaderName::from_static("x-handover-error");
/// The header that carries the request's id, for `handover explain ID`.
pub const ID_HEADER: http::HeaderName = http::HeaderName::from_static("x-handover-id");

/// Why the gateway answered itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Forward or CONNECT door: no credentials, or malformed ones.
    AuthRequired,
    /// A wrong token.
    AuthFailed,
    /// Too many different wrong tokens came from the client's address of late.
    TooManyAuthFailures,
    /// The request breaks a rule of HTTP that a gateway must enforce; the text says which.
    BadRequest(&'static str),
    /// Reverse door: fewer than four segments, or a bad escape.
    UrlParseError,
    /// Reverse door: the protocol segment is neither `http` nor `https`.
    InvalidProtocol,
    /// Reverse door: the host segment is empty or malformed.
    InvalidHost,
    /// No platform of that name.
    PlatformNotFound,
    /// The target is one that the gateway must not reach for a client.
    TargetDenied,
    /// The platform has no nodes.
    NoAvailableNodes,
    /// Every dial failed; nothing of the request was sent.
    UpstreamConnectFailed,
    /// The last dial, or the wait for the response, timed out.
    UpstreamTimeout,
    /// The client stopped sending its request.
    RequestTimeout,
    /// The request was handed to a node and failed there.
    UpstreamRequestFailed,
    /// No such control-plane page.
    NotFound,
    /// The control plane answers GET and HEAD only.
    MethodNotAllowed,
    /// The client, or the gateway as a whole, has too many connections.
    TooManyConnections,
}

impl ErrorCode {
    /// Every code, for tests and documentation.
    pub const ALL: [ErrorCode; 17] = [
        ErrorCode::AuthRequired,
        ErrorCode::AuthFailed,
        ErrorCode::TooManyAuthFailures,
        ErrorCode::BadRequest("malformed request"),
        ErrorCode::UrlParseError,
        ErrorCode::InvalidProtocol,
        ErrorCode::InvalidHost,
        ErrorCode::PlatformNotFound,
        ErrorCode::TargetDenied,
        ErrorCode::NoAvailableNodes,
        ErrorCode::UpstreamConnectFailed,
        ErrorCode::UpstreamTimeout,
        ErrorCode::RequestTimeout,
        ErrorCode::UpstreamRequestFailed,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::TooManyConnections,
    ];

    /// The code of a request whose decisive attempt ended so; `None`: there was no node to try.
    pub(crate) fn of_attempt(last: Option<(Stage, Fault)>, client: Option<ClientFault>) -> Self {
        match (last, client) {
            (None, _) => ErrorCode::NoAvailableNodes,
            (Some((_, Fault::Cancelled)), Some(ClientFault::Silent)) => ErrorCode::RequestTimeout,
            (Some((_, Fault::Cancelled)), _) => ErrorCode::BadRequest("The request's body is malformed"),
            (Some((_, Fault::Denied)), _) => ErrorCode::TargetDenied,
            (Some((_, Fault::Timeout)), _) => ErrorCode::UpstreamTimeout,
            (Some((stage, _)), _) if stage < Stage::Send => ErrorCode::UpstreamConnectFailed,
            (Some(_), _) => ErrorCode::UpstreamRequestFailed,
        }
    }

    /// The code as it stands in `X-Handover-Error` and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::AuthRequired => "AUTH_REQUIRED",
            ErrorCode::AuthFailed => "AUTH_FAILED",
            ErrorCode::TooManyAuthFailures => "TOO_MANY_AUTH_FAILURES",
            ErrorCode::BadRequest(_) => "BAD_REQUEST",
            ErrorCode::UrlParseError => "URL_PARSE_ERROR",
            ErrorCode::InvalidProtocol => "INVALID_PROTOCOL",
            ErrorCode::InvalidHost => "INVALID_HOST",
            ErrorCode::PlatformNotFound => "PLATFORM_NOT_FOUND",
            ErrorCode::TargetDenied => "TARGET_DENIED",
            ErrorCode::NoAvailableNodes => "NO_AVAILABLE_NODES",
            ErrorCode::UpstreamConnectFailed => "UPSTREAM_CONNECT_FAILED",
            ErrorCode::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            ErrorCode::RequestTimeout => "REQUEST_TIMEOUT",
            ErrorCode::UpstreamRequestFailed => "UPSTREAM_REQUEST_FAILED",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            ErrorCode::TooManyConnections => "TOO_MANY_CONNECTIONS",
        }
    }

    /// The status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            ErrorCode::AuthRequired => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            ErrorCode::AuthFailed | ErrorCode::TargetDenied => StatusCode::FORBIDDEN,
            ErrorCode::TooManyAuthFailures => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::BadRequest(_)
            | ErrorCode::UrlParseError
            | ErrorCode::InvalidProtocol
            | ErrorCode::InvalidHost => StatusCode::BAD_REQUEST,
            ErrorCode::PlatformNotFound | ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::NoAvailableNodes | ErrorCode::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::UpstreamConnectFailed | ErrorCode::UpstreamRequestFailed => StatusCode::BAD_GATEWAY,
            ErrorCode::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// The body of the response: one sentence.
    pub fn body(self) -> &'static str {
        match self {
            ErrorCode::AuthRequired => "Proxy authentication required",
            ErrorCode::AuthFailed => "Proxy authentication failed",
            ErrorCode::TooManyAuthFailures => "Too many wrong tokens from this address",
            ErrorCode::BadRequest(text) => text,
            ErrorCode::UrlParseError => "Failed to parse request URL",
            ErrorCode::InvalidProtocol => "Protocol must be http or https",
            ErrorCode::InvalidHost => "Invalid or empty host",
            ErrorCode::PlatformNotFound => "Platform not found",
            ErrorCode::TargetDenied => "Target address is not allowed (see allow_private_targets)",
            ErrorCode::NoAvailableNodes => "No available nodes for routing",
            ErrorCode::UpstreamConnectFailed => "Failed to connect to upstream",
            ErrorCode::UpstreamTimeout => "Upstream connection or response timed out",
            ErrorCode::RequestTimeout => "The request did not come in time",
            ErrorCode::UpstreamRequestFailed => "Upstream request failed",
            ErrorCode::NotFound => "Not found",
            ErrorCode::MethodNotAllowed => "Method not allowed",
            ErrorCode::TooManyConnections => "Too many connections",
        }
    }

    /// The error type of RFC 9209 §2.3 that says the same, given what went wrong with the decisive attempt.
    pub fn proxy_status_error(self, last: Option<Fault>) -> &'static str {
        match self {
            ErrorCode::AuthRequired
            | ErrorCode::AuthFailed
            | ErrorCode::TooManyAuthFailures
            | ErrorCode::TooManyConnections => "http_request_denied",
            ErrorCode::BadRequest(_)
            | ErrorCode::UrlParseError
            | ErrorCode::InvalidProtocol
            | ErrorCode::InvalidHost
            | ErrorCode::RequestTimeout
            | ErrorCode::NotFound
            | ErrorCode::MethodNotAllowed => "http_request_error",
            ErrorCode::PlatformNotFound => "proxy_configuration_error",
            ErrorCode::TargetDenied => "destination_ip_prohibited",
            ErrorCode::NoAvailableNodes => "destination_unavailable",
            ErrorCode::UpstreamConnectFailed => match last {
                Some(Fault::Refused | Fault::Reset) => "connection_refused",
                Some(Fault::Dns) => "dns_error",
                Some(Fault::Unreachable) => "destination_ip_unroutable",
                Some(Fault::Tls) => "tls_protocol_error",
                Some(Fault::Local) => "connection_limit_reached",
                _ => "destination_unavailable",
            },
            ErrorCode::UpstreamTimeout => "connection_timeout",
            ErrorCode::UpstreamRequestFailed => match last {
                Some(Fault::Protocol) => "http_protocol_error",
                _ => "connection_terminated",
            },
        }
    }

    /// The whole response, for a client whose connection closes before HTTP is spoken on it.
    pub(crate) fn last_words(self) -> String {
        let (status, body) = (self.status(), self.body());
        format!(
            "HTTP/1.1 {status}\r\nX-Handover-Error: {}\r\nProxy-Status: handover; error={}\r\nContent-Type: text/plain; \
             charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.as_str(),
            self.proxy_status_error(None),
            body.len()
        )
    }

    /// The headers that go with the response; `response_wait` tells a timeout of the response from one of the dial.
    pub fn headers(self, last: Option<Fault>, response_wait: bool) -> Vec<(http::HeaderName, HeaderValue)> {
        let kind = match self {
            ErrorCode::UpstreamTimeout if response_wait => "http_response_timeout",
            _ => self.proxy_status_error(last),
        };
        let proxy_status =
            HeaderValue::try_from(format!("handover; error={kind}")).expect("the error types of RFC 9209 are tokens");
        let mut all = vec![
            (ERROR_HEADER, HeaderValue::from_static(self.as_str())),
            (http::HeaderName::from_static("proxy-status"), proxy_status),
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        ];
        match self {
            ErrorCode::AuthRequired => {
                all.push((header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Handover\"")));
            }
            ErrorCode::TooManyAuthFailures => {
                all.push((header::RETRY_AFTER, HeaderValue::from(auth_limit::WINDOW.as_secs())));
            }
            ErrorCode::MethodNotAllowed => all.push((header::ALLOW, HeaderValue::from_static("GET, HEAD"))),
            _ => {}
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_body_and_proxy_status() {
        let mut table = String::new();
        for code in ErrorCode::ALL {
            for (name, value) in code.headers(None, false) {
                assert!(!value.is_empty(), "{name}");
            }
            table += &format!(
                "{} {} {} | {}\n",
                code.status().as_u16(),
                code.as_str(),
                code.proxy_status_error(None),
                code.body()
            );
        }
        let expected = "\
407 AUTH_REQUIRED http_request_denied | Proxy authentication required
403 AUTH_FAILED http_request_denied | Proxy authentication failed
429 TOO_MANY_AUTH_FAILURES http_request_denied | Too many wrong tokens from this address
400 BAD_REQUEST http_request_error | malformed request
400 URL_PARSE_ERROR http_request_error | Failed to parse request URL
400 INVALID_PROTOCOL http_request_error | Protocol must be http or https
400 INVALID_HOST http_request_error | Invalid or empty host
404 PLATFORM_NOT_FOUND proxy_configuration_error | Platform not found
403 TARGET_DENIED destination_ip_prohibited | Target address is not allowed (see allow_private_targets)
503 NO_AVAILABLE_NODES destination_unavailable | No available nodes for routing
502 UPSTREAM_CONNECT_FAILED destination_unavailable | Failed to connect to upstream
504 UPSTREAM_TIMEOUT connection_timeout | Upstream connection or response timed out
408 REQUEST_TIMEOUT http_request_error | The request did not come in time
502 UPSTREAM_REQUEST_FAILED connection_terminated | Upstream request failed
404 NOT_FOUND http_request_error | Not found
405 METHOD_NOT_ALLOWED http_request_error | Method not allowed
503 TOO_MANY_CONNECTIONS http_request_denied | Too many connections
";
        assert_eq!(table, expected);
    }

    #[test]
    fn the_last_attempt_decides_the_code() {
        for (stage, fault, client, code) in [
            (Stage::Dial, Fault::Refused, None, "UPSTREAM_CONNECT_FAILED"),
            (Stage::ProxyHandshake, Fault::ProxyRefused, None, "UPSTREAM_CONNECT_FAILED"),
            (Stage::Tls, Fault::Tls, None, "UPSTREAM_CONNECT_FAILED"),
            (Stage::Dial, Fault::Timeout, None, "UPSTREAM_TIMEOUT"),
            (Stage::AwaitHead, Fault::Timeout, None, "UPSTREAM_TIMEOUT"),
            (Stage::Send, Fault::Reset, None, "UPSTREAM_REQUEST_FAILED"),
            (Stage::AwaitHead, Fault::Closed, None, "UPSTREAM_REQUEST_FAILED"),
            (Stage::Resolve, Fault::Denied, None, "TARGET_DENIED"),
            (Stage::Send, Fault::Cancelled, Some(ClientFault::Silent), "REQUEST_TIMEOUT"),
            (Stage::Send, Fault::Cancelled, Some(ClientFault::Malformed), "BAD_REQUEST"),
        ] {
            assert_eq!(ErrorCode::of_attempt(Some((stage, fault)), client).as_str(), code, "{stage:?} {fault:?}");
        }
        assert_eq!(ErrorCode::of_attempt(None, None), ErrorCode::NoAvailableNodes);
    }

    #[test]
    fn a_timeout_says_whether_the_dial_or_the_response_was_late() {
        let shown = |wait| format!("{:?}", ErrorCode::UpstreamTimeout.headers(Some(Fault::Timeout), wait)[1].1);
        assert_eq!(shown(false), "\"handover; error=connection_timeout\"");
        assert_eq!(shown(true), "\"handover; error=http_response_timeout\"");
    }
}
