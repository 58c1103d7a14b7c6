//! One endpoint: where it is, how it is dialled, which connections to it rest, and what is known of its health.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use handover_core::health::Circuit;
use handover_wire::dial::{Credentials, DialNode, Host, NodeKind, Target};
use http::HeaderValue;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::pool::Pool;

/// A place that can serve a request: a server's URL, with the prefix that its paths have.
pub(crate) struct Endpoint {
    /// Scheme, host, port and prefix; no credentials, query or fragment.
    pub(crate) url: Url,
    /// As people and records name it: the URL without a slash at its end.
    pub(crate) label: Arc<str>,
    /// What stands before every path: empty, or `/prefix`.
    prefix: Box<str>,
    /// The value of `Host`.
    pub(crate) host: HeaderValue,
    /// From `user:password@` of the configured URL.
    pub(crate) authorization: Option<HeaderValue>,
    /// Whether the caller's credentials may go there.
    pub(crate) is_trusted: bool,
    /// Which endpoints share its store of idempotency keys: those with the same number.
    pub(crate) scope: u32,
    pub(crate) route: Route,
    pub(crate) pool: Pool,
    /// Requests that are being tried there, until their answer's head.
    pub(crate) in_flight: AtomicU64,
    health: Mutex<Health>,
}

/// How it is dialled: itself, or through a proxy.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) node: DialNode,
    pub(crate) target: Target,
}

/// What is known of an endpoint's health.
pub(crate) struct Health {
    pub(crate) circuit: Circuit,
    /// How long the newest probe that found it good took.
    pub(crate) latency: Option<Duration>,
    /// Since when it has been good; `None` while it is not.
    pub(crate) good_since: Option<Duration>,
    /// Since its last success, nothing but failures.
    pub(crate) is_failing: bool,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotAnEndpoint(pub(crate) String);

impl Endpoint {
    /// Reads an endpoint's URL. `ws` and `wss` mean `http` and `https`.
    pub(crate) fn parse(text: &str) -> Result<Url, NotAnEndpoint> {
        let wrong = |what: &str| NotAnEndpoint(format!("`{}` {what}", without_credentials(text)));
        if !text.contains("://") {
            return Err(wrong("has no scheme: an endpoint begins with http:// or https://"));
        }
        let mut url: Url = text.trim().parse().map_err(|error| wrong(&format!("is no URL: {error}")))?;
        let scheme = match url.scheme() {
            "http" | "ws" => "http",
            "https" | "wss" => "https",
            other => return Err(wrong(&format!("has the scheme {other}; endpoints are http:// or https://"))),
        };
        if url.scheme() != scheme {
            // A special scheme can be changed to another special one.
            let _ = url.set_scheme(scheme);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("names no host"));
        }
        if url.query().is_some() {
            return Err(wrong("has a query; an endpoint is scheme, host, port and a path that all requests share"));
        }
        if url.fragment().is_some() {
            return Err(wrong("has a fragment, which no server is ever sent"));
        }
        Ok(url)
    }

    pub(crate) fn new(mut url: Url, proxy: Option<DialNode>, about: About) -> Self {
        let authorization = authorization(&url);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let label: Arc<str> = url.as_str().trim_end_matches('/').into();
        let prefix: Box<str> = url.path().trim_end_matches('/').into();
        let host = HeaderValue::from_str(&authority(&url)).expect("a URL's host and port are visible ASCII");
        let route = Route::new(&url, proxy);
        let health = Health { circuit: about.circuit, latency: None, good_since: None, is_failing: false };
        let (is_trusted, scope, pool) = (about.is_trusted, about.scope, Pool::new(about.idle_max, about.idle_timeout));
        let health = Mutex::new(health);
        Self {
            url,
            label,
            prefix,
            host,
            authorization,
            is_trusted,
            scope,
            route,
            pool,
            in_flight: AtomicU64::new(0),
            health,
        }
    }

    /// Whether both are the same server: scheme, host and port.
    pub(crate) fn is_same_place(&self, url: &Url) -> bool {
        self.url.scheme() == url.scheme()
            && self.url.host() == url.host()
            && self.url.port_or_known_default() == url.port_or_known_default()
    }

