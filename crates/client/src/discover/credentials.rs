//! What of a caller's fields goes to a host that the caller did not name: nothing of a body, and credentials only where
//! they belong.
//!
//! A list of regions comes from the network. A server that was taken over, or a list that was forged on the way, must
//! not be able to collect tokens by naming hosts of its own. So credentials go to the hosts that were configured, on any
//! port, and to those that the user adds; every other host is tried without them.

use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderName};
use url::{Host, Url};

/// Fields that say who asks. The last three are those of the key-value service and its kin.
const CREDENTIALS: [&str; 6] =
    ["authorization", "cookie", "proxy-authorization", "x-app-token", "x-site-key", "x-api-key"];

/// Fields of one request that would be wrong in another at the same host: about its body (with all of `content-*`), its
/// connection (RFC 9110 §7.6.1), what part of which state is wanted (§13, §14), an encoding that is not asked for here,
/// and the key of another payload.
const NOT_FORWARDED: [&str; 19] = [
    "accept-encoding",
    "connection",
    "expect",
    "host",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "want-content-digest",
];

/// The fields of a request that go with a question for endpoints as well.
pub(crate) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        let text = name.as_str();
        let own = text.starts_with("content-") || text.starts_with("sec-websocket-") || NOT_FORWARDED.contains(&text);
        if !own && !named.iter().any(|other| other == text) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// The hosts that may have the caller's credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedHosts {
    entries: Vec<Entry>,
    /// Fields that are credentials besides [`CREDENTIALS`].
    names: Vec<HeaderName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: Host,
    /// `None`: on any port.
    port: Option<u16>,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The host itself.
    Exact,
    /// Every host under this domain, but not the domain itself.
    Below,
}

impl TrustedHosts {
    /// The hosts of these endpoints, on any port.
    pub(crate) fn of<'a>(endpoints: impl IntoIterator<Item = &'a Url>) -> Self {
        let hosts = endpoints.into_iter().filter_map(|url| url.host());
        let entries = hosts.map(|host| Entry { host: host.to_owned(), port: None, reach: Reach::Exact }).collect();
        Self { entries, names: Vec::new() }
    }

    /// Adds a host in the form `eu.example`, `eu.example:8443` (on that port only) or `.example` (all hosts under it).
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn trust(&mut self, text: &str) -> Result<(), String> {
        let entry = Entry::parse(text.trim()).ok_or_else(|| {
            format!(
                "trusted host {text:?}: want a host such as eu.example, eu.example:8443, or .example for all under it"
            )
        })?;
        self.entries.push(entry);
        Ok(())
    }

    /// Adds a field that is a credential too.
    pub(crate) fn credential(&mut self, name: HeaderName) {
        self.names.push(name);
    }

    /// Whether this host may have credentials, if the way there is as safe as the caller's own.
    pub(crate) fn is_trusted(&self, url: &Url) -> bool {
        self.entries.iter().any(|entry| entry.matches(url))
    }

    /// Whether a discovered endpoint may have the credentials that were meant for `origin`: a trusted host, and not in
    /// the clear if they were to go encrypted.
    pub(crate) fn may_have_credentials(&self, origin: &Url, discovered: &Url) -> bool {
        let downgraded = is_encrypted(origin) && !is_encrypted(discovered);
        self.is_trusted(discovered) && !downgraded
    }

    /// Removes everything that says who asks: the known fields, those that were added, and values marked as sensitive.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        let marked: Vec<HeaderName> =
            headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.clone()).collect();
        for name in CREDENTIALS {
            headers.remove(name);
        }
        for name in self.names.iter().chain(&marked) {
            headers.remove(name);
        }
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let (name, port) = split_port(text)?;
        let (name, reach) = match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(domain) => (domain, Reach::Below),
            None => (name, Reach::Exact),
        };
        let host = match name.parse::<Ipv6Addr>() {
            Ok(address) => Host::Ipv6(address),
            Err(_) => Host::parse(name).ok()?,
        };
        let is_domain = matches!(host, Host::Domain(_));
        (is_domain || reach == Reach::Exact).then_some(Self { host, port, reach })
    }

    fn matches(&self, url: &Url) -> bool {
        let port_fits = self.port.is_none() || self.port == url.port_or_known_default();
        port_fits
            && match (&self.host, url.host(), self.reach) {
                (host, Some(other), Reach::Exact) => *host == other.to_owned(),
                (Host::Domain(domain), Some(Host::Domain(other)), Reach::Below) => {
                    other.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
                }
                _ => false,
            }
    }
}

