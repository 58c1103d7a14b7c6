//! What the client gets: a node's answer made fit for it, or the gateway's own words.

use std::rc::Rc;

use handover_core::{Fault, Stage};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::body::{RequestBody, ResponseBody};
use crate::errors::{self, ErrorCode};
use crate::headers;
use crate::ledger::Ledger;
use crate::log::RequestId;
use crate::node::Platform;
use crate::plan::View;
use crate::relay::{Home, Relay};
use crate::reverse;
use crate::serve::Client;
use crate::trip::{Answer, Failed};
use crate::tunneling::Takeover;
use handover_wire::conn::full_text;

/// A response of the gateway's own to a request that went nowhere.
pub(super) fn refused(code: ErrorCode, client: &Client) -> Response<ResponseBody> {
    let mut response = own(code, None, false);
    if client.is_http1() && matches!(code, ErrorCode::BadRequest(_)) {
        // Where a message was malformed, what follows it cannot be trusted to be the next one.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A response of the gateway's own to a request that found its platform and goes no further; logged.
pub(super) fn turned_away(code: ErrorCode, platform: &Platform, ledger: Box<Ledger>) -> Response<ResponseBody> {
    let mut response = own(code, None, false);
    let id = ledger.refused(platform, code);
    response.headers_mut().insert(errors::ID_HEADER, shown(id));
    response
}

fn shown(id: RequestId) -> HeaderValue {
    HeaderValue::from_str(id.text().as_str()).expect("an id is letters and digits")
}

fn own(code: ErrorCode, fault: Option<Fault>, response_wait: bool) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(code.body()));
    *response.status_mut() = code.status();
    response.headers_mut().extend(code.headers(fault, response_wait));
    response
}

/// The failure of a request whose attempts are over: the error of the decisive one, and the id to ask `handover explain` about.
pub(super) fn failed(failed: Failed) -> Response<ResponseBody> {
    let Failed { code, fault, client_left, response_wait, mut ledger } = failed;
    let mut response = own(code, fault, response_wait);
    response.headers_mut().insert(errors::ID_HEADER, shown(ledger.id));
    if client_left {
        // The row of a request that its client gave up: the ledger writes it by itself.
        drop(ledger);
    } else {
        ledger.answered(code.status().as_u16(), Some(code));
        ledger.close(fault == Some(Fault::Cancelled));
    }
    response
}

/// A node's answer on its way to the client.
pub(super) fn relayed(
    answer: Answer,
    request_body: RequestBody,
    view: &View,
    prefix: Option<&str>,
) -> Response<ResponseBody> {
    let Answer { response, conn, in_flight, target, mut ledger } = answer;
    let (mut parts, incoming) = response.into_parts();
    // A node of HTTP/1.0 could not be sent a body of unknown length; what is framed twice may end elsewhere than thought.
    let keeps = parts.version == Version::HTTP_11 && headers::has_one_framing(&parts.headers);
    let idle_max = if keeps { view.config.limits.node_idle_max } else { 0 };
    headers::strip_response(&mut parts.headers);
    if parts.status == StatusCode::NO_CONTENT {
        // It has no body, whatever length the node gave it (RFC 9110 §8.6); a client of HTTP/2 would miss the bytes.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    // The node's version says nothing about the client's connection.
    parts.version = Version::HTTP_11;
    if let Some(prefix) = prefix {
        rewrite_location(&mut parts.headers, prefix);
    }
    ledger.answered(parts.status.as_u16(), None);
    let home = Home { in_flight, target, idle_max };
    let relay = Relay::new(incoming, conn, home, request_body, ledger);
    Response::from_parts(parts, ResponseBody::Relay(Box::new(relay)))
}

fn rewrite_location(map: &mut http::HeaderMap, prefix: &str) {
    let location = map.get(header::LOCATION).and_then(|v| v.to_str().ok());
    let rewritten = location.and_then(|l| reverse::rewritten_location(l, prefix));
    if let Some(value) = rewritten.and_then(|l| HeaderValue::try_from(l).ok()) {
        map.insert(header::LOCATION, value);
    }
}

/// A node switched protocols: to WebSocket if the client asked for it, anything else is the node's mistake.
pub(super) async fn switched(answer: Answer, websocket: bool, client: &Rc<Client>) -> Response<ResponseBody> {
    let Answer { response, conn, in_flight, mut ledger, .. } = answer;
    let mut parts = response.into_parts().0;
    if !websocket || !headers::is_websocket(&parts.headers) {
        return no_tunnel(ledger, Fault::Protocol, "the node switched to a protocol nobody had asked for");
    }
    let (stream, early) = match conn.into_switched().await {
        Ok(switched) => switched,
        Err(error) => return no_tunnel(ledger, Fault::Closed, &full_text(&error)),
    };
    headers::strip_response(&mut parts.headers);
    headers::ask_for_websocket(&mut parts.headers);
    ledger.answered(parts.status.as_u16(), None);
    ledger.detail(ledger.answering()).stage = Stage::Tunnel;
    client.takeover.replace(Some(Takeover { stream, early, in_flight, ledger }));
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, ResponseBody::Empty)
}

fn no_tunnel(mut ledger: Box<Ledger>, fault: Fault, text: &str) -> Response<ResponseBody> {
    ledger.broke(Stage::AwaitHead, fault, None, text);
    failed(Failed {
        code: ErrorCode::UpstreamRequestFailed,
        fault: Some(fault),
        client_left: false,
        response_wait: false,
        ledger,
    })
}

/// The control plane's pages. More than health comes with the API.
pub(super) fn control_plane(request: &Request<Incoming>) -> Response<ResponseBody> {
    if request.uri().path() != "/healthz" {
        return own(ErrorCode::NotFound, None, false);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return own(ErrorCode::MethodNotAllowed, None, false);
    }
    let mut response = Response::new(ResponseBody::text("{\"status\":\"ok\"}\n"));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
