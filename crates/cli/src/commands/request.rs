//! `handover request`: one request with failover, its answer on stdout and its attempts on stderr.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments on flags are their help texts, where brackets mean optional"
)]

mod data;
mod prepare;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use handover_client::{Answer, Error, Record};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::prepare::Ready;
use self::report::{End, Head, Report};
use super::reach::ReachArgs;
use crate::diagnostics::LogFormat;
use crate::exit::Exit;
use crate::terminal::StatusLine;

/// How often a person is told how long the answer has been waited for: what most requests take is less, and they need no
/// such line.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// The flags of `handover request`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// GET, POST, PUT, …
    #[arg(value_name = "METHOD")]
    method: String,
    /// Path and query, below each endpoint's own path
    #[arg(value_name = "PATH")]
    path: String,
    /// An endpoint: http|https://host[:port][/prefix]. Repeat it for several (32 at most), in order of priority; one that is
    /// named twice is asked once
    #[arg(long = "endpoint", short = 'e', value_name = "URL", required = true)]
    endpoints: Vec<String>,
    /// How far failover may go
    #[arg(long, value_enum, default_value_t)]
    policy: PolicyName,
    /// Ask for further endpoints at this path of the first one when those known have failed, in whatever domain it is. The
    /// answer is JSON such as {"regions":[{"url":"https://…"}]}
    #[arg(long, value_name = "PATH")]
    discover: Option<String>,
    /// The body. No Content-Type is added: name it with -H
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file")]
    data: Option<String>,
    /// The body from a file of any size; - is stdin, which is sent once and never again. Sending it counts into the time of
    /// an attempt: give a large one more with --attempt-timeout
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// How long each attempt may take, from its begin to the head of the answer [default: 10s; at-most-once: 3s to connect and 30s from there]
    #[arg(long, value_name = "TIME")]
    attempt_timeout: Option<String>,
    /// How long everything may take, over all attempts, to the head of the answer [default: none]
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Repeating this request does no harm, whatever its method says
    #[arg(long)]
    idempotent: bool,
    /// All endpoints share one store of idempotency keys: a request with an Idempotency-Key may go on to any of them
    #[arg(long)]
    shared_keys: bool,
    /// One attempt and no more
    #[arg(long)]
    no_failover: bool,
    /// A host that may have the credentials of the request although it was discovered. Repeat it for several
    #[arg(long = "trust-host", value_name = "HOST")]
    trusted: Vec<String>,
    /// Follow up to N redirects (at most 100), each to one place and without failover
    #[arg(long, short = 'L', value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=100))]
    location: u32,
    /// Speak HTTP/2 without asking, also without TLS; the servers are known to speak it
    #[arg(long)]
    http2_prior_knowledge: bool,
    /// Show the head of the answer before its body
    #[arg(long, short = 'i', conflicts_with = "json")]
    include: bool,
    /// One JSON object on stdout: status, headers, body, outcome and the record of all attempts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

/// A policy that has a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    /// Each endpoint once, in order: what was not sent, what a 5xx answered, and repeatable methods go on
    #[default]
    Rotation,
    /// Three attempts over regions that are asked for, whatever the method: the servers must recognise a repeated id
    Regions,
    /// Only what provably was not sent goes on
    AtMostOnce,
}

/// Sends the request.
pub(crate) fn run(args: &RequestArgs, format: LogFormat) -> Exit {
    let ready = match prepare::prepare(args) {
        Ok(ready) => ready,
        Err(problems) => return format.refuse_all("request", &problems),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return format.fail(Exit::Other, &format!("cannot start: {error}")),
    };
    let output = Output { format, is_json: args.json, has_head: args.include, follows: args.location > 0 };
    let exit = runtime.block_on(perform(ready, output));
    // A read of stdin, a write to a full pipe or a question for a name may never end: nobody waits for them.
    runtime.shutdown_background();
    exit
}

/// Where what comes is written, and in which form.
#[derive(Clone, Copy)]
struct Output {
    format: LogFormat,
    is_json: bool,
    has_head: bool,
    follows: bool,
}

/// Sends the request and tells what came of it. The signal INT gives the request up: nothing of it is written after that.
async fn perform(ready: Ready, output: Output) -> Exit {
    let mut interrupt = match signal(SignalKind::interrupt()) {
        Ok(interrupt) => interrupt,
        Err(error) => return output.format.fail(Exit::Other, &format!("cannot wait for signals: {error}")),
    };
    let Ready { request, watch } = ready;
    let line = StatusLine::new(output.format);
    let sent = tokio::select! {
        biased;
        _ = interrupt.recv() => None,
        sent = request.send() => Some(sent),
        () = count_up(&line) => None,
    };
    line.clear();
    match sent {
        None => output.without_answer(&Report::interrupted(watch.records())),
        Some(Ok(answer)) => output.answered(answer, watch.records(), interrupt).await,
        Some(Err(error)) if error.is_builder() => output.format.refuse_all("request", &[one_line(&error)]),
        Some(Err(error)) => output.without_answer(&Report::failed(&error).behind(watch.records())),
    }
}

/// Shows how long the answer has been waited for; never ends.
async fn count_up(line: &StatusLine) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(SHOWN_EVERY).await;
        line.show(&format!("waiting for an answer: {} s", began.elapsed().as_secs()));
    }
}

impl Output {
    fn without_answer(self, report: &Report) -> Exit {
        if !self.is_json {
            report.tell_attempts(self.format);
        }
        report.tell_end(self.format);
        if self.is_json { report.print_json() } else { report.exit() }
    }

    async fn answered(self, answer: Answer, records: Vec<Record>, interrupt: Signal) -> Exit {
        let mut report = Report::answered(&answer).behind(records);
        report.follows = self.follows;
        if self.is_json {
            let mut body = Vec::new();
            report.end = copy(answer, &mut body, interrupt).await;
            report.body = body;
            report.tell_end(self.format);
            return report.print_json();
        }
        report.tell_attempts(self.format);
        let mut stdout = tokio::io::stdout();
        let head = if self.has_head { Head::of(&answer).lines() } else { Vec::new() };
        report.end = match write(&mut stdout, &head).await {
            Ok(()) => copy(answer, &mut stdout, interrupt).await,
            Err(end) => end,
        };
        report.tell_end(self.format);
        report.exit()
    }
}

/// Copies the body piece by piece, each as soon as it comes: it may be one that takes hours.
async fn copy(mut answer: Answer, out: &mut (impl AsyncWrite + Unpin), mut interrupt: Signal) -> End {
    let copying = async {
        loop {
            match answer.chunk().await {
                Ok(Some(piece)) => {
                    if let Err(end) = write(out, &piece).await {
                        return end;
                    }
                }
                Ok(None) => return End::Whole,
                Err(error) => return End::BrokenOff(one_line(&error)),
            }
        }
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => End::Interrupted,
        end = copying => end,
    }
}

async fn write(out: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> Result<(), End> {
    if piece.is_empty() {
        return Ok(());
    }
    let written = async {
        out.write_all(piece).await?;
        out.flush().await
    };
    written.await.map_err(End::NotWritten)
}

/// An error without its attempts, with its causes.
fn one_line(error: &Error) -> String {
    let mut text = error.to_string().lines().next().unwrap_or_default().to_owned();
    // The first cause is in the error's own words.
    let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
