//! Large bodies whose every byte is known by its place, so that a peer can check 256 MiB without keeping or hashing them.
//!
//! The pattern repeats after a prime number of bytes: a lost, doubled or moved block of any power of two shows at once,
//! and checking is a comparison of slices, which stays fast in builds without optimisation.

use std::sync::LazyLock;

/// Bytes after which the pattern repeats: the largest prime below 64 KiB.
pub const PATTERN_PERIOD: usize = 65_521;

/// Bytes of pattern that can be had in one slice from any offset: enough for the reads and writes of this crate.
const RUN: usize = 256 * 1024;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // A multiplicative hash of the position: neighbouring bytes differ, no short cycle inside the period.
    let byte = |at: usize| (((at % PATTERN_PERIOD) as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    (0..PATTERN_PERIOD + RUN).map(byte).collect()
});

/// The pattern from `offset` (in bytes from the body's start), at most `length` bytes and at most 256 KiB.
#[must_use]
pub fn pattern_at(offset: u64, length: usize) -> &'static [u8] {
    let start = usize::try_from(offset % PATTERN_PERIOD as u64).expect("below the period, which fits");
    &PATTERN[start..start + length.min(RUN)]
}

/// Whether `data`, found at `offset` of a body, is the pattern there.
#[must_use]
pub fn is_pattern(mut offset: u64, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let expected = pattern_at(offset, data.len());
        let (now, rest) = data.split_at(expected.len());
        if now != expected {
            return false;
        }
        offset += now.len() as u64;
        data = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cut_anywhere_and_joined_is_the_pattern() {
        let mut body = pattern_at(0, RUN).to_vec();
        body.extend_from_slice(pattern_at(RUN as u64, 1000));
        assert!(is_pattern(0, &body));
    }

    #[test]
    fn a_lost_block_is_no_pattern() {
        let mut body = pattern_at(0, RUN).to_vec();
        body.drain(8192..16_384);
        assert!(!is_pattern(0, &body));
    }
}
