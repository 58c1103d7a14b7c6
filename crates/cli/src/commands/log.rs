//! `handover log`: lists the requests of a data directory, and follows them.

mod attempts;
mod table;
mod when;

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use handover_gateway::log::{Entry, Filter, LogReader, ReadError};

use crate::exit::Exit;
use crate::terminal::{Paint, Terminal, complain, on_stdout};
pub(crate) use attempts::Outcome;
use table::Table;
use when::When;

/// How often a followed log is looked at: the interval in which the gateway writes.
const POLL: Duration = Duration::from_millis(250);
/// Requests shown before following, if not said otherwise: what `tail` shows.
const FOLLOW_LIMIT: u32 = 10;
/// Requests shown, if not said otherwise: a screen.
const LIMIT: u32 = 50;

/// The flags of `handover log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Keep printing requests as they end
    #[arg(long, short)]
    follow: bool,
    /// One JSON object a line, with all that was recorded
    #[arg(long)]
    json: bool,
    /// The newest N [default: 50; with --follow 10]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
    /// Only of this platform
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// Only of this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only to this host, with the port as the log shows it
    #[arg(long, value_name = "HOST")]
    target: Option<String>,
    /// Take --platform, --account and --target as a part of the name, in whatever case
    #[arg(long)]
    fuzzy: bool,
    /// Only with this status; 0 for those that got no response
    #[arg(long, value_name = "CODE", value_parser = status)]
    status: Option<u16>,
    /// Only those that the network failed
    #[arg(long)]
    failed: bool,
    /// Only those with more than one attempt
    #[arg(long)]
    retried: bool,
    /// Only those that started after: a time such as 2026-01-02T03:04:05Z, "2026-01-02 03:04" or 2026-01-02 (UTC if it
    /// does not say), or how long ago, such as 90s, 15m, 2h, 1d
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Only those that started before; a date is its first moment
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// Directory of the request log
    #[arg(long, value_name = "DIR", env = "HANDOVER_DATA_DIR", default_value = "handover-data")]
    data_dir: PathBuf,
}

/// A status as the log shows it: 0 if the client got none.
fn status(text: &str) -> Result<u16, String> {
    let known = text.parse().ok().filter(|status| matches!(status, 0 | 100..=599));
    known.ok_or_else(|| "allowed is 100 to 599, or 0 for no response".to_owned())
}

const NONE_YET: &str = "\
no requests yet: start `handover gateway` with this data directory, and send one through it:
  curl -x http://127.0.0.1:2260 http://example.com/";
const NONE_PASSES: &str = "no request passes these filters; `handover log` without them shows all";

impl LogArgs {
    fn is_filtered(&self) -> bool {
        let texts = [&self.platform, &self.account, &self.target];
        let times = [&self.since, &self.until];
        self.failed
            || self.retried
            || self.status.is_some()
            || texts.iter().any(|text| text.is_some())
            || times.iter().any(|time| time.is_some())
    }

    fn filter(&self) -> Filter {
        Filter {
            from_ns: self.since.map(|when| when.ns),
            to_ns: self.until.map(|when| when.ns),
            limit: self.limit.unwrap_or(if self.follow { FOLLOW_LIMIT } else { LIMIT }),
            cursor: None,
            platform: self.platform.clone(),
            account: self.account.clone(),
            target_host: self.target.clone(),
            net_ok: self.failed.then_some(false),
            http_status: self.status,
            retried: self.retried.then_some(true),
            fuzzy: self.fuzzy,
        }
    }
}

/// Lists, and follows until it is interrupted.
#[allow(clippy::disallowed_methods, reason = "the command has one thread, which does nothing but follow")]
pub(crate) fn run(args: &LogArgs) -> Exit {
    let opened = LogReader::open(&args.data_dir).and_then(|reader| {
        // Before listing, so that what is written in between is not lost; what is in both is left out below.
        let follow = reader.follow()?;
        let page = reader.list(&args.filter())?;
        Ok((reader, follow, page))
    });
    let (reader, mut follow, mut page) = match opened {
        Ok(opened) => opened,
        Err(error) => return unreadable(&error),
    };
    page.items.reverse();
    on_stdout(|out| {
        let mut printer = Printer::new(args.json);
        printer.begin(out, args, &page.items, page.next_cursor.is_some())?;
        printer.print(out, &page.items)?;
        if !args.follow {
            return Ok(Exit::Ok);
        }
        loop {
            out.flush()?;
            thread::sleep(POLL);
            match reader.after(&mut follow, &args.filter()) {
                Ok(mut entries) => {
                    entries.retain(|entry| page.items.iter().all(|listed| listed.id != entry.id));
                    printer.print(out, &entries)?;
                }
                Err(error) => return Ok(unreadable(&error)),
            }
        }
    })
}

/// Says why the log cannot be read.
pub(crate) fn unreadable(error: &ReadError) -> Exit {
    complain(&error.to_string());
    Exit::Log
}

/// Prints requests as the user wants them.
enum Printer {
    Json,
    Human(Terminal, Table),
}

impl Printer {
    fn new(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Human(Terminal::of_stdout(), Table::default()) }
    }

    /// What stands before the first row: that there are older ones, or that there are none.
    fn begin(&self, out: &mut impl Write, args: &LogArgs, entries: &[Entry], has_more: bool) -> io::Result<()> {
        let Self::Human(terminal, _) = self else { return Ok(()) };
        if entries.is_empty() && !args.follow {
            return writeln!(out, "{}", if args.is_filtered() { NONE_PASSES } else { NONE_YET });
        }
        if has_more && terminal.is_cut {
            let hint = format!("the newest {}; --limit N shows more", entries.len());
            writeln!(out, "{}", terminal.paint(Paint::Dim, &hint))?;
        }
        Ok(())
    }

    fn print(&mut self, out: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
        match self {
            Self::Json => entries.iter().try_for_each(|entry| {
                serde_json::to_writer(&mut *out, entry)?;
                writeln!(out)
            }),
            Self::Human(terminal, table) => table.print(out, terminal, entries),
        }
    }
}
