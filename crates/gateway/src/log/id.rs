//! Request ids: 64 bits that sort by time, are unique without coordination between workers, and fit a SQLite rowid.
//!
//! The upper 56 bits are the request's start in units of 256 ns since the Unix epoch, the low 8 bits are the worker's
//! number. A worker that starts two requests within one unit gives the second the next unit, so ids of one worker only
//! grow, also when the wall clock is set back while it runs. Two runs of the gateway can collide only if the clock was
//! set back in between, and then only on the same worker and the same 256 ns; the log keeps the first row and counts the
//! second as dropped. Rejected: a counter (needs a shared word and a durable start value) and a UUID (twice the size, and
//! a random one would scatter the rows over the whole B-tree).

use std::fmt;
use std::str::FromStr;

/// Bits for the worker's number: 256 workers is more than the cores of a machine this gateway is meant for.
const WORKER_BITS: u32 = 8;
/// Mask of the worker's number within an id.
const WORKER_MASK: u64 = (1 << WORKER_BITS) - 1;
/// Characters of an id as text: 64 bits at 5 bits a character, rounded up.
const TEXT_LEN: usize = 13;
/// Crockford's base32 alphabet in lower case: no `i`, `l`, `o`, `u`, so an id can be read aloud, and it sorts like the number.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The identity of one request: time-ordered, shown and parsed as 13 characters of lower-case base32 (Crockford).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// When the request started: nanoseconds since the Unix epoch, exact to 256 ns (later if the worker had a burst).
    pub fn started_ns(self) -> u64 {
        self.0 & !WORKER_MASK
    }

    /// The smallest id a request that started at `ns` (nanoseconds since the Unix epoch) can have.
    pub fn first_at(ns: u64) -> Self {
        Self(ns & !WORKER_MASK)
    }

    /// The number of the worker that served the request.
    pub fn worker(self) -> u8 {
        (self.0 & WORKER_MASK) as u8
    }

    /// The id as text, without an allocation.
    pub fn text(self) -> IdText {
        let mut text = [0; TEXT_LEN];
        for (place, character) in text.iter_mut().rev().enumerate() {
            *character = ALPHABET[(self.0 >> (5 * place) & 31) as usize];
        }
        IdText(text)
    }
}

/// A [`RequestId`] as text.
#[derive(Clone, Copy)]
pub struct IdText([u8; TEXT_LEN]);

impl IdText {
    /// The 13 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

/// Why a text is no request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request id is 13 characters of 0-9 and a-z without i, l, o and u")
    }
}

impl std::error::Error for InvalidId {}

impl FromStr for RequestId {
    type Err = InvalidId;

    /// Reads the 13 characters; upper case is taken too.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != TEXT_LEN {
            return Err(InvalidId);
        }
        let mut id: u64 = 0;
        for character in text.bytes() {
            let digit = ALPHABET.iter().position(|a| *a == character.to_ascii_lowercase()).ok_or(InvalidId)?;
            id = id.checked_mul(32).ok_or(InvalidId)? + digit as u64;
        }
        Ok(Self(id))
    }
}

/// Where one worker takes its request ids from.
#[derive(Debug)]
pub struct IdSource {
    worker: u64,
    last: u64,
}

impl IdSource {
    /// Ids of the worker numbered `worker`; no two sources of one gateway may have the same number.
    pub fn new(worker: u8) -> Self {
        Self { worker: u64::from(worker), last: 0 }
    }

    /// The id of a request that starts at `now_ns`, nanoseconds since the Unix epoch. Always greater than the one before.
    pub fn next(&mut self, now_ns: u64) -> RequestId {
        let started = (now_ns & !WORKER_MASK).max(self.last + WORKER_MASK + 1);
        self.last = started;
        RequestId(started | self.worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NOW: u64 = 1_767_225_600_000_000_000;

    #[test]
    fn ids_grow_even_when_the_clock_stands_still_or_is_set_back() {
        let mut source = IdSource::new(3);
        let ids = [NOW, NOW, NOW + 1, NOW - 5_000_000_000, NOW + 1_000_000].map(|now| source.next(now));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        assert_eq!(ids[4].started_ns(), (NOW + 1_000_000) & !255);
        assert_eq!(ids[4].worker(), 3);
    }

    #[test]
    fn two_workers_never_share_an_id() {
        let (mut one, mut two) = (IdSource::new(0), IdSource::new(255));
        let mut ids: Vec<_> = (0..1000).flat_map(|_| [one.next(NOW), two.next(NOW)]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2000);
    }

    #[test]
    fn an_id_reads_back_from_its_text_and_sorts_like_it() {
        let ids = [0, 1, 31, 32, NOW, NOW + 256, u64::MAX].map(RequestId);
        for id in ids {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }
        assert!(ids.windows(2).all(|pair| pair[0].to_string() < pair[1].to_string()));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "last", "0000000000000o", "000000000000u", "gzzzzzzzzzzzz", "00000000000\u{e9}"] {
            assert_eq!(text.parse::<RequestId>(), Err(InvalidId), "{text}");
        }
    }
}
