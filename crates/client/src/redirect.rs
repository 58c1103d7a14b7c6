//! Redirects: followed only where the caller asked for it.
//!
//! Each hop is a request of its own, at one place, with the rules of RFC 9110 §15.4: `303` becomes a GET, and so does a
//! POST that got `301` or `302`, as browsers do; `307` and `308` repeat the request, if its body can be sent again.

use std::sync::Arc;

use http::header::{HOST, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::carrier::Carrier;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::request::IDEMPOTENCY_KEY;
use crate::trip::{Engine, run};

/// Sends a request and follows up to `most` redirects; what comes after the last one is the answer.
pub(crate) async fn follow<C: Carrier>(engine: &Engine<C>, mut call: Call, most: u32) -> Result<Answer, Error> {
    let began = Instant::now();
    let deadline = call.deadline.into_iter().chain(engine.shared.policy.deadline()).min();
    let mut hops = Vec::new();
    let mut redirect = StatusCode::OK;
    loop {
        // A body that is sent once has gone with the first request.
        let again = call.body.again();
        let answer = match run(engine, &call).await {
            Ok(answer) => answer,
            Err(error) if hops.is_empty() => return Err(error),
            Err(error) => return Err(error.behind_redirects(hops, redirect)),
        };
        let is_last = hops.len() >= most as usize;
        let Some(next) = next(engine, &answer, &call, again).filter(|_| !is_last) else { return Ok(answer) };
        hops.push(answer.record().clone());
        redirect = answer.status();
        // The deadline is that of the caller's request, with all that it leads to.
        call = next;
        call.deadline = deadline.map(|deadline| deadline.saturating_sub(began.elapsed()));
    }
}

/// What is about the body that a request no longer has.
fn forget_body(headers: &mut HeaderMap) {
    let about_it: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("content-")).cloned().collect();
    for name in about_it {
        headers.remove(name);
    }
    // And the key, which is of that request: this one is another.
    headers.remove(IDEMPOTENCY_KEY);
}

/// The request that this answer leads to.
fn next<C: Carrier>(engine: &Engine<C>, answer: &Answer, call: &Call, body: Option<Body>) -> Option<Call> {
    let status = answer.status();
    let becomes_get = match status {
        StatusCode::SEE_OTHER => call.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => call.method == Method::POST,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return None,
    };
    let here = answer.endpoint().join(&answer.endpoint_handle().path(&call.path).ok()?.to_string()).ok()?;
    let mut there = here.join(answer.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    there.set_fragment(None);
    let there = Endpoint::parse(&without_query(&there)).ok().map(|place| (place, there))?;
    // Credentials must not be read on the way by whoever made the redirect.
    if answer.endpoint().scheme() == "https" && there.0.scheme() == "http" {
        return None;
    }
    let (method, body) = if becomes_get { (Method::GET, Body::default()) } else { (call.method.clone(), body?) };
    let mut next = Call::new(method, path_of(&there.1).parse().ok()?);
    next.headers = call.headers.clone();
    if becomes_get {
        forget_body(&mut next.headers);
    }
    next.decodes = call.decodes;
    // A name for the place where the request was is none for another one.
    if !answer.endpoint_handle().is_same_place(&there.0) {
        next.headers.remove(HOST);
    }
    next.keyed = call.keyed && !becomes_get;
    (next.body, next.idempotent, next.opted_out) = (body, call.idempotent, call.opted_out);
    (next.attempt_timeout, next.template) = (call.attempt_timeout, call.template.clone());
    next.only = Some(place(engine, there.0));
    Some(next)
}

/// The endpoint of a redirect's place: one of the client's without its prefix, or a new one.
fn place<C: Carrier>(engine: &Engine<C>, mut url: Url) -> Arc<Endpoint> {
    url.set_path("/");
    let known = engine.shared.set.endpoints().iter().find(|endpoint| endpoint.url == url);
    known.map_or_else(|| engine.shared.discovered(&url), Arc::clone)
}

fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}

fn path_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}
