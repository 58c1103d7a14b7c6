//! What stdout and stderr can show: colours, width, characters; and what must be changed before it may be shown.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::diagnostics::LogFormat;
use crate::exit::Exit;

/// The width taken when stdout is no terminal and `COLUMNS` does not say: fits a window without being read as cramped.
const WIDTH: usize = 100;
/// The narrowest width that is laid out for; below it lines wrap.
const WIDTH_MIN: usize = 60;

/// What stdout or stderr can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Whether it shows colours.
    has_colour: bool,
    /// Whether lines longer than `width` are cut or wrapped, as on a terminal and where `COLUMNS` says how long they may
    /// be, or left whole, as in a file.
    pub(crate) is_cut: bool,
    /// Characters of a line.
    pub(crate) width: usize,
    /// Whether it shows more than ASCII.
    pub(crate) is_unicode: bool,
    /// Whether a line can be written over.
    pub(crate) can_overwrite: bool,
}

/// How a text is painted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    Good,
    Bad,
    Dim,
    Bold,
}

impl Terminal {
    /// Looks at stdout and the environment: `NO_COLOR`, `TERM`, `COLUMNS`, the locale.
    pub(crate) fn of_stdout() -> Self {
        Self::of(io::stdout())
    }

    /// The same of stderr.
    pub(crate) fn of_stderr() -> Self {
        Self::of(io::stderr())
    }

    fn of(stream: impl IsTerminal + AsFd) -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_terminal = stream.is_terminal();
        let is_dumb = text("TERM").is_some_and(|term| term == "dumb");
        let size = is_terminal.then(|| rustix::termios::tcgetwinsize(stream).ok()).flatten();
        let columns = text("COLUMNS").and_then(|columns| columns.parse().ok());
        let is_cut = is_terminal || columns.is_some();
        let width = columns.or_else(|| size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0));
        // The first that is set decides; with none, as in a container, most terminals show UTF-8 all the same.
        let locale = text("LC_ALL").or_else(|| text("LC_CTYPE")).or_else(|| text("LANG"));
        let is_utf8 = |locale: String| locale.to_lowercase().replace('-', "").contains("utf8");
        Self {
            has_colour: is_terminal && !is_dumb && text("NO_COLOR").is_none(),
            is_cut,
            width: width.unwrap_or(WIDTH).max(WIDTH_MIN),
            is_unicode: !is_dumb && locale.is_none_or(is_utf8),
            can_overwrite: is_terminal && !is_dumb,
        }
    }

    /// The text in a colour, if there are colours.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Dim => "2",
            Paint::Bold => "1",
        };
        if self.has_colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The first where it can be shown, else the second.
    pub(crate) fn sign(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.is_unicode { unicode } else { ascii }
    }

    /// The text, cut to `width` characters with a mark at its end.
    pub(crate) fn cut<'t>(&self, text: &'t str, width: usize) -> Cow<'t, str> {
        if text.chars().count() <= width {
            return Cow::Borrowed(text);
        }
        let mark = self.sign("…", "~");
        text.chars().take(width.saturating_sub(1)).chain(mark.chars()).collect()
    }

    /// The line, broken between words so that it fits. What follows stands below the line's first word, and two further in.
    /// A word that is longer than a line stays whole, so that it can be copied.
    pub(crate) fn wrap<'t>(&self, line: &'t str) -> Cow<'t, str> {
        if !self.is_cut || shown_width(line) <= self.width {
            return Cow::Borrowed(line);
        }
        let begin = line.len() - line.trim_start().len();
        let indent = begin + 2;
        let mut wrapped = line[..begin].to_owned();
        let mut at = begin;
        for (index, word) in line[begin..].split(' ').enumerate() {
            let width = shown_width(word);
            let is_whole = indent + width <= self.width;
            if index > 0 && at + 1 + width > self.width && is_whole {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                at = indent;
            } else if index > 0 {
                wrapped.push(' ');
                at += 1;
            }
            wrapped.push_str(word);
            // The terminal itself breaks a word that is longer than a line.
            at = if is_whole { at + width } else { (at + width) % self.width };
        }
        Cow::Owned(wrapped)
    }

    /// A text from the network as it may be shown: what could move the cursor, change colours or the direction of writing
    /// is written as an escape.
    pub(crate) fn safe(&self, text: &str) -> String {
        let mut safe = String::with_capacity(text.len());
        for character in text.chars() {
            let is_shown = !character.is_control() && !is_direction(character);
            if is_shown && (self.is_unicode || character.is_ascii()) {
                safe.push(character);
            } else {
                safe.extend(character.escape_default());
            }
        }
        safe
    }
}

