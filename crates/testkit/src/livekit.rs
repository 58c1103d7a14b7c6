//! A LiveKit API server that fails as each request asks: the `X-Lk-Mock` protocol of LiveKit's own test server, on as many
//! loopback listeners as there are regions.
//!
//! It keeps no state between requests: a client sends the same header with every attempt and with the discovery, and each
//! listener decides from its own index (0 is the primary). Not here: the fields for SIP calls, the signal modes of the
//! WebSocket path, protobuf bodies, and the grants inside a token (any `Bearer` token is accepted). `X-Lk-Mock-Delay-Ms` is how
//! long a region stalls that fails with `delay`; only `delayMs` delays the healthy ones too. A failure has no
//! `X-Lk-Mock-Region`.

mod directives;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::directives::{Directives, FailMode};
use crate::gate::Gate;
use crate::http_server::{HttpServer, Reply};

/// The path of the region list.
const DISCOVERY: &str = "/settings/regions";

/// A request that reached the mock.
#[derive(Clone, Debug)]
pub struct LivekitSeen {
    /// Which listener it reached; 0 is the primary.
    pub listener: usize,
    /// Method, target and headers.
    pub head: Parts,
    /// The whole body.
    pub body: Bytes,
}

/// What the listeners share with one another and with the test.
#[derive(Debug)]
struct Shared {
    regions: Mutex<Vec<(String, String)>>,
    cache_control: Mutex<String>,
    discovery_gate: Mutex<Option<Gate>>,
    seen: Mutex<Vec<LivekitSeen>>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn see(&self, seen: LivekitSeen) {
        lock(&self.seen).push(seen);
        self.changed.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running listeners. They end, with all their connections, when it is dropped.
pub struct LivekitMock {
    servers: Vec<HttpServer>,
    shared: Arc<Shared>,
}

impl LivekitMock {
    /// Starts this many listeners; each advertises all of them, as `region-0`, `region-1` and so on.
    ///
    /// # Panics
    /// When no port is free. Not cancel safe: the listeners started so far end.
    pub async fn start(listeners: usize) -> Self {
        let shared = Arc::new(Shared {
            regions: Mutex::default(),
            cache_control: Mutex::new("max-age=0".to_owned()),
            discovery_gate: Mutex::default(),
            seen: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let mut servers = Vec::new();
        for listener in 0..listeners {
            let shared = Arc::clone(&shared);
            servers.push(HttpServer::start(HttpServer::bind().await, move |request| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { serve(request, listener, &shared).await })
            }));
        }
        let mock = Self { servers, shared };
        mock.advertise((0..listeners).map(|index| (format!("region-{index}"), mock.url(index))));
        mock
    }

    /// `http://127.0.0.1:PORT` of a listener; 0 is the primary.
    #[must_use]
    pub fn url(&self, listener: usize) -> String {
        format!("http://{}", self.servers[listener].addr())
    }

    /// Names and URLs for the discovery to give from now on, in this order.
    pub fn advertise(&self, regions: impl IntoIterator<Item = (String, String)>) {
        *lock(&self.shared.regions) = regions.into_iter().collect();
    }

    /// The `Cache-Control` of the discovery from now on. At the start it is `max-age=0`.
    pub fn cache_control(&self, value: &str) {
        value.clone_into(&mut lock(&self.shared.cache_control));
    }

    /// Answers no discovery from now on before the gate opens.
    pub fn hold_discovery(&self, gate: &Gate) {
        *lock(&self.shared.discovery_gate) = Some(gate.clone());
    }

    /// The API requests that a listener got, in order, failed ones included.
    #[must_use]
    pub fn requests(&self, listener: usize) -> Vec<LivekitSeen> {
        let mut seen = self.all_requests();
        seen.retain(|seen| seen.listener == listener);
        seen
    }

    /// The API requests of all listeners, in order.
    #[must_use]
    pub fn all_requests(&self) -> Vec<LivekitSeen> {
        lock(&self.shared.seen).iter().filter(|seen| seen.head.uri.path() != DISCOVERY).cloned().collect()
    }

    /// The requests for the region list, in order, whatever they were answered.
    #[must_use]
    pub fn discoveries(&self) -> Vec<LivekitSeen> {
        lock(&self.shared.seen).iter().filter(|seen| seen.head.uri.path() == DISCOVERY).cloned().collect()
    }

    /// Waits until `holds` is true of what came. Cancel safe.
    ///
    /// # Panics
    /// Never by itself: bound it with [`within`](crate::within).
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        while !holds(self) {
            changed.changed().await.expect("self holds the sender, so it cannot be gone");
        }
    }

    /// Closes a listener and its connections; its port refuses until [`up`](Self::up). Not cancel safe.
    pub async fn down(&self, listener: usize) {
        self.servers[listener].down().await;
    }

    /// Brings a listener back on its port.
    pub fn up(&self, listener: usize) {
        self.servers[listener].up();
    }
}

async fn serve(request: Request<Bytes>, listener: usize, shared: &Shared) -> Reply {
    let (head, body) = request.into_parts();
    let seen = LivekitSeen { listener, head: head.clone(), body: body.clone() };
    match (&head.method, head.uri.path()) {
        (&Method::GET | &Method::HEAD, "/" | "/_test/health") => Reply::text(200, "ok"),
        (&Method::GET, DISCOVERY) => {
            shared.see(seen);
            discover(&head, shared).await
        }
        (_, path) => {
            shared.see(seen);
            match path.strip_prefix("/twirp/livekit.").and_then(|rest| rest.split_once('/')) {
                Some((service, method)) if head.method == Method::POST => {
                    call(&head, &body, (service, method), listener, shared).await
                }
                _ => error(404, "bad_route", &format!("no handler for {} {path}", head.method)),
            }
        }
    }
}

async fn discover(head: &Parts, shared: &Shared) -> Reply {
    let directives = match Directives::read(&head.headers) {
        Ok(directives) => directives,
        Err(problem) => return error(400, "malformed", &problem),
    };
    let gate = lock(&shared.discovery_gate).clone();
    if let Some(gate) = gate {
        gate.wait().await;
    }
    if directives.regions_status != 200 {
        return Reply::text(directives.regions_status, "mock discovery failure");
    }
    let regions = lock(&shared.regions);
    let named = regions.iter().filter(|(name, _)| directives.allows(name)).enumerate();
    let listed = named.map(|(position, (name, url))| match position {
        // protojson leaves a zero out and writes an int64 as a string.
        0 => json!({"region": name, "url": url}),
        _ => json!({"region": name, "url": url, "distance": position.to_string()}),
    });
    let listed: Vec<Value> = listed.collect();
    Reply::json(200, &json!({ "regions": listed })).header("cache-control", &lock(&shared.cache_control))
}

/// Decode, authorise, pin, delay, fail, answer: the order of the protocol.
async fn call(head: &Parts, body: &Bytes, call: (&str, &str), listener: usize, shared: &Shared) -> Reply {
    let decoded = decode(head, body).and_then(|request| Ok((request, Directives::read(&head.headers)?)));
    let (request, directives) = match decoded {
        Ok(decoded) => decoded,
        Err(problem) => return error(400, "malformed", &problem),
    };
    if !directives.skip_auth && !has_token(head) {
        return error(401, "unauthenticated", "no token");
    }
    let name = lock(&shared.regions).get(listener).map(|(name, _)| name.clone()).unwrap_or_default();
    if !directives.allows(&name) {
        return Reply::text(451, "project not allowed in this region.");
    }
    tokio::time::sleep(Duration::from_millis(directives.delay_ms)).await;
    if directives.fail_regions.contains(&listener) {
        return fail(&directives).await;
    }
    respond(call, &request, directives.response).header("x-lk-mock-region", &listener.to_string())
}

fn has_token(head: &Parts) -> bool {
    let value = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| !token.is_empty())
}

fn decode(head: &Parts, body: &Bytes) -> Result<Value, String> {
    let kind = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(format!("unexpected Content-Type: {kind:?}"));
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

async fn fail(directives: &Directives) -> Reply {
    match directives.fail_mode {
        FailMode::Drop => return Reply::Drop,
        FailMode::Delay => tokio::time::sleep(Duration::from_millis(directives.stall_ms)).await,
        FailMode::Status => {}
    }
    let status = directives.fail_status;
    error(status, directives.twirp_code(), &format!("mock failure (status {status})"))
}

fn respond(call: (&str, &str), request: &Value, response: Option<Value>) -> Reply {
    match (response, call) {
        (Some(response), _) => Reply::json(200, &response),
        (None, ("RoomService", "CreateRoom")) => {
            let name = request["name"].as_str().unwrap_or_default();
            Reply::json(200, &json!({"sid": format!("RM_{name}"), "name": name}))
        }
        (None, _) => Reply::Answer(Response::new(Bytes::new())),
    }
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"code": code, "msg": message}))
}
