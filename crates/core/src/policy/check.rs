//! What a policy may say: every limit has a reason, and all that is wrong is reported at once.

use std::fmt;
use std::time::Duration;

use super::{ATTEMPTS_MAX, Backoff, PolicyParts};

/// RFC 8305 §8: the delay between connection attempts must not be less than 10 ms. Less would dial everything at once.
const STAGGER_MIN: Duration = Duration::from_millis(10);
/// Less than a millisecond is below what a timer keeps, so every dial would time out.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// A day. More is a unit mistaken, and sums of a few of them stay far from overflow.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The statuses that speak of an error (RFC 9110 §15.5, §15.6). An answer below is an answer.
const ERROR_STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

/// Everything that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    problems: Vec<PolicyProblem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The field of [`PolicyParts`], nested ones with a dot: `backoff.base`.
    pub field: &'static str,
    /// What was found.
    pub found: String,
    /// What is allowed there.
    pub allowed: String,
}

impl PolicyError {
    /// The problems, in the order of the fields; never empty.
    #[must_use]
    pub fn problems(&self) -> &[PolicyProblem] {
        &self.problems
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, allowed is {}", self.field, self.found, self.allowed)
    }
}

impl std::error::Error for PolicyError {}

/// Collects problems.
#[derive(Default)]
pub(crate) struct Problems(Vec<PolicyProblem>);

impl Problems {
    /// Notes a problem unless `fine`.
    pub(crate) fn expect(&mut self, fine: bool, field: &'static str, found: impl fmt::Debug, allowed: &str) {
        if !fine {
            self.0.push(PolicyProblem { field, found: format!("{found:?}"), allowed: allowed.to_owned() });
        }
    }

    /// The verdict over all.
    pub(crate) fn into_result(self) -> Result<(), PolicyError> {
        if self.0.is_empty() { Ok(()) } else { Err(PolicyError { problems: self.0 }) }
    }
}

/// Checks every field.
pub(super) fn check(parts: &PolicyParts) -> Result<(), PolicyError> {
    let mut problems = Problems::default();
    let attempts = format!("1 to {ATTEMPTS_MAX} attempts");
    problems.expect((1..=ATTEMPTS_MAX).contains(&parts.max_attempts), "max_attempts", parts.max_attempts, &attempts);
    let statuses = [
        ("retry_statuses", &parts.retry_statuses),
        ("disclaimed_statuses", &parts.disclaimed_statuses),
        ("pin_statuses", &parts.pin_statuses),
    ];
    for (field, set) in statuses {
        for status in set.iter().filter(|status| !ERROR_STATUSES.contains(status)) {
            problems.expect(false, field, status, "400 to 599");
        }
    }
    check_times(parts, &mut problems);
    problems.into_result()
}

