//! Asks endpoints whether they are good, beside the traffic: how fast each is, and whether one that failed is back.
//!
//! It runs by its own clock. That requests succeed neither delays a probe nor makes one needless, so traffic goes back to
//! a better endpoint under steady load too. It ends with the client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use handover_core::Order;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::Instant;

use crate::call::{Call, Purpose};
use crate::carrier::Carrier;
use crate::check::unmet;
use crate::endpoint::Endpoint;
use crate::trip::{Engine, later, run};

/// How a probe asks, and what makes an endpoint good.
#[derive(Clone, Debug)]
pub struct Probe {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// What the JSON body must say: a pointer (RFC 6901) and a value.
    pub(crate) expect: Vec<(String, String)>,
    /// Whether an answer below 500 will do, where nothing is known of the path.
    pub(crate) is_lenient: bool,
}

/// Largest body of a probe's answer that is looked at, in bytes: a health document is a few hundred.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

impl Probe {
    /// `GET` this path: good is an answer of 2xx within 3 s, asked every 30 s. A status of 5xx is a verdict, not a sign
    /// of life.
    #[must_use]
    pub fn get(path: &str) -> Self {
        // 3 s is how long Classworks' probes wait; 30 s is how long a failed endpoint may stay unused after it is back.
        let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(3));
        Self { method: Method::GET, path: path.to_owned(), interval, timeout, expect: Vec::new(), is_lenient: false }
    }

    /// The time between two probes of an endpoint.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// How long a probe may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The answer must be JSON with this value (as text) at this pointer (RFC 6901), such as `/status` and `success`.
    #[must_use]
    pub fn expect(mut self, pointer: &str, value: &str) -> Self {
        self.expect.push((pointer.to_owned(), value.to_owned()));
        self
    }

    /// What is asked where the order is by speed and the caller named no probe: whether `HEAD /` is answered below 500.
    pub(crate) fn head() -> Self {
        Self { method: Method::HEAD, is_lenient: true, ..Self::get("/") }
    }
}

/// Runs the probes of one client.
pub(crate) struct Prober {
    pub(crate) probe: Option<Probe>,
    /// Fields of every request, which servers may want of probes too.
    headers: HeaderMap,
    is_running: Arc<AtomicBool>,
}

impl Prober {
    pub(crate) fn new(probe: Option<Probe>, headers: HeaderMap) -> Self {
        Self { probe, headers, is_running: Arc::default() }
    }

    /// Starts probing with the first request: before that there may be no runtime.
    pub(crate) fn wake<C: Carrier>(&self, engine: &Arc<Engine<C>>) {
        let Some(probe) = &self.probe else { return };
        if !self.is_running.load(Ordering::Relaxed) && !self.is_running.swap(true, Ordering::Relaxed) {
            let running = Running(Arc::clone(&self.is_running));
            let probing = keep_probing(Arc::downgrade(engine), probe.clone(), self.headers.clone());
            tokio::spawn(async move {
                let _running = running;
                probing.await;
            });
        }
    }
}

/// Says, however it ends, that nobody probes any more: with the runtime in which the first request was sent, say. The next
/// request starts it again.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Probes all endpoints at every interval, and those that failed as soon as their circuit lets a trial through.
async fn keep_probing<C: Carrier>(engine: Weak<Engine<C>>, probe: Probe, headers: HeaderMap) {
    let mut next_round = Instant::now();
    loop {
        let Some(strong) = engine.upgrade() else { return };
        let is_round = Instant::now() >= next_round;
        if is_round {
            next_round = later(Instant::now(), probe.interval);
        }
        let now = strong.shared.uptime();
        let mut probes = tokio::task::JoinSet::new();
        for endpoint in strong.shared.set.endpoints() {
            if is_round || endpoint.health().wants_trial(now) {
                probes.spawn(ask(engine.clone(), Arc::clone(endpoint), probe.clone(), headers.clone()));
            }
        }
        drop(strong);
        while probes.join_next().await.is_some() {}
        let Some(strong) = engine.upgrade() else { return };
        let now = strong.shared.uptime();
        // Under a grace or a cap nothing but time makes the difference.
        strong.shared.set.elect(now);
        let endpoints = strong.shared.set.endpoints().iter();
        let changes = endpoints.filter_map(|endpoint| endpoint.health().circuit.next_change(now));
        let soonest = changes.map(|due| due.saturating_sub(now).max(PAUSE_MIN)).min().unwrap_or(probe.interval);
        let wait = soonest.min(next_round.saturating_duration_since(Instant::now())).min(ELECTION_INTERVAL);
        drop(strong);
        tokio::time::sleep(wait.max(PAUSE_MIN)).await;
    }
}

/// The least pause between two looks: an endpoint that fails at once must not be asked in a tight loop.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// How long a due failback may wait for the next election where nothing else happens.
const ELECTION_INTERVAL: Duration = Duration::from_secs(1);

/// One probe of one endpoint.
async fn ask<C: Carrier>(engine: Weak<Engine<C>>, endpoint: Arc<Endpoint>, probe: Probe, headers: HeaderMap) {
    let Some(engine) = engine.upgrade() else { return };
    let Ok(path) = probe.path.parse() else { return };
    let mut call = Call::new(probe.method.clone(), path);
    call.headers = headers;
    (call.opted_out, call.only, call.purpose) = (true, Some(Arc::clone(&endpoint)), Purpose::Probe);
    (call.deadline, call.attempt_timeout) = (Some(probe.timeout), Some(probe.timeout));
    let began = Instant::now();
    engine.shared.set.attempt_began(&endpoint, engine.shared.uptime());
    let verdict = tokio::time::timeout(probe.timeout, is_good(&engine, &call, &probe)).await.unwrap_or(Some(false));
    let (set, now) = (&engine.shared.set, engine.shared.uptime());
    match verdict {
        Some(true) => set.is_good(&endpoint, Some(began.elapsed()), now),
        Some(false) => set.is_bad(&endpoint, now),
        // This machine has no network: that says nothing of the endpoint.
        None => set.is_unknown(&endpoint, now),
    }
}

/// What a probe says: good, not good, or nothing.
async fn is_good<C: Carrier>(engine: &Engine<C>, call: &Call, probe: &Probe) -> Option<bool> {
    let answer = match run(engine, call).await {
        Ok(answer) => answer,
        Err(error) => {
            let is_offline = error.record().is_some_and(|record| handover_core::health::offline(record.core()));
            return if is_offline { None } else { Some(false) };
        }
    };
    let status = answer.status();
    if !(status.is_success() || (probe.is_lenient && status.as_u16() < 500)) {
        return Some(false);
    }
    if probe.expect.is_empty() {
        return Some(true);
    }
    let (_, body) = answer.into_parts();
    // A body that breaks off or does not end is not what was expected either.
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else { return Some(false) };
    Some(unmet(&body.to_bytes(), &probe.expect).is_none())
}

/// The order in which a client that named no probe needs one all the same.
pub(crate) fn default_for(order: Order) -> Option<Probe> {
    (order == Order::Fastest).then(Probe::head)
}
