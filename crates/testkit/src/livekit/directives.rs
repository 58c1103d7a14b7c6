//! What a request asks of the LiveKit mock: the `X-Lk-Mock` header, and the older headers of one directive each beneath it.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// How long a region that fails with `delay` stalls when no header says it, in milliseconds: the protocol's own value, above
/// every client's timeout.
const STALL_MS: u64 = 30_000;

/// How a listener fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FailMode {
    #[default]
    Status,
    Drop,
    Delay,
}

/// All directives of one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directives {
    pub(super) fail_regions: Vec<usize>,
    pub(super) fail_mode: FailMode,
    pub(super) fail_status: u16,
    pub(super) fail_twirp_code: Option<String>,
    /// Before every answer of every listener, in milliseconds.
    pub(super) delay_ms: u64,
    /// Before the failure of a listener that fails with `delay`, in milliseconds.
    pub(super) stall_ms: u64,
    pub(super) regions_status: u16,
    pub(super) response: Option<Value>,
    pub(super) skip_auth: bool,
    pub(super) pinned_regions: Option<Vec<String>>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            fail_regions: Vec::new(),
            fail_mode: FailMode::Status,
            fail_status: 503,
            fail_twirp_code: None,
            delay_ms: 0,
            stall_ms: STALL_MS,
            regions_status: 200,
            response: None,
            skip_auth: false,
            pinned_regions: None,
        }
    }
}

impl Directives {
    /// Reads them from a request's headers: the older ones are the base, each field of the JSON replaces its own.
    ///
    /// # Errors
    /// When the header is not a JSON object.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, String> {
        let mut directives = Self::from_older(headers);
        let Some(header) = headers.get("x-lk-mock") else { return Ok(directives) };
        let value: Value = serde_json::from_slice(header.as_bytes()).map_err(|error| error.to_string())?;
        let Value::Object(fields) = &value else { return Err("X-Lk-Mock is not a JSON object".to_owned()) };
        for (name, value) in fields {
            directives.set(name, value);
        }
        Ok(directives)
    }

    fn from_older(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        let mut base = Self::default();
        if let Some(list) = text("x-lk-mock-fail-regions") {
            base.fail_regions = list.split(',').filter_map(|index| index.trim().parse().ok()).collect();
        }
        base.fail_mode = text("x-lk-mock-fail-mode").map(fail_mode).unwrap_or_default();
        base.fail_status = number("x-lk-mock-fail-status").map_or(503, |status| valid_status(status, 503));
        base.fail_twirp_code = text("x-lk-mock-fail-twirp-code").map(str::to_owned);
        base.stall_ms = number("x-lk-mock-delay-ms").unwrap_or(STALL_MS);
        base.regions_status = number("x-lk-mock-regions-status").map_or(200, |status| valid_status(status, 200));
        base.response = text("x-lk-mock-response").and_then(|json| serde_json::from_str(json).ok());
        base.skip_auth = text("x-lk-mock-skip-auth").is_some_and(|value| value == "true" || value == "1");
        base
    }

    fn set(&mut self, name: &str, value: &Value) {
        let number = value.as_u64();
        match name {
            "failRegions" => self.fail_regions = indices(value),
            "failMode" => self.fail_mode = value.as_str().map(fail_mode).unwrap_or_default(),
            "failStatus" => self.fail_status = number.map_or(503, |status| valid_status(status, 503)),
            "failTwirpCode" => self.fail_twirp_code = value.as_str().map(str::to_owned),
            "delayMs" => self.delay_ms = number.unwrap_or_default(),
            "regionsStatus" => self.regions_status = number.map_or(200, |status| valid_status(status, 200)),
            "response" => self.response = Some(value.clone()),
            "skipAuth" => self.skip_auth = value.as_bool().unwrap_or_default(),
            "pinnedRegions" => self.pinned_regions = Some(names(value)),
            // The protocol has more fields than this mock (see the module), and will have others.
            _ => {}
        }
    }

    /// The Twirp code of the failure.
    pub(super) fn twirp_code(&self) -> &str {
        self.fail_twirp_code.as_deref().unwrap_or(match self.fail_status {
            400 => "invalid_argument",
            401 => "unauthenticated",
            403 => "permission_denied",
            404 => "not_found",
            429 => "resource_exhausted",
            500.. => "unavailable",
            _ => "internal",
        })
    }

    /// Whether the region of this name may serve.
    pub(super) fn allows(&self, region: &str) -> bool {
        self.pinned_regions.as_ref().is_none_or(|pinned| pinned.is_empty() || pinned.iter().any(|name| name == region))
    }
}

fn fail_mode(name: &str) -> FailMode {
    match name {
        "drop" => FailMode::Drop,
        "delay" => FailMode::Delay,
        _ => FailMode::Status,
    }
}

/// The status, or `otherwise` when it is outside 100–599.
fn valid_status(status: u64, otherwise: u16) -> u16 {
    let status = u16::try_from(status).ok().filter(|status| (100..600).contains(status));
    status.filter(|status| StatusCode::from_u16(*status).is_ok()).unwrap_or(otherwise)
}

fn indices(value: &Value) -> Vec<usize> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_u64).filter_map(|index| usize::try_from(index).ok()).collect()
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Directives {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Directives::read(&headers.collect()).unwrap()
    }

    #[test]
    fn each_field_of_the_json_replaces_its_older_header_and_no_other() {
        let older = [
            ("x-lk-mock-fail-regions", "0, 2"),
            ("x-lk-mock-fail-mode", "delay"),
            ("x-lk-mock-fail-status", "500"),
            ("x-lk-mock-delay-ms", "40"),
            ("x-lk-mock-skip-auth", "true"),
        ];
        let base = read(&older);
        assert_eq!((base.fail_regions.as_slice(), base.fail_mode), (&[0, 2][..], FailMode::Delay));
        assert_eq!((base.fail_status, base.stall_ms, base.delay_ms, base.skip_auth), (500, 40, 0, true));
        let json = r#"{"failStatus":429,"delayMs":7,"skipAuth":false,"future":1}"#;
        let over = read(&[&older[..], &[("x-lk-mock", json)]].concat());
        let expected = Directives { fail_status: 429, delay_ms: 7, skip_auth: false, ..base };
        assert_eq!(over, expected);
    }

    #[test]
    fn a_status_outside_its_range_is_503_and_each_has_its_twirp_code() {
        for (asked, status, code) in [
            (99, 503, "unavailable"),
            (600, 503, "unavailable"),
            (400, 400, "invalid_argument"),
            (401, 401, "unauthenticated"),
            (403, 403, "permission_denied"),
            (404, 404, "not_found"),
            (429, 429, "resource_exhausted"),
            (500, 500, "unavailable"),
            (418, 418, "internal"),
        ] {
            let directives = read(&[("x-lk-mock", &format!(r#"{{"failStatus":{asked}}}"#))]);
            assert_eq!((directives.fail_status, directives.twirp_code()), (status, code));
        }
        assert_eq!(read(&[("x-lk-mock", r#"{"failTwirpCode":"aborted"}"#)]).twirp_code(), "aborted");
    }
}
