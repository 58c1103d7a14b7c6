//! The doors: which of them a request comes through, what it asks for, and the answer it gets.

mod answer;

use std::rc::Rc;
use std::time::Instant;

use handover_core::{Facts, is_idempotent};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::body::{RequestBody, ResponseBody};
use crate::checks::{self, Form};
use crate::config::{Forwarded, Token};
use crate::errors::ErrorCode;
use crate::headers;
use crate::identity::{self, Identity};
use crate::ledger::{Asked, Ledger};
use crate::log::Door;
use crate::node::Platform;
use crate::plan::View;
use crate::reverse;
use crate::serve::{Active, Client};
use crate::trip::{Head, Trip};
use crate::tunneling;
use crate::worker::Worker;
use handover_wire::dial::Target;

/// A request that found its way: everything decided but the node.
struct Routed {
    door: Door,
    platform: Rc<Platform>,
    /// `None`: the platform's nodes are the target.
    target: Option<Rc<Target>>,
    account: String,
    /// Host and port as they are logged.
    target_host: Box<str>,
    target_url: Box<str>,
    uri: Uri,
    /// `Host` for the upstream, unless the client's own goes through.
    host: Option<HeaderValue>,
    /// Prefix of the path form, for redirects.
    prefix: Option<String>,
    /// It came as for a proxy: the client's identity never goes on.
    anonymous: bool,
}

/// Answers one request. Dropping it gives the request up.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let _active = Active::new(&client);
    let view = worker.view();
    let form = match checks::form_of(&request) {
        Ok(form) => form,
        Err(code) => return answer::refused(code, &client),
    };
    match form {
        Form::Connect(target) => {
            let mut response = connect(&worker, &client, &view, target, request).await;
            if client.is_http1() && !response.status().is_success() {
                // What the client sent behind its head was meant for the tunnel: it must not be read as a request.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        Form::Origin if is_control_plane(request.uri().path()) => answer::control_plane(&request),
        form => match route(&worker, &client, &view, form, &request) {
            Ok(routed) => match barred(&view, &routed) {
                None => exchange(&worker, &client, &view, routed, request).await,
                Some(code) => {
                    answer::turned_away(code, &routed.platform, routed.begin(&worker, &client, request.method()))
                }
            },
            Err(code) => answer::refused(code, &client),
        },
    }
}

impl Routed {
    fn begin(&self, worker: &Rc<Worker>, client: &Rc<Client>, method: &Method) -> Box<Ledger> {
        let asked = Asked {
            door: self.door,
            client: Active::new(client),
            account: self.account.as_str().into(),
            target_host: self.target_host.clone(),
            target_url: self.target_url.clone(),
            method: method.clone(),
        };
        Ledger::new(Rc::clone(worker), asked)
    }
}

/// Why a request that found its platform goes no further.
fn barred(view: &View, routed: &Routed) -> Option<ErrorCode> {
    let target = routed.target.as_deref()?;
    bar(view, &routed.platform, target)
}

fn bar(view: &View, platform: &Platform, target: &Target) -> Option<ErrorCode> {
    if view.rules.check_literal(target).is_err() {
        return Some(ErrorCode::TargetDenied);
    }
    // Origins answer for themselves: they cannot carry a request to another target.
    (!platform.carries).then_some(ErrorCode::NoAvailableNodes)
}

fn is_control_plane(path: &str) -> bool {
    let first = path.get(1..).unwrap_or_default().split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "api" | "ui" | "metrics")
}

/// Finds platform and target of a request that is not a tunnel.
fn route(
    worker: &Worker,
    client: &Client,
    view: &View,
    form: Form,
    request: &Request<Incoming>,
) -> Result<Routed, ErrorCode> {
    if let Form::Forward(target, authority) = form {
        let (platform, account) = proxied(worker, client, view, request.headers())?;
        return carried(platform, account, Door::Forward, target, &authority, own_path(request.uri()), None);
    }
    let host = checks::host_of(request.headers(), request.uri());
    let token = view.config.proxy_token.as_ref();
    // A path that begins with the token is meant for the gateway, whatever the routes say: no origin may learn it.
    let is_own = token.is_some_and(|token| reverse::begins_with_token(request.uri(), token));
    if let (Some(route), false) = (view.config.route(host, request.uri().path()), is_own) {
        return to_origins(&view.platforms[route.platform], host, request);
    }
    let presented = reverse::first_segment(request.uri().path()).as_bytes();
    let reverse = limited(worker, client, token, presented, reverse::parse(request.uri(), token))?;
    let platform = platform_of(view, &reverse.identity)?;
    let account = request.headers().get(headers::ACCOUNT).and_then(|v| v.to_str().ok());
    let account = account.map_or(reverse.identity.account, |account| account.trim().to_owned());
    carried(platform, account, Door::Reverse, reverse.target, &reverse.authority, reverse.path, Some(reverse.prefix))
}

/// Platform and account of a request that comes as to a proxy.
fn proxied<'v>(
    worker: &Worker,
    client: &Client,
    view: &'v View,
    headers: &HeaderMap,
) -> Result<(&'v Rc<Platform>, String), ErrorCode> {
    let token = view.config.proxy_token.as_ref();
    let presented = headers.get(header::PROXY_AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let identity = limited(worker, client, token, presented, identity::of_forward(headers, token))?;
    Ok((platform_of(view, &identity)?, identity.account))
}

fn platform_of<'v>(view: &'v View, identity: &Identity) -> Result<&'v Rc<Platform>, ErrorCode> {
    view.platform(&identity.platform).ok_or(ErrorCode::PlatformNotFound)
}

