//! `handover explain`: the attempts of one request as a timeline, why each decision was taken, and whether the same
//! decisions follow from the record again.

mod story;
mod timeline;

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use handover_core::{Difference, Reason};
use handover_gateway::log::{Entry, LogReader, ReadError, RequestId, Unreadable};
use serde_json::{Value, json};

use crate::commands::log::unreadable;
use crate::exit::Exit;
use crate::terminal::{Terminal, complain, on_stdout};

/// The flags of `handover explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The request's id, as `handover log` shows it; or `last` for the newest one
    #[arg(value_name = "ID")]
    which: Which,
    /// One JSON object: the request with all that was recorded, a sentence for each verdict, and the replay's result
    #[arg(long)]
    json: bool,
    /// Directory of the request log
    #[arg(long, value_name = "DIR", env = "HANDOVER_DATA_DIR", default_value = "handover-data")]
    data_dir: PathBuf,
}

/// Which request.
#[derive(Clone, Copy, Debug)]
enum Which {
    Last,
    Id(RequestId),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Last),
            id => id.parse().map(Self::Id).map_err(|error| format!("{error}; `last` is the newest request")),
        }
    }
}

/// What came of taking the decisions again.
type Replayed = Result<Result<(), Difference>, Unreadable>;

/// Explains one request. Ends with 1 if its decisions do not follow from its record, with 2 if there is no such request.
pub(crate) fn run(args: &ExplainArgs) -> Exit {
    let found = match find(args) {
        Ok(found) => found,
        Err(error) => return unreadable(&error),
    };
    let Some(entry) = found else {
        let place = args.data_dir.display();
        complain(&match args.which {
            Which::Last => format!("there are no requests in {place} yet"),
            Which::Id(id) => format!(
                "there is no request {id} in {place}: it is still running, or its row was deleted or never written; \
                 `handover log` lists those there are"
            ),
        });
        return Exit::Config;
    };
    let replayed = entry.replay();
    on_stdout(|out| {
        if args.json {
            print_json(out, &entry, &replayed)?;
        } else {
            story::print(out, &Terminal::of_stdout(), &entry, &replayed)?;
        }
        Ok(if matches!(replayed, Ok(Ok(()))) { Exit::Ok } else { Exit::Other })
    })
}

fn find(args: &ExplainArgs) -> Result<Option<Entry>, ReadError> {
    let reader = LogReader::open(&args.data_dir)?;
    match args.which {
        Which::Last => reader.newest(),
        Which::Id(id) => reader.get(id),
    }
}

/// A verdict's reason as a sentence; a word of a later version as it is.
fn sentence(reason: &str) -> &str {
    Reason::parse(reason).map_or(reason, |known| known.sentence())
}

fn print_json(out: &mut impl Write, entry: &Entry, replayed: &Replayed) -> io::Result<()> {
    let mut value = serde_json::to_value(entry)?;
    if let Some(attempts) = value.get_mut("attempts").and_then(Value::as_array_mut) {
        for (shown, attempt) in attempts.iter_mut().zip(&entry.attempts) {
            shown["sentence"] = sentence(&attempt.reason).into();
        }
    }
    value["replayed"] = match replayed {
        Ok(Ok(())) => json!({ "is_same": true }),
        Ok(Err(difference)) => json!({
            "is_same": false,
            "attempt": difference.attempt,
            "decision": difference.decision,
            "recorded": difference.recorded,
            "decided": difference.decided,
        }),
        Err(error) => json!({ "is_same": false, "error": error.to_string() }),
    };
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)
}
