//! The connection test: every endpoint is asked once, and what is told is how long each step took and whether it is good.
//!
//! It goes past the policy on purpose: no failover, no connection that rested, no circuit and no budget, so that each
//! endpoint's own state is seen and nothing is remembered of it. All are asked at the same time, because a test of five
//! servers, of which three swallow packets, should take one time limit and not three.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use handover_core::{Fault, Stage};
use handover_wire::conn::{ExchangeError, fault_of_exchange, full_text};
use handover_wire::dial::{DialError, Progress};
use http::Method;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::body::BoxError;
use crate::call::Call;
use crate::carrier::{Carrier, Wanted};
use crate::client::Client;
use crate::direct::unsendable;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::prober::BODY_BYTES_MAX;
use crate::request::path_and_query;
use crate::trip::{Engine, later};

/// How long one endpoint may take, if nothing is said: what an attempt has in the named policies.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest found value that a message repeats, in characters: enough to recognise it.
const FOUND_CHARACTERS_MAX: usize = 100;

/// What the connection test asks for, and what makes an endpoint good.
#[derive(Clone, Debug)]
pub struct Check {
    path: String,
    expect: Vec<(String, String)>,
    timeout: Duration,
}

impl Check {
    /// `GET` this path: good is an answer of 2xx whose body comes whole, within 10 s.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self { path: path.to_owned(), expect: Vec::new(), timeout: TIMEOUT }
    }

    /// The answer must be JSON of at most 64 KiB with this value (as text) at this pointer (RFC 6901), such as `/status`
    /// and `success`.
    #[must_use]
    pub fn expect(mut self, pointer: &str, value: &str) -> Self {
        self.expect.push((pointer.to_owned(), value.to_owned()));
        self
    }

    /// How long one endpoint may take, from the resolution of its name to the end of its body.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// What the connection test found, in the order of the client's endpoints.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Every endpoint.
    pub endpoints: Vec<CheckedEndpoint>,
}

/// The connection test in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckVerdict {
    /// Every endpoint is good.
    AllGood,
    /// At least one is good, at least one is not.
    SomeFailed,
    /// Not one is good.
    NoneGood,
}

impl CheckVerdict {
    /// `all_good`, `some_failed` or `none`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllGood => "all_good",
            Self::SomeFailed => "some_failed",
            Self::NoneGood => "none",
        }
    }
}

/// How one endpoint did. A step that was not finished, or that there is none of, has no time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckedEndpoint {
    /// Its URL, without credentials and without a slash at its end.
    pub endpoint: String,
    /// The address of the socket, or the last one that was tried.
    pub address: Option<SocketAddr>,
    /// Whether it answered 2xx and every expectation holds.
    pub is_good: bool,
    /// Its status, if it answered.
    pub status: Option<u16>,
    /// The time to resolve its name; next to nothing where the URL has an address. Behind a proxy, that of the proxy.
    pub dns: Option<Duration>,
    /// The time to connect, likewise.
    pub tcp: Option<Duration>,
    /// The time until a proxy had connected to it, if there is one.
    pub proxy: Option<Duration>,
    /// The time for all TLS handshakes.
    pub tls: Option<Duration>,
    /// The time from the request's begin to the answer's head.
    pub first_byte: Option<Duration>,
    /// The time for everything, to the end of the body or to the failure.
    pub total: Duration,
    /// How far it got.
    pub stage: Stage,
    /// What went wrong. An answer of 2xx that is not what was expected is no fault of the connection: then only
    /// [`message`](Self::message) says why it is not good.
    pub fault: Option<Fault>,
    /// Why it is not good, in one line of lower case.
    pub message: Option<String>,
}

impl CheckReport {
    /// All in one word.
    #[must_use]
    pub fn verdict(&self) -> CheckVerdict {
        match self.endpoints.iter().filter(|endpoint| endpoint.is_good).count() {
            0 => CheckVerdict::NoneGood,
            good if good == self.endpoints.len() => CheckVerdict::AllGood,
            _ => CheckVerdict::SomeFailed,
        }
    }

    /// As JSON: `verdict`, and `endpoints`, a list in order; each has `endpoint`, `address`, `good`, `status`, `dns_ms`,
    /// `tcp_ms`, `proxy_ms`, `tls_ms`, `first_byte_ms`, `total_ms`, `fault`, `stage` and `message`.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let endpoints: Vec<_> = self.endpoints.iter().map(CheckedEndpoint::to_json).collect();
        serde_json::json!({ "verdict": self.verdict().as_str(), "endpoints": endpoints })
    }
}

