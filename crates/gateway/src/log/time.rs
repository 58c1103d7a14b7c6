//! RFC 3339 times of the log: written for people and the API, read from filters. UTC only, proleptic Gregorian.
//!
//! Two small conversions do not deserve a dependency on a calendar library.

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// `ns` since the Unix epoch as `2026-01-02T03:04:05.678901234Z`, with as many decimals of the second as asked for (0 to 9).
pub fn rfc3339(ns: u64, decimals: u32) -> String {
    let (seconds, fraction) = (ns / SECOND_NS, ns % SECOND_NS);
    let (year, month, day) = civil(seconds / DAY_S);
    let (hour, minute, second) = (seconds % DAY_S / 3600, seconds % 3600 / 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let decimals = decimals.min(9);
    if decimals > 0 {
        let digits = fraction / 10u64.pow(9 - decimals);
        text.push_str(&format!(".{digits:0width$}", width = decimals as usize));
    }
    text.push('Z');
    text
}

/// Reads an RFC 3339 time with any offset as nanoseconds since the Unix epoch; `None` if it is none, or out of range.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let field = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if !separators.iter().all(|(at, mark)| text.get(*at..at + 1) == Some(mark))
        || !matches!(text.get(10..11)?, "T" | "t" | " ")
    {
        return None;
    }
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let days = days_from_civil(year, month, day)?;
    // A leap second counts as the first of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let fraction_len = rest.strip_prefix('.').map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count() + 1);
    let (fraction, offset) = rest.split_at(fraction_len);
    let fraction_ns = if fraction.len() > 1 { format!("{:0<9.9}", &fraction[1..]).parse().ok()? } else { 0 };
    if fraction == "." {
        return None;
    }
    let local_s = i64::try_from(days * DAY_S + hour * 3600 + minute * 60 + second).ok()?;
    let seconds = u64::try_from(local_s - offset_s(offset)?).ok()?;
    seconds.checked_mul(SECOND_NS)?.checked_add(fraction_ns)
}

/// Seconds east of UTC of `Z`, `+hh:mm` or `-hh:mm`.
fn offset_s(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 || !(hours.bytes().chain(minutes.bytes())).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let east = hours * 3600 + minutes * 60;
    match text.as_bytes()[0] {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(east),
        b'-' => Some(-east),
        _ => None,
    }
}

/// Year, month and day of a day counted from 1970-01-01. Months are counted from March, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01; 400 years have 146,097.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`]; `None` for a day that does not exist or lies before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let from_march = if month > 2 { year } else { year.checked_sub(1)? };
    let (era, year_of_era) = (from_march / 400, from_march % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_written_as_the_rfc_says() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000_000_000, 3), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_767_225_599_999_999_999, 9), "2025-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(4_107_542_400_000_000_000, 0), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn offsets_fractions_and_lower_case_are_read() {
        let noon = 1_767_268_800_000_000_000;
        for text in ["2026-01-01T12:00:00Z", "2026-01-01t14:30:00.000+02:30", "2026-01-01 04:00:00-08:00"] {
            assert_eq!(parse_rfc3339(text), Some(noon), "{text}");
        }
        assert_eq!(parse_rfc3339("2026-01-01T12:00:00.5Z"), Some(noon + 500_000_000));
        assert_eq!(parse_rfc3339("2026-01-01T12:00:00.1234567891Z"), Some(noon + 123_456_789));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-01",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00é2:00",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00+-1:00",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_reads_back(ns in 0..7_000_000_000_000_000_000u64) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(ns, 9)), Some(ns));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9TZ:.+-]{0,40}", odd in any::<String>()) {
            let _ = (parse_rfc3339(&text), parse_rfc3339(&odd));
        }
    }
}
