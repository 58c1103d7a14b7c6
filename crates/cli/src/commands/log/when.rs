//! A point in time as people give it: a date, with or without a time of day, or how long ago.

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
        let ns = date(text).or(past);
        ns.map(|ns| Self { ns }).ok_or_else(|| {
            "allowed is a time such as 2026-01-02T03:04:05Z or 2026-01-02, or how long ago, such as 90s, 10m, 2h, 1d"
                .to_owned()
        })
    }
}

/// An RFC 3339 time. What is left out at its end is taken as zero, and as UTC, in which the log shows its times.
fn date(text: &str) -> Option<u64> {
    ["", "Z", ":00Z", "T00:00:00Z"].iter().find_map(|rest| parse_rfc3339(&format!("{text}{rest}")))
}

/// `90s`, `10m`, `2h`, `1d` as a duration, also with `ago` behind it.
fn ago(text: &str) -> Option<Duration> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
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
    fn a_date_is_its_first_moment_and_times_are_read_as_the_log_shows_them() {
        let second = 1_000_000_000;
        for (text, since_midnight) in [
            ("2026-01-01", 0),
            ("2026-01-01 02:03", 7380 * second),
            ("2026-01-01T02:03:04", 7384 * second),
            ("2026-01-01 02:03:04.567", 7384 * second + 567_000_000),
        ] {
            assert_eq!(text.parse(), Ok(When { ns: 1_767_225_600_000_000_000 + since_midnight }), "{text}");
        }
        assert_eq!(ago("15m"), ago("15m ago"));
        assert_eq!(ago("2h ago"), Some(Duration::from_secs(7200)));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "s",
            "-1s",
            "1",
            "1w",
            "ago",
            "m ago",
            "2026-02-29",
            "2026-01",
            "2026-01-01 02",
            "12:30",
            "yesterday",
            "99999999999999999999d",
            "é",
        ] {
            assert!(text.parse::<When>().expect_err(text).contains("10m"), "{text}");
        }
    }
}