/// What reading the credentials came to, unless their client has presented too many wrong ones.
fn limited<T>(
    worker: &Worker,
    client: &Client,
    token: Option<&Token>,
    presented: &[u8],
    read: Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    if token.is_none() || matches!(read, Err(ErrorCode::AuthRequired)) {
        return read;
    }
    worker.auth_limit.borrow_mut().judged(client.ip, presented, read, Instant::now())
}

fn own_path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// A request that nodes carry to the target it names.
fn carried(
    platform: &Rc<Platform>,
    account: String,
    door: Door,
    target: Target,
    authority: &Authority,
    path: PathAndQuery,
    prefix: Option<String>,
) -> Result<Routed, ErrorCode> {
    let scheme = if target.tls { "https" } else { "http" };
    Ok(Routed {
        door,
        platform: Rc::clone(platform),
        account,
        target_host: authority.as_str().into(),
        target_url: format!("{scheme}://{authority}{path}").into(),
        uri: Uri::from(path),
        host: Some(HeaderValue::try_from(authority.as_str()).map_err(|_| ErrorCode::InvalidHost)?),
        prefix,
        anonymous: door == Door::Forward,
        target: Some(Rc::new(target)),
    })
}

/// A request that goes to nodes that are themselves the target. Which of them is not known yet, so that a `Host` that
/// HTTP/1.0 leaves out cannot be made up; and a route with a host of its own takes only requests that name it.
fn to_origins(platform: &Rc<Platform>, host: &str, request: &Request<Incoming>) -> Result<Routed, ErrorCode> {
    if host.is_empty() {
        return Err(checks::BAD_HOST);
    }
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let missing = !request.headers().contains_key(header::HOST);
    let mut url = String::with_capacity(7 + host.len() + path.len());
    for part in ["http://", host, path] {
        url.push_str(part);
    }
    Ok(Routed {
        door: Door::Reverse,
        platform: Rc::clone(platform),
        target: None,
        account: String::new(),
        target_host: host.into(),
        target_url: url.into(),
        // The form is origin-form already, except in HTTP/2.
        uri: if uri.authority().is_none() { uri.clone() } else { Uri::from(own_path(uri)) },
        host: if missing { Some(HeaderValue::try_from(host).map_err(|_| checks::BAD_HOST)?) } else { None },
        prefix: None,
        anonymous: false,
    })
}

/// Sends a request through the platform and answers with what comes back.
async fn exchange(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    view: &View,
    routed: Routed,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (mut parts, body) = request.into_parts();
    let websocket = client.is_http1() && parts.method == Method::GET && headers::asks_for_websocket(&parts.headers);
    let facts = Facts { idempotent: is_idempotent(parts.method.as_str()), ..Facts::default() };
    if let Err(code) = outgoing(&mut parts, &routed, view, client, websocket) {
        return answer::refused(code, client);
    }
    let ledger = routed.begin(worker, client, &parts.method);
    let head = Head { method: parts.method, uri: routed.uri, headers: parts.headers };
    let body = RequestBody::new(body);
    let trip = Trip::new(worker, &routed.platform, routed.target, facts, ledger);
    match trip.exchange(head, body.clone()).await {
        Ok(arrived) if arrived.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            answer::switched(*arrived, websocket, client).await
        }
        Ok(arrived) => answer::relayed(*arrived, body, view, routed.prefix.as_deref()),
        Err(failed) => answer::failed(*failed),
    }
}

/// Makes the client's headers those of the upstream request.
fn outgoing(
    parts: &mut Parts,
    routed: &Routed,
    view: &View,
    client: &Client,
    websocket: bool,
) -> Result<(), ErrorCode> {
    reverse::clean_referer(parts, view.config.proxy_token.as_ref(), routed.prefix.is_some());
    let map = &mut parts.headers;
    headers::strip_hop_by_hop(map)?;
    map.remove(headers::ACCOUNT);
    if !client.is_http1() {
        headers::join_cookies(map);
    }
    if routed.anonymous || view.config.forwarded == Forwarded::Strip {
        headers::strip_identity(map);
    } else {
        headers::append_forwarded(map, client.ip);
    }
    if let Some(host) = &routed.host {
        map.insert(header::HOST, host.clone());
    }
    if websocket {
        headers::ask_for_websocket(map);
    }
    Ok(())
}

/// Opens a tunnel to the target. What the client sends behind its head stays unread until the 2xx has gone to it.
async fn connect(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    view: &View,
    target: Target,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (platform, account) = match proxied(worker, client, view, request.headers()) {
        Ok(routed) => routed,
        Err(code) => return answer::refused(code, client),
    };
    let authority = request.uri().authority().map_or("", Authority::as_str);
    let asked = Asked {
        door: Door::Connect,
        client: Active::new(client),
        account: account.into(),
        target_host: authority.into(),
        target_url: Box::default(),
        method: Method::CONNECT,
    };
    let ledger = Ledger::new(Rc::clone(worker), asked);
    if let Some(code) = bar(view, platform, &target) {
        return answer::turned_away(code, platform, ledger);
    }
    let trip = Trip::new(worker, platform, Some(Rc::new(target)), Facts::default(), ledger);
    match trip.open().await {
        Ok(opened) if request.version() == Version::HTTP_2 => tunneling::accept_http2(*opened, request, view),
        Ok(opened) => tunneling::accept_http1(*opened, client, view),
        Err(failed) => answer::failed(*failed),
    }
}
