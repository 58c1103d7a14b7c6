//! What all requests of a client share: policy, endpoints, budget, and what is trusted.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_core::health::{Circuit, CircuitPolicy};
use handover_core::{Budget, Facts, Order, Policy, TokenBucket, is_idempotent};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use url::Url;

use crate::call::Call;
use crate::discover::Discover;
use crate::discover::credentials::TrustedHosts;
use crate::endpoint::{About, Endpoint, Table};
use crate::observe::Observers;
use crate::proxy::Proxies;
use crate::set::Set;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) policy: Policy,
    pub(crate) set: Set,
    pub(crate) maker: Maker,
    pub(crate) discover: Option<Arc<dyn Discover>>,
    /// The domains for which a policy that discovers fails over; `None`: all.
    pub(crate) gate: Option<Vec<Box<str>>>,
    pub(crate) trusted: TrustedHosts,
    pub(crate) bucket: Option<TokenBucket>,
    /// The zero of all times that outlive a request.
    pub(crate) epoch: Instant,
    pub(crate) body_idle_timeout: Duration,
    pub(crate) request_id_header: Option<HeaderName>,
    pub(crate) observers: Observers,
    /// Endpoints that were discovered, kept so that their connections and health serve the next request too.
    pub(crate) found: Mutex<Vec<Arc<Endpoint>>>,
    /// The scope of the next endpoint that is discovered: a number that no other one has.
    pub(crate) next_scope: AtomicU32,
    pub(crate) seeds: RandomState,
    pub(crate) failback_grace: Duration,
}

/// How many discovered endpoints are remembered: more than any operator has regions, and little enough to look through.
const FOUND_MAX: usize = 64;

/// Makes endpoints, configured and discovered ones alike.
pub(crate) struct Maker {
    pub(crate) proxies: Proxies,
    pub(crate) circuit: CircuitPolicy,
    pub(crate) idle_max: usize,
    pub(crate) idle_timeout: Duration,
}

impl Maker {
    pub(crate) fn endpoint(&self, url: Url, scope: u32, is_trusted: bool, seed: u64) -> Endpoint {
        let proxy = self.proxies.of(&url);
        let circuit = Circuit::new(&self.circuit, seed);
        let (idle_max, idle_timeout) = (self.idle_max, self.idle_timeout);
        Endpoint::new(url, proxy, About { is_trusted, scope, circuit, idle_max, idle_timeout })
    }
}

impl Shared {
    /// The time since the client was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Chance for one request: the seed of its session.
    pub(crate) fn seed(&self) -> u64 {
        self.seeds.hash_one(self.uptime())
    }

    /// A request begins: it pays its share into the budget.
    pub(crate) fn began(&self) {
        if let Some(bucket) = &self.bucket {
            bucket.deposit(self.uptime());
        }
    }

    /// Gives a request the id that all its attempts carry, unless the caller did.
    pub(crate) fn stamp(&self, call: &mut Call) {
        if let Some(name) = &self.request_id_header
            && !call.headers.contains_key(name)
        {
            let id = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()).expect("hexadecimal digits and dashes");
            call.headers.insert(name.clone(), id);
        }
    }

    /// How many further attempts the budget could pay for now.
    pub(crate) fn budget_available(&self) -> Option<u64> {
        self.bucket.as_ref().map(|bucket| bucket.available(self.uptime()))
    }

    /// The budget at this moment.
    pub(crate) fn budget(&self) -> impl Budget + '_ {
        Purse { bucket: self.bucket.as_ref(), now: self.uptime() }
    }

    /// What the core should know of a request.
    pub(crate) fn facts(&self, call: &Call, table: &Table) -> Facts {
        Facts {
            idempotent: call.idempotent || is_idempotent(call.method.as_str()),
            keyed: call.keyed,
            opted_out: call.opted_out,
            gated: self.is_gated(table),
            preferred: self.set.elected().filter(|_| self.policy.order() == Order::Sticky && call.only.is_none()),
            caller_deadline: call.deadline,
            attempt_timeout: call.attempt_timeout,
        }
    }

    /// Whether the first endpoint is outside the domains for which the policy fails over.
    fn is_gated(&self, table: &Table) -> bool {
        let (Some(gate), Some(first)) = (&self.gate, table.first()) else { return false };
        let host = first.url.host_str().unwrap_or_default();
        self.policy.discover() && !gate.iter().any(|domain| is_below(host, domain))
    }

    /// Whether the caller's credentials may go to a place that was discovered.
    fn may_have_credentials(&self, url: &Url) -> bool {
        let origin = self.set.endpoints().first();
        origin.is_some_and(|origin| self.trusted.may_have_credentials(&origin.url, url))
    }

    /// The endpoint of a URL that was discovered.
    pub(crate) fn discovered(&self, url: &Url) -> Arc<Endpoint> {
        let mut place = url.clone();
        let _ = place.set_username("");
        let _ = place.set_password(None);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.iter().find(|endpoint| endpoint.url == place) {
            return Arc::clone(known);
        }
        // What a discovery names shares no store of keys with anybody, unless the policy says that all do.
        let scope = self.next_scope.fetch_add(1, Ordering::Relaxed);
        let mut endpoint = self.maker.endpoint(url.clone(), scope, self.may_have_credentials(url), self.seed());
        // The same server under another path, as a list of regions has one, knows the caller by the same name.
        let own = || self.set.endpoints().iter().find(|known| known.is_same_place(url))?.authorization.clone();
        endpoint.authorization = endpoint.authorization.or_else(own);
        let endpoint = Arc::new(endpoint);
        if found.len() >= FOUND_MAX {
            found.remove(0);
        }
        found.push(Arc::clone(&endpoint));
        endpoint
    }
}

/// Whether a host is in a domain: `a.livekit.cloud` is in `livekit.cloud`, `notlivekit.cloud` is not.
fn is_below(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.');
    let rest = host.len().checked_sub(domain.len()).map(|at| host.split_at_checked(at));
    match rest.flatten() {
        Some((before, end)) => end.eq_ignore_ascii_case(domain) && before.ends_with('.'),
        None => false,
    }
}

/// The budget at one moment.
struct Purse<'s> {
    bucket: Option<&'s TokenBucket>,
    now: Duration,
}

impl Budget for Purse<'_> {
    fn try_take(&mut self) -> bool {
        self.bucket.is_none_or(|bucket| bucket.try_take_at(self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn the_domain_gate_is_not_fooled_by_a_similar_name() {
        for (host, expected) in [
            ("my-project.livekit.cloud", true),
            ("A.LIVEKIT.CLOUD", true),
            ("a.b.livekit.cloud", true),
            ("notlivekit.cloud", false),
            ("livekit.cloud", false),
            ("x.livekit.io", false),
            ("livekit.cloud.example.com", false),
            ("127.0.0.1", false),
            ("example.com", false),
            ("", false),
        ] {
            assert_eq!(is_below(host, ".livekit.cloud"), expected, "{host}");
        }
    }
}
