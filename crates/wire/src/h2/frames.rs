//! Reads the frames of a byte stream as they pass (RFC 9113 §4.1), without keeping or changing any of it.
//!
//! Only headers are looked at, payloads are skipped over: what it costs does not depend on how long they are.

/// The type of a DATA frame (RFC 9113 §6.1).
pub(super) const DATA: u8 = 0x0;
/// The type of a HEADERS frame (RFC 9113 §6.2).
pub(super) const HEADERS: u8 = 0x1;
/// The type of an RST_STREAM frame (RFC 9113 §6.4).
pub(super) const RST_STREAM: u8 = 0x3;
/// The type of a GOAWAY frame (RFC 9113 §6.8).
pub(super) const GOAWAY: u8 = 0x7;
/// The type of a CONTINUATION frame (RFC 9113 §6.10).
pub(super) const CONTINUATION: u8 = 0x9;
/// The flag that ends a stream, of DATA and HEADERS.
const END_STREAM: u8 = 0x1;
/// The flag that ends a header block, of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 0x4;

/// Bytes of a frame's header (RFC 9113 §4.1).
const HEADER_BYTES: usize = 9;
/// Bytes of what a client sends before its first frame (RFC 9113 §3.4).
pub(super) const PREFACE_BYTES: usize = 24;
/// The largest stream id: 31 bits (RFC 9113 §5.1.1).
pub(super) const STREAM_MAX: u32 = 0x7fff_ffff;

/// A frame's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
    length: usize,
}

impl Header {
    fn parse(raw: [u8; HEADER_BYTES]) -> Self {
        let length = u32::from_be_bytes([0, raw[0], raw[1], raw[2]]) as usize;
        let stream = u32::from_be_bytes([raw[5], raw[6], raw[7], raw[8]]) & STREAM_MAX;
        Header { kind: raw[3], flags: raw[4], stream, length }
    }

    /// Whether it carries a part of a message: its fields or its body.
    pub(super) fn is_of_message(&self) -> bool {
        matches!(self.kind, DATA | HEADERS | CONTINUATION)
    }

    /// Whether its sender sends nothing more on the stream.
    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Whether a header block is whole with it.
    pub(super) fn ends_block(&self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS != 0
    }
}

/// What passes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passing<'a> {
    /// The header of a frame is whole.
    Begun(Header),
    /// A piece of the payload of a frame that has begun.
    Piece(Header, &'a [u8]),
    /// The last byte of a frame has passed.
    Ended(Header),
}

/// Where in the frames a byte stream stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanner {
    /// Bytes that are no frame and still to come.
    skip: usize,
    raw: [u8; HEADER_BYTES],
    have: usize,
    header: Header,
    left: usize,
}

impl Scanner {
    /// Of a stream in which so many bytes come before the first frame.
    pub(super) fn skipping(bytes: usize) -> Self {
        Scanner { skip: bytes, ..Scanner::default() }
    }

    /// Whether a header is under way of which it is not known yet whose it is.
    pub(super) fn is_in_header(&self) -> bool {
        self.have > 0
    }

    /// The frame whose payload is under way.
    pub(super) fn in_payload(&self) -> Option<Header> {
        (self.left > 0).then_some(self.header)
    }

    /// Goes over further bytes and tells what passes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Passing<'_>)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                bytes = &bytes[take(&mut self.skip, bytes.len())..];
            } else if self.left > 0 {
                let piece = take(&mut self.left, bytes.len());
                tell(Passing::Piece(self.header, &bytes[..piece]));
                bytes = &bytes[piece..];
                if self.left == 0 {
                    tell(Passing::Ended(self.header));
                }
            } else {
                let piece = bytes.len().min(HEADER_BYTES - self.have);
                self.raw[self.have..self.have + piece].copy_from_slice(&bytes[..piece]);
                self.have += piece;
                bytes = &bytes[piece..];
                if self.have == HEADER_BYTES {
                    self.begin(&mut tell);
                }
            }
        }
    }

    fn begin(&mut self, tell: &mut impl FnMut(Passing<'_>)) {
        self.have = 0;
        self.header = Header::parse(self.raw);
        self.left = self.header.length;
        tell(Passing::Begun(self.header));
        if self.left == 0 {
            tell(Passing::Ended(self.header));
        }
    }
}

/// Takes at most so many, and says how many.
fn take(from: &mut usize, at_most: usize) -> usize {
    let taken = at_most.min(*from);
    *from -= taken;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn the_same_frames_are_told_however_the_bytes_are_cut() {
        let mut bytes = vec![b'P'; PREFACE_BYTES];
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 5, b"block"));
        bytes.extend(frame(DATA, 0, 0x8000_0007, b""));
        bytes.extend(frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
        for cut in 1..bytes.len() {
            let (mut scanner, mut told) = (Scanner::skipping(PREFACE_BYTES), Vec::new());
            let mut payload = Vec::new();
            for piece in bytes.chunks(cut) {
                scanner.feed(piece, |passing| match passing {
                    Passing::Begun(header) => told.push((header.kind, header.stream, "begun")),
                    Passing::Piece(_, piece) => payload.extend_from_slice(piece),
                    Passing::Ended(header) => told.push((header.kind, header.stream, "ended")),
                });
            }
            let of = |kind, stream| [(kind, stream, "begun"), (kind, stream, "ended")];
            assert_eq!(told, [of(HEADERS, 5), of(DATA, 7), of(GOAWAY, 0)].concat(), "cut every {cut}");
            assert_eq!(payload, [&b"block"[..], &[0, 0, 0, 5, 0, 0, 0, 0]].concat(), "cut every {cut}");
            assert!(!scanner.is_in_header() && scanner.in_payload().is_none());
        }
    }
}
