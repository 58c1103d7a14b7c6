//! The attempts of a request in one cell: `eu-1 ✗ refused → eu-2 ✓`, told shorter where the line is too short.
//!
//! What the client got comes last and stays longest. First go the reasons of the attempts before it, then those attempts,
//! then the end of its node's tag, and its own reason at last.

use handover_gateway::log::{AttemptEntry, Entry};

use crate::terminal::{Paint, Terminal};

/// The least of a node's tag that is shown: shorter it could be any.
const NODE_MIN: usize = 4;

/// How an attempt went: `✗ refused`, `✓`, and `500` for an answer that stands but is no success.
pub(crate) struct Outcome {
    pub(crate) paint: Paint,
    sign: &'static str,
    word: String,
}

impl Outcome {
    pub(crate) fn of(terminal: &Terminal, attempt: &AttemptEntry) -> Self {
        let (cross, dash) = (terminal.sign("✗", "x"), terminal.sign("–", "-"));
        let (paint, sign, word) = match (attempt.fault.as_deref(), attempt.status) {
            // A dial that was not needed is no failure.
            (Some(word @ "lost_race"), _) => (Paint::Dim, dash, terminal.safe(word)),
            (Some(fault), _) => (Paint::Bad, cross, terminal.safe(fault)),
            (None, Some(status)) if attempt.verdict == "try_next" => (Paint::Bad, cross, status.to_string()),
            (None, Some(status @ 500..)) => (Paint::Bad, "", status.to_string()),
            (None, Some(status @ 400..)) => (Paint::Dim, "", status.to_string()),
            (None, _) => (Paint::Good, terminal.sign("✓", "ok"), String::new()),
        };
        Self { paint, sign, word }
    }

    /// Whether it needs no word.
    pub(crate) fn is_success(&self) -> bool {
        self.word.is_empty()
    }

    /// The sign and the word, those there are.
    pub(crate) fn text(&self) -> String {
        [self.sign, &self.word].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// A node and how it went there.
struct Piece {
    node: String,
    outcome: Outcome,
}

impl Piece {
    fn of(terminal: &Terminal, attempt: &AttemptEntry) -> Self {
        Self { node: terminal.safe(&attempt.node_tag), outcome: Outcome::of(terminal, attempt) }
    }

    /// Leaves only the sign, where there is one.
    fn shorten(&mut self) {
        if !self.outcome.sign.is_empty() {
            self.outcome.word.clear();
        }
    }

    fn characters(&self) -> usize {
        self.node.chars().count() + 1 + self.outcome.text().chars().count()
    }
}

/// The attempts, in at most `width` characters; the code of the gateway's error, if there were none.
pub(super) fn cell(terminal: &Terminal, entry: &Entry, width: usize) -> String {
    let mut pieces: Vec<_> = entry.attempts.iter().map(|attempt| Piece::of(terminal, attempt)).collect();
    let Some(last) = pieces.len().checked_sub(1) else {
        return terminal.paint(Paint::Bad, &terminal.cut(&unattempted(terminal, entry), width));
    };
    let mut left_out = 0;
    if characters(terminal, &pieces, left_out) > width {
        pieces[..last].iter_mut().for_each(Piece::shorten);
    }
    while left_out < last && characters(terminal, &pieces, left_out) > width {
        left_out += 1;
    }
    let excess = |pieces: &[Piece]| characters(terminal, pieces, left_out).saturating_sub(width);
    if excess(&pieces) > 0 {
        // Where even the shortest tag leaves no room for a word, the sign must do.
        if pieces[last].node.chars().count() < excess(&pieces) + NODE_MIN {
            pieces[last].shorten();
        }
        let kept = pieces[last].node.chars().count().saturating_sub(excess(&pieces)).max(NODE_MIN);
        pieces[last].node = terminal.cut(&pieces[last].node, kept).into_owned();
    }
    let shown: Vec<_> = pieces[left_out..]
        .iter()
        .map(|piece| format!("{} {}", piece.node, terminal.paint(piece.outcome.paint, &piece.outcome.text())))
        .collect();
    let begin = if left_out > 0 { format!("{}{}", terminal.sign("…", "~"), arrow(terminal)) } else { String::new() };
    begin + &shown.join(arrow(terminal))
}

/// The characters of all attempts in full.
pub(super) fn width(terminal: &Terminal, entry: &Entry) -> usize {
    let pieces: Vec<_> = entry.attempts.iter().map(|attempt| Piece::of(terminal, attempt)).collect();
    if pieces.is_empty() { unattempted(terminal, entry).chars().count() } else { characters(terminal, &pieces, 0) }
}

/// The characters of all attempts without the reasons of those before the last.
pub(super) fn short_width(terminal: &Terminal, entry: &Entry) -> usize {
    let mut pieces: Vec<_> = entry.attempts.iter().map(|attempt| Piece::of(terminal, attempt)).collect();
    let Some(last) = pieces.len().checked_sub(1) else { return width(terminal, entry) };
    pieces[..last].iter_mut().for_each(Piece::shorten);
    characters(terminal, &pieces, 0)
}

/// What stands in place of attempts: why there were none.
fn unattempted(terminal: &Terminal, entry: &Entry) -> String {
    if entry.handover_error.is_empty() { "no attempt".to_owned() } else { terminal.safe(&entry.handover_error) }
}

fn arrow(terminal: &Terminal) -> &'static str {
    terminal.sign(" → ", " -> ")
}

/// The characters of the attempts without the first `left_out`.
fn characters(terminal: &Terminal, pieces: &[Piece], left_out: usize) -> usize {
    let shown = &pieces[left_out..];
    let arrows = (shown.len() - 1 + usize::from(left_out > 0)) * arrow(terminal).chars().count();
    shown.iter().map(Piece::characters).sum::<usize>() + arrows + usize::from(left_out > 0)
}
