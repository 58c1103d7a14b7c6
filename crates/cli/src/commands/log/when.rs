//! A point in time as people give it: a date, or how long ago.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handover_gateway::log::parse_rfc3339;

/// A point in time, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When {
    pub(super) ns: u64,
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let past = ago(text).map(|ago| now.saturating_sub(ago)).and_then(|past| u64::try_from(past.as_nanos()).ok());
        let ns = parse_rfc3339(text).or(past);
        ns.map(|ns| Self { ns }).ok_or_else(|| {
            "allowed is a time such as 2026-01-02T03:04:05Z, or how long ago, such as 90s, 10m, 2h, 1d".to_owned()
        })
    }
}

/// `90s`, `10m`, `2h`, `1d` as a duration.
fn ago(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans_are_understood() {
        assert_eq!("2026-01-01T00:00:00Z".parse(), Ok(When { ns: 1_767_225_600_000_000_000 }));
        assert_eq!(ago("90s"), Some(Duration::from_secs(90)));
        assert_eq!(ago("2h"), Some(Duration::from_secs(7200)));
        let (day, hour) = ("1d".parse::<When>().expect("valid"), "1h".parse::<When>().expect("valid"));
        assert_eq!((hour.ns - day.ns) / 1_000_000_000 / 60, 23 * 60);
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for text in ["", "s", "-1s", "1", "1w", "yesterday", "99999999999999999999d", "é"] {
            assert!(text.parse::<When>().expect_err(text).contains("10m"), "{text}");
        }
    }
}