/// `host:port` taken apart; an IPv6 address without brackets is all host. `None` if the port is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => Some((host, Some(port.parse().ok()?))),
        _ => Some((text, None)),
    }
}

fn is_encrypted(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "wss")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn token_and_directives_travel_and_what_is_about_the_body_does_not() {
        let all = headers(&[
            ("authorization", "Bearer x"),
            ("x-lk-mock", r#"{"failRegions":[0]}"#),
            ("user-agent", "me"),
            ("accept", "application/protobuf"),
            ("x-livekit-request-id", "caller-123"),
            ("content-type", "application/json"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-digest", "sha-256=:x:"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("expect", "100-continue"),
            ("host", "a.example"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
            ("if-none-match", "\"x\""),
            ("range", "bytes=0-1"),
            ("accept-encoding", "gzip"),
            ("idempotency-key", "\"k\""),
        ]);
        let kept = forwarded(&all);
        assert_eq!(names(&kept), ["accept", "authorization", "user-agent", "x-livekit-request-id", "x-lk-mock"]);
    }

    #[test]
    fn a_field_of_several_values_is_forwarded_whole() {
        let kept = forwarded(&headers(&[("x-a", "1"), ("x-a", "2")]));
        assert_eq!(kept.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn configured_hosts_are_trusted_on_any_port_and_no_other_host_is() {
        let hosts = TrustedHosts::of([&url("https://A.example/kv"), &url("http://[::1]:9999")]);
        for yes in ["https://a.example", "https://a.example:8443/x", "http://[::1]:10000"] {
            assert!(hosts.is_trusted(&url(yes)), "{yes}");
        }
        for no in
            ["https://b.example", "https://x.a.example", "https://a.example.evil", "http://[::2]", "https://example"]
        {
            assert!(!hosts.is_trusted(&url(no)), "{no}");
        }
    }

    #[test]
    fn an_added_host_is_read_in_each_of_its_forms() {
        let table = [
            ("EU.example", "https://eu.example:1", true),
            ("eu.example", "https://x.eu.example", false),
            ("eu.example:8443", "https://eu.example:8443", true),
            ("eu.example:443", "https://eu.example", true),
            ("eu.example:8443", "https://eu.example", false),
            (".livekit.cloud", "https://eu.livekit.cloud", true),
            ("*.livekit.cloud", "https://p.eu.livekit.cloud", true),
            (".livekit.cloud", "https://livekit.cloud", false),
            (".livekit.cloud", "https://notlivekit.cloud", false),
            (".livekit.cloud", "https://livekit.cloud.evil", false),
            ("::1", "http://[::1]:9", true),
            ("[::1]:9", "http://[::1]:9", true),
            ("[::1]:9", "http://[::1]:8", false),
            ("127.0.0.1", "http://127.0.0.1:5", true),
        ];
        for (entry, other, expected) in table {
            let mut hosts = TrustedHosts::default();
            hosts.trust(entry).unwrap();
            assert_eq!(hosts.is_trusted(&url(other)), expected, "{entry} {other}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_in_words() {
        for wrong in ["", ".", "https://a.example", "a.example/path", "a.example:", "a.example:x", "*.10.0.0.1", "a b"]
        {
            let problem = TrustedHosts::default().trust(wrong).expect_err(wrong);
            assert!(problem.contains("eu.example:8443"), "{problem}");
        }
    }

    #[test]
    fn credentials_never_leave_encryption() {
        let hosts = TrustedHosts::of([&url("https://a.example")]);
        let may = |origin: &str, discovered: &str| hosts.may_have_credentials(&url(origin), &url(discovered));
        assert!(may("https://a.example", "https://a.example:8443"));
        assert!(may("wss://a.example", "https://a.example:8443"));
        assert!(may("http://a.example", "http://a.example:8080"));
        assert!(may("http://a.example", "https://a.example"));
        assert!(!may("https://a.example", "http://a.example:8080"));
        assert!(!may("wss://a.example", "ws://a.example"));
        assert!(!may("https://a.example", "https://b.example"));
    }

    #[test]
    fn everything_that_says_who_asks_is_stripped() {
        let mut map = headers(&[
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("proxy-authorization", "Basic x"),
            ("x-app-token", "t"),
            ("x-site-key", "s"),
            ("x-api-key", "k"),
            ("x-mine", "m"),
            ("x-other", "o"),
        ]);
        let mut marked = HeaderValue::from_static("secret");
        marked.set_sensitive(true);
        map.append("x-marked", marked);
        let mut hosts = TrustedHosts::default();
        hosts.credential(HeaderName::from_static("x-mine"));
        hosts.strip(&mut map);
        assert_eq!(names(&map), ["x-other"]);
    }
}
