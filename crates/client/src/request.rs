//! Builds one request, and sends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handover_wire::dial::Stream;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::{Url, form_urlencoded};

use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::client::Client;
use crate::endpoint::{Endpoint, basic, without_credentials};
use crate::error::Error;

/// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What no path may hold as it is (RFC 3986 §3.3). `%` stays: a path may be encoded already.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// One request being built.
#[must_use = "nothing happens before it is sent"]
pub struct RequestBuilder {
    client: Client,
    call: Result<Call, Error>,
}

impl RequestBuilder {
    pub(crate) fn new(client: &Client, method: Method, path: &str) -> Self {
        let call = path_and_query(path).map(|path| Call::new(method, path));
        Self { client: client.clone(), call }
    }

    fn with(mut self, change: impl FnOnce(&mut Call) -> Result<(), Error>) -> Self {
        if let Ok(call) = &mut self.call
            && let Err(error) = change(call)
        {
            self.call = Err(error);
        }
        self
    }

    /// Adds a field. `Host` replaces the endpoint's own in every attempt.
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        N::Error: Into<http::Error>,
        V: TryInto<HeaderValue>,
        V::Error: Into<http::Error>,
    {
        self.with(|call| {
            let name = name.try_into().map_err(|error| Error::builder(error.into()))?;
            let value = value.try_into().map_err(|error| Error::builder(error.into()))?;
            call.keyed |= name == IDEMPOTENCY_KEY;
            call.headers.append(name, value);
            Ok(())
        })
    }

    /// Sets these fields; those of the same name are replaced.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.with(|call| {
            call.keyed |= headers.contains_key(IDEMPOTENCY_KEY);
            let mut latest = None;
            for (name, value) in headers {
                // The first of several of one name carries it, the others follow without.
                match name {
                    Some(name) => {
                        call.headers.insert(name.clone(), value);
                        latest = Some(name);
                    }
                    None => {
                        if let Some(name) = &latest {
                            call.headers.append(name.clone(), value);
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// `Authorization: Bearer`.
    pub fn bearer_auth(self, token: &str) -> Self {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        self.with(|call| {
            let mut value = value.map_err(Error::builder)?;
            value.set_sensitive(true);
            call.headers.insert(AUTHORIZATION, value);
            Ok(())
        })
    }

    /// `Authorization: Basic` (RFC 7617).
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        self.with(|call| {
            let value = basic(user, password).ok_or_else(|| Error::builder("the user or password cannot be sent"))?;
            call.headers.insert(AUTHORIZATION, value);
            Ok(())
        })
    }

    /// Adds pairs to the query, encoded as forms are.
    pub fn query<K: AsRef<str>, V: AsRef<str>>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        self.with(|call| {
            let mut encoded = form_urlencoded::Serializer::new(String::new());
            encoded.extend_pairs(pairs);
            let added = encoded.finish();
            if added.is_empty() {
                return Ok(());
            }
            let joint = if call.path.query().is_none() { '?' } else { '&' };
            call.path = format!("{}{joint}{added}", call.path).parse().map_err(Error::builder)?;
            Ok(())
        })
    }

    /// The body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|call| {
            call.body = body.into();
            Ok(())
        })
    }

    /// This value as JSON, with its `Content-Type`.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Self {
        self.with(|call| {
            let text = serde_json::to_vec(value).map_err(Error::builder)?;
            call.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            call.body = text.into();
            Ok(())
        })
    }

    /// These pairs as a form, with its `Content-Type`.
    pub fn form<K: AsRef<str>, V: AsRef<str>>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        self.with(|call| {
            let mut encoded = form_urlencoded::Serializer::new(String::new());
            encoded.extend_pairs(pairs);
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            call.headers.entry(CONTENT_TYPE).or_insert(kind);
            call.body = encoded.finish().into();
            Ok(())
        })
    }

    /// The time for the whole request, over all attempts, to the answer's head.
    pub fn timeout(self, deadline: Duration) -> Self {
        self.with(|call| {
            call.deadline = Some(deadline);
            Ok(())
        })
    }

    /// The time of each attempt, from its begin to the answer's head, instead of the policy's.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.with(|call| {
            call.attempt_timeout = Some(timeout);
            Ok(())
        })
    }

    /// Repeating this request does no harm, whatever its method says: after a connection broke, it may be sent again.
    pub fn idempotent(self) -> Self {
        self.with(|call| {
            call.idempotent = true;
            Ok(())
        })
    }

    /// Adds `Idempotency-Key`. A request with a key may be sent again to endpoints that share one store of keys
    /// ([`dedup_scope`](crate::ClientBuilder::dedup_scope)); never use a key for two different requests.
    pub fn idempotency_key(self, key: &str) -> Self {
        // A string of structured fields (RFC 9651 §3.3.3).
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        self.with(|call| {
            call.headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(quoted).map_err(Error::builder)?);
            call.keyed = true;
            Ok(())
        })
    }

    /// One attempt and no more.
    pub fn no_failover(self) -> Self {
        self.with(|call| {
            call.opted_out = true;
            Ok(())
        })
    }

    /// The path with its variables unfilled, such as `/kv/{key}`: what figures and spans say, which must not have one
    /// row for each key.
    pub fn path_template(self, template: &str) -> Self {
        self.with(|call| {
            call.template = Some(template.into());
            Ok(())
        })
    }

    /// Only this endpoint, which must be one of the client's or have been found by it.
    #[cfg_attr(
        not(feature = "socket"),
        allow(dead_code, reason = "for what speaks with one endpoint over several requests")
    )]
    pub(crate) fn only_endpoint(self, endpoint: &Arc<Endpoint>) -> Self {
        self.with(|call| {
            call.only = Some(Arc::clone(endpoint));
            Ok(())
        })
    }

    /// Sends it: to the first endpoint, and to further ones as the policy says.
    ///
    /// # Errors
    /// If no attempt was answered in a way that stands; [`Error::fate`] says whether the request may have arrived. An
    /// answer with a status of 400 or more is an answer.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: backoff and discovery end, and nothing of the request is written after
    /// that. What was written before may have arrived.
    pub async fn send(self) -> Result<Answer, Error> {
        self.client.run(self.call?).await
    }

    /// Asks to switch to another protocol, with failover; `101` is the answer.
    #[cfg_attr(not(feature = "socket"), allow(dead_code, reason = "for sockets"))]
    pub(crate) async fn upgrade(self, protocol: &'static str) -> Result<Upgraded, Error> {
        let mut call = self.call?;
        call.is_upgrade = true;
        call.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        call.headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        let answer = self.client.run(call).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::status_of(answer));
        }
        let endpoint = Arc::clone(answer.endpoint_handle());
        let (head, body) = answer.into_parts();
        let conn = body.into_conn().ok_or_else(|| Error::builder("the connection that was to switch is gone"))?;
        let (io, early) = conn.into_switched().await.map_err(|error| Error::new(crate::error::Kind::Body, error))?;
        Ok(Upgraded { io, early, endpoint, headers: head.headers })
    }
}

