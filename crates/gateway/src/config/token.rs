//! The token clients present, kept from being shown and compared without telling how much of it was right.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret that clients present. `Debug` and `Display` hide it.
#[derive(Clone)]
pub struct Token(Box<str>);

/// Characters that would be ambiguous in a path segment or beside an identity.
const RESERVED_CHARACTERS: &str = ".:|/\\@?#%~";

/// First path segments that belong to the control plane; a token in the reverse form's first segment must not be one.
const RESERVED_WORDS: [&str; 4] = ["api", "healthz", "ui", "metrics"];

/// The rule of [`Token::try_new`] in words.
pub(super) const TOKEN_RULE: &str = "a token is a path segment: not empty, none of . : | / \\ @ ? # % ~, no white space or \
     control characters, and not one of api, healthz, ui, metrics";

impl Token {
    /// Takes a token that can stand in a path segment.
    ///
    /// # Errors
    /// The rule it breaks, in words that do not contain it.
    pub fn try_new(text: &str) -> Result<Self, &'static str> {
        let reserved = RESERVED_WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
        if text.is_empty() || reserved || !text.chars().all(is_name_character) {
            return Err(TOKEN_RULE);
        }
        Ok(Self(text.into()))
    }

    /// Whether `presented` is this token. Takes the same time wherever the first difference is; only the length shows.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Whether a character may stand in a token or a platform's name: both are parts of the reverse form's path.
pub(super) fn is_name_character(character: char) -> bool {
    !(character.is_whitespace()
        || character.is_control()
        || character == char::REPLACEMENT_CHARACTER
        || RESERVED_CHARACTERS.contains(character))
}

/// The rule for a platform's name in words.
pub(super) const PLATFORM_RULE: &str = "a platform's name is part of a path: 1 to 64 bytes, none of . : | / \\ @ ? # % ~, no \
     white space or control characters";

/// Long enough for a name, short enough for a column in a table.
const PLATFORM_NAME_BYTES_MAX: usize = 64;

/// Whether a text may be the name of a platform.
pub(super) fn is_platform_name(text: &str) -> bool {
    (1..=PLATFORM_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_name_character)
}
