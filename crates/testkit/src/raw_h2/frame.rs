//! HTTP/2 frames (RFC 9113 §4, §6): what a raw server saw of them, and those it writes, byte for byte.

use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;

/// Bytes of a frame's header (RFC 9113 §4.1).
pub(super) const HEADER_BYTES: usize = 9;

/// The type of a DATA frame.
pub const DATA: u8 = 0x0;
/// The type of a HEADERS frame.
pub const HEADERS: u8 = 0x1;
/// The type of an RST_STREAM frame.
pub const RST_STREAM: u8 = 0x3;
/// The type of a SETTINGS frame.
pub const SETTINGS: u8 = 0x4;
/// The type of a PING frame.
pub const PING: u8 = 0x6;
/// The type of a GOAWAY frame.
pub const GOAWAY: u8 = 0x7;
/// The type of a WINDOW_UPDATE frame.
pub const WINDOW_UPDATE: u8 = 0x8;
/// The flag that ends a stream, of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;
/// The flag that makes SETTINGS or PING an acknowledgement.
pub const ACK: u8 = 0x1;
/// The flag that says that the header block is whole.
pub const END_HEADERS: u8 = 0x4;
/// The last stream id of the GOAWAY that begins a graceful shutdown: none is refused yet (RFC 9113 §6.8).
pub const LAST_STREAM_MAX: u32 = 0x7fff_ffff;

/// One frame that reached a [`RawH2`](crate::RawH2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSeen {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Which frame of that connection it is, counted from 0.
    pub number: usize,
    /// Its type, such as [`HEADERS`].
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// Bytes of its payload.
    pub length: usize,
    /// Its payload; not kept of DATA, which may be large.
    pub payload: Bytes,
}

impl FrameSeen {
    /// Whether it is of a request: HEADERS or DATA.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        self.kind == HEADERS || self.kind == DATA
    }

    /// Whether a request is whole with it.
    #[must_use]
    pub fn ends_request(&self) -> bool {
        self.is_of_request() && self.flags & END_STREAM != 0
    }

    /// Takes a frame's header apart; number and payload are still to come.
    pub(super) fn parse(connection: usize, header: &[u8]) -> Self {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & LAST_STREAM_MAX;
        let length = usize::try_from(length).expect("24 bits fit");
        Self { connection, number: 0, kind: header[3], flags: header[4], stream, length, payload: Bytes::new() }
    }
}

/// Any frame.
///
/// # Panics
/// When the payload is longer than 2^24 − 1 bytes, which the length field cannot say.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_uint(payload.len() as u64, 3);
    assert!(payload.len() < 1 << 24, "a frame's length has 24 bits");
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
    bytes.freeze()
}

/// `:status 200` that ends the stream: the whole answer.
#[must_use]
pub fn answer(stream: u32) -> Bytes {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[STATUS_200])
}

/// `:status 200` and this body.
#[must_use]
pub fn answer_with(stream: u32, body: &[u8]) -> Bytes {
    let head = frame(HEADERS, END_HEADERS, stream, &[STATUS_200]);
    [head, frame(DATA, END_STREAM, stream, body)].concat().into()
}

/// The indexed header field `:status 200` (RFC 7541 §6.1, entry 8 of appendix A).
const STATUS_200: u8 = 0x88;

/// GOAWAY.
#[must_use]
pub fn goaway(last_stream: u32, reason: Reason) -> Bytes {
    let payload = [last_stream.to_be_bytes(), u32::from(reason).to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// RST_STREAM.
#[must_use]
pub fn rst_stream(stream: u32, reason: Reason) -> Bytes {
    frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes())
}

/// WINDOW_UPDATE.
#[must_use]
pub fn window_update(stream: u32, bytes: u32) -> Bytes {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// SETTINGS with these identifiers and values.
#[must_use]
pub fn settings(values: &[(u16, u32)]) -> Bytes {
    let mut payload = BytesMut::new();
    for (identifier, value) in values {
        payload.put_u16(*identifier);
        payload.put_u32(*value);
    }
    frame(SETTINGS, 0, 0, &payload)
}
