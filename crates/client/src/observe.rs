//! Who may watch: spans and figures of every request and attempt, and the caller's own observers. None of them can change
//! an outcome: an observer that panics is caught, and the request goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use handover_core::{AttemptRecord, Verdict};
use http::Method;

use crate::call::Call;
use crate::record::{Detail, Record};
use crate::shared::Shared;

/// Watches a client's requests.
///
/// It is called in the task of the request and should not block. What it panics with is caught and ignored.
pub trait Observer: Send + Sync + 'static {
    /// A request is over: answered, failed, or given up by its caller.
    fn request_over(&self, request: &RequestOver<'_>) {
        let _ = request;
    }
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
}

impl Observed {
    pub(crate) fn begin(_shared: &Shared, call: &Call) -> Self {
        Self { method: call.method.clone(), template: call.template.clone() }
    }

    pub(crate) fn attempt_over(&self, _shared: &Shared, _record: &AttemptRecord, _detail: &Detail, _verdict: Verdict) {}

    pub(crate) fn request_over(&self, shared: &Shared, record: &Record) {
        for observer in &shared.observers.0 {
            let over = RequestOver { method: &self.method, path_template: self.template.as_deref(), record };
            let _ = catch_unwind(AssertUnwindSafe(|| observer.request_over(&over)));
        }
    }
}
