//! The client as the socket sees it: its order, its health, its connections with their proof.

use std::sync::Arc;
use std::time::Duration;

use handover_core::health::CircuitState;
use handover_wire::dial::Stream;
use http::Method;
use http::header::CONTENT_TYPE;
use tokio::sync::watch;
use url::Url;

use super::reach::{Ask, BoxFuture, Reach, Reached, Unreachable};
use super::transport::{Evidence, Switched, Wire};
use crate::answer::Answer;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::request::RequestBuilder;

impl Wire for Stream {
    fn evidence(&self) -> Evidence {
        let counter = self.raw_counter();
        Evidence::new(move || counter.written())
    }
}

/// A client that a socket stands on.
pub(crate) struct OverClient(pub(crate) Client);

impl From<Error> for Unreachable {
    fn from(error: Error) -> Self {
        Self { status: error.status(), not_sent: error.is_not_sent(), message: error.to_string() }
    }
}

impl OverClient {
    /// A configured or discovered endpoint by its URL.
    fn endpoint(&self, url: &Url) -> Option<Arc<Endpoint>> {
        let shared = &self.0.engine().shared;
        let configured = shared.set.endpoints().iter().find(|endpoint| endpoint.url == *url);
        configured.cloned().or_else(|| Some(shared.discovered(url)))
    }

    fn request(&self, method: Method, ask: &Ask) -> RequestBuilder {
        let request = self.0.request(method, &ask.path).path_template(&ask.path);
        let request = request.query(ask.query.iter().map(|(name, value)| (name, value)));
        let request = request.headers(ask.headers.clone()).timeout(ask.limit);
        match ask.only.as_ref().and_then(|url| self.endpoint(url)) {
            // Who is next is for the socket to say where it names one.
            Some(endpoint) => request.only_endpoint(&endpoint).no_failover(),
            None => request,
        }
    }

    fn told(&self, url: &Url, tell: impl FnOnce(&crate::set::Set, &Endpoint, Duration)) {
        let shared = &self.0.engine().shared;
        if let Some(endpoint) = self.endpoint(url) {
            tell(&shared.set, &endpoint, shared.uptime());
        }
    }
}

async fn text(mut answer: Answer, bytes_max: usize) -> Result<String, Unreachable> {
    if !answer.status().is_success() {
        let status = answer.status();
        let message = format!("{} answered {status}", answer.endpoint());
        return Err(Unreachable { status: Some(status), not_sent: false, message });
    }
    let wrong = |what: &str| Unreachable { status: None, not_sent: false, message: what.to_owned() };
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(wrong("an answer is larger than allowed"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| wrong("an answer is not UTF-8"))
}

impl Reach for OverClient {
    fn upgrade(&self, ask: Ask) -> BoxFuture<Result<Reached, Unreachable>> {
        let request = self.request(Method::GET, &ask);
        Box::pin(async move {
            let upgraded = request.upgrade("websocket").await?;
            tracing::debug!(endpoint = ?upgraded.endpoint, "a socket's connection stands");
            let switched = Switched { wire: Box::new(upgraded.io), early: upgraded.early };
            Ok(Reached { switched, endpoint: upgraded.endpoint.url.clone(), headers: upgraded.headers })
        })
    }

    fn fetch(&self, ask: Ask) -> BoxFuture<Result<(String, Url), Unreachable>> {
        let request = self.request(Method::GET, &ask);
        Box::pin(async move {
            let answer = request.send().await?;
            let endpoint = answer.endpoint_handle().url.clone();
            Ok((text(answer, ask.answer_bytes_max).await?, endpoint))
        })
    }

    fn exchange(&self, ask: Ask, body: Option<String>) -> BoxFuture<Result<String, Unreachable>> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        // The server holds a poll as long as it has nothing to say; the limit on an attempt is not for that.
        let mut request = self.request(method, &ask).attempt_timeout(ask.limit);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "text/plain;charset=UTF-8").body(body);
        }
        Box::pin(async move { text(request.send().await?, ask.answer_bytes_max).await })
    }

    fn order(&self) -> Vec<Url> {
        let mut status = self.0.endpoints();
        status.sort_by_key(|status| (status.circuit == CircuitState::Shedding, !status.is_elected));
        status.into_iter().map(|status| status.url).collect()
    }

    fn better_than(&self, endpoint: &Url) -> Option<Url> {
        let shared = &self.0.engine().shared;
        let endpoint = self.endpoint(endpoint)?;
        let better = shared.set.better_than(&endpoint, shared.uptime(), shared.failback_grace)?;
        Some(better.url.clone())
    }

    fn look(&self, ask: Ask, at: &Url) -> Option<BoxFuture<()>> {
        // A client that probes has a verdict of its own, which this weaker one must not overrule.
        if self.0.is_probing() {
            return None;
        }
        let before = self.order_of_use().into_iter().take_while(|url| url != at);
        let requests: Vec<_> =
            before.map(|url| self.request(Method::GET, &Ask { only: Some(url), ..ask.clone() })).collect();
        Some(Box::pin(async move {
            for request in requests {
                // The client takes note of each answer and of each failure by itself.
                let _ = request.send().await;
            }
        }))
    }

    fn elections(&self) -> watch::Receiver<u64> {
        self.0.engine().shared.set.watch()
    }

    fn lost(&self, endpoint: &Url) {
        self.told(endpoint, |set, endpoint, now| set.is_bad(endpoint, now));
    }

    fn good(&self, endpoint: &Url) {
        self.told(endpoint, |set, endpoint, now| set.is_good(endpoint, None, now));
    }
}

impl OverClient {
    /// The endpoints as they were given: the first is the best.
    fn order_of_use(&self) -> Vec<Url> {
        self.0.engine().shared.set.endpoints().iter().map(|endpoint| endpoint.url.clone()).collect()
    }
}
