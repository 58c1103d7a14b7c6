//! The endpoints of a client: in which order they are, which take traffic, and what each attempt said of them.
//!
//! What follows from what happened is the word of the core's [`Circuit`](handover_core::health::Circuit) and
//! [`Election`](handover_core::health::Election); here they are told, and asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::health::{CircuitState, Election, Standing, offline};
use handover_core::{Endpoints, Failure, Fault, Order, Outcome};
use tokio::sync::watch;
use url::Url;

use crate::endpoint::{Endpoint, Health, Table, Tried};

/// The configured endpoints.
pub(crate) struct Set {
    endpoints: Table,
    order: Order,
    election: Mutex<Election>,
    /// The elected one's index, or `NOBODY`. Read for every request, written when an election changes it.
    elected: AtomicU64,
    /// Tells those who wait that the election has changed.
    changed: watch::Sender<u64>,
}

const NOBODY: u64 = u64::MAX;

/// What is known of one endpoint at this moment.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Its URL.
    pub url: Url,
    /// Whether it gets traffic: its circuit's word, and `Shedding` as long as a `Retry-After` of its own keeps it.
    pub circuit: CircuitState,
    /// How long the newest probe that found it good took.
    pub latency: Option<Duration>,
    /// Whether requests go there first.
    pub is_elected: bool,
    /// How many connections to it rest.
    pub idle_connections: usize,
}

impl Set {
    pub(crate) fn new(endpoints: Vec<Arc<Endpoint>>, order: Order, election: Election) -> Self {
        let elected = AtomicU64::new(NOBODY);
        let endpoints = Arc::new(endpoints);
        Self { endpoints, order, election: Mutex::new(election), elected, changed: watch::Sender::new(0) }
    }

    pub(crate) fn table(&self) -> Table {
        Arc::clone(&self.endpoints)
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Who should be asked first, where the order has such a one.
    pub(crate) fn elected(&self) -> Option<u32> {
        u32::try_from(self.elected.load(Ordering::Relaxed)).ok()
    }

    /// Tells whenever somebody else is elected.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn attempt_began(&self, endpoint: &Endpoint, now: Duration) {
        endpoint.health().circuit.began(now);
    }

    /// An attempt is over: the endpoint's circuit hears of it.
    pub(crate) fn attempt_over(&self, endpoint: &Endpoint, outcome: &Outcome, now: Duration, cap: Duration) {
        let mut health = endpoint.health();
        match outcome {
            Outcome::Answered { status, retry_after, .. } => {
                if let Some(wait) = retry_after.filter(|_| is_refusal(*status)) {
                    health.circuit.park(now.saturating_add(wait.min(cap)));
                }
                if *status >= 500 { health.failed(now) } else { health.succeeded(now) }
            }
            Outcome::Failed(Failure { fault: Fault::LostRace | Fault::Cancelled | Fault::Denied, .. }) => {
                health.abandoned(now);
            }
            // Whether this machine is offline is known only when the request is over.
            Outcome::Failed(failure) if failure.is_local() => health.abandoned(now),
            Outcome::Failed(_) => health.failed(now),
        }
        let is_failing = health.is_failing;
        drop(health);
        if is_failing {
            self.elect(now);
        }
    }

    /// A request is over. An endpoint whose name did not resolve, or that no route leads to, is at fault only if the
    /// network was there for another one.
    pub(crate) fn request_over(&self, record: &handover_core::Record, tried: &[Tried], now: Duration) {
        if offline(record) {
            return;
        }
        let mut is_any = false;
        for (attempt, tried) in record.attempts.iter().zip(tried) {
            if matches!(attempt.outcome, Outcome::Failed(failure) if failure.is_local()) {
                tried.endpoint().health().failed(now);
                is_any = true;
            }
        }
        if is_any {
            self.elect(now);
        }
    }

    /// A probe or a connection that lives said that the endpoint is good, and how fast it was.
    pub(crate) fn is_good(&self, endpoint: &Endpoint, latency: Option<Duration>, now: Duration) {
        let mut health = endpoint.health();
        health.succeeded(now);
        if latency.is_some() {
            health.latency = latency;
        }
        drop(health);
        self.elect(now);
    }

    /// A probe or a connection that broke said that it is not.
    pub(crate) fn is_bad(&self, endpoint: &Endpoint, now: Duration) {
        endpoint.health().failed(now);
        self.elect(now);
    }

    /// A probe ended without saying anything of the endpoint.
    pub(crate) fn is_unknown(&self, endpoint: &Endpoint, now: Duration) {
        endpoint.health().abandoned(now);
    }