/// Checks the fields that are times.
fn check_times(parts: &PolicyParts, problems: &mut Problems) {
    let timeout = |time: Duration| (TIMEOUT_MIN..=DURATION_MAX).contains(&time);
    let pause = |time: Duration| time <= DURATION_MAX;
    problems.expect(timeout(parts.connect_timeout), "connect_timeout", parts.connect_timeout, "1 ms to 24 h");
    problems.expect(timeout(parts.response_timeout), "response_timeout", parts.response_timeout, "1 ms to 24 h");
    if let Some(time) = parts.attempt_timeout {
        problems.expect(timeout(time), "attempt_timeout", time, "1 ms to 24 h, or none");
    }
    problems.expect(pause(parts.min_attempt_timeout), "min_attempt_timeout", parts.min_attempt_timeout, "at most 24 h");
    if let Some(stagger) = parts.dial_stagger {
        let fine = (STAGGER_MIN..=DURATION_MAX).contains(&stagger);
        problems.expect(fine, "dial_stagger", stagger, "10 ms to 24 h, or none to switch it off");
    }
    if let Some(deadline) = parts.deadline {
        problems.expect(timeout(deadline), "deadline", deadline, "1 ms to 24 h, or none");
    }
    let deadline = parts.deadline.unwrap_or(DURATION_MAX).min(DURATION_MAX);
    problems.expect(
        parts.min_deadline <= deadline,
        "min_deadline",
        parts.min_deadline,
        "at most the deadline, or 24 h",
    );
    let Backoff { base, cap, .. } = parts.backoff;
    problems.expect(base <= cap, "backoff.base", base, "at most backoff.cap");
    problems.expect(pause(cap), "backoff.cap", cap, "at most 24 h");
    problems.expect(pause(parts.retry_after_cap), "retry_after_cap", parts.retry_after_cap, "at most 24 h");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, StatusSet};

    #[test]
    fn the_default_and_the_presets_are_valid() {
        let presets = [Policy::default(), Policy::at_most_once(), Policy::rotation(), Policy::regions()];
        for parts in presets.map(|policy| *policy.parts()).into_iter().chain([PolicyParts::default()]) {
            assert_eq!(Policy::try_new(parts).map(|policy| *policy.parts()), Ok(parts));
        }
    }

    #[test]
    fn every_problem_is_reported_at_once_with_what_is_allowed() {
        let long = Duration::from_secs(25 * 60 * 60);
        let error = Policy::try_new(PolicyParts {
            max_attempts: 0,
            retry_statuses: StatusSet::from_iter([200, 503]),
            disclaimed_statuses: StatusSet::from_iter([399, 421]),
            pin_statuses: StatusSet::from_iter([302, 451]),
            connect_timeout: Duration::ZERO,
            response_timeout: long,
            attempt_timeout: Some(Duration::ZERO),
            min_attempt_timeout: long,
            dial_stagger: Some(Duration::from_millis(9)),
            deadline: Some(Duration::from_secs(1)),
            min_deadline: Duration::from_secs(2),
            backoff: Backoff { base: long + long, cap: long, ..Backoff::default() },
            retry_after_cap: long,
            ..PolicyParts::default()
        })
        .expect_err("thirteen fields are wrong");
        let text = error.to_string().replace("; ", "\n");
        let expected = "max_attempts: found 0, allowed is 1 to 32 attempts
retry_statuses: found 200, allowed is 400 to 599
disclaimed_statuses: found 399, allowed is 400 to 599
pin_statuses: found 302, allowed is 400 to 599
connect_timeout: found 0ns, allowed is 1 ms to 24 h
response_timeout: found 90000s, allowed is 1 ms to 24 h
attempt_timeout: found 0ns, allowed is 1 ms to 24 h, or none
min_attempt_timeout: found 90000s, allowed is at most 24 h
dial_stagger: found 9ms, allowed is 10 ms to 24 h, or none to switch it off
min_deadline: found 2s, allowed is at most the deadline, or 24 h
backoff.base: found 180000s, allowed is at most backoff.cap
backoff.cap: found 90000s, allowed is at most 24 h
retry_after_cap: found 90000s, allowed is at most 24 h";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        for max_attempts in [1, ATTEMPTS_MAX] {
            assert!(Policy::try_new(PolicyParts { max_attempts, ..PolicyParts::default() }).is_ok());
        }
        let beyond = PolicyParts { max_attempts: ATTEMPTS_MAX + 1, ..PolicyParts::default() };
        assert!(Policy::try_new(beyond).is_err());
        let edges = PolicyParts {
            connect_timeout: TIMEOUT_MIN,
            response_timeout: DURATION_MAX,
            attempt_timeout: Some(TIMEOUT_MIN),
            min_attempt_timeout: DURATION_MAX,
            dial_stagger: Some(STAGGER_MIN),
            deadline: Some(TIMEOUT_MIN),
            min_deadline: TIMEOUT_MIN,
            ..PolicyParts::default()
        };
        assert!(Policy::try_new(edges).is_ok());
    }
}
