//! Requests as lines of a table: columns that stay aligned while more lines come, and lines that fit the terminal.
//!
//! What a line has no room for is left out in an order: the date, which then stands above the rows of its day; the door;
//! the method; the end of the target; at last the whole target. The id never: `handover explain` needs it.

use std::io::{self, Write};
use std::time::Duration;

use handover_gateway::log::{Entry, rfc3339};

use super::attempts;
use crate::terminal::{Paint, Terminal, duration};

/// The columns before the attempts, which come last because their length varies: head, and width to begin with.
const COLUMNS: [(&str, usize); 7] =
    [("TIME (UTC)", 12), ("ID", 13), ("DOOR", 7), ("METHOD", 6), ("TARGET", 6), ("STATUS", 6), ("DURATION", 8)];
/// The columns that are left out first.
const DOOR: usize = 2;
const METHOD: usize = 3;
/// The column of the target, which takes what the others leave.
const TARGET: usize = 4;
/// The column of the status, which is painted.
const STATUS: usize = 5;
/// The column of the duration, whose numbers are right-aligned.
const DURATION: usize = 6;

/// Between two columns.
const GAP: usize = 2;
/// The most columns that are kept free for the attempts while others can be left out: a failed and a good node with short
/// tags, and some room for the requests that are still to come when following.
const ATTEMPTS_WANTED: usize = 30;
/// The least for the attempts: their head, and a node with a short tag behind those left out.
const ATTEMPTS_MIN: usize = 11;

/// How the room of a line is shared out.
struct Plan {
    date: Date,
    left_out: &'static [usize],
    /// The least that is shown of a target that is longer.
    target_min: usize,
    attempts: Wanted,
}

/// How much room the attempts get before the target does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// All of them, or a further plan is looked for.
    Full,
    /// All of them without the reasons of those before the last; [`ATTEMPTS_MIN`], or a further plan is looked for.
    Short,
}

/// The plans, from the one that shows most to the one that fits 60 columns, the narrowest that are laid out for.
const PLANS: [Plan; 6] = [
    // A scheme and a host of usual length; without the scheme; the end of a name.
    Plan { date: Date::InRow, left_out: &[], target_min: 24, attempts: Wanted::Full },
    Plan { date: Date::Above, left_out: &[], target_min: 16, attempts: Wanted::Full },
    Plan { date: Date::Above, left_out: &[DOOR], target_min: 10, attempts: Wanted::Full },
    Plan { date: Date::Above, left_out: &[DOOR, METHOD], target_min: 8, attempts: Wanted::Full },
    Plan { date: Date::Above, left_out: &[DOOR, METHOD], target_min: 8, attempts: Wanted::Short },
    Plan { date: Date::Above, left_out: &[DOOR, METHOD, TARGET], target_min: 0, attempts: Wanted::Short },
];

/// Where the date of a request stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Date {
    InRow,
    Above,
}

/// The cells of a request before the attempts, each in full.
type Cells = [String; COLUMNS.len()];

/// What is shown of the columns, and how wide.
struct Layout {
    date: Date,
    /// `None` for a column that is left out.
    widths: [Option<usize>; COLUMNS.len()],
    attempts: usize,
}

/// The table so far.
#[derive(Default)]
pub(super) struct Table {
    layout: Option<Layout>,
    /// The day of the row printed last.
    day: String,
}

impl Table {
    /// Prints requests, below a head if they are the first.
    pub(super) fn print(&mut self, out: &mut impl Write, terminal: &Terminal, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let is_first = self.layout.is_none();
        let layout = self.layout.get_or_insert_with(|| Layout::fitting(terminal, entries));
        if is_first {
            let head = layout.line(terminal, &COLUMNS.map(|(name, _)| name.to_owned()), None);
            writeln!(out, "{}", terminal.paint(Paint::Bold, &format!("{head}ATTEMPTS")))?;
        }
        for entry in entries {
            let time = rfc3339(entry.id.started_ns(), 3);
            let day = time.split('T').next().unwrap_or_default();
            if layout.date == Date::Above && self.day != day {
                day.clone_into(&mut self.day);
                writeln!(out, "{}", terminal.paint(Paint::Dim, day))?;
            }
            let is_good = entry.net_ok && entry.http_status < 500;
            let paint = if is_good { Paint::Good } else { Paint::Bad };
            let line = layout.line(terminal, &cells(terminal, entry, layout.date), Some(paint));
            writeln!(out, "{line}{}", attempts::cell(terminal, entry, layout.attempts))?;
        }
        Ok(())
    }
}