    /// Holds an election, where the order has one.
    pub(crate) fn elect(&self, now: Duration) {
        if !matches!(self.order, Order::Fastest | Order::Sticky) {
            return;
        }
        let standings: Vec<_> =
            (0_u64..).zip(self.endpoints.iter()).map(|(index, endpoint)| self.standing(index, endpoint)).collect();
        let mut election = self.election();
        let elected = election.elect(now, &standings).map_or(NOBODY, u64::from);
        if self.elected.swap(elected, Ordering::Relaxed) != elected {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    fn standing(&self, index: u64, endpoint: &Endpoint) -> Standing {
        let health = endpoint.health();
        let latency =
            || health.latency.map_or(u64::MAX, |latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        let cost = if self.order == Order::Fastest { latency() } else { index };
        let is_measured = self.order != Order::Fastest || health.latency.is_some();
        let (is_good, good_since) = (is_measured && !health.is_failing, health.good_since.unwrap_or_default());
        Standing { is_good, good_since, cost }
    }

    /// Who should serve instead of this one: the elected one where there is an election, else the first that is good.
    pub(crate) fn better_than(&self, endpoint: &Endpoint, now: Duration, grace: Duration) -> Option<Arc<Endpoint>> {
        let same = |other: &Endpoint| other.label == endpoint.label;
        if matches!(self.order, Order::Fastest | Order::Sticky) {
            let elected = self.elected().and_then(|index| self.endpoints.get(index as usize))?;
            return (!same(elected)).then(|| Arc::clone(elected));
        }
        let is_good = |other: &&Arc<Endpoint>| {
            let health = other.health();
            let since = health.good_since.filter(|_| !health.is_failing);
            since.is_some_and(|since| now.saturating_sub(since) >= grace)
        };
        self.endpoints.iter().take_while(|other| !same(other)).find(is_good).map(Arc::clone)
    }

    pub(crate) fn status(&self, now: Duration) -> Vec<EndpointStatus> {
        let elected = self.elected();
        let status = |(index, endpoint): (u32, &Arc<Endpoint>)| {
            let health = endpoint.health();
            EndpointStatus {
                url: endpoint.url.clone(),
                circuit: health.circuit.state(now),
                latency: health.latency,
                is_elected: elected.map_or(index == 0 && self.order == Order::Priority, |elected| elected == index),
                idle_connections: endpoint.pool.idle_count(),
            }
        };
        (0..).zip(self.endpoints.iter()).map(status).collect()
    }

    fn election(&self) -> MutexGuard<'_, Election> {
        self.election.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a `Retry-After` beside this status is about the server: it is overloaded or down (RFC 9110 §10.2.3, RFC 6585
/// §4). Beside another one (202, 301, 409, 413) it is about that request's own matter.
const fn is_refusal(status: u16) -> bool {
    status == 429 || status >= 500
}

impl Health {
    /// Whether its time of shedding is over and nobody has tried it since.
    pub(crate) fn wants_trial(&self, now: Duration) -> bool {
        self.circuit.state(now) == CircuitState::Probing && self.circuit.admits(now)
    }

    fn succeeded(&mut self, now: Duration) {
        if self.is_failing || self.good_since.is_none() {
            self.good_since = Some(now);
        }
        self.is_failing = false;
        self.circuit.succeeded(now);
    }

    fn failed(&mut self, now: Duration) {
        (self.is_failing, self.good_since) = (true, None);
        self.circuit.failed(now);
    }

    fn abandoned(&mut self, now: Duration) {
        self.circuit.abandoned(now);
    }
}

/// The endpoints of one session, as the core may ask about them.
pub(crate) struct View<'v> {
    pub(crate) table: &'v [Arc<Endpoint>],
    pub(crate) set: &'v Set,
    /// Since the client was made.
    pub(crate) now: Duration,
    /// Where a server said which regions may serve: all others may not.
    pub(crate) allowed: Option<&'v [Arc<Endpoint>]>,
}

impl Endpoints for View<'_> {
    fn count(&self) -> usize {
        self.table.len()
    }

    /// Where load is spread, the load; else the elected one costs nothing, and the others are asked in their order.
    fn cost(&self, index: usize) -> u64 {
        if self.set.order == Order::Spread {
            return self.table[index].in_flight.load(Ordering::Relaxed);
        }
        let index = index as u64;
        if self.set.elected().map(u64::from) == Some(index) { 0 } else { index + 1 }
    }

    fn admits(&self, index: usize) -> bool {
        self.table[index].health().circuit.admits(self.now)
    }

    fn scope(&self, index: usize) -> u32 {
        self.table[index].scope
    }

    fn is_usable(&self, index: usize) -> bool {
        self.allowed.is_none_or(|allowed| allowed.iter().any(|endpoint| Arc::ptr_eq(endpoint, &self.table[index])))
    }
}
