//! Requests and attempts as spans of `tracing`.

use handover_core::{Fate, Fault};
use http::Method;
use tracing::field::{Empty, display};
use tracing::{Span, info_span};
use url::Url;

use super::method_word;
use crate::record::{Attempt, Record};

/// The span of a request.
#[derive(Default)]
pub(super) struct RequestSpan(Option<Span>);

/// The span of an attempt.
#[derive(Default)]
pub(super) struct AttemptSpan(Option<Span>);

impl RequestSpan {
    pub(super) fn new(method: &Method, template: Option<&str>) -> Self {
        let span = info_span!(
            target: "handover_client",
            "request",
            otel.name = display(name(method, template)),
            otel.kind = "internal",
            otel.status_code = Empty,
            http.request.method = method_word(method),
            url.template = template,
            http.response.status_code = Empty,
            error.type = Empty,
            handover.fate = Empty,
            handover.reason = Empty,
            handover.attempts = Empty,
        );
        Self((!span.is_disabled()).then_some(span))
    }

    /// The span of an attempt of this request.
    pub(super) fn attempt(&self, method: &Method, template: Option<&str>, number: u32, url: &Url) -> AttemptSpan {
        let Some(parent) = &self.0 else { return AttemptSpan(None) };
        let span = info_span!(
            target: "handover_client",
            parent: parent,
            "attempt",
            otel.name = display(name(method, template)),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = method_word(method),
            url.scheme = url.scheme(),
            url.template = template,
            server.address = url.host_str(),
            server.port = url.port_or_known_default(),
            network.peer.address = Empty,
            network.peer.port = Empty,
            http.request.resend_count = (number > 1).then(|| number - 1),
            http.response.status_code = Empty,
            error.type = Empty,
            handover.stage = Empty,
            handover.sent = Empty,
            handover.verdict = Empty,
            handover.reason = Empty,
        );
        AttemptSpan(Some(span))
    }

    pub(super) fn end(self, record: &Record) {
        let Some(span) = self.0 else { return };
        span.record("handover.fate", record.fate().as_str());
        span.record("handover.attempts", record.attempts().count());
        if let Some(verdict) = record.verdict() {
            span.record("handover.reason", verdict.reason().as_str());
        }
        let decisive = record.decisive();
        let status = decisive.and_then(|attempt| attempt.status());
        result(&span, status, decisive.and_then(|attempt| attempt.fault()), record.fate() == Fate::Answered);
    }
}

impl AttemptSpan {
    pub(super) fn end(self, attempt: &Attempt<'_>) {
        let Some(span) = self.0 else { return };
        if let Some(address) = attempt.address() {
            span.record("network.peer.address", display(address.ip()));
            span.record("network.peer.port", address.port());
        }
        span.record("handover.stage", attempt.stage().as_str());
        span.record("handover.sent", attempt.sent().as_str());
        span.record("handover.verdict", attempt.verdict().as_str());
        span.record("handover.reason", attempt.verdict().reason().as_str());
        result(&span, attempt.status(), attempt.fault(), attempt.status().is_some());
    }
}

/// An answer of 400 or more is an error to a client, by OpenTelemetry's conventions.
fn result(span: &Span, status: Option<u16>, fault: Option<Fault>, is_answered: bool) {
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    match (status, fault) {
        (Some(status), _) if status >= 400 => span.record("error.type", display(status)),
        (_, Some(fault)) if !is_answered => span.record("error.type", fault.as_str()),
        _ => return,
    };
    span.record("otel.status_code", "ERROR");
}

/// `GET /kv/{key}`, or the method alone.
fn name(method: &Method, template: Option<&str>) -> String {
    match template {
        Some(template) => format!("{} {template}", method_word(method)),
        None => method_word(method).to_owned(),
    }
}
