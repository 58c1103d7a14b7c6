//! Who may watch: spans and figures of every request and attempt, and the caller's own observers. None of them can change
//! an outcome: what panics is caught, also where a request is dropped, and the request goes on.
//!
//! # Spans
//!
//! Of [`tracing`], target `handover_client`, level `INFO`; nothing is computed where nobody listens. Names are those of
//! OpenTelemetry's HTTP conventions, so that a bridge needs no table. A query is never among them, nor are credentials.
//!
//! | span | fields |
//! |---|---|
//! | `request` | `otel.name`, `otel.kind` (`internal`), `otel.status_code`, `http.request.method`, `url.template`, `http.response.status_code`, `error.type`, `handover.fate`, `handover.reason`, `handover.attempts` |
//! | `attempt`, in `request` | `otel.name`, `otel.kind` (`client`), `otel.status_code`, `http.request.method`, `url.scheme`, `url.template`, `server.address`, `server.port`, `network.peer.address`, `network.peer.port`, `http.request.resend_count` (from the second on), `http.response.status_code`, `error.type`, `handover.stage`, `handover.sent`, `handover.verdict`, `handover.reason` |
//!
//! `url.template` is what the caller named, and missing otherwise; a method that is none of HTTP's is `_OTHER`.
//!
//! # Figures
//!
//! With the feature `metrics`, through the facade of that name:
//!
//! | name | kind | labels |
//! |---|---|---|
//! | `handover_client_requests_total` | counter | `method`, `template`, `fate` |
//! | `handover_client_request_duration_seconds` | histogram | `method`, `template`, `fate` |
//! | `handover_client_attempts_total` | counter | `endpoint`, `result` (a status or a fault), `sent` |
//! | `handover_client_attempt_duration_seconds` | histogram | `endpoint` |
//! | `handover_client_failovers_total` | counter | `method`, `from`, `to` |
//! | `handover_client_not_sent_total` | counter | `endpoint`, `stage`: attempts of which it is proven that nothing left |
//! | `handover_client_hedged_dials_total` | counter | `endpoint` |
//! | `handover_client_budget_refusals_total` | counter | |
//! | `handover_client_budget_available` | gauge | |

#[cfg(feature = "metrics")]
mod figures;
mod spans;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use handover_core::AttemptRecord;
use http::Method;

use crate::call::{Call, Purpose};
use crate::endpoint::Endpoint;
use crate::record::{Attempt, Detail, Record};
use crate::shared::Shared;

use spans::{AttemptSpan, RequestSpan};

/// Watches a client's requests.
///
/// It is called in the task of the request and should not block. What it panics with is caught and ignored.
pub trait Observer: Send + Sync + 'static {
    /// An attempt begins.
    fn attempt_began(&self, attempt: &AttemptBegan<'_>) {
        let _ = attempt;
    }

    /// An attempt is over: answered, failed, or given up with its request. Each one that began is told once.
    fn attempt_over(&self, attempt: &AttemptOver<'_>) {
        let _ = attempt;
    }

    /// A request is over: answered, failed, or given up by its caller.
    fn request_over(&self, request: &RequestOver<'_>) {
        let _ = request;
    }
}

/// An attempt that begins.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AttemptBegan<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Its path with the variables unfilled, if the caller named one.
    pub path_template: Option<&'a str>,
    /// The attempt's number, counted from 1.
    pub number: u32,
    /// The endpoint's URL, without credentials.
    pub endpoint: &'a str,
}

/// An attempt that is over.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AttemptOver<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Its path with the variables unfilled, if the caller named one.
    pub path_template: Option<&'a str>,
    /// How it went.
    pub attempt: Attempt<'a>,
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestOver<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its path with the variables unfilled, if the caller named one.
    pub path_template: Option<&'r str>,
    /// What happened.
    pub record: &'r Record,
}

/// All who watch.
#[derive(Clone, Default)]
pub(crate) struct Observers(pub(crate) Vec<Arc<dyn Observer>>);

/// One request as it is watched.
pub(crate) struct Observed {
    method: Method,
    template: Option<Box<str>>,
    span: RequestSpan,
    /// The attempts that began, by number; `None` once an attempt is over.
    attempts: Vec<Option<AttemptSpan>>,
    /// The endpoint of the newest attempt.
    #[cfg(feature = "metrics")]
    latest: Option<Arc<str>>,
}

impl Observed {
    pub(crate) fn begin(_shared: &Shared, call: &Call) -> Self {
        let template = call.template.clone();
        // Probes and discoveries are the client's own affair.
        let is_request = call.purpose == Purpose::Request;
        let span = is_request.then(|| guarded(|| RequestSpan::new(&call.method, template.as_deref()))).flatten();
        let span = span.unwrap_or_default();
        Self {
            method: call.method.clone(),
            template,
            span,
            attempts: Vec::new(),
            #[cfg(feature = "metrics")]
            latest: None,
        }
    }

    pub(crate) fn attempt_began(&mut self, shared: &Shared, endpoint: &Endpoint) {
        let number = u32::try_from(self.attempts.len() + 1).unwrap_or(u32::MAX);
        let template = self.template.as_deref();
        #[cfg(feature = "metrics")]
        {
            let is_alone = self.attempts.iter().all(Option::is_none);
            let from =
                self.latest.replace(Arc::clone(&endpoint.label)).filter(|from| is_alone && *from != endpoint.label);
            if let Some(from) = from {
                guarded(|| figures::failover(&self.method, &from, &endpoint.label));
            }
        }
        let span = guarded(|| self.span.attempt(&self.method, template, number, &endpoint.url)).unwrap_or_default();
        self.attempts.push(Some(span));
        let began = AttemptBegan { method: &self.method, path_template: template, number, endpoint: &endpoint.label };
        for observer in &shared.observers.0 {
            guarded(|| observer.attempt_began(&began));
        }
    }

    pub(crate) fn attempt_over(&mut self, shared: &Shared, record: &AttemptRecord, detail: &Detail) {
        self.tell(shared, Attempt::new(record, detail));
    }

    /// Tells of an attempt's end, once.
    fn tell(&mut self, shared: &Shared, attempt: Attempt<'_>) {
        let place = self.attempts.get_mut(attempt.number() as usize - 1);
        let Some(span) = place.and_then(Option::take) else { return };
        guarded(|| span.end(&attempt));
        #[cfg(feature = "metrics")]
        guarded(|| figures::attempt(&attempt));
        let over = AttemptOver { method: &self.method, path_template: self.template.as_deref(), attempt };
        for observer in &shared.observers.0 {
            guarded(|| observer.attempt_over(&over));
        }
    }

    pub(crate) fn request_over(&mut self, shared: &Shared, record: &Record) {
        // Those that were given up with their request have not been told yet.
        for attempt in record.attempts() {
            self.tell(shared, attempt);
        }
        let span = std::mem::take(&mut self.span);
        guarded(|| span.end(record));
        #[cfg(feature = "metrics")]
        guarded(|| figures::request(&self.method, self.template.as_deref(), record, shared.budget_available()));
        let over = RequestOver { method: &self.method, path_template: self.template.as_deref(), record };
        for observer in &shared.observers.0 {
            guarded(|| observer.request_over(&over));
        }
    }
}

/// Whatever it panics with is caught here; `None` then.
fn guarded<T>(watch: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(watch)) {
        Ok(value) => Some(value),
        Err(panic) => {
            // What was thrown may panic when it is dropped; what that throws is kept for ever, which ends it.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

/// The method as figures and spans name it: they must not have a row for every word that somebody sends.
fn method_word(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    if KNOWN.contains(method) { method.as_str() } else { "_OTHER" }
}
