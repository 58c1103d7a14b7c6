//! One request told for people: what it was, a timeline, each attempt with the reason of its verdict, and the replay.

use std::io::{self, Write};
use std::time::Duration;

use handover_gateway::log::{AttemptEntry, Entry, rfc3339};

use super::{Replayed, sentence, timeline};
use crate::terminal::{Paint, Terminal, duration};

/// Prints the whole story.
pub(super) fn print(out: &mut impl Write, terminal: &Terminal, entry: &Entry, replayed: &Replayed) -> io::Result<()> {
    for line in head(terminal, entry) {
        writeln!(out, "{}", terminal.wrap(&line))?;
    }
    if !entry.attempts.is_empty() {
        writeln!(out)?;
        for line in timeline::lines(terminal, entry) {
            writeln!(out, "{line}")?;
        }
    }
    for attempt in &entry.attempts {
        writeln!(out)?;
        for line in told(terminal, attempt) {
            writeln!(out, "{}", terminal.wrap(&line))?;
        }
    }
    if let Some(end) = end(terminal, entry) {
        writeln!(out, "\n{}", terminal.wrap(&end))?;
    }
    writeln!(out, "\n{}", terminal.wrap(&conclusion(terminal, entry, replayed)))
}

/// Why the whole ended as it did, where that was not said of the final attempt: without an attempt, or between two.
fn end(terminal: &Terminal, entry: &Entry) -> Option<String> {
    let verdict = entry.record().ok()?.verdict?;
    let last = entry.attempts.get(entry.final_attempt);
    let is_told = last.is_some_and(|last| last.verdict == verdict.as_str() && last.reason == verdict.reason().as_str());
    let told = format!("in the end: {} ({}): {}", verdict.as_str(), verdict.reason(), verdict.reason().sentence());
    (!is_told).then(|| terminal.paint(Paint::Bold, &told))
}

/// What the request was and what the client got.
fn head(terminal: &Terminal, entry: &Entry) -> Vec<String> {
    let safe = |text: &str| terminal.safe(text);
    let target = if entry.target_url.is_empty() { &entry.target_host } else { &entry.target_url };
    let time = rfc3339(entry.id.started_ns(), 3).replace('T', " ");
    let mut from = format!("by the {} door from {}", entry.door, safe(&entry.client_ip));
    if !entry.platform_name.is_empty() {
        from.push_str(&format!(", platform {}", safe(&entry.platform_name)));
    }
    if !entry.account.is_empty() {
        from.push_str(&format!(", account {}", safe(&entry.account)));
    }
    let status = match entry.http_status {
        0 => "no response".to_owned(),
        status => format!("status {status}"),
    };
    let status =
        terminal.paint(if entry.net_ok && entry.http_status < 500 { Paint::Good } else { Paint::Bad }, &status);
    let error = match &*entry.handover_error {
        "" => String::new(),
        code => format!(" {}", safe(code)),
    };
    let took = duration(Duration::from_nanos(entry.duration_ns));
    let bytes = format!("{} bytes to the client, {} bytes upstream", entry.ingress_bytes, entry.egress_bytes);
    let mut lines = vec![
        format!("request {} at {}", terminal.paint(Paint::Bold, &entry.id.to_string()), time.replace('Z', " UTC")),
        format!("  {} {}", safe(&entry.http_method), safe(target)),
        format!("  {from}"),
        format!("  {status}{error} after {took}; {bytes}"),
    ];
    if entry.attempts.is_empty() {
        lines.push("  no attempt was made".to_owned());
    }
    lines
}

/// One attempt in words.
fn told(terminal: &Terminal, attempt: &AttemptEntry) -> Vec<String> {
    let safe = |text: &str| terminal.safe(text);
    let mut where_to = safe(&attempt.node_tag);
    if let Some(address) = &attempt.address {
        where_to.push_str(&format!(" ({})", safe(address)));
    }
    let connection = if attempt.reused { "a connection that stood already" } else { "a new connection" };
    let beside = if attempt.hedged { ", beside the attempts under way" } else { "" };
    let started = duration(Duration::from_nanos(attempt.started_ns));
    let first = format!("{}. {where_to}, {connection}, begun at {started}{beside}", attempt.attempt);
    let mut lines = vec![terminal.paint(Paint::Bold, &first), format!("   {}", how_it_went(terminal, attempt))];
    lines.push(format!("   {}", chosen(attempt)));
    let bytes = attempt.written_bytes;
    lines.push(format!("   sent: {}, {bytes} {} written", attempt.sent, if bytes == 1 { "byte" } else { "bytes" }));
    if attempt.budget == Some(false) {
        lines.push("   the budget for further attempts was asked and refused".to_owned());
    }
    let (verdict, reason) = (safe(&attempt.verdict), safe(&attempt.reason));
    lines.push(format!("   {verdict} ({reason}): {}", safe(sentence(&attempt.reason))));
    lines
}

/// What the choice of the node saw.
fn chosen(attempt: &AttemptEntry) -> String {
    let pick = &attempt.pick;
    let size = pick.size.unwrap_or(pick.endpoints);
    let pool = match pick.pool.as_deref() {
        Some("again") => "tried before",
        Some("same") => "to be asked again",
        Some("shedding") => "not tried before but shedding traffic",
        _ => "not tried before",
    };
    let among = match size {
        1 => format!("chosen as the only node {pool}, of {}", pick.endpoints),
        size => format!("chosen among {size} nodes {pool}, of {}", pick.endpoints),
    };
    match &pick.other {
        Some(other) if other.cost != pick.cost => format!("{among}, at cost {} against {}", pick.cost, other.cost),
        _ => among,
    }
}

/// `dial failed: refused (ECONNREFUSED: …)`, or the status.
fn how_it_went(terminal: &Terminal, attempt: &AttemptEntry) -> String {
    let safe = |text: &str| terminal.safe(text);
    let stage = safe(&attempt.stage);
    let details: Vec<_> = [&attempt.errno, &attempt.message].into_iter().flatten().map(|text| safe(text)).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(": ")) };
    let answered = attempt.status.map(|status| {
        let head = duration(Duration::from_nanos(attempt.ended_ns.saturating_sub(attempt.started_ns)));
        format!("answered with status {status} after {head}")
    });
    match (&attempt.fault, answered) {
        (Some(fault), _) if fault == "lost_race" => format!("given up in stage {stage}: another one connected first"),
        (Some(fault), Some(answered)) => format!("{answered}, then in stage {stage}: {}{details}", safe(fault)),
        (Some(fault), None) => format!("failed in stage {stage}: {}{details}", safe(fault)),
        (None, Some(answered)) => answered,
        (None, None) => format!("reached stage {stage}"),
    }
}

/// Whether the same decisions follow from the record.
fn conclusion(terminal: &Terminal, entry: &Entry, replayed: &Replayed) -> String {
    match replayed {
        Ok(Ok(())) if entry.attempts.is_empty() && entry.record().is_ok_and(|record| record.verdict.is_none()) => {
            "nothing to replay: the request ended before a decision was taken".to_owned()
        }
        Ok(Ok(())) => terminal.paint(Paint::Good, "replayed: the same decisions follow from this record"),
        Ok(Err(difference)) => {
            let difference = terminal.safe(&difference.to_string());
            terminal.paint(Paint::Bad, &format!("replayed: another decision follows from this record: {difference}"))
        }
        Err(error) => terminal.paint(Paint::Bad, &format!("not replayed: {}", terminal.safe(&error.to_string()))),
    }
}
