//! What can be set of a client.

mod build;

#[cfg(feature = "tower")]
mod layer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handover_core::health::{CircuitPolicy, FailbackPolicy};
use handover_core::{Policy, PolicyParts, TokenBucket};
use handover_wire::dial::Identity;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::discover::Discover;
#[cfg(feature = "regions")]
use crate::discover::Regions;
use crate::endpoint::NotAnEndpoint;
use crate::observe::{Observer, Observers};
use crate::prober::Probe;
use crate::proxy::Proxies;

pub use build::BuildError;

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

    /// What guards against retry storms: one budget over all attempts of the client that may repeat what an endpoint has
    /// had to do already, and all hedged dials. Going on from an endpoint that was never handed the request is free.
    /// `None` switches it off. Default: [`TokenBucket::default`].
    pub fn budget(mut self, budget: Option<TokenBucket>) -> Self {
        self.budget = budget;
        self
    }

    /// When an endpoint that fails gets no traffic, and how it is tried again; `None` for no such memory, not even of
    /// `Retry-After`. Default: where the order is [`Order::Priority`](handover_core::Order::Priority), failures shed nobody, so that a first endpoint that is
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
}
