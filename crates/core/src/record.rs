//! The record of one request: its attempts with what each decision saw, enough to take the decisions again.
//!
//! All fields are public, so that a record that was stored as rows or JSON can be put together again and
//! [replayed](crate::replay).

use std::time::Duration;

use crate::decide::Spent;
use crate::pick::Pick;
use crate::words::words;
use crate::{Facts, Outcome, Reason, Sent, Verdict};

/// What happened to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the session's draws came from.
    pub seed: u64,
    /// What was known of the request.
    pub facts: Facts,
    /// The attempts, in the order in which they began, those under way included.
    pub attempts: Attempts,
    /// The search for more endpoints, if there was one.
    pub discovery: Option<Discovery>,
    /// The second search, if an answer said that the request is served elsewhere only.
    pub refresh: Option<Discovery>,
    /// How many hedged dials the budget refused.
    pub hedges_refused: u32,
    /// When the session ended, since it began.
    pub ended: Option<Duration>,
    /// How it ended; `None` while it runs.
    pub verdict: Option<Verdict>,
}

impl Record {
    /// A record of a request that has had no attempt yet.
    #[must_use]
    pub const fn new(seed: u64, facts: Facts) -> Self {
        let attempts = Attempts::new();
        Self { seed, facts, attempts, discovery: None, refresh: None, hedges_refused: 0, ended: None, verdict: None }
    }

    /// The attempt whose outcome the caller gets: of those by which the request may have been sent, the last one to end;
    /// if there is none, the last one to end of all that did not merely lose a race.
    ///
    /// So what may have happened is never hidden by a later attempt that provably did nothing: when an endpoint answered
    /// 503 and the next one refused the connection, the caller gets the 503.
    #[must_use]
    pub fn decisive(&self) -> Option<&AttemptRecord> {
        let is_real = |attempt: &&AttemptRecord| !attempt.is_under_way() && !attempt.outcome.is_lost_race();
        // Of two that ended at the same moment, the one behind which nothing was under way any more ended last; and an
        // answer that stands ended the session.
        let order = |attempt: &&AttemptRecord| {
            let stands = matches!(attempt.verdict, Verdict::Done(_));
            let is_last = !attempt.spent.in_flight;
            (attempt.outcome.sent() != Sent::No, stands, attempt.ended, is_last, attempt.attempt)
        };
        self.attempts.iter().filter(is_real).max_by_key(order)
    }

    /// How a session ends for this reason: with the decisive attempt's answer, or without one.
    pub(crate) fn ending(&self, reason: Reason) -> Verdict {
        let is_answered = self.decisive().is_some_and(|attempt| attempt.outcome.is_answered());
        // Whoever left takes no answer.
        if is_answered && reason != Reason::Cancelled { Verdict::Done(reason) } else { Verdict::Stop(reason) }
    }

    /// What the caller may believe of the request, over all its attempts.
    ///
    /// While the session runs: what would be so if it ended now without another report.
    #[must_use]
    pub fn fate(&self) -> Fate {
        if matches!(self.verdict, Some(Verdict::Done(_))) {
            Fate::Answered
        } else if self.attempts.iter().any(|attempt| attempt.outcome.sent() != Sent::No) {
            Fate::Unknown
        } else {
            Fate::NotSent
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Not one byte of it left for any endpoint.
    NotSent,
    /// It may have arrived somewhere, and there is no answer.
    Unknown,
    /// It was answered.
    Answered,
}

words!(Fate { NotSent => "not_sent", Unknown => "unknown", Answered => "answered" });

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// The index of its endpoint.
    pub endpoint: u32,
    /// Before this it would not have begun: the end of a backoff, of a `Retry-After`, of the stagger of a hedged dial.
    pub due: Duration,
    /// When it began.
    pub started: Duration,
    /// When its connection stood.
    pub connected: Option<Duration>,
    /// When it ended.
    pub ended: Duration,
    /// Whether it began beside another one.
    pub hedged: bool,
    /// What the choice of its endpoint saw.
    pub pick: Pick,
    /// How it ended.
    pub outcome: Outcome,
    /// What the verdict saw besides the outcome.
    pub spent: Spent,
    /// What the budget answered when the verdict asked; `None` if it was not asked, because there was no further attempt
    /// or it was free.
    pub budget: Option<bool>,
    /// What was said of it.
    pub verdict: Verdict,
}

impl AttemptRecord {
    /// Whether it has not ended yet, so that its end, outcome and verdict say nothing.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        // The verdict on an attempt sees at least that attempt.
        self.spent.attempts == 0
    }
}

/// The search for more endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// How many attempts had begun when it was asked for.
    pub after: u32,
    /// Whether any were found; `None` while it runs.
    pub found: Option<bool>,
}

/// Attempts in the order in which they began. The first one is kept inline: most requests need no other, and they
/// should not pay for a heap allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    first: Option<AttemptRecord>,
    more: Vec<AttemptRecord>,
}

impl Attempts {
    /// No attempts.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: None, more: Vec::new() }
    }

    /// Adds one at the end.
    pub fn push(&mut self, attempt: AttemptRecord) {
        if self.first.is_none() {
            self.first = Some(attempt);
        } else {
            self.more.push(attempt);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The attempt at a position, counted from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&AttemptRecord> {
        if index == 0 { self.first.as_ref() } else { self.more.get(index - 1) }
    }

    /// As [`get`](Self::get), to change it.
    #[must_use]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut AttemptRecord> {
        if index == 0 { self.first.as_mut() } else { self.more.get_mut(index - 1) }
    }

    /// The one that began last.
    #[must_use]
    pub fn last(&self) -> Option<&AttemptRecord> {
        self.more.last().or(self.first.as_ref())
    }

    /// All of them, in the order in which they began.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &AttemptRecord> + Clone {
        self.first.iter().chain(&self.more)
    }

    /// As [`iter`](Self::iter), to change them.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut AttemptRecord> {
        self.first.iter_mut().chain(&mut self.more)
    }
}

impl FromIterator<AttemptRecord> for Attempts {
    fn from_iter<I: IntoIterator<Item = AttemptRecord>>(attempts: I) -> Self {
        let mut all = Self::new();
        all.extend(attempts);
        all
    }
}

impl Extend<AttemptRecord> for Attempts {
    fn extend<I: IntoIterator<Item = AttemptRecord>>(&mut self, attempts: I) {
        attempts.into_iter().for_each(|attempt| self.push(attempt));
    }
}
