//! Why a store did not do what was asked: Classworks' codes and texts, and what is known beside them.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use handover_core::Fate;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::error::Error;
use crate::record::Record;
use crate::trip::reading::retry_after;

/// The longest pause that is believed of a server that names one: a day. The limits of the API are per minute.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What kind of error it is, in the words of Classworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvCode {
    /// There is no such value.
    NotFound,
    /// No server gave an answer that stands.
    NetworkError,
    /// An answer came that cannot be understood.
    ServerError,
    /// A value was not saved, or it is not known whether it was.
    SaveError,
    /// What is known of the device could not be read or changed.
    NamespaceError,
    /// The provider is set up wrongly, or a key cannot be one.
    ConfigError,
    /// The token may not do this.
    PermissionDenied,
    /// The token is missing or wrong.
    Unauthorized,
    /// A value has no URL in the cloud.
    CloudUrlError,
    /// Anything else.
    UnknownError,
}

impl KvCode {
    /// The code as Classworks writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::NetworkError => "NETWORK_ERROR",
            Self::ServerError => "SERVER_ERROR",
            Self::SaveError => "SAVE_ERROR",
            Self::NamespaceError => "NAMESPACE_ERROR",
            Self::ConfigError => "CONFIG_ERROR",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::CloudUrlError => "CLOUD_URL_ERROR",
            Self::UnknownError => "UNKNOWN_ERROR",
        }
    }
}

impl fmt::Display for KvCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a store did not do what was asked.
///
/// `Display` prints the code, the message, and who said it: `NOT_FOUND: 数据不存在 (https://kv-1.example)`.
pub struct KvError(Box<Inner>);

struct Inner {
    code: KvCode,
    message: String,
    status: Option<StatusCode>,
    server: Option<String>,
    rate_limit: RateLimit,
    record: Option<Record>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl KvError {
    pub(super) fn new(code: KvCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            status: None,
            server: None,
            rate_limit: RateLimit::default(),
            record: None,
            source: None,
        }))
    }

    /// No answer that stands, or one that broke off.
    pub(super) fn of_client(code: KvCode, message: impl Into<String>, error: Error) -> Self {
        let mut made = Self::new(code, message);
        (made.0.status, made.0.record) = (error.status(), error.record().cloned());
        made.0.source = Some(error.into());
        made
    }

    /// What an answer says of itself.
    pub(super) fn of_answer(code: KvCode, answer: &Answer) -> Self {
        let mut made = Self::new(code, "");
        made.0.status = Some(answer.status());
        made.0.server = Some(answer.endpoint().as_str().trim_end_matches('/').to_owned());
        made.0.rate_limit = RateLimit::read(answer.headers(), SystemTime::now());
        made.0.record = Some(answer.record().clone());
        made
    }

    pub(super) fn unserialisable(error: serde_json::Error) -> Self {
        Self::new(KvCode::UnknownError, "the value is no JSON").with_source(error)
    }

    pub(super) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(super) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of error it is.
    #[must_use]
    pub fn code(&self) -> KvCode {
        self.0.code
    }

    /// What to show: the server's own words, or Classworks' where it has none.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The status of the answer, if one came.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The server that said it, without credentials; `None` if it was no server's word.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.0.server.as_deref()
    }

    /// The limits that the server named, with a 429 or any other answer.
    #[must_use]
    pub fn rate_limit(&self) -> &RateLimit {
        &self.0.rate_limit
    }

    /// Every server that was tried and how that went, also where the first one's word was final; `None` if none was.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.0.record.as_ref()
    }

    /// What is known of the request: not sent, unknown, or answered.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.record().map_or(Fate::NotSent, Record::fate)
    }

    /// As Classworks' providers return it: `{"success":false,"error":{"code":…,"message":…}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "success": false, "error": { "code": self.code().as_str(), "message": self.message() } })
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        match &self.0.server {
            Some(server) => write!(f, " ({server})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KvError");
        shown.field("code", &self.0.code).field("message", &self.0.message).field("status", &self.0.status);
        shown.field("server", &self.0.server).field("record", &self.0.record).field("source", &self.0.source).finish()
    }
}

impl StdError for KvError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Limits that a server named: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-07), `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in a window.
    pub limit: Option<u64>,
    /// Requests left in this window.
    pub remaining: Option<u64>,
    /// The time until this window ends.
    pub reset: Option<Duration>,
    /// The length of a window.
    pub window: Option<Duration>,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl RateLimit {
    fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let now_left = text(HeaderName::from_static("ratelimit"));
        let policy = text(HeaderName::from_static("ratelimit-policy"));
        let (limit, rest) = policy.split_once(';').unwrap_or((policy, ""));
        Self {
            limit: member(now_left, "limit").or_else(|| limit.trim().parse().ok()),
            remaining: member(now_left, "remaining"),
            reset: member(now_left, "reset").map(seconds),
            window: member(rest, "w").map(seconds),
            retry_after: retry_after(headers, PAUSE_MAX, now),
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(PAUSE_MAX)
}

/// The number that a member of a list, or a parameter, is set to.
fn member(text: &str, name: &str) -> Option<u64> {
    let pairs = text.split([',', ';']).filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_where_they_are_named_and_left_out_where_they_are_not() {
        let secs = |n| Some(Duration::from_secs(n));
        let none = RateLimit::default();
        for (fields, expected) in [
            (vec![], none),
            (
                vec![
                    ("ratelimit", "limit=512, remaining=0, reset=42"),
                    ("ratelimit-policy", "512;w=60"),
                    ("retry-after", "42"),
                ],
                RateLimit {
                    limit: Some(512),
                    remaining: Some(0),
                    reset: secs(42),
                    window: secs(60),
                    retry_after: secs(42),
                },
            ),
            (vec![("ratelimit-policy", "30;w=1800")], RateLimit { limit: Some(30), window: secs(1800), ..none }),
            (vec![("ratelimit", "limit=, remaining=x, reset=-1")], none),
            (vec![("ratelimit", "remaining=3;reset=5")], RateLimit { remaining: Some(3), reset: secs(5), ..none }),
            (vec![("retry-after", "99999999999")], RateLimit { retry_after: secs(86_400), ..none }),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(RateLimit::read(&headers, SystemTime::UNIX_EPOCH), expected, "{fields:?}");
        }
    }
}
