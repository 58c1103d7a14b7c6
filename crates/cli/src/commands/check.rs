//! `handover check`: the connection test, for people and for programs.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments on flags are their help texts, where brackets mean optional"
)]

use std::io::Write as _;

use clap::Args;
use handover_client::{Check, CheckReport, CheckVerdict, CheckedEndpoint, Client};

use super::reach::{ReachArgs, duration};
use crate::diagnostics::LogFormat;
use crate::exit::Exit;
use crate::terminal::{Paint, StatusLine, Terminal, duration as shown, on_stdout};

/// The flags of `handover check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The endpoints, in order: http|https://host[:port][/prefix]
    #[arg(value_name = "URL", required = true)]
    endpoints: Vec<String>,
    /// What is asked for, below each endpoint's own path
    #[arg(long, value_name = "PATH", default_value = "/check")]
    path: String,
    /// The answer must be JSON with this value at this place (a JSON pointer), such as /status=success. Repeat it for
    /// several
    #[arg(long, value_name = "JSONPOINTER=VALUE")]
    expect: Vec<String>,
    /// How long one endpoint may take, all steps together
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

/// Tests the endpoints.
pub(crate) fn run(args: &CheckArgs, format: LogFormat) -> Exit {
    let (client, check) = match prepare(args) {
        Ok(ready) => ready,
        Err(problems) => return format.refuse_all("check", &problems),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return format.fail(Exit::Other, &format!("cannot start: {error}")),
    };
    let mut progress = Progress::new(&client, format);
    progress.show();
    let report = runtime.block_on(client.check(&check, |endpoint| progress.over(endpoint)));
    progress.line.clear();
    // Asking the system for a name goes on in a thread of its own when its time is over: nobody waits for it.
    runtime.shutdown_background();
    match report {
        Ok(report) => print(&report, args.json),
        Err(error) => format.refuse_all("check", &[error.to_string()]),
    }
}

/// What is to be tested and how, or all that is wrong with it.
fn prepare(args: &CheckArgs) -> Result<(Client, Check), Vec<String>> {
    let mut problems = Vec::new();
    let mut check = Check::get(&args.path);
    match duration("--timeout", &args.timeout) {
        Ok(timeout) => check = check.timeout(timeout),
        Err(problem) => problems.push(problem),
    }
    for text in &args.expect {
        match text.split_once('=') {
            Some((pointer, value)) if pointer.is_empty() || pointer.starts_with('/') => {
                check = check.expect(pointer, value);
            }
            _ => problems.push(format!(
                "--expect {text:?}: allowed is a JSON pointer, which begins with a slash, and a value: /status=success"
            )),
        }
    }
    let headers = args.reach.headers(&mut problems);
    match args.reach.builder(&args.endpoints).default_headers(headers).build() {
        Ok(client) if problems.is_empty() => Ok((client, check)),
        Ok(_) => Err(problems),
        Err(error) => {
            problems.extend_from_slice(error.problems());
            Err(problems)
        }
    }
}

fn print(report: &CheckReport, is_json: bool) -> Exit {
    let printed = on_stdout(|out| {
        if is_json {
            serde_json::to_writer(&mut *out, &report.to_json())?;
            writeln!(out)?;
            return Ok(Exit::Ok);
        }
        let terminal = Terminal::of_stdout();
        for (endpoint, number) in report.endpoints.iter().zip(1..) {
            for line in lines(&terminal, endpoint, number) {
                writeln!(out, "{}", terminal.wrap(&line))?;
            }
        }
        writeln!(out, "{}", conclusion(&terminal, report))?;
        Ok(Exit::Ok)
    });
    match report.verdict() {
        _ if printed != Exit::Ok => printed,
        CheckVerdict::AllGood => Exit::Ok,
        CheckVerdict::SomeFailed => Exit::SomeFailed,
        CheckVerdict::NoneGood => Exit::NoneGood,
    }
}

/// One endpoint: how it went, then the time of each step, then why it is not good.
fn lines(terminal: &Terminal, endpoint: &CheckedEndpoint, number: usize) -> Vec<String> {
    let (paint, sign) = match endpoint.is_good {
        true => (Paint::Good, terminal.sign("✓", "ok")),
        false => (Paint::Bad, terminal.sign("✗", "x")),
    };
    let how = match (endpoint.status, endpoint.fault) {
        (Some(status), _) => status.to_string(),
        (None, Some(fault)) => format!("{}: {fault}", endpoint.stage),
        (None, None) => endpoint.stage.to_string(),
    };
    let how = terminal.paint(paint, &format!("{sign} {how}"));
    let mut lines = vec![format!("{number}. {}  {how}  {}", terminal.safe(&endpoint.endpoint), shown(endpoint.total))];
    let steps = [
        ("dns", endpoint.dns),
        ("tcp", endpoint.tcp),
        ("proxy", endpoint.proxy),
        ("tls", endpoint.tls),
        ("first byte", endpoint.first_byte),
    ];
    let steps: Vec<_> = steps.iter().filter_map(|(name, time)| Some(format!("{name} {}", shown((*time)?)))).collect();
    if !steps.is_empty() {
        lines.push(terminal.paint(Paint::Dim, &format!("   {}", steps.join(terminal.sign(" · ", ", ")))));
    }
    if let Some(message) = &endpoint.message {
        lines.push(format!("   {}", terminal.safe(message)));
    }
    lines
}

/// All in one line.
fn conclusion(terminal: &Terminal, report: &CheckReport) -> String {
    let all = report.endpoints.len();
    let good = report.endpoints.iter().filter(|endpoint| endpoint.is_good).count();
    let (paint, words) = match report.verdict() {
        CheckVerdict::AllGood => (Paint::Good, "all good"),
        CheckVerdict::SomeFailed => (Paint::Bad, "some failed"),
        CheckVerdict::NoneGood => (Paint::Bad, "none is good"),
    };
    format!("{}: {good} of {all} good", terminal.paint(paint, words))
}

/// What stands on stderr while the test runs.
struct Progress {
    line: StatusLine,
    waiting: Vec<String>,
    all: usize,
}

impl Progress {
    fn new(client: &Client, format: LogFormat) -> Self {
        let label = |url: &str| url.trim_end_matches('/').to_owned();
        let waiting: Vec<_> = client.endpoints().iter().map(|endpoint| label(endpoint.url.as_str())).collect();
        Self { line: StatusLine::new(format), all: waiting.len(), waiting }
    }

    fn over(&mut self, endpoint: &CheckedEndpoint) {
        self.waiting.retain(|waiting| *waiting != endpoint.endpoint);
        self.show();
    }

    fn show(&self) {
        let done = self.all - self.waiting.len();
        if done < self.all {
            self.line.show(&format!("{done} of {} done, waiting for {}", self.all, self.waiting.join(", ")));
        }
    }
}
