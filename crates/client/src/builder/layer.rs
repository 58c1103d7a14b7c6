//! A client's settings as a `tower` layer: what is about connections is the inner service's own affair, and is refused.

use crate::builder::{BuildError, ClientBuilder, Http2, POOL_IDLE_MAX, POOL_IDLE_TIMEOUT};
use crate::prober::default_for;
use crate::proxy::Proxies;
use crate::tower::FailoverLayer;

impl ClientBuilder {
    /// A layer that puts failover around a `tower` service, with these endpoints, this policy, budget, circuits,
    /// discovery, probes and observers. All services that the layer is put around share them.
    ///
    /// What is about connections is the inner service's own affair. Certificates, HTTP/2, a proxy and the pool cannot be
    /// set for it here; `connect_timeout`, `body_idle_timeout` and the policy's `dial_stagger` have no effect, because the
    /// service does not say when it has connected, and the body of an answer is given to the caller as it is.
    ///
    /// # Errors
    /// All that is wrong, at once; settings that a layer cannot keep are among it.
    pub fn layer(mut self) -> Result<FailoverLayer, BuildError> {
        self.refuse_connection_settings();
        let policy = self.take_policy();
        let urls = self.take_endpoints();
        let scopes = self.take_scopes(&urls);
        let trusted = self.take_trusted(&urls);
        if !self.problems.is_empty() {
            return Err(BuildError(self.problems));
        }
        let probe = self.probe.take().or_else(|| default_for(policy.order()));
        let (default_headers, redirects) = (std::mem::take(&mut self.headers), self.redirects);
        let shared = self.shared(policy, urls, &scopes, Proxies::None, trusted);
        Ok(FailoverLayer::new(shared, default_headers, probe, redirects))
    }

    fn refuse_connection_settings(&mut self) {
        let has_certificates = !self.ca.is_empty() || !self.with_platform_ca || self.identity.is_some();
        let has_pool = self.idle_max != POOL_IDLE_MAX || self.idle_timeout != POOL_IDLE_TIMEOUT;
        let refused = [
            (has_certificates, "certificates"),
            (self.http2 != Http2::default(), "http2"),
            (matches!(self.proxies, Ok(Proxies::All(_)) | Err(_)), "proxy"),
            (has_pool, "pool_idle_max and pool_idle_timeout"),
        ];
        for (_, what) in refused.into_iter().filter(|(is_set, _)| *is_set) {
            self.problems.push(format!("{what}: connections are the inner service's; set it up there"));
        }
    }
}
