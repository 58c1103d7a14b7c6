//! The API's requests, and what its answers mean. How they fail over is the client's matter.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use http::header::ACCEPT;
use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::keys::encoded;
use super::{Check, CheckedServer, KeyPage, KeyQuery, KvCode, KvError, KvKind, KvProvider};
use crate::answer::Answer;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::request::RequestBuilder;

/// The longest error document that is read for its message, in bytes: the API's have a few hundred.
const MESSAGE_BODY_BYTES_MAX: usize = 64 * 1024;

/// What Classworks says where a server says nothing.
const UNREACHABLE: &str = "服务器连接失败";
const NOT_UNDERSTOOD: &str = "服务器响应异常";

/// Which code and which text a request's failure has.
struct Words {
    /// Unless the status has its own.
    code: KvCode,
    /// Unless the server has its own.
    message: &'static str,
    by_status: &'static [(u16, KvCode, Option<&'static str>)],
}

const LOAD: Words = Words {
    code: KvCode::NetworkError,
    message: UNREACHABLE,
    by_status: &[(404, KvCode::NotFound, Some("数据不存在"))],
};
const KEYS: Words = Words {
    code: KvCode::NetworkError,
    message: UNREACHABLE,
    by_status: &[
        (404, KvCode::NotFound, None),
        (403, KvCode::PermissionDenied, None),
        (401, KvCode::Unauthorized, None),
    ],
};
const SAVE: Words = Words { code: KvCode::SaveError, message: "保存失败", by_status: &[] };
const NAMESPACE: Words =
    Words { code: KvCode::NamespaceError, message: "获取命名空间信息失败", by_status: &[] };
const NAMESPACE_UPDATE: Words =
    Words { code: KvCode::NamespaceError, message: "更新命名空间信息失败", by_status: &[] };

/// Servers that speak the API.
pub(super) struct Remote {
    pub(super) kind: KvKind,
    pub(super) client: Client,
    pub(super) credentials: Credentials,
    /// The store whose values are copied to the servers.
    pub(super) local: Option<KvProvider>,
}

/// Who asks.
pub(super) struct Credentials {
    /// As a field, and as it is in a URL.
    token: Option<(HeaderValue, String)>,
    site_key: Option<HeaderValue>,
}

impl Credentials {
    pub(super) fn new(token: Option<String>, site_key: Option<String>) -> Result<Self, KvError> {
        let field = |name: &str, value: &str| {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| KvError::new(KvCode::ConfigError, format!("{name}: it cannot be sent as a field")))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let token = token.map(|token| Ok((field("token", &token)?, token))).transpose()?;
        let encoded = |key: String| base64::engine::general_purpose::STANDARD.encode(key);
        let site_key = site_key.map(|key| field("site_key", &encoded(key))).transpose()?;
        Ok(Self { token, site_key })
    }
}

impl Remote {
    pub(super) async fn load_namespace_info(&self) -> Result<Value, KvError> {
        let request = self.request(Method::GET, "/kv/_info", "/kv/_info");
        read(NAMESPACE.expect(request).await?).await
    }

    pub(super) async fn update_namespace_info(&self, info: &Value) -> Result<Value, KvError> {
        let request = self.request(Method::PUT, "/kv/_info", "/kv/_info").json(info);
        read(NAMESPACE_UPDATE.expect(request).await?).await
    }

    pub(super) async fn load_data(&self, key: &str) -> Result<Value, KvError> {
        read(LOAD.expect(self.of_key(Method::GET, key)).await?).await
    }

    pub(super) async fn save_data(&self, key: &str, value: &Value) -> Result<(), KvError> {
        self.save(key, value).await.map(|_server| ())
    }

    /// Saves, and says which server did.
    async fn save(&self, key: &str, value: &Value) -> Result<String, KvError> {
        // An upsert: the same value a second time changes nothing but when it was written.
        let answer = SAVE.expect(self.of_key(Method::POST, key).json(value).idempotent()).await?;
        let server = label(answer.endpoint());
        // The head has said that it is saved. Its document is read only for the connection's next request.
        let _ = answer.bytes().await;
        Ok(server)
    }

    pub(super) async fn load_keys(&self, query: &KeyQuery) -> Result<KeyPage, KvError> {
        let (limit, skip) = (query.limit.to_string(), query.skip.to_string());
        let request = self.request(Method::GET, "/kv/_keys", "/kv/_keys").query([
            ("sortBy", query.sort_by.as_str()),
            ("sortDir", query.direction()),
            ("limit", &limit),
            ("skip", &skip),
        ]);
        read(KEYS.expect(request).await?).await
    }

    pub(super) async fn key_cloud_url(&self, key: &str) -> Result<String, KvError> {
        let Some((_, token)) = &self.credentials.token else {
            return Err(KvError::new(KvCode::ConfigError, "a URL for others needs a token"));
        };
        let server = match &self.local {
            Some(local) => self.migrate(local, key).await?,
            None => None,
        };
        let server = server.or_else(|| self.in_order().first().map(|endpoint| label(&endpoint.url)));
        let server = server.ok_or_else(|| KvError::new(KvCode::CloudUrlError, "there is no server"))?;
        Ok(format!("{server}/kv/{}?token={}", encoded(key), encoded(token)))
    }