    /// The path of a request here: the endpoint's own prefix before the request's.
    pub(crate) fn path(&self, path: &PathAndQuery) -> Result<PathAndQuery, http::uri::InvalidUri> {
        if self.prefix.is_empty() {
            return Ok(path.clone());
        }
        match (path.path(), path.query()) {
            ("/", None) => self.url.path().parse(),
            _ => format!("{}{path}", self.prefix).parse(),
        }
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// An endpoint that a request is being tried at: it counts as its load for as long as it lives.
pub(crate) struct Tried(Arc<Endpoint>);

impl Tried {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    pub(crate) const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an endpoint is told about itself.
pub(crate) struct About {
    pub(crate) is_trusted: bool,
    pub(crate) scope: u32,
    pub(crate) circuit: Circuit,
    pub(crate) idle_max: usize,
    pub(crate) idle_timeout: Duration,
}

impl Route {
    fn new(url: &Url, proxy: Option<DialNode>) -> Self {
        let host = match url.host() {
            Some(url::Host::Ipv4(address)) => Host::Ip(address.into()),
            Some(url::Host::Ipv6(address)) => Host::Ip(address.into()),
            Some(url::Host::Domain(name)) => Host::parse(name),
            None => Host::Name("".into()),
        };
        let tls = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        let target = Target { host: host.clone(), port, tls };
        let tag = format!("{}:{port}", url.host_str().unwrap_or_default()).into_boxed_str();
        let node = proxy.unwrap_or(DialNode { tag, kind: NodeKind::Origin { tls }, host, port, credentials: None });
        Self { node, target }
    }

    /// Whether a handshake on the way wants certificates to trust.
    pub(crate) fn needs_certificates(&self) -> bool {
        self.target.tls || matches!(self.node.kind, NodeKind::Https)
    }
}

/// A proxy's URL as a node to dial through.
pub(crate) fn proxy_node(url: &Url) -> Result<DialNode, NotAnEndpoint> {
    let wrong = |what: &str| NotAnEndpoint(format!("the proxy `{}` {what}", without_credentials(url.as_str())));
    let (kind, default_port) = match url.scheme() {
        "http" => (NodeKind::Http, 80),
        "https" => (NodeKind::Https, 443),
        "socks5" | "socks5h" => (NodeKind::Socks5, 1080),
        other => return Err(wrong(&format!("has the scheme {other}; http, https and socks5 are understood"))),
    };
    let name = url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| wrong("names no host"))?;
    let port = url.port().unwrap_or(default_port);
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned().into_boxed_str();
    let credentials = (!url.username().is_empty())
        .then(|| Credentials { user: decode(url.username()), password: decode(url.password().unwrap_or_default()) });
    let tag = format!("proxy {name}:{port}").into_boxed_str();
    Ok(DialNode { tag, kind, host: Host::parse(name), port, credentials })
}

/// `host` or `host:port`, the port only where it is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `Authorization: Basic` from a URL's user and password (RFC 7617).
fn authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = percent_decode_str(url.username()).decode_utf8_lossy();
    let password = percent_decode_str(url.password().unwrap_or_default()).decode_utf8_lossy();
    basic(&user, &password)
}

/// The value of `Authorization` or `Proxy-Authorization` for a user and a password.
pub(crate) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let word = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {word}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A URL's text for a message: what stands before an `@` in its authority is left out.
pub(crate) fn without_credentials(text: &str) -> String {
    // A password that was not encoded may have anything in it, a slash too: all before the last `@` goes.
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// Endpoints of one session: those configured, and behind them those that were discovered for it. Shared until a
/// discovery adds to it.
pub(crate) type Table = Arc<Vec<Arc<Endpoint>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        let about = About {
            is_trusted: true,
            scope: 0,
            circuit: Circuit::new(&Default::default(), 0),
            idle_max: 0,
            idle_timeout: Duration::ZERO,
        };
        Endpoint::new(Endpoint::parse(text).expect("valid"), None, about)
    }

    #[test]
    fn a_path_keeps_the_endpoints_own_prefix() {
        for (url, path, expected) in [
            ("http://h", "/kv/x?a=1", "/kv/x?a=1"),
            ("http://h/", "/", "/"),
            ("http://h/api", "/kv/x?a=1", "/api/kv/x?a=1"),
            ("http://h/api/", "/kv", "/api/kv"),
            ("http://h/api/v2/", "/", "/api/v2/"),
            ("http://h/api", "/?q", "/api/?q"),
        ] {
            let path = endpoint(url).path(&path.parse().expect("valid")).expect("valid");
            assert_eq!(path.as_str(), expected, "{url}");
        }
    }

    #[test]
    fn credentials_of_a_url_are_a_field_and_never_a_label() {
        let endpoint = endpoint("https://us%40er:p%3Aw@h.example:8443/api");
        assert_eq!(&*endpoint.label, "https://h.example:8443/api");
        assert_eq!(endpoint.host, "h.example:8443");
        assert_eq!(endpoint.authorization, basic("us@er", "p:w"));
        assert!(!format!("{endpoint:?} {}", endpoint.url).contains("p%3Aw"));
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_what_to_do_and_without_its_password() {
        for (text, expected) in [
            ("kv-1.example", "begins with http:// or https://"),
            ("secret:@127.0.0.1:1", "begins with http:// or https://"),
            ("http://h/#part", "has a fragment"),
            ("ftp://h", "endpoints are http:// or https://"),
            ("http://u:secret@h/?q=1", "has a query"),
            ("http://u:secret@:80", "is no URL"),
        ] {
            let NotAnEndpoint(error) = Endpoint::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(Endpoint::parse("wss://h").expect("valid").as_str(), "https://h/");
    }
}
