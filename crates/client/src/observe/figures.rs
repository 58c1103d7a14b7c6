//! Requests and attempts as figures, through the `metrics` facade.

use handover_core::Sent;
use http::Method;
use metrics::{counter, gauge, histogram};

use super::method_word;
use crate::record::{Attempt, Record};

/// A request goes from one endpoint to another.
pub(super) fn failover(method: &Method, from: &str, to: &str) {
    let labels = [("method", method_word(method).to_owned()), ("from", from.to_owned()), ("to", to.to_owned())];
    counter!("handover_client_failovers_total", &labels).increment(1);
}

/// An attempt is over.
pub(super) fn attempt(attempt: &Attempt<'_>) {
    let endpoint = attempt.endpoint().to_owned();
    let fault = || attempt.fault().map_or_else(String::new, |fault| fault.as_str().to_owned());
    let result = attempt.status().map_or_else(fault, |status| status.to_string());
    let sent = attempt.sent().as_str();
    counter!("handover_client_attempts_total", "endpoint" => endpoint.clone(), "result" => result, "sent" => sent)
        .increment(1);
    histogram!("handover_client_attempt_duration_seconds", "endpoint" => endpoint.clone())
        .record(attempt.duration().as_secs_f64());
    if attempt.sent() == Sent::No {
        let stage = attempt.stage().as_str();
        counter!("handover_client_not_sent_total", "endpoint" => endpoint.clone(), "stage" => stage).increment(1);
    }
    if attempt.is_hedged() {
        counter!("handover_client_hedged_dials_total", "endpoint" => endpoint).increment(1);
    }
}

/// A request is over.
pub(super) fn request(method: &Method, template: Option<&str>, record: &Record, budget: Option<u64>) {
    let labels = [
        ("method", method_word(method).to_owned()),
        ("template", template.unwrap_or_default().to_owned()),
        ("fate", record.fate().as_str().to_owned()),
    ];
    counter!("handover_client_requests_total", &labels).increment(1);
    histogram!("handover_client_request_duration_seconds", &labels).record(record.duration().as_secs_f64());
    let core = record.core();
    let refused = core.attempts.iter().filter(|attempt| attempt.budget == Some(false)).count() as u64;
    let refused = refused + u64::from(core.hedges_refused);
    if refused > 0 {
        counter!("handover_client_budget_refusals_total").increment(refused);
    }
    if let Some(budget) = budget {
        // Budgets are far below 2^53, up to which this is exact.
        #[allow(clippy::cast_precision_loss, reason = "budgets are small")]
        gauge!("handover_client_budget_available").set(budget as f64);
    }
}
