//! A set of HTTP status codes that fits in a few words and can be copied.

/// The lowest status code there is (RFC 9110 §15).
const LOWEST: u16 = 100;
/// The highest status code there is (RFC 9110 §15).
const HIGHEST: u16 = 599;
/// Words of 64 codes each that hold 100..=599: 500 codes need 8 words.
const WORDS: usize = 8;

/// A set of HTTP status codes, 100 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatusSet([u64; WORDS]);

impl StatusSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    /// Adds a code; `false` if it is outside 100..=599 and was not added.
    pub const fn insert(&mut self, status: u16) -> bool {
        let Some((word, bit)) = place(status) else { return false };
        self.0[word] |= bit;
        true
    }

    /// Whether the code is in the set.
    #[must_use]
    pub const fn contains(&self, status: u16) -> bool {
        match place(status) {
            Some((word, bit)) => self.0[word] & bit != 0,
            None => false,
        }
    }

    /// Whether no code is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The codes in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (LOWEST..=HIGHEST).filter(|status| self.contains(*status))
    }
}

impl FromIterator<u16> for StatusSet {
    /// Codes outside 100..=599 are left out.
    fn from_iter<I: IntoIterator<Item = u16>>(codes: I) -> Self {
        let mut set = Self::new();
        for code in codes {
            set.insert(code);
        }
        set
    }
}

/// Where a code's bit is.
const fn place(status: u16) -> Option<(usize, u64)> {
    if status < LOWEST || status > HIGHEST {
        return None;
    }
    let index = status - LOWEST;
    Some(((index / 64) as usize, 1 << (index % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_exactly_what_was_inserted() {
        for status in LOWEST..=HIGHEST {
            let set = StatusSet::from_iter([status]);
            assert_eq!(set.iter().collect::<Vec<_>>(), [status]);
        }
    }

    #[test]
    fn codes_that_do_not_exist_are_refused() {
        let mut set = StatusSet::new();
        for status in [0, 99, 600, 1000, u16::MAX] {
            assert!(!set.insert(status), "{status}");
            assert!(!set.contains(status), "{status}");
        }
        assert!(set.is_empty());
    }
}
