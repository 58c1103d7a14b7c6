//! Which origin-form requests go to which platform.

use std::net::Ipv6Addr;

use super::url::host_name;

/// Leads origin-form requests to a platform of origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Lower-case host without port that the request must name; `None` takes any.
    pub host: Option<String>,
    /// Path prefix by whole segments: `/v1/` takes `/v1` and `/v1/x`, not `/v10`.
    pub path: String,
    /// The platform, as an index into the platforms of the configuration.
    pub platform: usize,
}

impl RouteConfig {
    /// Whether a request for `host` (as it came, with or without a port) and `path` (without query) goes this way.
    pub fn matches(&self, host: &str, path: &str) -> bool {
        self.host.as_deref().is_none_or(|own| own.eq_ignore_ascii_case(without_port(host))) && self.takes_path(path)
    }

    fn takes_path(&self, path: &str) -> bool {
        let own = self.path.trim_end_matches('/');
        path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The host of an authority, without port, brackets and the root's trailing dot.
fn without_port(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// The rule of [`route_host`] in words.
pub(super) const HOST_RULE: &str = "a host name or address without port; leave the key out for any host";
/// The rule of [`route_path`] in words.
pub(super) const PATH_RULE: &str = "a path such as / or /v1/: no query, no white space, no empty, . or .. segments, and not \
     below /api, /healthz, /ui or /metrics, which are the control plane's";

/// First segments that never reach a route.
const CONTROL_PLANE: [&str; 4] = ["api", "healthz", "ui", "metrics"];

/// A route's host as [`RouteConfig::host`] has it.
pub(super) fn route_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Some(address.to_string());
    }
    host_name(text)
}

/// A route's path, checked.
pub(super) fn route_path(text: &str) -> Option<String> {
    let segments = text.strip_prefix('/')?.split('/');
    let count = segments.clone().count();
    for (index, segment) in segments.enumerate() {
        let last = index + 1 == count;
        let broken = segment.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c));
        if broken || matches!(segment, "." | "..") || segment.is_empty() && !last {
            return None;
        }
        if index == 0 && CONTROL_PLANE.contains(&segment) {
            return None;
        }
    }
    Some(text.to_owned())
}