/// A connection that switched protocols.
pub(crate) struct Upgraded {
    pub(crate) io: Stream,
    /// What came behind the answer's head; read before `io`.
    pub(crate) early: Bytes,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) headers: HeaderMap,
}

/// A request's path: relative to every endpoint's URL, with a query if there is one.
pub(crate) fn path_and_query(path: &str) -> Result<PathAndQuery, Error> {
    if path.contains("://") && Url::parse(path).is_ok_and(|url| url.has_host()) {
        let shown = without_credentials(path);
        return Err(Error::builder(format!(
            "`{shown}` is a whole URL: the endpoints are the client's, a request has a path"
        )));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let encoded = format!("{slash}{}", utf8_percent_encode(path, NOT_IN_A_PATH));
    encoded.parse().map_err(|error| Error::builder(format!("the path `{path}` cannot be sent: {error}")))
}

#[cfg(test)]
mod tests {
    use super::path_and_query;

    #[test]
    fn paths_are_encoded_where_they_must_be_and_left_alone_where_they_are() {
        for (path, expected) in [
            ("/kv/a", "/kv/a"),
            ("kv/a", "/kv/a"),
            ("", "/"),
            ("/kv/a b", "/kv/a%20b"),
            ("/kv/a%20b", "/kv/a%20b"),
            ("/kv/作业", "/kv/%E4%BD%9C%E4%B8%9A"),
            ("/kv/a#b", "/kv/a%23b"),
            ("?q=1", "/?q=1"),
            ("/x?y={z}", "/x?y=%7Bz%7D"),
            ("/go?to=http://h/", "/go?to=http://h/"),
        ] {
            assert_eq!(path_and_query(path).expect(path).as_str(), expected);
        }
        let error = path_and_query("http://h/x").expect_err("a whole URL is no path").to_string();
        assert!(error.contains("a request has a path"), "{error}");
    }
}
