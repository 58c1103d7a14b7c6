//! What an answer's fields say to failover: `Retry-After`, and what a proxy on the way says in `Proxy-Status`.

use std::time::{Duration, SystemTime};

use handover_core::Fault;
use http::HeaderMap;
use http::header::RETRY_AFTER;

/// `Retry-After` (RFC 9110 §10.2.3): a number of seconds or a date, no longer than `cap`. Digits that overflow mean the
/// cap; what is neither digits nor a date means nothing, so that `inf`, `-1` and `1.5` cannot make anybody wait for ever.
pub(crate) fn retry_after(headers: &HeaderMap, cap: Duration, now: SystemTime) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let value = values.next()?.to_str().ok()?.trim();
    if values.next().is_some() || value.is_empty() {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(cap, Duration::from_secs).min(cap));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default().min(cap))
}

/// What a proxy on the way said of a request that it had handed on when it failed there (RFC 9209 §2.3): its own 5xx says
/// nothing of whether the request was done. `None` for answers of a server, and where the proxy says that the server
/// did not get it.
pub(super) fn unknown_behind_proxy(status: u16, headers: &HeaderMap) -> Option<(Fault, String)> {
    if status < 500 {
        return None;
    }
    let values = headers.get_all("proxy-status").iter().filter_map(|value| value.to_str().ok());
    let error = values.flat_map(|value| value.split([';', ','])).find_map(|part| part.trim().strip_prefix("error="))?;
    let fault = match error.trim_matches('"') {
        "connection_terminated" | "http_response_incomplete" => Fault::Closed,
        "connection_read_timeout" | "connection_write_timeout" | "http_response_timeout" => Fault::Timeout,
        "http_protocol_error"
        | "http_upgrade_failed"
        | "proxy_internal_error"
        | "proxy_internal_response"
        | "http_response_header_section_size"
        | "http_response_header_size"
        | "http_response_body_size"
        | "http_response_trailer_section_size"
        | "http_response_trailer_size"
        | "http_response_transfer_coding"
        | "http_response_content_coding" => Fault::Protocol,
        _ => return None,
    };
    let word: String = error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    Some((fault, format!("a proxy answered {status} for a request that it had handed on: {word}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_had_handed_the_request_on_leaves_its_fate_unknown() {
        for (status, value, expected) in [
            (502, "handover; error=connection_terminated", Some(Fault::Closed)),
            (504, "a.example, handover;error=http_response_timeout;details=\"late\"", Some(Fault::Timeout)),
            (502, "handover; error=connection_refused", None),
            (502, "handover; received-status=502", None),
            (200, "handover; error=connection_terminated", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("proxy-status", value.parse().expect("visible"));
            assert_eq!(unknown_behind_proxy(status, &headers).map(|(fault, _)| fault), expected, "{value}");
        }
        assert_eq!(unknown_behind_proxy(502, &HeaderMap::new()), None);
    }

    #[test]
    fn a_malformed_retry_after_is_ignored_and_a_long_one_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let date = |seconds| httpdate::fmt_http_date(now + Duration::from_secs(seconds));
        let seconds = Duration::from_secs;
        for (value, expected) in [
            ("0".to_owned(), Some(seconds(0))),
            (" 5 ".to_owned(), Some(seconds(5))),
            ("61".to_owned(), Some(seconds(60))),
            ("99999999999999999999999".to_owned(), Some(seconds(60))),
            ("-1".to_owned(), None),
            ("1.5".to_owned(), None),
            ("inf".to_owned(), None),
            ("NaN".to_owned(), None),
            ("".to_owned(), None),
            ("soon".to_owned(), None),
            (date(7), Some(seconds(7))),
            (date(7000), Some(seconds(60))),
            ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), Some(seconds(0))),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().expect("visible"));
            assert_eq!(retry_after(&headers, seconds(60), now), expected, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), seconds(60), now), None);
    }
}
