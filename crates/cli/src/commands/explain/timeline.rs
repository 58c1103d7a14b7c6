//! Attempts as bars over a common time axis.

use std::time::Duration;

use handover_gateway::log::{AttemptEntry, Entry};

use crate::commands::log::Outcome;
use crate::terminal::{Paint, Terminal, duration};

/// The longest a node's tag is shown beside its bar: `origin-` and an IPv4 address with its port fit.
const TAG_MAX: usize = 30;
/// The longest an outcome is shown behind its bar: `✗ proxy_refused`.
const OUTCOME_MAX: usize = 16;
/// The least a bar has room for.
const BAR_MIN: usize = 20;

/// What an attempt did in a stretch of time, and the characters of its bar.
#[derive(Clone, Copy)]
enum Phase {
    Connecting,
    Waiting,
    Flowing,
}

impl Phase {
    fn sign(self, terminal: &Terminal) -> &'static str {
        match self {
            Self::Connecting => terminal.sign("░", "."),
            Self::Waiting => terminal.sign("▒", "="),
            Self::Flowing => terminal.sign("█", "#"),
        }
    }
}

/// The lines: an axis, a bar for each attempt, and what the bars' characters mean.
pub(super) fn lines(terminal: &Terminal, entry: &Entry) -> Vec<String> {
    let end_ns =
        |attempt: &AttemptEntry| (attempt.started_ns.saturating_add(attempt.duration_ns)).max(attempt.ended_ns);
    let total = entry.attempts.iter().map(end_ns).max().unwrap_or_default().max(entry.duration_ns).max(1);
    let tag_max = TAG_MAX.min(terminal.width / 3);
    let tags: Vec<_> = entry
        .attempts
        .iter()
        .map(|attempt| terminal.cut(&terminal.safe(&attempt.node_tag), tag_max).into_owned())
        .collect();
    let tag_width = tags.iter().map(|tag| tag.chars().count()).max().unwrap_or_default();
    // Number, tag, bar, duration, outcome, and two spaces around each.
    let bar = terminal.width.saturating_sub(4 + tag_width + 2 + 2 + 10 + 2 + OUTCOME_MAX).max(BAR_MIN);
    let mut lines = vec![axis(terminal, tag_width, bar, total)];
    for (attempt, tag) in entry.attempts.iter().zip(&tags) {
        let bar = draw(terminal, attempt, end_ns(attempt), total, bar);
        let took = duration(Duration::from_nanos(end_ns(attempt).saturating_sub(attempt.started_ns)));
        lines.push(format!(
            " {:>2} {tag:tag_width$}  {bar}  {took:>10}  {}",
            attempt.attempt,
            outcome(terminal, attempt)
        ));
    }
    let legend =
        [(Phase::Connecting, "connecting"), (Phase::Waiting, "until the head"), (Phase::Flowing, "the body or tunnel")]
            .map(|(phase, words)| format!("{} {words}", phase.sign(terminal)));
    let legend = legend.join("   ");
    // Below the bars, or as near to them as the line has room for it.
    let place = (4 + tag_width + 2).min(terminal.width.saturating_sub(legend.chars().count()));
    lines.push(terminal.paint(Paint::Dim, &format!("{:place$}{legend}", "")));
    lines
}

/// `0 ────── 1.65 ms` above the bars.
fn axis(terminal: &Terminal, tag_width: usize, bar: usize, total: u64) -> String {
    let end = duration(Duration::from_nanos(total));
    let rule = terminal.sign("─", "-").repeat(bar.saturating_sub(end.chars().count() + 3));
    terminal.paint(Paint::Dim, &format!("    {:tag_width$}  0 {rule} {end}", ""))
}

/// One bar. What took time is at least one character long.
fn draw(terminal: &Terminal, attempt: &AttemptEntry, end_ns: u64, total: u64, width: usize) -> String {
    let place = |ns: u64| ((u128::from(ns) * width as u128) / u128::from(total)) as usize;
    let begin = place(attempt.started_ns).min(width - 1);
    let end = place(end_ns).clamp(begin + 1, width);
    // Without a connection all the time went into it; one that was reused stood from the start.
    let connected = attempt.connected_ns.map_or(end, place).clamp(begin, end);
    let head = if attempt.status.is_some() { place(attempt.ended_ns).clamp(connected, end) } else { end };
    let mut bar = " ".repeat(begin);
    for cell in begin..end {
        let phase = match cell {
            cell if cell < connected => Phase::Connecting,
            cell if cell < head || head == connected && attempt.connected_ns.is_none() => Phase::Waiting,
            _ => Phase::Flowing,
        };
        bar.push_str(phase.sign(terminal));
    }
    bar.push_str(&" ".repeat(width - end));
    bar
}

/// `✗ refused`, `✓ 200`, `500`.
fn outcome(terminal: &Terminal, attempt: &AttemptEntry) -> String {
    let outcome = Outcome::of(terminal, attempt);
    let status = attempt.status.filter(|_| outcome.is_success()).map(|status| format!(" {status}"));
    terminal.paint(outcome.paint, &(outcome.text() + &status.unwrap_or_default()))
}