impl Layout {
    /// The first plan that fits these requests; where lines are not cut, all there is.
    fn fitting(terminal: &Terminal, entries: &[Entry]) -> Self {
        let [full, short] = [Date::InRow, Date::Above].map(|date| widths(terminal, entries, date));
        if !terminal.is_cut {
            return Self { date: Date::InRow, widths: full.map(Some), attempts: usize::MAX };
        }
        let most = |width: fn(&Terminal, &Entry) -> usize| {
            let widest = entries.iter().map(|entry| width(terminal, entry)).max().unwrap_or_default();
            widest.clamp(ATTEMPTS_MIN, ATTEMPTS_WANTED)
        };
        let (all, short_ones) = (most(attempts::width), most(attempts::short_width));
        let planned = |plan: &Plan| {
            let (wanted, least) = match plan.attempts {
                Wanted::Full => (all, all),
                Wanted::Short => (short_ones, ATTEMPTS_MIN),
            };
            let widths = if plan.date == Date::InRow { &full } else { &short };
            (Self::planned(plan, terminal.width, widths, wanted), least)
        };
        let fits = |plan| Some(planned(plan)).filter(|(layout, least)| layout.attempts >= *least);
        let (layout, _) = PLANS.iter().find_map(fits).unwrap_or_else(|| planned(&PLANS[PLANS.len() - 1]));
        layout
    }

    /// What a plan comes to: the target takes what the others and the wanted attempts leave, the attempts the rest.
    fn planned(plan: &Plan, line: usize, widths: &[usize; COLUMNS.len()], wanted: usize) -> Self {
        let mut kept = widths.map(Some);
        plan.left_out.iter().for_each(|column| kept[*column] = None);
        let taken = |kept: &[Option<usize>]| kept.iter().flatten().map(|width| width + GAP).sum::<usize>();
        if let Some(target) = kept[TARGET].take() {
            let left = line.saturating_sub(taken(&kept) + GAP + wanted);
            kept[TARGET] = Some(left.clamp(plan.target_min.min(target), target));
        }
        Self { date: plan.date, widths: kept, attempts: line.saturating_sub(taken(&kept)) }
    }

    /// The columns before the attempts; the status in a colour if there is one.
    fn line(&self, terminal: &Terminal, cells: &Cells, status: Option<Paint>) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(self.widths).enumerate() {
            let Some(width) = width else { continue };
            let cell = terminal.cut(cell, width);
            let padded = if column == DURATION { format!("{cell:>width$}") } else { format!("{cell:width$}") };
            match status {
                Some(paint) if column == STATUS => line.push_str(&terminal.paint(paint, &padded)),
                _ => line.push_str(&padded),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line
    }
}

/// The widths that fit the head and these requests.
fn widths(terminal: &Terminal, entries: &[Entry], date: Date) -> [usize; COLUMNS.len()] {
    let mut widths = COLUMNS.map(|(_, width)| width);
    for cells in entries.iter().map(|entry| cells(terminal, entry, date)) {
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

fn cells(terminal: &Terminal, entry: &Entry, date: Date) -> Cells {
    let time = rfc3339(entry.id.started_ns(), 3).replace('T', " ").replace('Z', "");
    let target = if entry.target_url.is_empty() { &*entry.target_host } else { &*entry.target_url };
    // Without room for the date there is none for what the targets have in common either.
    let (time, target) = match date {
        Date::InRow => (&*time, target),
        Date::Above => (time.split(' ').next_back().unwrap_or_default(), without_scheme(target)),
    };
    let status = if entry.http_status == 0 { "-".to_owned() } else { entry.http_status.to_string() };
    [
        time.to_owned(),
        entry.id.to_string(),
        entry.door.clone(),
        terminal.safe(&entry.http_method),
        terminal.safe(target),
        status,
        duration(Duration::from_nanos(entry.duration_ns)),
    ]
}

fn without_scheme(target: &str) -> &str {
    target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")).unwrap_or(target)
}
