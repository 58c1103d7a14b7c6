//! What has passed over one connection in both directions: the evidence, kept by stream.
//!
//! `h2` tells neither the last stream id of a GOAWAY nor which of the frames that it holds the socket has taken. Both are
//! read here from the bytes themselves, above TLS.

use std::collections::HashMap;
use std::io::IoSlice;

use super::frames::{GOAWAY, HEADERS, Header, PREFACE_BYTES, Passing, RST_STREAM, STREAM_MAX, Scanner};

/// Bytes of a GOAWAY's payload that name the last stream (RFC 9113 §6.8).
const LAST_STREAM_BYTES: usize = 4;

/// The evidence of one connection.
#[derive(Debug)]
pub(super) struct Book {
    sent: Scanner,
    read: Scanner,
    /// The highest stream of which a byte was taken by the stream below.
    begun: u32,
    /// The highest stream whose header block was taken whole.
    out: u32,
    /// Streams that are open on the wire, and which side has ended its half.
    open: HashMap<u32, Half>,
    /// Whose frames the last write had to leave behind.
    left_behind: Vec<u32>,
    /// Whose frames the stream below took and has not flushed: TLS may still hold them.
    unflushed: Vec<u32>,
    /// Whether anything was taken since the last flush.
    dirty: bool,
    goaway: Vec<u8>,
    last_stream: Option<u32>,
    read_bytes: u64,
}

/// Which half of an open stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Neither,
    Ours,
    Theirs,
}

impl Book {
    pub(super) fn new() -> Self {
        Book {
            sent: Scanner::skipping(PREFACE_BYTES),
            read: Scanner::default(),
            begun: 0,
            out: 0,
            open: HashMap::new(),
            left_behind: Vec::new(),
            unflushed: Vec::new(),
            dirty: false,
            goaway: Vec::new(),
            last_stream: None,
            read_bytes: 0,
        }
    }

    /// Of these pieces, the stream below took the first `taken` bytes.
    pub(super) fn note_write(&mut self, pieces: &[IoSlice<'_>], taken: usize) {
        let mut scanner = std::mem::take(&mut self.sent);
        let mut room = taken;
        self.dirty |= taken > 0;
        if let Some(header) = scanner.in_payload().filter(|header| taken > 0 && header.is_of_message()) {
            add(&mut self.unflushed, header.stream);
        }
        for piece in pieces {
            let part = room.min(piece.len());
            room -= part;
            scanner.feed(&piece[..part], |passing| self.note_sent(&passing));
        }
        self.left_behind.clear();
        // What was offered and not taken stays in h2's buffer. After each of its turns it has offered all that is in there.
        let (mut ahead, mut skip) = (scanner.clone(), taken);
        for piece in pieces {
            let from = skip.min(piece.len());
            skip -= from;
            ahead.feed(&piece[from..], |passing| {
                if let Passing::Begun(header) = passing
                    && header.is_of_message()
                {
                    add(&mut self.left_behind, header.stream);
                }
            });
        }
        self.sent = scanner;
    }

    fn note_sent(&mut self, passing: &Passing<'_>) {
        match *passing {
            Passing::Begun(header) => {
                if header.is_of_message() {
                    add(&mut self.unflushed, header.stream);
                }
                if header.kind == HEADERS && header.stream > self.begun {
                    self.begun = header.stream;
                    self.open.insert(header.stream, Half::Neither);
                }
                self.note_end(header, Half::Ours);
            }
            Passing::Ended(header) if header.ends_block() => self.out = self.out.max(header.stream),
            Passing::Piece(..) | Passing::Ended(_) => {}
        }
    }

    /// The stream below holds nothing back any more.
    pub(super) fn note_flushed(&mut self) {
        self.unflushed.clear();
        self.dirty = false;
    }

    /// These bytes came.
    pub(super) fn note_read(&mut self, bytes: &[u8]) {
        self.read_bytes += bytes.len() as u64;
        let mut scanner = std::mem::take(&mut self.read);
        scanner.feed(bytes, |passing| match passing {
            Passing::Begun(header) => self.note_end(header, Half::Theirs),
            Passing::Piece(header, piece) if header.kind == GOAWAY => {
                let room = LAST_STREAM_BYTES - self.goaway.len();
                self.goaway.extend_from_slice(&piece[..room.min(piece.len())]);
            }
            Passing::Ended(header) if header.kind == GOAWAY => self.note_goaway(),
            Passing::Piece(..) | Passing::Ended(_) => {}
        });
        self.read = scanner;
    }

    /// A GOAWAY is whole. A later one may lower the last stream and never raise it (RFC 9113 §6.8).
    fn note_goaway(&mut self) {
        if let Ok(raw) = <[u8; LAST_STREAM_BYTES]>::try_from(&self.goaway[..]) {
            let last = u32::from_be_bytes(raw) & STREAM_MAX;
            self.last_stream = Some(self.last_stream.map_or(last, |before| before.min(last)));
        }
        self.goaway.clear();
    }

    fn note_end(&mut self, header: Header, whose: Half) {
        if header.kind == RST_STREAM {
            self.open.remove(&header.stream);
        } else if header.ends_stream()
            && let Some(half) = self.open.get_mut(&header.stream)
        {
            if *half == Half::Neither {
                *half = whose;
            } else if *half != whose {
                self.open.remove(&header.stream);
            }
        }
    }

    /// Whether a byte of this stream may have been taken by the stream below.
    pub(super) fn has_begun(&self, stream: u32) -> bool {
        self.begun >= stream || self.sent.is_in_header()
    }

    /// Whether the header block of this stream, and of every lower one, was taken whole.
    pub(super) fn is_out(&self, stream: u32) -> bool {
        self.out >= stream
    }

    /// Whether bytes of this stream's message are somewhere between `h2` and the socket, or not even there: they would flow
    /// as soon as the socket takes more.
    pub(super) fn is_held(&self, stream: u32) -> bool {
        !self.is_out(stream)
            || self.left_behind.contains(&stream)
            || self.unflushed.contains(&stream)
            || self.sent.in_payload().is_some_and(|header| header.is_of_message() && header.stream == stream)
    }

    /// Whether everything up to this stream was taken and flushed, so that what comes next goes to the socket at once.
    pub(super) fn is_clear(&self, highest: u32) -> bool {
        let whole = !self.dirty && self.left_behind.is_empty();
        whole && self.begun >= highest && self.sent.in_payload().is_none() && !self.sent.is_in_header()
    }

    /// How many streams are open on the wire.
    pub(super) fn open_streams(&self) -> usize {
        self.open.len()
    }

    /// The lowest last stream of the GOAWAYs that came.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.last_stream
    }