#[cfg(feature = "json")]
impl CheckedEndpoint {
    fn to_json(&self) -> serde_json::Value {
        let ms = |time: Option<Duration>| time.map(crate::record::milliseconds);
        serde_json::json!({
            "endpoint": self.endpoint,
            "address": self.address.map(|address| address.to_string()),
            "good": self.is_good,
            "status": self.status,
            "dns_ms": ms(self.dns),
            "tcp_ms": ms(self.tcp),
            "proxy_ms": ms(self.proxy),
            "tls_ms": ms(self.tls),
            "first_byte_ms": ms(self.first_byte),
            "total_ms": ms(Some(self.total)),
            "fault": self.fault.map(|fault| fault.to_string()),
            "stage": self.stage.as_str(),
            "message": self.message,
        })
    }
}

impl Client {
    /// Tests the connection to every endpoint: asks each once, all at the same time, each on a connection of its own.
    /// `over` is called for each as soon as it is over.
    ///
    /// The client's default fields and proxies are used, its policy is not. The trusted certificates are read before, so
    /// that no endpoint's time has that in it.
    ///
    /// # Errors
    /// If the path cannot be sent. That endpoints fail is what the report says, no error.
    ///
    /// # Cancel safety
    /// Dropping the future closes every connection that it opened.
    pub async fn check(&self, check: &Check, mut over: impl FnMut(&CheckedEndpoint)) -> Result<CheckReport, Error> {
        let mut call = Call::new(Method::GET, path_and_query(&check.path)?);
        call.add_missing(self.default_headers());
        let engine = &**self.engine();
        let endpoints = engine.shared.set.endpoints();
        if endpoints.iter().any(|endpoint| endpoint.route.needs_certificates()) {
            engine.carrier.load_certificates().await;
        }
        let mut asked: Vec<_> =
            endpoints.iter().map(|endpoint| Box::pin(ask(engine, endpoint, &call, check))).collect();
        let mut found: Vec<Option<CheckedEndpoint>> = asked.iter().map(|_| None).collect();
        poll_fn(|cx| {
            for (asked, found) in asked.iter_mut().zip(&mut found).filter(|(_, found)| found.is_none()) {
                if let Poll::Ready(endpoint) = asked.as_mut().poll(cx) {
                    over(&endpoint);
                    *found = Some(endpoint);
                }
            }
            if found.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(CheckReport { endpoints: found.into_iter().flatten().collect() })
    }
}

/// Asks one endpoint.
async fn ask<C: Carrier>(engine: &Engine<C>, endpoint: &Arc<Endpoint>, call: &Call, check: &Check) -> CheckedEndpoint {
    let began = Instant::now();
    let mut found = CheckedEndpoint::of(endpoint);
    let problem = asked(engine, endpoint, call, check, &mut found).await.err();
    found.total = began.elapsed();
    found.is_good = problem.is_none();
    if let Some(Problem { stage, fault, message }) = problem {
        (found.stage, found.fault, found.message) = (stage, fault, Some(message));
    }
    found
}

/// Why an endpoint is not good.
struct Problem {
    stage: Stage,
    fault: Option<Fault>,
    message: String,
}

/// Asks, and writes down what each step took.
async fn asked<C: Carrier>(
    engine: &Engine<C>,
    endpoint: &Arc<Endpoint>,
    call: &Call,
    check: &Check,
    found: &mut CheckedEndpoint,
) -> Result<(), Problem> {
    let give_up = later(tokio::time::Instant::now(), check.timeout);
    let progress = Arc::new(Progress::new());
    let dial = engine.carrier.dial(Arc::clone(endpoint), Wanted::Fresh, Arc::clone(&progress));
    let dialled = tokio::time::timeout_at(give_up, dial).await;
    let dialled = dialled.unwrap_or_else(|_| Err(DialError::timed_out(&endpoint.route.node, &progress)));
    found.dialled(&progress, dialled.is_ok().then(Instant::now));
    let ready = dialled?;
    found.address = ready.address;
    let request = call.request(&engine.shared, endpoint).map_err(unsendable)?;
    let handed_over = Instant::now();
    let response = engine.carrier.exchange(endpoint, ready.conn, request, give_up).await?;
    (found.first_byte, found.status) = (Some(handed_over.elapsed()), Some(response.status().as_u16()));
    let (head, body) = response.into_parts();
    let read = tokio::time::timeout_at(give_up, pin!(Limited::new(body, BODY_BYTES_MAX)).collect()).await;
    if !head.status.is_success() {
        let status = head.status.as_u16();
        let message = format!("the answer is {status}, not 2xx");
        return Err(Problem { stage: Stage::Body, fault: Some(Fault::Status(status)), message });
    }
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        // Nothing is expected of what was not read.
        Ok(Err(error)) if error.is::<LengthLimitError>() && check.expect.is_empty() => return Ok(()),
        Ok(Err(error)) => return Err(Problem::of_body(&error)),
        Err(_) => return Err(Problem::of_silent_body()),
    };
    match unmet(&body, &check.expect) {
        Some(message) => Err(Problem { stage: Stage::Body, fault: None, message }),
        None => Ok(()),
    }
}

impl CheckedEndpoint {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            endpoint: endpoint.label.to_string(),
            address: None,
            is_good: false,
            status: None,
            dns: None,
            tcp: None,
            proxy: None,
            tls: None,
            first_byte: None,
            total: Duration::ZERO,
            stage: Stage::Body,
            fault: None,
            message: None,
        }
    }

    /// The times of the dial's stages. The last one has a time only if the connection stood in the end.
    fn dialled(&mut self, progress: &Progress, stood: Option<Instant>) {
        self.address = progress.peer();
        let entered = progress.entered();
        let ends = entered.iter().skip(1).map(|(_, at)| *at).chain(stood);
        for ((stage, began), ended) in entered.iter().zip(ends) {
            let time = match stage {
                Stage::Resolve => &mut self.dns,
                Stage::Dial => &mut self.tcp,
                Stage::ProxyHandshake => &mut self.proxy,
                _ => &mut self.tls,
            };
            *time = Some(time.unwrap_or_default() + ended.saturating_duration_since(*began));
        }
    }
}

