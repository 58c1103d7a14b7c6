//! What a caller asked for, and the request that it becomes at each endpoint.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri};

use crate::body::{Body, SentBody};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::shared::Shared;

/// Who wants a request. What the client asks for itself pays nothing into the budget and is shown to no observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A caller.
    Request,
    /// A request that looks for more endpoints.
    Discovery,
    /// A probe, which says itself what it found out: its answer alone would count it twice, or for the contrary.
    Probe,
}

/// One request, before it has an endpoint.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The path with its variables unfilled, for figures and spans.
    pub(crate) template: Option<Box<str>>,
    /// The caller says that repeating it does no harm.
    pub(crate) idempotent: bool,
    /// It carries an idempotency key that is trusted.
    pub(crate) keyed: bool,
    pub(crate) opted_out: bool,
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    /// The one endpoint it may go to.
    pub(crate) only: Option<Arc<Endpoint>>,
    /// It asks for another protocol on its connection.
    pub(crate) is_upgrade: bool,
    /// Whether its answer is decoded, where this build can.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "br", feature = "zstd")),
        allow(dead_code, reason = "nothing can be decoded")
    )]
    pub(crate) decodes: bool,
    pub(crate) purpose: Purpose,
    pub(crate) extensions: Extensions,
}

impl Call {
    pub(crate) fn new(method: Method, path: PathAndQuery) -> Self {
        Self {
            method,
            path,
            headers: HeaderMap::new(),
            body: Body::default(),
            template: None,
            idempotent: false,
            keyed: false,
            opted_out: false,
            deadline: None,
            attempt_timeout: None,
            only: None,
            is_upgrade: false,
            decodes: true,
            purpose: Purpose::Request,
            extensions: Extensions::new(),
        }
    }

    /// Adds the fields that the request does not have itself.
    pub(crate) fn add_missing(&mut self, defaults: &HeaderMap) {
        for name in defaults.keys() {
            if self.headers.contains_key(name) {
                continue;
            }
            for value in defaults.get_all(name) {
                self.headers.append(name.clone(), value.clone());
            }
        }
    }

    /// Whether it can be sent anywhere.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut hosts = self.headers.get_all(HOST).iter();
        if hosts.next().is_some_and(HeaderValue::is_empty) || hosts.next().is_some() {
            return Err(Error::builder("the field Host must be one, and not empty"));
        }
        Ok(())
    }

    /// The request as it is sent to this endpoint. The body is the same in every attempt, and so are the fields, except
    /// that credentials stay at home where the endpoint is not trusted with them.
    pub(crate) fn request(&self, shared: &Shared, endpoint: &Endpoint) -> Result<Request<SentBody>, String> {
        let path =
            endpoint.path(&self.path).map_err(|error| format!("the path {} cannot be sent: {error}", self.path))?;
        let mut headers = self.headers.clone();
        if !endpoint.is_trusted {
            shared.trusted.strip(&mut headers);
        }
        if let Some(own) = &endpoint.authorization
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, own.clone());
        }
        let mut request = Request::new(self.body.for_attempt());
        // POST, PUT and PATCH say that they have no content, others need not (RFC 9110 §8.6).
        if self.body.is_empty() && matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(path);
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        Ok(request)
    }
}

/// Makes a request absolute, as HTTP/2 and other transports want it: scheme and authority in the URI, and no `Host`.
pub(crate) fn absolute<B>(request: &mut Request<B>, endpoint: &Endpoint) -> Result<(), String> {
    let host = request.headers_mut().remove(HOST).unwrap_or_else(|| endpoint.host.clone());
    let authority = Authority::try_from(host.as_bytes());
    let authority = authority.map_err(|error| format!("the field Host is no authority: {error}"))?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if endpoint.url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| format!("the request has no address: {error}"))?;
    Ok(())
}
