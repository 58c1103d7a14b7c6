//! What a caller says of one request to a `tower` service, which has no request builder to say it to.

use std::time::Duration;

use crate::call::Call;

/// Settings of one request, put among its extensions. They do not reach the inner service.
///
/// ```
/// # use handover_client::RequestOptions;
/// let mut request = http::Request::post("/kv/exam_configs").body("{}").expect("valid");
/// request.extensions_mut().insert(RequestOptions::new().idempotent().path_template("/kv/{key}"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "they count among a request's extensions only"]
pub struct RequestOptions {
    idempotent: bool,
    no_failover: bool,
    deadline: Option<Duration>,
    attempt_timeout: Option<Duration>,
    path_template: Option<Box<str>>,
}

impl RequestOptions {
    /// None set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Repeating this request does no harm, whatever its method says.
    pub fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    /// One attempt and no more.
    pub fn no_failover(self) -> Self {
        Self { no_failover: true, ..self }
    }

    /// The time for the whole request, over all attempts, to the answer's head.
    pub fn timeout(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The time of each attempt, from its begin to the answer's head, instead of the policy's.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        Self { attempt_timeout: Some(timeout), ..self }
    }

    /// The path with its variables unfilled, such as `/kv/{key}`, for spans and figures.
    pub fn path_template(self, template: &str) -> Self {
        Self { path_template: Some(template.into()), ..self }
    }

    pub(super) fn apply(self, call: &mut Call) {
        (call.idempotent, call.opted_out) = (self.idempotent, self.no_failover);
        (call.deadline, call.attempt_timeout) = (self.deadline, self.attempt_timeout);
        call.template = self.path_template;
    }
}
