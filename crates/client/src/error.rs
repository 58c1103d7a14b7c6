//! Why a request got no answer, and what is known of it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use handover_core::{Fate, Fault, Reason, Sent, Stage, Verdict};
use http::StatusCode;

use crate::answer::Answer;
use crate::body::BoxError;
use crate::record::Record;

/// Why a request got no answer, or an answer could not be read.
///
/// `Display` prints what happened, and below it one line per attempt: endpoint, stage, fault, time, verdict and reason.
/// Credentials never appear.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    record: Option<Record>,
    /// Behind a lock, which nobody waits for, because a body that comes from a socket cannot be shared and an error can.
    answer: Mutex<Option<Answer>>,
    status: Option<StatusCode>,
    /// What was answered with a redirect before, hop by hop: the request itself was done there.
    hops: Vec<Record>,
    source: Option<BoxError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request could not be made: nothing was tried.
    Builder,
    /// No attempt was answered.
    Request,
    /// The answer's body broke off or its time was over.
    Body,
    /// The answer's body is not what it was to be.
    Decode,
    /// The answer's status is an error, and the caller wants one to be.
    Status,
}

impl Error {
    pub(crate) fn new(kind: Kind, source: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner {
            kind,
            record: None,
            answer: Mutex::default(),
            status: None,
            hops: Vec::new(),
            source: Some(source.into()),
        }))
    }

    pub(crate) fn builder(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Builder, source)
    }

    /// No attempt came to an answer that stands. `answer` is the last one that came and did not stand.
    pub(crate) fn request(record: Record, answer: Option<Answer>) -> Self {
        let status = answer.as_ref().map(Answer::status);
        Self(Box::new(Inner {
            kind: Kind::Request,
            record: Some(record),
            answer: Mutex::new(answer),
            status,
            hops: Vec::new(),
            source: None,
        }))
    }

    pub(crate) fn status_of(answer: Answer) -> Self {
        let (record, status) = (Some(answer.record().clone()), Some(answer.status()));
        Self(Box::new(Inner {
            kind: Kind::Status,
            record,
            answer: Mutex::new(Some(answer)),
            status,
            hops: Vec::new(),
            source: None,
        }))
    }

    /// The request was answered, with redirects, before this happened on the way that they led.
    pub(crate) fn behind_redirects(mut self, hops: Vec<Record>, status: StatusCode) -> Self {
        self.0.hops = hops;
        self.0.status.get_or_insert(status);
        self
    }

    pub(crate) fn with_record(mut self, record: &Record) -> Self {
        self.0.record = Some(record.clone());
        self
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Whether it is proven that not one byte of the request left on any attempt. It may be sent again without harm.
    #[must_use]
    pub fn is_not_sent(&self) -> bool {
        self.fate() == Fate::NotSent
    }

    /// Whether the request may have arrived somewhere: nobody knows whether it was done.
    #[must_use]
    pub fn is_maybe_sent(&self) -> bool {
        self.fate() == Fate::Unknown
    }

    /// Whether a time limit ended it: the decisive attempt's own, the request's deadline, or that of a silent body.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        let is_io = |kind| self.io_kind() == Some(kind);
        let decisive = self.decisive().is_some_and(|(_, fault, _)| fault == Fault::Timeout);
        decisive || self.is_because(Reason::DeadlineTooShort) || is_io(std::io::ErrorKind::TimedOut)
    }

    /// Whether no attempt got as far as a connection that could carry the request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        let Some(record) = &self.0.record else { return false };
        let before_send = |stage: Stage| stage < Stage::Send;
        let mut attempts = record.attempts().peekable();
        self.0.kind == Kind::Request
            && attempts.peek().is_some()
            && attempts.all(|attempt| attempt.status().is_none() && before_send(attempt.stage()))
    }

    /// Whether the request itself was wrong, or the client's own limits forbid it: nothing was tried.
    #[must_use]
    pub fn is_builder(&self) -> bool {
        self.0.kind == Kind::Builder
    }

    /// Whether the body is at fault: the answer's broke off, or the request's own stream failed.
    #[must_use]
    pub fn is_body(&self) -> bool {
        self.0.kind == Kind::Body || (self.0.kind == Kind::Request && self.is_because(Reason::Cancelled))
    }

    /// Whether the answer's body is not what it was read as.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        self.0.kind == Kind::Decode
    }

    /// Whether it is an answer whose status is an error, made into one by
    /// [`Answer::error_for_status`](crate::Answer::error_for_status).
    #[must_use]
    pub fn is_status(&self) -> bool {
        self.0.kind == Kind::Status
    }

    /// The status of the last answer that came, also of one that did not stand.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// What is known of the request: not sent, unknown, or answered.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match (&self.0.record, self.0.kind) {
            (_, Kind::Builder) | (None, Kind::Request) => Fate::NotSent,
            // What was answered with a redirect is not unsent, whatever became of the way that it led.
            (Some(record), _) if record.fate() == Fate::NotSent && !self.0.hops.is_empty() => Fate::Answered,
            (Some(record), _) => record.fate(),
            (None, _) => Fate::Answered,
        }
    }

    /// What happened, attempt by attempt; `None` where nothing was tried.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.0.record.as_ref()
    }

    /// The last answer that came, its body still readable, if there was one.
    #[must_use]
    pub fn into_answer(self) -> Option<Answer> {
        self.0.answer.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn decisive(&self) -> Option<(Stage, Fault, Sent)> {
        let attempt = self.0.record.as_ref()?.decisive()?;
        Some((attempt.stage(), attempt.fault()?, attempt.sent()))
    }

    fn is_because(&self, reason: Reason) -> bool {
        let verdict = self.0.record.as_ref().and_then(Record::verdict);
        verdict.map(Verdict::reason) == Some(reason)
    }

    fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let mut cause: Option<&(dyn StdError + 'static)> = self.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return Some(io.kind());
            }
            cause = error.source();
        }
        None
    }

    /// What happened, without the attempts.
    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            Kind::Builder => f.write_str("the request cannot be sent"),
            Kind::Body => f.write_str("the answer's body broke off"),
            Kind::Decode => f.write_str("the answer's body cannot be read"),
            Kind::Status => write!(f, "the answer is {}", self.0.status.unwrap_or_default()),
            Kind::Request => match self.fate() {
                Fate::NotSent => f.write_str("the request was not sent"),
                Fate::Unknown => f.write_str("unknown whether the request was done: it may have arrived"),
                Fate::Answered => f.write_str("the request was answered, and where its redirect leads was not reached"),
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        let Some(record) = &self.0.record else { return Ok(()) };
        if self.is_body() {
            f.write_str(": the request's own body failed")?;
        } else if self.0.kind == Kind::Request
            && let Some(verdict) = record.verdict()
        {
            write!(f, ": {}", verdict.reason().sentence())?;
        }
        for record in self.0.hops.iter().chain([record]) {
            if record.attempts().next().is_some() {
                write!(f, "\n{record}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown.field("kind", &self.0.kind);
        if let Some(source) = &self.0.source {
            shown.field("source", source);
        }
        if let Some(status) = &self.0.status {
            shown.field("status", status);
        }
        if let Some(record) = &self.0.record {
            shown.field("record", record);
        }
        shown.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
