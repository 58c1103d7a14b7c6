//! What is told of a request: a line per attempt for people, one object for programs, and the exit code.

use std::io::{self, Write as _};

use base64::Engine as _;
use handover_client::{Answer, Attempt, Error, Fate, Fault, Record, Sent, Verdict};
use http::{HeaderMap, StatusCode, Version};
use serde_json::{Map, Value, json};

use crate::diagnostics::LogFormat;
use crate::exit::Exit;
use crate::terminal::{Paint, Terminal, duration, on_stdout};

/// How the reading of the answer ended, or that there was none.
pub(super) enum End {
    /// The body came whole and was written.
    Whole,
    /// The body broke off.
    BrokenOff(String),
    /// It could not be written where it should.
    NotWritten(io::Error),
    /// A signal ended it.
    Interrupted,
    /// There is no answer, for this reason.
    NoAnswer(String),
}

/// The head of an answer.
pub(super) struct Head {
    version: Version,
    status: StatusCode,
    headers: HeaderMap,
}

/// All that is known of a request.
pub(super) struct Report {
    /// What ended before the record: with redirects, a record for each hop.
    earlier: Vec<Record>,
    /// Whether redirects were asked for.
    pub(super) follows: bool,
    fate: Fate,
    record: Option<Record>,
    head: Option<Head>,
    pub(super) body: Vec<u8>,
    pub(super) end: End,
}

impl Head {
    pub(super) fn of(answer: &Answer) -> Self {
        Self { version: answer.version(), status: answer.status(), headers: answer.headers().clone() }
    }

    /// As it came, with an empty line behind it.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut lines = format!("{:?} {}\r\n", self.version, self.status).into_bytes();
        for (name, value) in &self.headers {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        lines.extend_from_slice(b"\r\n");
        lines
    }

    /// The fields by name: a text, or a list of texts where a name came more than once.
    fn fields(&self) -> Value {
        let mut fields = Map::new();
        for name in self.headers.keys() {
            let values = self.headers.get_all(name).iter();
            let mut texts: Vec<Value> = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
            let value = if texts.len() == 1 { texts.remove(0) } else { texts.into() };
            fields.insert(name.as_str().to_owned(), value);
        }
        fields.into()
    }
}

impl Report {
    pub(super) fn answered(answer: &Answer) -> Self {
        let (record, head) = (Some(answer.record().clone()), Some(Head::of(answer)));
        Self {
            fate: Fate::Answered,
            record,
            earlier: Vec::new(),
            follows: false,
            head,
            body: Vec::new(),
            end: End::Whole,
        }
    }

    pub(super) fn failed(error: &Error) -> Self {
        let record = error.record().cloned();
        let sentence = record.as_ref().and_then(Record::verdict).map(|verdict| verdict.reason().sentence());
        let sentence = if error.is_body() { Some("the body could not be read to its end") } else { sentence };
        let why = format!("{}: {}", headline(error.fate()), sentence.unwrap_or("nobody said why"));
        Self {
            fate: error.fate(),
            record,
            earlier: Vec::new(),
            follows: false,
            head: None,
            body: Vec::new(),
            end: End::NoAnswer(why),
        }
    }

    /// Given up before an answer came: what is known of it is what its record says.
    pub(super) fn interrupted(mut records: Vec<Record>) -> Self {
        let record = records.pop();
        let fate = record.as_ref().map_or(Fate::NotSent, Record::fate);
        // What was answered with a redirect was sent.
        let fate = if fate == Fate::NotSent && !records.is_empty() { Fate::Answered } else { fate };
        Self { fate, record, earlier: Vec::new(), follows: false, head: None, body: Vec::new(), end: End::Interrupted }
    }

    /// With what redirects led through, hop by hop: all that ended before the last one.
    pub(super) fn behind(mut self, mut records: Vec<Record>) -> Self {
        records.pop();
        self.earlier = records;
        self
    }

    /// A line per attempt, on stderr.
    pub(super) fn tell_attempts(&self, format: LogFormat) {
        let terminal = Terminal::of_stderr();
        for attempt in self.earlier.iter().chain(&self.record).flat_map(Record::attempts) {
            match format {
                LogFormat::Human => format.tell(&line(&terminal, &attempt)),
                LogFormat::Json => format.tell(&format!("{}. {attempt}", attempt.number())),
            }
        }
    }

    /// What else is to be said of the end, on stderr.
    pub(super) fn tell_end(&self, format: LogFormat) {
        if let Some(message) = self.message() {
            let message = Terminal::of_stderr().safe(&message);
            format.fail(self.exit(), &format!("{}{message}", format.prefix()));
        }
    }

