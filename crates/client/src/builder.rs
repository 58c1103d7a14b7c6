//! Sets a client up, and says all that is wrong with it at once.

#[cfg(feature = "tower")]
mod layer;

use std::fmt;
use std::hash::RandomState;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_core::health::{CircuitParts, CircuitPolicy, Election, FailbackPolicy};
use handover_core::{Order, Policy, PolicyParts, TokenBucket};
use handover_wire::dial::{Dialer, Identity, TlsRoots};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::time::Instant;
use url::Url;

use crate::client::{Client, Inner};
use crate::direct::Direct;
use crate::discover::Discover;
#[cfg(feature = "regions")]
use crate::discover::Regions;
use crate::discover::credentials::TrustedHosts;
use crate::endpoint::{Endpoint, NotAnEndpoint};
use crate::observe::{Observer, Observers};
use crate::prober::{Probe, Prober, default_for};
use crate::proxy::Proxies;
use crate::set::Set;
use crate::shared::{Maker, Shared};
use crate::trip::Engine;

/// Domains for which [`Policy::regions`] fails over when no discovery was named: those of LiveKit's own cloud.
const CLOUD_DOMAINS: [&str; 2] = ["livekit.cloud", "livekit.run"];

/// What carries the id of a request over all its attempts, under a policy that discovers regions.
const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-livekit-request-id");

/// Resting connections that are kept for each endpoint: more than a program has requests under way to one server, mostly.
const POOL_IDLE_MAX: usize = 32;

/// How long a connection may rest: shorter than the idle limits of common servers and load balancers (75 s nginx, 60 s
/// AWS), so that it is mostly this side that closes, and no request meets a closing connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// How long an answer's body may be silent: what browsers and proxies commonly allow.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client being set up. What is wrong is told by [`build`](Self::build), all of it at once.
#[must_use = "nothing happens before it is built"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    policy: PolicyParts,
    budget: Option<TokenBucket>,
    /// `None`: as the order has it.
    circuit: Option<Option<CircuitPolicy>>,
    failback: FailbackPolicy,
    probe: Option<Probe>,
    headers: HeaderMap,
    ca: Vec<Vec<u8>>,
    with_platform_ca: bool,
    identity: Option<Identity>,
    http2: Http2,
    proxies: Result<Proxies, NotAnEndpoint>,
    idle_max: usize,
    idle_timeout: Duration,
    body_idle_timeout: Duration,
    redirects: u32,
    trusted: Vec<String>,
    credentials: Vec<HeaderName>,
    discover: Option<Arc<dyn Discover>>,
    domains: Option<Vec<Box<str>>>,
    scopes: Vec<Vec<String>>,
    request_id_header: Option<Option<HeaderName>>,
    observers: Observers,
    problems: Vec<String>,
}

/// When HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Where the server chooses it in the TLS handshake.
    #[default]
    Alpn,
    /// Never.
    Never,
    /// Always, also without TLS: the server is known to speak it.
    PriorKnowledge,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            policy: *Policy::rotation().parts(),
            budget: Some(TokenBucket::default()),
            circuit: None,
            failback: FailbackPolicy::default(),
            probe: None,
            headers: HeaderMap::new(),
            ca: Vec::new(),
            with_platform_ca: true,
            identity: None,
            http2: Http2::default(),
            proxies: Ok(Proxies::from_env()),
            idle_max: POOL_IDLE_MAX,
            idle_timeout: POOL_IDLE_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            redirects: 0,
            trusted: Vec::new(),
            credentials: Vec::new(),
            discover: None,
            domains: None,
            scopes: Vec::new(),
            request_id_header: None,
            observers: Observers::default(),
            problems: Vec::new(),
        }
    }
}

