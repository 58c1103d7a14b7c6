//! From settings to a client: everything is read and checked, and all that is wrong is told at once.

use std::fmt;
use std::hash::RandomState;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use handover_core::health::{CircuitParts, CircuitPolicy, Election};
use handover_core::{Order, Policy};
use handover_wire::dial::{Dialer, TlsRoots};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::time::Instant;
use url::Url;

use super::{CLOUD_DOMAINS, ClientBuilder, REQUEST_ID_HEADER};
use crate::client::{Client, Inner};
use crate::direct::Direct;
use crate::discover::Discover;
#[cfg(feature = "regions")]
use crate::discover::Regions;
use crate::discover::credentials::TrustedHosts;
use crate::endpoint::{Endpoint, NotAnEndpoint};
use crate::prober::{Prober, default_for};
use crate::proxy::Proxies;
use crate::set::Set;
use crate::shared::{Maker, Shared};
use crate::trip::Engine;

impl ClientBuilder {
    /// The client.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn build(mut self) -> Result<Client, BuildError> {
        let policy = self.take_policy();
        let urls = self.take_endpoints();
        let roots = self.take_roots();
        let proxies = self.take_proxies();
        if !self.problems.is_empty() {
            return Err(BuildError(self.problems));
        }
        let scopes = self.take_scopes(&urls);
        let trusted = self.take_trusted(&urls);
        if !self.problems.is_empty() {
            return Err(BuildError(self.problems));
        }
        let carrier = Direct::new(Dialer::new(roots), self.http2);
        let probe = self.probe.take().or_else(|| default_for(policy.order()));
        let (default_headers, redirects) = (std::mem::take(&mut self.headers), self.redirects);
        let shared = self.shared(policy, urls, &scopes, proxies, trusted);
        let engine = Arc::new(Engine { shared: Arc::new(shared), carrier });
        let prober = Prober::new(probe, default_headers.clone());
        Ok(Client::new(Inner { engine, default_headers, prober, redirects }))
    }

    pub(super) fn shared(
        self,
        policy: Policy,
        urls: Vec<Url>,
        scopes: &[u32],
        proxies: Proxies,
        trusted: TrustedHosts,
    ) -> Shared {
        let by_order = || (policy.order() != Order::Priority).then(CircuitPolicy::default);
        let circuit = self.circuit.unwrap_or_else(by_order).unwrap_or_else(never_sheds);
        let maker = Maker { proxies, circuit, idle_max: self.idle_max, idle_timeout: self.idle_timeout };
        let seeds = RandomState::new();
        let endpoint = |(at, url): (usize, Url)| Arc::new(maker.endpoint(url, scopes[at], true, at as u64));
        let endpoints: Vec<_> = urls.into_iter().enumerate().map(endpoint).collect();
        let is_open = self.discover.is_some();
        let cloud = || CLOUD_DOMAINS.map(Box::from).to_vec();
        let gate = self.domains.or_else(|| (!is_open).then(cloud)).filter(|_| policy.discover());
        let discover = self.discover.or_else(|| policy.discover().then(built_in_discovery).flatten());
        let default_id = policy.discover().then_some(REQUEST_ID_HEADER);
        Shared {
            set: Set::new(endpoints, policy.order(), Election::new(self.failback)),
            maker,
            discover,
            gate,
            trusted,
            bucket: self.budget,
            epoch: Instant::now(),
            body_idle_timeout: self.body_idle_timeout,
            request_id_header: self.request_id_header.unwrap_or(default_id),
            observers: self.observers,
            found: Mutex::default(),
            next_scope: AtomicU32::new(u32::try_from(scopes.len()).unwrap_or(u32::MAX / 2)),
            seeds,
            failback_grace: self.failback.parts().grace,
            policy,
        }
    }

    pub(super) fn take_policy(&mut self) -> Policy {
        match Policy::try_new(self.policy) {
            Ok(policy) if policy.order() == Order::Affine => {
                let why = "order: a client knows no session keys to be affine to; sticky stays with the endpoint that served last";
                self.problems.push(why.to_owned());
                policy
            }
            Ok(policy) => policy,
            Err(error) => {
                self.problems.push(error.to_string());
                Policy::at_most_once()
            }
        }
    }

    pub(super) fn take_endpoints(&mut self) -> Vec<Url> {
        let mut urls: Vec<Url> = Vec::new();
        for text in std::mem::take(&mut self.endpoints) {
            match Endpoint::parse(&text) {
                // The same place twice is no second chance.
                Ok(url) if urls.contains(&url) => {}
                Ok(url) => urls.push(url),
                Err(NotAnEndpoint(problem)) => self.problems.push(problem),
            }
        }
        if urls.is_empty() && self.problems.is_empty() {
            self.problems.push("there is no endpoint: give one at least, such as https://api.example".to_owned());
        }
        urls
    }

    fn take_roots(&mut self) -> TlsRoots {
        let mut certificates = Vec::new();
        for pem in std::mem::take(&mut self.ca) {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            match found {
                Ok(found) if !found.is_empty() => certificates.extend(found),
                Ok(_) => self.problems.push("a CA certificate is empty (PEM is expected)".to_owned()),
                Err(error) => self.problems.push(format!("a CA certificate cannot be read: {error}")),
            }
        }
        TlsRoots::with(certificates, self.with_platform_ca, self.identity.take())
    }

    fn take_proxies(&mut self) -> Proxies {
        match std::mem::replace(&mut self.proxies, Ok(Proxies::None)) {
            Ok(proxies) => proxies,
            Err(NotAnEndpoint(problem)) => {
                self.problems.push(problem);
                Proxies::None
            }
        }
    }

    pub(super) fn take_trusted(&mut self, urls: &[Url]) -> TrustedHosts {
        let mut trusted = TrustedHosts::of(urls);
        for host in std::mem::take(&mut self.trusted) {
            if let Err(problem) = trusted.trust(&host) {
                self.problems.push(problem);
            }
        }
        std::mem::take(&mut self.credentials).into_iter().for_each(|name| trusted.credential(name));
        trusted
    }

    /// Each endpoint's scope of idempotency keys: its own, unless it was declared to share one.
    pub(super) fn take_scopes(&mut self, urls: &[Url]) -> Vec<u32> {
        let mut scopes: Vec<u32> = (0..).take(urls.len()).collect();
        for members in std::mem::take(&mut self.scopes) {
            let mut shared = None;
            for member in members {
                let url = Endpoint::parse(&member).ok();
                match urls.iter().position(|known| Some(known) == url.as_ref()) {
                    Some(at) => scopes[at] = *shared.get_or_insert(scopes[at]),
                    None => {
                        let shown = crate::endpoint::without_credentials(&member);
                        self.problems.push(format!("dedup_scope: `{shown}` is none of the endpoints"));
                    }
                }
            }
        }
        scopes
    }
}

/// A circuit that knows only what servers ask for themselves, by `Retry-After`.
fn never_sheds() -> CircuitPolicy {
    let parts = CircuitParts { failures: u32::MAX, ..CircuitParts::default() };
    CircuitPolicy::try_new(parts).expect("the default with more failures is valid")
}

/// How regions are asked for where the caller named no other way.
fn built_in_discovery() -> Option<Arc<dyn Discover>> {
    #[cfg(feature = "regions")]
    return Some(Arc::new(Regions::new()));
    #[cfg(not(feature = "regions"))]
    None
}

/// What is wrong with a client that was set up: all of it, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(pub(super) Vec<String>);

impl BuildError {
    /// The problems.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for BuildError {}