    fn message(&self) -> Option<String> {
        match &self.end {
            End::Whole => self.not_followed(),
            // Who reads no further has seen enough.
            End::NotWritten(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            End::NotWritten(error) => Some(format!("cannot write to stdout: {error}")),
            End::BrokenOff(why) | End::NoAnswer(why) => Some(why.clone()),
            End::Interrupted if self.head.is_some() => {
                Some("interrupted: the request was answered, and its body is cut off here".to_owned())
            }
            End::Interrupted => Some(format!("interrupted: {}", headline(self.fate))),
        }
    }

    /// What is to be said of a redirect that stands though redirects were asked for.
    fn not_followed(&self) -> Option<String> {
        let head = self.head.as_ref().filter(|head| self.follows && head.status.is_redirection())?;
        let place = head.headers.get(http::header::LOCATION)?;
        let place = String::from_utf8_lossy(place.as_bytes()).into_owned();
        Some(format!(
            "the redirect to {place} was not followed: -L is used up, or it leads where this request may not go"
        ))
    }

    /// The exit code. That the body broke off makes of a good answer a bad one; the request was answered all the same.
    pub(super) fn exit(&self) -> Exit {
        match (&self.end, &self.head, self.fate) {
            (End::Interrupted, ..) => Exit::Interrupted,
            (End::NotWritten(error), ..) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Other,
            (End::BrokenOff(_), ..) => Exit::BadAnswer,
            (_, Some(head), _) if head.status.as_u16() >= 400 => Exit::BadAnswer,
            (_, Some(_), _) => Exit::Ok,
            (_, None, Fate::NotSent) => Exit::NotSent,
            (_, None, Fate::Unknown) => Exit::Unknown,
            // With a redirect, and where it leads was not reached.
            (_, None, Fate::Answered) => Exit::BadAnswer,
        }
    }

    /// The object, on stdout.
    pub(super) fn print_json(&self) -> Exit {
        let written = on_stdout(|out| {
            serde_json::to_writer(&mut *out, &self.to_json())?;
            writeln!(out)?;
            Ok(Exit::Ok)
        });
        if written == Exit::Ok { self.exit() } else { written }
    }

    fn to_json(&self) -> Value {
        let (body, encoding) = match (&self.head, std::str::from_utf8(&self.body)) {
            (None, _) => (Value::Null, Value::Null),
            (Some(_), Ok(text)) => (text.into(), "utf-8".into()),
            (Some(_), Err(_)) => (base64::engine::general_purpose::STANDARD.encode(&self.body).into(), "base64".into()),
        };
        json!({
            "outcome": self.fate.as_str(),
            "status": self.head.as_ref().map(|head| head.status.as_u16()),
            "headers": self.head.as_ref().map(Head::fields),
            "body": body,
            "body_encoding": encoding,
            "message": self.message(),
            "record": self.record_json(),
        })
    }
}

impl Report {
    /// The record of the whole: with redirects, the attempts of every hop in order.
    fn record_json(&self) -> Option<Value> {
        let mut json = self.record.as_ref()?.to_json();
        if !self.earlier.is_empty() {
            let hops = self.earlier.iter().chain(&self.record).map(Record::to_json);
            let attempts =
                hops.flat_map(|mut hop| hop["attempts"].as_array_mut().map(std::mem::take).unwrap_or_default());
            json["attempts"] = attempts.collect();
            json["fate"] = self.fate.as_str().into();
        }
        Some(json)
    }
}

/// What is known of a request, in words.
fn headline(fate: Fate) -> &'static str {
    match fate {
        Fate::NotSent => "the request was not sent",
        Fate::Unknown => "unknown whether the request was done",
        Fate::Answered => "the request was answered, and where its redirect leads was not reached",
    }
}

/// `1. http://a:1  ✗ dial: refused (connection refused)  0.31 ms, nothing sent → try_next (not_sent)`
fn line(terminal: &Terminal, attempt: &Attempt<'_>) -> String {
    let (cross, tick, dash) = (terminal.sign("✗", "x"), terminal.sign("✓", "ok"), terminal.sign("–", "-"));
    let (paint, how) = match (attempt.status(), attempt.fault()) {
        (Some(status), None) if status < 400 => (Paint::Good, format!("{tick} {status}")),
        (Some(status), _) => (Paint::Bad, format!("{cross} {status}")),
        // A dial that was not needed is no failure.
        (None, Some(Fault::LostRace)) => (Paint::Dim, format!("{dash} {}: {}", attempt.stage(), Fault::LostRace)),
        (None, Some(fault)) => (Paint::Bad, format!("{cross} {}: {fault}", attempt.stage())),
        (None, None) => (Paint::Bad, format!("{cross} {}", attempt.stage())),
    };
    let message = attempt.message().map(|message| format!(" ({})", terminal.safe(message))).unwrap_or_default();
    let sent = match (attempt.status(), attempt.sent()) {
        (Some(_), _) => "",
        (None, Sent::No) => ", nothing sent",
        (None, Sent::Maybe) => ", maybe sent",
        (None, Sent::Yes) => ", sent",
    };
    let endpoint = terminal.safe(attempt.endpoint());
    let how = terminal.paint(paint, &how);
    let verdict = said(terminal, attempt.verdict());
    format!("{}. {endpoint}  {how}{message}  {}{sent} {verdict}", attempt.number(), duration(attempt.duration()))
}

fn said(terminal: &Terminal, verdict: Verdict) -> String {
    let arrow = terminal.sign("→", "->");
    terminal.paint(Paint::Dim, &format!("{arrow} {} ({})", verdict.as_str(), verdict.reason()))
}