/// The characters of a line without the escapes that [`Terminal::paint`] puts around a text, which take no room.
fn shown_width(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().map_or(0, |part| part.chars().count());
    first + parts.map(|part| part.split_once('m').map_or(0, |(_, shown)| shown.chars().count())).sum::<usize>()
}

/// Whether a character changes the direction of what follows, or is not seen: text could pretend to be other text.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

/// A duration with three digits or so, as people read it.
pub(crate) fn duration(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.as_secs_f64() * 1e3);
    match seconds {
        0 if ms < 0.995 => format!("{ms:.2} ms"),
        0 if ms < 9.95 => format!("{ms:.1} ms"),
        0 if ms < 999.5 => format!("{ms:.0} ms"),
        0..60 => format!("{:.2} s", ms / 1e3),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A line on stderr that is written over and over while a command waits: for people, who see nothing else meanwhile. Where
/// nobody can see it, it is not written.
pub(crate) struct StatusLine(Option<Terminal>);

impl StatusLine {
    /// For this form of diagnostics: a program wants none.
    pub(crate) fn new(format: LogFormat) -> Self {
        let terminal = Terminal::of_stderr();
        Self((terminal.can_overwrite && format == LogFormat::Human).then_some(terminal))
    }

    /// Shows this text in place of the last one.
    pub(crate) fn show(&self, text: &str) {
        if let Some(terminal) = &self.0 {
            // One less than the width: some terminals go to the next line with the last character.
            write_over(&terminal.cut(&terminal.safe(text), terminal.width - 1));
        }
    }

    /// Takes it away, so that what is said next stands where it was.
    pub(crate) fn clear(&self) {
        if self.0.is_some() {
            write_over("");
        }
    }
}

/// To the beginning of the line, and away with what is there. Without a reader there is nobody to tell.
fn write_over(text: &str) {
    let _: io::Result<()> = write!(io::stderr().lock(), "\r\x1b[K{text}");
}

/// Runs `print` on stdout. A reader that has seen enough and went away ends the command in order.
pub(crate) fn on_stdout(print: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> io::Result<Exit>) -> Exit {
    let mut out = BufWriter::new(io::stdout().lock());
    match print(&mut out).and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            complain(&format!("cannot write to stdout: {error}"));
            Exit::Other
        }
    }
}

/// Says on stderr what went wrong. If stderr is gone too, the exit code is all there is.
pub(crate) fn complain(text: &str) {
    let _: io::Result<()> = writeln!(io::stderr(), "handover: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(is_unicode: bool) -> Terminal {
        Terminal { has_colour: true, is_cut: true, width: 80, is_unicode, can_overwrite: true }
    }

    #[test]
    fn nothing_from_the_network_reaches_the_terminal_as_a_command() {
        let evil = "a\x1b[2J\u{9b}31m\r\n\u{202e}b\u{7f}é";
        assert_eq!(terminal(true).safe(evil), "a\\u{1b}[2J\\u{9b}31m\\r\\n\\u{202e}b\\u{7f}é");
        assert!(terminal(false).safe(evil).is_ascii());
    }

    #[test]
    fn durations_are_short_and_never_jump_at_their_borders() {
        let shown =
            [0, 49_000, 812_000, 9_949_000, 9_950_001, 999_400_000, 999_600_000, 59_990_000_000, 61_000_000_000]
                .map(|ns| duration(Duration::from_nanos(ns)));
        assert_eq!(
            shown,
            ["0.00 ms", "0.05 ms", "0.81 ms", "9.9 ms", "10 ms", "999 ms", "1.00 s", "59.99 s", "1 min 01 s"]
        );
        assert_eq!(duration(Duration::from_secs(3 * 3600 + 62)), "3 h 01 min");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(terminal(true).cut("ééé", 3), "ééé");
        assert_eq!(terminal(true).cut("éééé", 3), "éé…");
        assert_eq!(terminal(false).cut("abcd", 3), "ab~");
    }

    #[test]
    fn a_long_line_is_broken_between_words_below_its_beginning() {
        let narrow = Terminal { width: 12, ..terminal(true) };
        assert_eq!(narrow.wrap("  one two"), "  one two");
        assert_eq!(narrow.wrap("  one two three four"), "  one two\n    three\n    four");
        assert_eq!(narrow.wrap("a http://example.com/ b"), "a http://example.com/ b");
        let painted = narrow.paint(Paint::Bold, "one two fo");
        assert_eq!(narrow.wrap(&painted), painted, "what is not seen takes no room");
        assert_eq!(Terminal { is_cut: false, ..narrow }.wrap("one two three four"), "one two three four");
    }
}
