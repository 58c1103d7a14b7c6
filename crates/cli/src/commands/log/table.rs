//! Requests as lines of a table: columns that stay aligned while more lines come.

use std::io::{self, Write};
use std::time::Duration;

use handover_gateway::log::{AttemptEntry, Entry, rfc3339};

use crate::terminal::{Paint, Terminal, duration};

/// The columns before the attempts, which come last because their length varies: head, and width to begin with.
const COLUMNS: [(&str, usize); 7] =
    [("TIME (UTC)", 23), ("ID", 13), ("DOOR", 7), ("METHOD", 7), ("TARGET", 12), ("STATUS", 6), ("DURATION", 8)];
/// The column of the target, which takes what the others leave.
const TARGET: usize = 4;
/// The column of the status, which is painted.
const STATUS: usize = 5;
/// The column of the duration, whose numbers are right-aligned.
const DURATION: usize = 6;
/// Columns left for the attempts on a terminal: one failed and one good node with short tags.
const ATTEMPTS_WIDTH: usize = 30;

/// The columns' widths so far.
#[derive(Default)]
pub(super) struct Table {
    widths: Option<[usize; COLUMNS.len()]>,
}

impl Table {
    /// Prints requests, below a head if they are the first.
    pub(super) fn print(&mut self, out: &mut impl Write, terminal: &Terminal, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = entries.iter().map(|entry| cells(terminal, entry)).collect();
        let is_first = self.widths.is_none();
        let widths = *self.widths.get_or_insert_with(|| widths(terminal, &rows));
        if is_first {
            let head = line(terminal, &widths, &COLUMNS.map(|(name, _)| name.to_owned()), None);
            writeln!(out, "{}", terminal.paint(Paint::Bold, &format!("{head}  ATTEMPTS")))?;
        }
        for (entry, cells) in entries.iter().zip(&rows) {
            let is_good = entry.net_ok && entry.http_status < 500;
            let paint = if is_good { Paint::Good } else { Paint::Bad };
            writeln!(out, "{}  {}", line(terminal, &widths, cells, Some(paint)), attempts(terminal, entry))?;
        }
        Ok(())
    }
}

/// The widths that fit these rows; on a terminal the target gets what is left.
fn widths(terminal: &Terminal, rows: &[[String; COLUMNS.len()]]) -> [usize; COLUMNS.len()] {
    let mut widths = COLUMNS.map(|(_, width)| width);
    for (column, width) in widths.iter_mut().enumerate() {
        *width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default().max(*width);
    }
    if terminal.is_cut {
        let others: usize = widths.iter().sum::<usize>() - widths[TARGET] + 2 * COLUMNS.len() + ATTEMPTS_WIDTH;
        widths[TARGET] = widths[TARGET].min(terminal.width.saturating_sub(others).max(COLUMNS[TARGET].1));
    }
    widths
}

fn cells(terminal: &Terminal, entry: &Entry) -> [String; COLUMNS.len()] {
    let time = rfc3339(entry.id.started_ns(), 3).replace('T', " ");
    let target = if entry.target_url.is_empty() { &entry.target_host } else { &entry.target_url };
    let status = if entry.http_status == 0 { "-".to_owned() } else { entry.http_status.to_string() };
    [
        time.trim_end_matches('Z').to_owned(),
        entry.id.to_string(),
        entry.door.clone(),
        terminal.safe(&entry.http_method),
        terminal.safe(target),
        status,
        duration(Duration::from_nanos(entry.duration_ns)),
    ]
}

/// One line without the attempts; the status in a colour if there is one.
fn line(
    terminal: &Terminal,
    widths: &[usize; COLUMNS.len()],
    cells: &[String; COLUMNS.len()],
    status: Option<Paint>,
) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = terminal.cut(cell, *width);
        let padded = if column == DURATION { format!("{cell:>width$}") } else { format!("{cell:width$}") };
        line.push_str(if column == 0 { "" } else { "  " });
        match status {
            Some(paint) if column == STATUS => line.push_str(&terminal.paint(paint, &padded)),
            _ => line.push_str(&padded),
        }
    }
    line
}

/// `eu-1 ✗ refused → eu-2 ✓`.
fn attempts(terminal: &Terminal, entry: &Entry) -> String {
    if entry.attempts.is_empty() {
        return terminal.paint(Paint::Dim, &terminal.safe(&entry.handover_error));
    }
    let arrow = format!(" {} ", terminal.sign("→", "->"));
    let shown: Vec<_> = entry.attempts.iter().map(|attempt| outcome(terminal, attempt)).collect();
    shown.join(&arrow)
}

/// A node and how it went there: `eu-2 ✓`, `eu-1 ✗ refused`, and for a dial that was not needed `eu-1 – lost_race`.
fn outcome(terminal: &Terminal, attempt: &AttemptEntry) -> String {
    let node = terminal.safe(&attempt.node_tag);
    let why = match (&attempt.fault, attempt.status) {
        (Some(fault), _) => terminal.safe(fault),
        (None, Some(status)) if attempt.verdict == "try_next" => status.to_string(),
        _ => return format!("{node} {}", terminal.paint(Paint::Good, terminal.sign("✓", "ok"))),
    };
    if why == "lost_race" {
        return format!("{node} {}", terminal.paint(Paint::Dim, &format!("{} {why}", terminal.sign("–", "-"))));
    }
    format!("{node} {}", terminal.paint(Paint::Bad, &format!("{} {why}", terminal.sign("✗", "x"))))
}
