//! What `check` and `request` have in common: how endpoints are reached, what every request carries, and how durations
//! are written.
//!
//! Values are taken as text and checked here, so that all that is wrong with a command line is told at once and before
//! anything is sent. A value that may be a secret is never repeated.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments on flags are their help texts, where brackets mean optional"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use handover_client::{Client, ClientBuilder};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method};

/// How this program names itself to servers.
const USER_AGENT: &str = concat!("handover/", env!("CARGO_PKG_VERSION"));

/// Fields that say where a body ends or what becomes of the connection: they follow from what is sent.
const OWN_FIELDS: [HeaderName; 4] = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE];

/// The longest time that can be given: that of a policy.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Flags that say how endpoints are reached.
#[derive(Debug, Args)]
pub(crate) struct ReachArgs {
    /// A field to send, such as -H 'Accept: application/json'. Repeat it for several
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Certificates to trust besides those of the system (PEM), which the variable SSL_CERT_FILE replaces
    #[arg(long, value_name = "FILE")]
    cacert: Vec<PathBuf>,
    /// Go through this proxy: http|https|socks5://[user:password@]host:port [default: what HTTP_PROXY, HTTPS_PROXY,
    /// ALL_PROXY and NO_PROXY say]
    #[arg(long, value_name = "URL", conflicts_with = "no_proxy")]
    proxy: Option<String>,
    /// Go through no proxy, whatever the environment says
    #[arg(long)]
    no_proxy: bool,
}

impl ReachArgs {
    /// A client of these endpoints, set up as far as these flags say.
    pub(crate) fn builder(&self, endpoints: &[String]) -> ClientBuilder {
        let mut builder = Client::builder().endpoints(endpoints).user_agent(USER_AGENT);
        for file in &self.cacert {
            builder = builder.ca_certificate_file(file);
        }
        match &self.proxy {
            Some(url) => builder.proxy(url),
            None if self.no_proxy => builder.no_proxy(),
            None => builder,
        }
    }

    /// The fields to send.
    pub(crate) fn headers(&self, problems: &mut Vec<String>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (text, number) in self.headers.iter().zip(1..) {
            match field(text, number) {
                Ok((name, value)) => drop(headers.append(name, value)),
                Err(problem) => problems.push(problem),
            }
        }
        headers
    }
}

/// `Name: value`. The value may be a token, so it is in no message.
fn field(text: &str, number: usize) -> Result<(HeaderName, HeaderValue), String> {
    let Some((name, value)) = text.split_once(':') else {
        return Err(format!("-H number {number} has no colon: allowed is 'Name: value'"));
    };
    let field = HeaderName::try_from(name.trim_end());
    let field = field.map_err(|_| format!("-H number {number}: {name:?} is no name of a field"))?;
    if OWN_FIELDS.contains(&field) {
        return Err(format!("-H {name}: it follows from what is sent and cannot be set"));
    }
    let value = HeaderValue::try_from(value.trim());
    let value = value.map_err(|_| format!("-H {name}: its value has characters that a field cannot carry"))?;
    Ok((field, value))
}

/// The method of a request. The common ones are understood in small letters too.
pub(crate) fn method(text: &str) -> Result<Method, String> {
    let capital = text.to_ascii_uppercase();
    let common = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    let method = if common.contains(&&*capital) { &*capital } else { text };
    match Method::from_bytes(method.as_bytes()) {
        Ok(Method::CONNECT) => {
            Err("CONNECT opens a tunnel and is no request: `handover gateway` carries tunnels".to_owned())
        }
        Ok(method) => Ok(method),
        Err(_) => Err(format!("{text:?} is no method: allowed is a word such as GET or POST")),
    }
}

/// Units of time: a number without one could be read as seconds by one reader and as milliseconds by another.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// `4999ms`, `5s`, `2m`, `1h` as a duration; more than nothing, a day at most.
pub(crate) fn duration(flag: &str, text: &str) -> Result<Duration, String> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let milliseconds = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    let found = milliseconds.map(Duration::from_millis);
    found.filter(|found| !found.is_zero() && *found <= DURATION_MAX).ok_or_else(|| {
        format!("{flag} {text:?}: allowed is a whole number and a unit, such as 500ms, 5s, 2m or 1h, up to 24h")
    })
}

/// As [`duration`], for a flag that may be missing; notes what is wrong.
pub(crate) fn optional_duration(flag: &str, text: Option<&str>, problems: &mut Vec<String>) -> Option<Duration> {
    duration(flag, text?).map_err(|problem| problems.push(problem)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_have_bounds() {
        for (text, expected) in [("1ms", 1), ("4999ms", 4999), ("5s", 5000), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(duration("--deadline", text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "5", "s", "0s", "0ms", "-1s", "1.5s", "5 s", "5S", "25h", "1d", "99999999999999999999s", "5秒"]
        {
            let problem = duration("--deadline", text).expect_err(text);
            assert!(problem.contains("--deadline") && problem.contains("5s"), "{problem}");
        }
    }

    #[test]
    fn a_field_is_a_name_and_a_value_and_a_bad_one_is_told_without_its_value() {
        let (name, value) = field("X-App-Token:  a:b ", 1).expect("valid");
        assert_eq!((name.as_str(), value.as_bytes()), ("x-app-token", &b"a:b"[..]));
        assert_eq!(field("Accept:", 1).expect("an empty value is one").1, "");
        for text in ["secret", "a b: secret", "Token: secret\u{1}", ": secret", "Content-Length: secret"] {
            let problem = field(text, 2).expect_err(text);
            assert!(problem.starts_with("-H") && !problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn common_methods_are_understood_in_small_letters_and_others_as_they_are() {
        for (text, expected) in [("get", "GET"), ("Post", "POST"), ("purge", "purge"), ("QUERY", "QUERY")] {
            assert_eq!(method(text).expect(text).as_str(), expected);
        }
        assert!(method("GE T").is_err() && method("connect").is_err());
    }
}
