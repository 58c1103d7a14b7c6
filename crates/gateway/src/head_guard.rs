//! Rules about the raw bytes of a request head that the HTTP parser is too lenient for.
//!
//! Refused here: a line that ends in a bare LF, and `Content-Length` beside `Transfer-Encoding` (RFC 9112 §2.2, §6.1 allow
//! both to be refused; both are how requests are smuggled past a proxy that reads them otherwise). Also either of the two in
//! a line that is longer than its value can ever need: then no more than that has to be kept of a line that comes in
//! pieces, and the framing is never read from a part of it. The parser gives the
//! application a decoded head, in which neither can be seen any more; so the guard reads the bytes as they pass by, and
//! follows just enough of the framing (length, chunks) to know where heads begin. On a violation it blanks the rest with
//! NUL, which the parser answers with 400 and a closed connection: the guard needs no answer of its own, and nothing that
//! came behind the violation is ever read as a request.

/// Follows the bytes of one client connection.
#[derive(Debug, Default)]
pub(crate) struct HeadGuard {
    state: State,
    /// The beginning of the head's current line, if it came in pieces, and behind it the last byte that came.
    partial: Vec<u8>,
    /// How long these pieces were.
    partial_length: usize,
    framing: Framing,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Between messages: the next byte begins a head.
    #[default]
    Start,
    /// Inside the first line of a head.
    FirstLine,
    /// Inside a head, behind its first line.
    Head,
    /// Inside a body of known length.
    Body(u64),
    /// Inside a chunk's size line; the number so far, and whether the digits are over.
    ChunkSize(u64, bool),
    /// Inside a chunk's data and the CRLF behind it.
    ChunkData(u64),
    /// Inside the trailer section.
    Trailers,
    /// No HTTP/1 heads follow: a tunnel, or what the parser refuses by itself.
    Off,
    /// A rule was broken.
    Refused,
}

#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    connect: bool,
}

/// Longest line that a framing field may take, with its CR, and so the longest piece of a line that has to be kept: 20 digits
/// or a few codings need a tenth of it, and padding has no use but to be read otherwise elsewhere. Of a longer line only the
/// name and the end matter.
const LINE_MAX: usize = 256;

impl HeadGuard {
    /// Whether the client has begun a head that is not complete.
    pub(crate) fn is_mid_head(&self) -> bool {
        matches!(self.state, State::FirstLine | State::Head)
    }

    /// The connection no longer carries HTTP/1.
    pub(crate) fn switch_off(&mut self) {
        self.state = State::Off;
    }

