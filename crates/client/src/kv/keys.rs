//! Keys: which can be one, how they are written in a path, and pages of them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{KvCode, KvError};

/// All but the unreserved letters of RFC 3986 §2.3: a key is one segment of a path, whatever is in it.
const NOT_IN_A_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the API has at the places of keys (`/kv/_info`): a value under such a name could be written and not be read.
const RESERVED: [&str; 4] = ["_info", "_token", "_keys", "_batchimport"];

/// Keys on one page unless more or fewer are asked for: Classworks' value.
const PAGE_KEYS: u32 = 100;

/// The key, if it can be one.
pub(super) fn checked(key: &str) -> Result<&str, KvError> {
    // An empty one would be the list of all; servers and proxies read dots as places in the path's tree.
    if key.is_empty() || key == "." || key == ".." || RESERVED.contains(&key) {
        return Err(KvError::new(
            KvCode::ConfigError,
            format!("{key:?} cannot be a key: the API has something else there"),
        ));
    }
    Ok(key)
}

/// A text as one segment of a path, or a value in a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NOT_IN_A_SEGMENT).to_string()
}

/// Which keys, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyQuery {
    /// What they are sorted by. Default: the key.
    pub sort_by: SortBy,
    /// From the greatest. Default: from the least.
    pub descending: bool,
    /// The most keys on the page. Default: 100.
    pub limit: u32,
    /// How many are left out before it. Default: none.
    pub skip: u32,
}

impl Default for KeyQuery {
    fn default() -> Self {
        Self { sort_by: SortBy::Key, descending: false, limit: PAGE_KEYS, skip: 0 }
    }
}

impl KeyQuery {
    pub(super) fn direction(self) -> &'static str {
        if self.descending { "desc" } else { "asc" }
    }
}

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortBy {
    /// The key.
    #[default]
    Key,
    /// When it was written first.
    CreatedAt,
    /// When it was written last.
    UpdatedAt,
}

impl SortBy {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::CreatedAt => "createdAt",
            Self::UpdatedAt => "updatedAt",
        }
    }
}

/// A page of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// How many keys this page has. Servers of version 1.3 do not say how many there are in all.
    pub total_rows: u64,
    /// Which page it is.
    #[serde(default)]
    pub current_page: PageOfKeys,
    /// Where the next page is, if the server says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_more: Option<String>,
}

/// Which page of the keys it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageOfKeys {
    /// The most keys it could have.
    pub limit: u64,
    /// How many were left out before it.
    pub skip: u64,
    /// How many it has.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_a_path_whatever_is_in_it() {
        for (key, expected) in [
            ("classworks-config", "classworks-config"),
            ("a b/c?d#e%f", "a%20b%2Fc%3Fd%23e%25f"),
            ("作业", "%E4%BD%9C%E4%B8%9A"),
            ("...", "..."),
            ("_own", "_own"),
        ] {
            assert_eq!(encoded(checked(key).unwrap()), expected);
        }
    }

    #[test]
    fn what_the_api_has_at_the_place_of_a_key_is_none() {
        for key in ["", ".", "..", "_info", "_token", "_keys", "_batchimport"] {
            assert_eq!(checked(key).unwrap_err().code(), KvCode::ConfigError, "{key}");
        }
    }
}