impl ClientBuilder {
    /// The endpoints, in order of priority: `http://` or `https://`, host, port, and a path that all requests share.
    pub fn endpoints<E: AsRef<str>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(|endpoint| endpoint.as_ref().to_owned()));
        self
    }

    /// How far failover may go. Default: [`Policy::rotation`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = *policy.parts();
        self
    }

    /// The time for each whole request, over all attempts, to the answer's head. Default: the policy's.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = Some(deadline);
        self
    }

    /// The time for each attempt, from its begin to the answer's head. Default: the policy's.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.policy.attempt_timeout = Some(timeout);
        self
    }

    /// The time for each attempt until its connection stands. Default: the policy's.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.policy.connect_timeout = timeout;
        self
    }

    /// What guards against retry storms: one budget over all further attempts and hedged dials of the client. `None`
    /// switches it off. Default: [`TokenBucket::default`].
    pub fn budget(mut self, budget: Option<TokenBucket>) -> Self {
        self.budget = budget;
        self
    }

    /// When an endpoint that fails gets no traffic, and how it is tried again; `None` for no such memory, not even of
    /// `Retry-After`. Default: where the order is [`Order::Priority`], failures shed nobody, so that a first endpoint that is
    /// back serves the very next request (a dead one costs each request a refused dial or `dial_stagger`), and `Retry-After`
    /// is obeyed; [`CircuitPolicy::default`] elsewhere.
    pub fn circuit(mut self, circuit: Option<CircuitPolicy>) -> Self {
        self.circuit = Some(circuit);
        self
    }

    /// When traffic goes back to a better endpoint.
    pub fn failback(mut self, failback: FailbackPolicy) -> Self {
        self.failback = failback;
        self
    }

    /// Asks every endpoint regularly whether it is good.
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Fields of every request that does not set them itself.
    pub fn default_headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// `User-Agent`.
    pub fn user_agent(mut self, name: &str) -> Self {
        match HeaderValue::try_from(name) {
            Ok(value) => drop(self.headers.insert(USER_AGENT, value)),
            Err(_) => self.problems.push(format!("user_agent: {name:?} cannot be sent as a field")),
        }
        self
    }

    /// Further certificates to trust, in PEM.
    pub fn ca_certificate_pem(mut self, pem: &[u8]) -> Self {
        self.ca.push(pem.to_vec());
        self
    }

    /// Further certificates to trust, from a file in PEM.
    pub fn ca_certificate_file(mut self, path: impl AsRef<Path>) -> Self {
        match std::fs::read(path.as_ref()) {
            Ok(pem) => self.ca.push(pem),
            Err(error) => self.problems.push(format!("{}: {error}", path.as_ref().display())),
        }
        self
    }

    /// Trusts the given certificates only, and not those of the platform.
    pub fn only_these_ca(mut self) -> Self {
        self.with_platform_ca = false;
        self
    }

    /// Who this side is, for servers that ask: certificate with its chain, and key, in PEM.
    pub fn client_certificate_pem(mut self, certificate: &[u8], key: &[u8]) -> Self {
        match Identity::from_pem(certificate, key) {
            Ok(identity) => self.identity = Some(identity),
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    /// When HTTP/2 is spoken. Default: where the server chooses it in the TLS handshake.
    pub fn http2(mut self, http2: Http2) -> Self {
        self.http2 = http2;
        self
    }

    /// A proxy before all endpoints: `http://`, `https://` or `socks5://`, with credentials if it wants some. Default: what
    /// the environment says (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    pub fn proxy(mut self, url: &str) -> Self {
        self.proxies = Proxies::all(url);
        self
    }

    /// No proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> Self {
        self.proxies = Ok(Proxies::None);
        self
    }

    /// How many connections may rest for each endpoint. Default: 32.
    pub fn pool_idle_max(mut self, most: usize) -> Self {
        self.idle_max = most;
        self
    }

    /// How long a connection may rest. Default: 50 s.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long an answer's body may be silent. Default: 60 s.
    pub fn body_idle_timeout(mut self, timeout: Duration) -> Self {
        self.body_idle_timeout = timeout;
        self
    }

    /// How many redirects are followed, each with the time that the caller's deadline leaves. Default: none. None is
    /// followed from `https` to `http`, and none with a body that can be sent once only. Credentials go to hosts that may
    /// have them.
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// A host that may have the caller's credentials, besides those of the endpoints.
    pub fn trust_host(mut self, host: &str) -> Self {
        self.trusted.push(host.to_owned());
        self
    }

    /// A field that says who asks, and so goes to the endpoints' and trusted hosts only; besides `Authorization`, `Cookie`,
    /// `X-App-Token`, `X-Site-Key`, `X-Api-Key`, and every value that is marked as sensitive.
    pub fn credential_header(mut self, name: HeaderName) -> Self {
        self.credentials.push(name);
        self
    }

    /// Who knows further endpoints, for a policy that asks ([`PolicyParts::discover`]). It is asked for every endpoint,
    /// in whatever domain, unless [`failover_domains`](Self::failover_domains) says otherwise.
    pub fn discover(mut self, discover: impl Discover) -> Self {
        self.discover = Some(Arc::new(discover));
        self
    }

    /// Regions are asked for at this path of the first endpoint.
    #[cfg(feature = "regions")]
    pub fn discovery_path(self, path: &str) -> Self {
        self.discover(Regions::new().path(path))
    }

    /// The domains for which a policy that discovers fails over; for endpoints elsewhere there is one attempt. Default:
    /// LiveKit's, and everywhere once a discovery was named.
    pub fn failover_domains<D: AsRef<str>>(mut self, domains: impl IntoIterator<Item = D>) -> Self {
        self.domains = Some(domains.into_iter().map(|domain| domain.as_ref().into()).collect());
        self
    }

    /// These endpoints share one store of idempotency keys: what one of them has done for a key, the others know. A
    /// request with a key that may have arrived goes on within its scope only.
    pub fn dedup_scope<E: AsRef<str>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.scopes.push(endpoints.into_iter().map(|endpoint| endpoint.as_ref().to_owned()).collect());
        self
    }

    /// The field that carries one id over all attempts of a request; `None` for no such field. A caller's own value is
    /// kept. Default: `X-Livekit-Request-Id` under a policy that discovers, else none.
    pub fn request_id_header(mut self, name: Option<HeaderName>) -> Self {
        self.request_id_header = Some(name);
        self
    }

    /// Watches all requests.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.0.push(Arc::new(observer));
        self
    }

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
        Ok(Client::new(Inner { engine, default_headers, prober: Prober::new(probe), redirects }))
    }

    fn shared(self, policy: Policy, urls: Vec<Url>, scopes: &[u32], proxies: Proxies, trusted: TrustedHosts) -> Shared {
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
            seeds,
            failback_grace: self.failback.parts().grace,
            policy,
        }
    }

    fn take_policy(&mut self) -> Policy {
        match Policy::try_new(self.policy) {
            Ok(policy) => policy,
            Err(error) => {
                self.problems.push(error.to_string());
                Policy::at_most_once()
            }
        }
    }

    fn take_endpoints(&mut self) -> Vec<Url> {
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

    fn take_trusted(&mut self, urls: &[Url]) -> TrustedHosts {
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
    fn take_scopes(&mut self, urls: &[Url]) -> Vec<u32> {
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
pub struct BuildError(Vec<String>);

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