    /// Looks at bytes that are about to be parsed; blanks what must not be.
    pub(crate) fn check(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Off => return,
                State::Refused => {
                    bytes[at..].fill(0);
                    return;
                }
                State::Body(left) => at += self.skip(left, bytes.len() - at, State::Body, State::Start),
                State::ChunkData(left) => {
                    at += self.skip(left, bytes.len() - at, State::ChunkData, State::ChunkSize(0, false));
                }
                State::ChunkSize(size, over) => {
                    self.chunk_size_byte(size, over, bytes[at]);
                    at += 1;
                }
                State::Start | State::FirstLine | State::Head | State::Trailers => {
                    at += self.line(&bytes[at..]);
                    if self.state == State::Refused {
                        // The end of the offending line too: it may be the end of the head.
                        bytes[at - 1] = 0;
                    }
                }
            }
        }
    }

    fn skip(&mut self, left: u64, available: usize, more: fn(u64) -> State, then: State) -> usize {
        let n = left.min(available as u64);
        self.state = if n == left { then } else { more(left - n) };
        n as usize
    }

    fn chunk_size_byte(&mut self, size: u64, over: bool, byte: u8) {
        self.state = match byte {
            b'\n' if size == 0 => State::Trailers,
            b'\n' => State::ChunkData(size.saturating_add(2)),
            _ if over => State::ChunkSize(size, true),
            _ => match (byte as char).to_digit(16) {
                Some(digit) => State::ChunkSize(size.saturating_mul(16).saturating_add(u64::from(digit)), false),
                None => State::ChunkSize(size, true),
            },
        };
    }

    /// Takes up to and including the next LF; gives how many bytes that was.
    fn line(&mut self, bytes: &[u8]) -> usize {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.partial_length = self.partial_length.saturating_add(bytes.len());
            let room = LINE_MAX.saturating_sub(self.partial.len());
            // The last byte is always kept: it may be the CR of a line end that is split between two reads.
            let (kept, last) = (bytes.len().min(room), bytes[bytes.len() - 1]);
            self.partial.extend_from_slice(&bytes[..kept]);
            if let Some(tail) = self.partial.last_mut() {
                *tail = last;
            }
            if self.state == State::Start {
                self.state = State::FirstLine;
            }
            return bytes.len();
        };
        if self.partial.is_empty() {
            self.whole_line(&bytes[..end], end);
        } else {
            let length = std::mem::take(&mut self.partial_length).saturating_add(end);
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&bytes[..end]);
            self.whole_line(&line, length);
            line.clear();
            self.partial = line;
        }
        end + 1
    }

    /// `length` is that of the line as it came; beyond [`LINE_MAX`], bytes may be missing from the middle of `line`.
    fn whole_line(&mut self, line: &[u8], length: usize) {
        let Some(line) = line.strip_suffix(b"\r") else {
            self.state = State::Refused;
            return;
        };
        match self.state {
            // Empty lines before a request line are ignored (RFC 9112 §2.2).
            State::Start | State::FirstLine if line.is_empty() => self.state = State::Start,
            State::Start | State::FirstLine => self.request_line(line),
            State::Head if line.is_empty() => self.head_ends(),
            State::Head => self.field(line, length),
            State::Trailers if line.is_empty() => self.state = State::Start,
            _ => {}
        }
    }

    fn request_line(&mut self, line: &[u8]) {
        self.framing = Framing { connect: line.starts_with(b"CONNECT "), ..Framing::default() };
        self.state = State::Head;
    }

    fn field(&mut self, line: &[u8], length: usize) {
        if !matches!(line[0] | 0x20, b'c' | b't') {
            return;
        }
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            self.framing.length = Some(number.unwrap_or(u64::MAX));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.framing.chunked = true;
        } else {
            return;
        }
        if length > LINE_MAX || (self.framing.chunked && self.framing.length.is_some()) {
            self.state = State::Refused;
        }
    }

    fn head_ends(&mut self) {
        self.state = match &self.framing {
            Framing { connect: true, .. } => State::Off,
            Framing { chunked: true, .. } => State::ChunkSize(0, false),
            Framing { length: Some(length), .. } if *length > 0 => State::Body(*length),
            _ => State::Start,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs input through a guard in pieces of `size`, and gives what comes out, NULs shown as `.`.
    fn passed(input: &str, size: usize) -> String {
        let mut guard = HeadGuard::default();
        let mut out = Vec::new();
        for piece in input.as_bytes().chunks(size) {
            let mut piece = piece.to_vec();
            guard.check(&mut piece);
            out.extend(piece);
        }
        String::from_utf8(out).unwrap().replace('\0', ".")
    }

    const GOOD: [&str; 7] = [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\n\n\n\n\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456\n89\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\nraw\nbytes\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];

    #[test]
    fn wellformed_messages_pass_untouched_however_they_are_cut() {
        for input in GOOD {
            for size in 1..=input.len() {
                assert_eq!(passed(input, size), input, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_bare_lf_in_any_head_blanks_everything_behind_it() {
        for input in [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\nHost: h\r\n\r\n",
        ] {
            for size in 1..=input.len() {
                let out = passed(input, size);
                assert!(out.ends_with('.'), "in pieces of {size}: {out:?}");
            }
        }
    }

    #[test]
    fn content_length_beside_transfer_encoding_is_refused_in_either_order() {
        for (a, b) in
            [("Content-Length: 4", "Transfer-Encoding: chunked"), ("transfer-encoding: chunked", "CONTENT-LENGTH: 4")]
        {
            let input = format!("POST / HTTP/1.1\r\n{a}\r\n{b}\r\n\r\n0\r\n\r\n");
            for size in 1..=input.len() {
                assert!(passed(&input, size).ends_with("."), "{a}, in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_framing_field_is_read_whole_or_refused_however_it_is_cut() {
        for (name, value) in [("Content-Length:", "5"), ("Transfer-Encoding:", "chunked")] {
            for length in [250, 255, 256, 257, 258, 300, 1000] {
                // With its CR the line is as long as said.
                let padding = " ".repeat(length - 1 - name.len() - value.len());
                let body = if value == "5" { "a\nb\n\n" } else { "3\r\n\na\n\r\n0\r\n\r\n" };
                let input = format!("POST / HTTP/1.1\r\n{name}{padding}{value}\r\n\r\n{body}GET / HTTP/1.1\r\n\r\n");
                for size in 1..=input.len() {
                    let out = passed(&input, size);
                    if length <= LINE_MAX {
                        assert_eq!(out, input, "{name} in a line of {length}, in pieces of {size}");
                    } else {
                        assert!(out.ends_with("......"), "{name} in a line of {length}, in pieces of {size}: {out:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_lines_may_be_long() {
        for line in [format!("Cookie: {}", "c".repeat(1000)), format!("{}: x", "Content-Length".repeat(30))] {
            let input = format!("GET /{} HTTP/1.1\r\n{line}\r\n\r\nGET / HTTP/1.1\r\n\r\n", "p".repeat(500));
            for size in 1..=input.len() {
                assert_eq!(passed(&input, size), input, "in pieces of {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_the_cutting_never_matters(input in proptest::collection::vec(any::<u8>(), 0..400), size in 1usize..50) {
            let whole = { let mut g = HeadGuard::default(); let mut b = input.clone(); g.check(&mut b); g.state == State::Refused };
            let mut guard = HeadGuard::default();
            for piece in input.chunks(size) {
                guard.check(&mut piece.to_vec());
            }
            prop_assert_eq!(guard.state == State::Refused, whole);
        }

        #[test]
        fn headlike_input_is_judged_alike_however_it_is_cut(
            lines in proptest::collection::vec(prop_oneof![Just("Content-Length: 3"), Just("Transfer-Encoding: chunked"), Just("X: y"), Just(""), Just("GET / HTTP/1.1"), Just("3"), Just("0")], 0..12),
            ends in proptest::collection::vec(prop_oneof![9 => Just("\r\n"), 1 => Just("\n")], 12), size in 1usize..20) {
            let input: String = lines.iter().zip(&ends).map(|(l, e)| format!("{l}{e}")).collect();
                prop_assert_eq!(passed(&input, size).ends_with('.'), passed(&input, 1).ends_with('.'));
        }
    }
}
