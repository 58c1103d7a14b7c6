//! What an answer's fields say to failover: `Retry-After`.

use std::time::{Duration, SystemTime};

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

#[cfg(test)]
mod tests {
    use super::*;

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
