//! From what was typed to a request that is ready to be sent, or to all that is wrong with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_client::{Body, ClientBuilder, Http2, Observer, Policy, PolicyParts, Record, RequestBuilder, RequestOver};

use super::{PolicyName, RequestArgs, data};
use crate::commands::reach::{method, optional_duration};

/// A request, and who watches it.
pub(super) struct Ready {
    pub(super) request: RequestBuilder,
    pub(super) watch: Watch,
}

/// Keeps the records of what ended, in order: one, and with redirects one for each hop. What is given up ends too, and
/// this is where its record is.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Vec<Record>>>);

impl Watch {
    pub(super) fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Watch {
    fn request_over(&self, request: &RequestOver<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.record.clone());
    }
}

/// Checks everything before anything is sent.
pub(super) fn prepare(args: &RequestArgs) -> Result<Ready, Vec<String>> {
    let mut problems = Vec::new();
    let method = method(&args.method).map_err(|problem| problems.push(problem)).ok();
    let attempt_timeout = optional_duration("--attempt-timeout", args.attempt_timeout.as_deref(), &mut problems);
    let deadline = optional_duration("--deadline", args.deadline.as_deref(), &mut problems);
    let headers = args.reach.headers(&mut problems);
    let body = body(args, &mut problems);
    let watch = Watch::default();
    let builder = builder(args, attempt_timeout, &mut problems).observer(watch.clone());
    let client = builder.build().map_err(|error| problems.extend_from_slice(error.problems())).ok();
    let (Some(method), Some(body), Some(client), true) = (method, body, client, problems.is_empty()) else {
        return Err(problems);
    };
    let mut request = client.request(method, &args.path).headers(headers).body(body);
    if let Some(deadline) = deadline {
        request = request.timeout(deadline);
    }
    if args.idempotent {
        request = request.idempotent();
    }
    if args.no_failover {
        request = request.no_failover();
    }
    Ok(Ready { request, watch })
}

/// The client, as far as it was described.
/// The most attempts that any policy allows.
const ENDPOINTS_MAX: usize = handover_core::ATTEMPTS_MAX as usize;

fn builder(args: &RequestArgs, attempt_timeout: Option<Duration>, problems: &mut Vec<String>) -> ClientBuilder {
    if args.endpoints.len() > ENDPOINTS_MAX {
        problems.push(format!(
            "--endpoint: {} were given; a request is tried at {ENDPOINTS_MAX} at most",
            args.endpoints.len()
        ));
    }
    if args.discover.as_ref().is_some_and(|path| path.is_empty() || path.contains("://")) {
        problems.push("--discover: a path of the first endpoint is expected, such as /settings/regions".to_owned());
    }
    let mut builder = args.reach.builder(&args.endpoints).redirects(args.location);
    match Policy::try_new(parts(args, attempt_timeout)) {
        Ok(policy) => builder = builder.policy(policy),
        Err(error) => problems.push(error.to_string()),
    }
    if let Some(path) = &args.discover {
        builder = builder.discovery_path(path);
        if args.policy != PolicyName::Regions {
            // The id over all attempts is a word of the servers that this policy was made for.
            builder = builder.request_id_header(None);
        }
    }
    if args.http2_prior_knowledge {
        builder = builder.http2(Http2::PriorKnowledge);
    }
    if args.shared_keys {
        builder = builder.dedup_scope(&args.endpoints);
    }
    args.trusted.iter().fold(builder, |builder, host| builder.trust_host(host))
}

fn parts(args: &RequestArgs, attempt_timeout: Option<Duration>) -> PolicyParts {
    let policy = match args.policy {
        PolicyName::Rotation => Policy::rotation(),
        PolicyName::Regions => Policy::regions(),
        PolicyName::AtMostOnce => Policy::at_most_once(),
    };
    let mut parts = *policy.parts();
    parts.discover |= args.discover.is_some();
    if let Some(timeout) = attempt_timeout {
        parts.attempt_timeout = Some(timeout);
        // Whoever gives an attempt two minutes wants two minutes, and not what the policy allows from the connection on.
        parts.response_timeout = parts.response_timeout.max(timeout);
    }
    parts
}

fn body(args: &RequestArgs, problems: &mut Vec<String>) -> Option<Body> {
    match (&args.data, &args.data_file) {
        (Some(text), _) => Some(text.clone().into()),
        (None, Some(path)) => match data::open(path) {
            Ok(body) => Some(body),
            Err(error) => {
                problems.push(format!("--data-file {path:?}: {error}"));
                None
            }
        },
        (None, None) => Some(Body::default()),
    }
}
