//! Which origin-form requests go to which platform.

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