impl Problem {
    fn of_body(error: &BoxError) -> Self {
        if error.is::<LengthLimitError>() {
            let message =
                format!("the body has more than {} KiB, too much for a connection test", BODY_BYTES_MAX / 1024);
            return Self { stage: Stage::Body, fault: None, message };
        }
        let fault = error.downcast_ref::<hyper::Error>().map_or(Fault::Closed, |error| fault_of_exchange(error).0);
        let message = format!("the body broke off: {}", full_text(&**error));
        Self { stage: Stage::Body, fault: Some(fault), message }
    }

    fn of_silent_body() -> Self {
        let message = "the body did not end in time".to_owned();
        Self { stage: Stage::Body, fault: Some(Fault::Timeout), message }
    }
}

impl From<DialError> for Problem {
    fn from(error: DialError) -> Self {
        Self { stage: error.stage, fault: Some(error.fault), message: error.message.into() }
    }
}

impl From<ExchangeError> for Problem {
    fn from(error: ExchangeError) -> Self {
        Self { stage: error.stage, fault: Some(error.fault), message: error.text }
    }
}

/// The first thing that a body does not say although it is expected.
#[cfg(feature = "json")]
pub(crate) fn unmet(body: &[u8], expect: &[(String, String)]) -> Option<String> {
    if expect.is_empty() {
        return None;
    }
    let json: serde_json::Value = match serde_json::from_slice(body) {
        Ok(json) => json,
        Err(error) => return Some(format!("the body is no JSON: {error}")),
    };
    expect.iter().find_map(|(pointer, wanted)| {
        let found = match json.pointer(pointer) {
            None => return Some(format!("{pointer:?} is not there, and should be {wanted:?}")),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let shown: String = found.chars().take(FOUND_CHARACTERS_MAX).collect();
        (found != *wanted).then(|| format!("{pointer:?} is {shown:?}, not {wanted:?}"))
    })
}

/// Without JSON nothing can be looked up in a body.
#[cfg(not(feature = "json"))]
pub(crate) fn unmet(_body: &[u8], expect: &[(String, String)]) -> Option<String> {
    (!expect.is_empty()).then(|| "this build cannot read JSON (feature `json`)".to_owned())
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::unmet;

    #[test]
    fn a_body_is_held_against_every_expectation_and_the_first_unmet_one_is_told() {
        let body = br#"{"status":"success","ready":true,"n":3,"a/b":[1,null]}"#;
        for (pointer, value, expected) in [
            ("/status", "success", None),
            ("/ready", "true", None),
            ("/n", "3", None),
            ("/a~1b/1", "null", None),
            ("/status", "ok", Some(r#""/status" is "success", not "ok""#)),
            ("/missing", "x", Some(r#""/missing" is not there, and should be "x""#)),
        ] {
            let expect = [("/n".to_owned(), "3".to_owned()), (pointer.to_owned(), value.to_owned())];
            assert_eq!(unmet(body, &expect).as_deref(), expected, "{pointer}");
        }
        assert!(unmet(b"<html>", &[("/a".into(), "b".into())]).is_some_and(|why| why.contains("no JSON")));
        assert_eq!(unmet(b"<html>", &[]), None);
    }
}
