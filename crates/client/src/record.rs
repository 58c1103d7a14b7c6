//! What happened to one request: the core's record, and what only the shell knows of each attempt.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handover_core::{AttemptRecord, Fate, Fault, Outcome, Sent, Stage, Verdict};

/// What happened to one request: its attempts, in the order in which they began, with times, faults and verdicts.
///
/// `Display` prints one line per attempt; `Debug` the same in one line. Credentials are in neither.
#[derive(Clone)]
pub struct Record(Box<Inner>);

#[derive(Clone)]
struct Inner {
    core: handover_core::Record,
    details: Vec<Detail>,
}

/// What the core does not know of an attempt.
#[derive(Clone)]
pub(crate) struct Detail {
    /// Its name only: a record that is kept must not keep an endpoint's connections open.
    pub(crate) endpoint: Arc<str>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) reused: bool,
    /// Connections under it that ended before anything of the request had left.
    pub(crate) redials: u32,
    /// Bytes that the raw socket took of a request that failed.
    pub(crate) written_bytes: Option<u64>,
    /// What went wrong, in one line.
    pub(crate) message: Option<Box<str>>,
}

/// One attempt of a [`Record`].
#[derive(Clone, Copy)]
pub struct Attempt<'r> {
    core: &'r AttemptRecord,
    detail: &'r Detail,
}

impl Record {
    pub(crate) fn new(core: handover_core::Record, details: Vec<Detail>) -> Self {
        Self(Box::new(Inner { core, details }))
    }

    /// The core's record: what the decisions were made from, enough to make them again
    /// ([`replay`](handover_core::replay)).
    #[must_use]
    pub fn core(&self) -> &handover_core::Record {
        &self.0.core
    }

    /// The attempts, in the order in which they began.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = Attempt<'_>> {
        self.0
            .core
            .attempts
            .iter()
            .zip(&self.0.details)
            .map(|(core, detail)| Attempt { core, detail })
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// What is known of the request as a whole: not sent, unknown, or answered.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.0.core.fate()
    }

    /// The verdict on the whole request.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.0.core.verdict
    }

    /// The time from the first attempt's begin to the end of the last one.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.0.core.ended.unwrap_or_default()
    }

    /// The attempt whose outcome the caller got.
    #[must_use]
    pub fn decisive(&self) -> Option<Attempt<'_>> {
        let number = self.0.core.decisive()?.attempt;
        self.attempts().find(|attempt| attempt.number() == number)
    }
}

impl<'r> Attempt<'r> {
    pub(crate) fn new(core: &'r AttemptRecord, detail: &'r Detail) -> Self {
        Self { core, detail }
    }

    /// Its number, counted from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.core.attempt
    }

    /// The endpoint's URL, without credentials and without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &'r str {
        &self.detail.endpoint
    }

    /// The address of the socket, or the last one that was tried.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.detail.address
    }

    /// Whether it went on a connection that had served a request before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.detail.reused
    }

    /// How far it got. An answered attempt got to the body.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.core.outcome {
            Outcome::Answered { .. } => Stage::Body,
            Outcome::Failed(failure) => failure.stage,
        }
    }

    /// What went wrong. An answer that did not stand is [`Fault::Status`].
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self.core.outcome {
            Outcome::Answered { status, .. }
                if !matches!(self.core.verdict, Verdict::Done(handover_core::Reason::Answered)) =>
            {
                Some(Fault::Status(status))
            }
            Outcome::Answered { .. } => None,
            Outcome::Failed(failure) => Some(failure.fault),
        }
    }

    /// Its status, if it was answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.core.outcome {
            Outcome::Answered { status, .. } => Some(status),
            Outcome::Failed(_) => None,
        }
    }

    /// What is proven of the request.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.core.outcome.sent()
    }

    /// What was said of it, and why.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.core.verdict
    }

    /// When it began, since the request began.
    #[must_use]
    pub fn started(&self) -> Duration {
        self.core.started
    }

    /// How long it took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.core.ended.saturating_sub(self.core.started)
    }

    /// How often it dialled afresh because a connection that others had used ended before a byte of the request left.
    #[must_use]
    pub fn redials(&self) -> u32 {
        self.detail.redials
    }

    /// How many bytes of a request that failed the raw socket took, below TLS; `None` where nothing was sent or counted.
    #[must_use]
    pub fn written_bytes(&self) -> Option<u64> {
        self.detail.written_bytes
    }

    /// Whether it began beside another one, as a hedged dial.
    #[must_use]
    pub fn is_hedged(&self) -> bool {
        self.core.hedged
    }

    /// What went wrong, in one line of lower case.
    #[must_use]
    pub fn message(&self) -> Option<&'r str> {
        self.detail.message.as_deref()
    }
}

/// One line: `https://kv-1.example: dial: refused (connection refused) after 1.2ms, sent no → try_next(not_sent)`.
impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.endpoint())?;
        match (self.status(), self.fault()) {
            (Some(status), _) => write!(f, "answered {status}")?,
            (None, Some(fault)) => write!(f, "{}: {fault}", self.stage())?,
            (None, None) => write!(f, "{}", self.stage())?,
        }
        if let Some(message) = self.message() {
            write!(f, " ({message})")?;
        }
        write!(f, " after {:?}", rounded(self.duration()))?;
        if self.status().is_none() {
            write!(f, ", sent {}", self.sent())?;
        }
        write!(f, " → {}", self.verdict())
    }
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attempt) in self.attempts().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}. {attempt}", attempt.number())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.attempts()).finish()
    }
}

/// To microseconds: nanoseconds are noise at a network's scale, and make lines hard to read.
fn rounded(time: Duration) -> Duration {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(feature = "json")]
impl Record {
    /// The record as JSON: `fate`, `verdict`, `reason`, `duration_ms`, and `attempts`, a list in order; each has
    /// `endpoint`, `address`, `stage`, `fault`, `status`, `sent` (`No`, `Maybe`, `Yes`), `verdict`, `reason`,
    /// `started_ms`, `duration_ms`, `hedged`, `reused`, `redials` and `message`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let attempts: Vec<_> = self.attempts().map(|attempt| attempt.to_json()).collect();
        serde_json::json!({
            "fate": self.fate().as_str(),
            "verdict": self.verdict().map(Verdict::as_str),
            "reason": self.verdict().map(|verdict| verdict.reason().as_str()),
            "duration_ms": milliseconds(self.duration()),
            "attempts": attempts,
        })
    }
}

#[cfg(feature = "json")]
impl Attempt<'_> {
    fn to_json(self) -> serde_json::Value {
        let sent = match self.sent() {
            Sent::No => "No",
            Sent::Maybe => "Maybe",
            Sent::Yes => "Yes",
        };
        serde_json::json!({
            "attempt": self.number(),
            "endpoint": self.endpoint(),
            "address": self.address().map(|address| address.to_string()),
            "stage": self.stage().as_str(),
            "fault": self.fault().map(|fault| fault.to_string()),
            "status": self.status(),
            "sent": sent,
            "verdict": self.verdict().as_str(),
            "reason": self.verdict().reason().as_str(),
            "started_ms": milliseconds(self.started()),
            "duration_ms": milliseconds(self.duration()),
            "hedged": self.is_hedged(),
            "reused": self.is_reused(),
            "redials": self.redials(),
            "message": self.message(),
        })
    }
}

/// Milliseconds with three places.
#[cfg(feature = "json")]
pub(crate) fn milliseconds(time: Duration) -> f64 {
    f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}