    /// Copies a value that is only in the local store. Returns the server that has it, as far as that is known.
    ///
    /// The word of one server is not enough: one that lags behind has not heard of the value yet, and would be given an
    /// older one that then wins over the newer.
    async fn migrate(&self, local: &KvProvider, key: &str) -> Result<Option<String>, KvError> {
        let failed = |what: String, error: KvError| KvError::new(KvCode::CloudUrlError, what).with_source(error);
        let value = match local.load_data(key).await {
            Ok(value) => value,
            Err(error) if error.code() == KvCode::NotFound => return Ok(None),
            Err(error) => return Err(failed(format!("the local value cannot be read: {error}"), error)),
        };
        for endpoint in self.in_order() {
            let asked = LOAD.expect(self.of_key(Method::GET, key).only_endpoint(&endpoint)).await;
            match asked {
                Ok(_) => return Ok(Some(label(&endpoint.url))),
                Err(error) if error.code() == KvCode::NotFound => {}
                Err(error) => {
                    let what = format!("{} does not say whether it has a newer value: {error}", endpoint.label);
                    return Err(failed(what, error));
                }
            }
        }
        let saved = self.save(key, &value).await;
        saved.map(Some).map_err(|error| failed(format!("the local value was not copied: {error}"), error))
    }

    /// Asks the servers in turn, until one is good or says that the request is wrong.
    ///
    /// This is a diagnosis and no failover: each server is asked for itself, and nothing of the caller's is repeated.
    pub(super) async fn check(&self) -> Check {
        let began = Instant::now();
        let mut servers: Vec<CheckedServer> = Vec::new();
        for endpoint in self.in_order() {
            if servers.last().is_some_and(|server| server.is_final) {
                break;
            }
            servers.push(self.check_one(&endpoint).await);
        }
        Check { servers, duration: began.elapsed() }
    }

    async fn check_one(&self, endpoint: &Arc<Endpoint>) -> CheckedServer {
        let mut request = self.client.get("/check").header(ACCEPT, "application/json").path_template("/check");
        if let Some(site_key) = &self.credentials.site_key {
            request = request.header("x-site-key", site_key.clone());
        }
        let wrong = |error: String, is_final| CheckedServer { error: Some(error), is_final, ..good(endpoint) };
        match request.only_endpoint(endpoint).no_failover().send().await {
            Err(error) => wrong(short(&error), false),
            Ok(answer) if answer.status().is_success() => match answer.json::<Value>().await {
                Ok(body) if body["status"] == "success" => good(endpoint),
                _ => wrong(NOT_UNDERSTOOD.to_owned(), false),
            },
            Ok(answer) => {
                let is_final = answer.status().is_client_error();
                wrong(message_of(answer).await.unwrap_or_else(|| NOT_UNDERSTOOD.to_owned()), is_final)
            }
        }
    }

    /// The servers, the one that is asked first before the others.
    fn in_order(&self) -> Vec<Arc<Endpoint>> {
        let set = &self.client.engine().shared.set;
        let mut endpoints = set.endpoints().to_vec();
        if let Some(elected) = set.elected().map(|index| index as usize).filter(|index| *index < endpoints.len()) {
            endpoints[..=elected].rotate_right(1);
        }
        endpoints
    }

    fn of_key(&self, method: Method, key: &str) -> RequestBuilder {
        self.request(method, &format!("/kv/{}", encoded(key)), "/kv/{key}")
    }

    fn request(&self, method: Method, path: &str, template: &str) -> RequestBuilder {
        let request = self.client.request(method, path).path_template(template).header(ACCEPT, "application/json");
        let request = match (&self.credentials.token, &self.credentials.site_key) {
            (Some((token, _)), _) => request.header("x-app-token", token.clone()),
            (None, Some(site_key)) => request.header("x-site-key", site_key.clone()),
            (None, None) => request,
        };
        if self.kind == KvKind::KvServer { request.no_failover() } else { request }
    }
}

impl Words {
    /// Sends a request; an answer that is not 2xx is an error.
    async fn expect(&self, request: RequestBuilder) -> Result<Answer, KvError> {
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => Err(self.refused(answer).await),
            Err(error) if error.is_builder() => {
                Err(KvError::of_client(KvCode::UnknownError, "the request cannot be made", error))
            }
            Err(error) => Err(KvError::of_client(self.code, self.message, error)),
        }
    }

    async fn refused(&self, answer: Answer) -> KvError {
        let status = answer.status().as_u16();
        let own = self.by_status.iter().find(|(of, ..)| *of == status);
        let (code, text) = own.map_or((self.code, None), |(_, code, text)| (*code, *text));
        let error = KvError::of_answer(code, &answer);
        match text {
            Some(text) => error.with_message(text),
            None => error.with_message(message_of(answer).await.unwrap_or_else(|| self.message.to_owned())),
        }
    }
}

/// The document of an answer of 2xx.
async fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, KvError> {
    let error = KvError::of_answer(KvCode::ServerError, &answer).with_message(NOT_UNDERSTOOD);
    match answer.json().await {
        Ok(document) => Ok(document),
        Err(cause) if cause.is_decode() => Err(error.with_source(cause)),
        Err(cause) => Err(KvError::of_client(KvCode::NetworkError, UNREACHABLE, cause)),
    }
}

/// What a server says of its refusal, in the API's shape.
async fn message_of(mut answer: Answer) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > MESSAGE_BODY_BYTES_MAX {
            return None;
        }
    }
    let document: Value = serde_json::from_slice(&body).ok()?;
    document["message"].as_str().filter(|message| !message.is_empty()).map(str::to_owned)
}

/// What went wrong, in one line and without the attempts.
fn short(error: &Error) -> String {
    let attempt = error.record().and_then(crate::record::Record::decisive);
    let message = attempt.and_then(|attempt| Some(attempt.message()?.to_owned()));
    message.or_else(|| Some(attempt?.fault()?.to_string())).unwrap_or_else(|| UNREACHABLE.to_owned())
}

fn good(endpoint: &Endpoint) -> CheckedServer {
    CheckedServer::good(&endpoint.label)
}

/// A server as it is shown: without a slash at its end.
fn label(url: &url::Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}