    /// Bytes read so far.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

fn add(streams: &mut Vec<u32>, stream: u32) {
    if !streams.contains(&stream) {
        streams.push(stream);
    }
}

#[cfg(test)]
mod tests {
    use handover_testkit::frame;

    use super::*;

    /// A book of a connection on which the preface and these bytes were written and flushed.
    fn book(written: &[u8]) -> Book {
        let mut book = Book::new();
        book.note_write(&[IoSlice::new(&[0; PREFACE_BYTES]), IoSlice::new(written)], PREFACE_BYTES + written.len());
        book.note_flushed();
        book
    }

    fn head(stream: u32, flags: u8) -> Vec<u8> {
        frame::frame(frame::HEADERS, flags, stream, b"head").to_vec()
    }

    #[test]
    fn a_head_is_held_until_its_last_byte_was_taken_and_flushed() {
        let bytes = head(1, frame::END_HEADERS);
        for taken in 0..=bytes.len() {
            let mut book = book(b"");
            book.note_write(&[IoSlice::new(&bytes)], taken);
            assert_eq!((book.is_out(1), book.has_begun(1)), (taken == bytes.len(), taken > 0), "{taken} bytes");
            assert!(book.is_held(1) && !book.is_clear(1), "{taken} bytes, and TLS may hold them");
            book.note_flushed();
            assert_eq!((book.is_held(1), book.is_clear(1)), (taken < bytes.len(), taken == bytes.len()));
        }
    }

    #[test]
    fn a_head_that_was_never_offered_or_goes_on_in_a_further_frame_is_held() {
        let mut book = book(&head(1, 0));
        assert!(book.has_begun(1) && book.is_held(1), "CONTINUATION is to come");
        let rest = frame::frame(9, frame::END_HEADERS, 1, b"more");
        book.note_write(&[IoSlice::new(&rest)], rest.len());
        book.note_flushed();
        assert!(!book.is_held(1) && book.is_held(3) && !book.has_begun(3) && !book.is_clear(3));
    }

    #[test]
    fn a_body_is_held_as_long_as_a_frame_of_it_was_offered_and_not_taken() {
        let mut book = book(&[head(1, frame::END_HEADERS), head(3, frame::END_HEADERS)].concat());
        let (first, second) = (frame::frame(frame::DATA, 0, 1, b"one"), frame::frame(frame::DATA, 0, 3, b"two"));
        let pieces = [IoSlice::new(&first), IoSlice::new(&second)];
        book.note_write(&pieces, first.len());
        book.note_flushed();
        assert!(!book.is_held(1) && book.is_held(3) && !book.is_clear(3), "the second was left behind");
        book.note_write(&[IoSlice::new(&second)], second.len());
        book.note_flushed();
        assert!(!book.is_held(3) && book.is_clear(3));
    }

    #[test]
    fn a_stream_is_open_until_both_sides_ended_it_or_one_reset_it() {
        let end = frame::END_HEADERS | frame::END_STREAM;
        let mut book = book(&[head(1, end), head(3, frame::END_HEADERS), head(5, end)].concat());
        assert_eq!(book.open_streams(), 3);
        book.note_read(&[&frame::answer(1)[..], &frame::answer(3)].concat());
        assert_eq!(book.open_streams(), 2, "ours goes on in 3, theirs in 5");
        book.note_read(&frame::rst_stream(5, ::h2::Reason::CANCEL));
        let reset = frame::rst_stream(3, ::h2::Reason::CANCEL);
        book.note_write(&[IoSlice::new(&reset)], reset.len());
        assert_eq!(book.open_streams(), 0);
    }

    #[test]
    fn the_last_stream_is_read_however_the_goaway_is_cut_and_only_ever_lowered() {
        let bytes = [frame::goaway(7, ::h2::Reason::NO_ERROR), frame::goaway(5, ::h2::Reason::NO_ERROR)].concat();
        let bytes = [bytes, frame::goaway(9, ::h2::Reason::NO_ERROR).to_vec()].concat();
        for cut in 1..bytes.len() {
            let mut book = book(b"");
            bytes.chunks(cut).for_each(|piece| book.note_read(piece));
            assert_eq!((book.last_stream(), book.read_bytes()), (Some(5), bytes.len() as u64));
        }
    }
}
