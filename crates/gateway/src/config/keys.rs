//! The table of all keys: the one place where a key's name, form, default, meaning and the source of its number are written.
//!
//! The file's parser, the `HANDOVER_…` variables, `handover gateway --list-keys` and the reference page of the guide are
//! all read from here, so a key that one of them knows the others know too, and a printed default is the one in force:
//! defaults are text that goes through the same parser as a user's.

use std::time::Duration;

mod pools;
mod root;

pub(super) use pools::{KINDS, NODE, NodeDraft, PLATFORM, PlatformDraft, ROUTE, RouteDraft};
pub(super) use root::{Listed, ROOT, Root};

const fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

const fn minutes(number: u64) -> Duration {
    seconds(60 * number)
}

const fn hours(number: u64) -> Duration {
    minutes(60 * number)
}

const fn days(number: u64) -> Duration {
    hours(24 * number)
}

/// One key of the scope whose draft is `T`.
pub(super) struct Key<T: 'static> {
    /// Its name in the file; a dot is a table: `limits.header_timeout`.
    pub(super) name: &'static str,
    /// What values it takes and where they go.
    pub(super) form: Form<T>,
    /// What holds when no source names it.
    pub(super) fallback: Fallback,
    /// What it does.
    pub(super) doc: &'static str,
    /// Where its number comes from, or what breaks if it is another.
    pub(super) why: &'static str,
}

/// What holds when no source names a key.
#[derive(Clone, Copy)]
pub(super) enum Fallback {
    /// This value, read by the key's form.
    Value(&'static str),
    /// What the words say; worked out once all sources are read.
    Computed(&'static str),
    /// Nothing; the words say what that means.
    Nothing(&'static str),
    /// It has to be written.
    Required,
}

/// What the number zero means for a duration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    /// It is refused.
    Refused,
    /// It is allowed and switches the thing off.
    Off,
}

/// Whether a value may be shown in errors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// It may, without what looks like credentials.
    Yes,
    /// Never.
    Never,
}

/// How the items of a list are written in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Items {
    /// As strings.
    Texts,
    /// As whole numbers.
    Numbers,
}

/// Why a setter refuses a text.
pub(super) enum Refused {
    /// It breaks the rule of the form.
    Rule,
    /// For this reason, which says what is allowed.
    Because(String),
}

/// What values a key takes, and how one is stored in the draft.
pub(super) enum Form<T> {
    /// A length of time from `least` to `most`.
    Time { least: Duration, most: Duration, zero: Zero, set: fn(&mut T, Duration) },
    /// A whole number from `least` to `most`.
    Number { least: u64, most: u64, set: fn(&mut T, u64) },
    /// A size in bytes from `least` to `most`.
    Bytes { least: u64, most: u64, set: fn(&mut T, u64) },
    /// `true` or `false`.
    Switch { set: fn(&mut T, bool) },
    /// One of some words; the setter gets its index.
    Choice { words: &'static [&'static str], set: fn(&mut T, usize) },
    /// A text under a rule.
    Text { rule: &'static str, shown: Shown, set: fn(&mut T, &str) -> Result<(), Refused> },
    /// Any number of texts under a rule. `clear` comes before the first item of each source.
    List { rule: &'static str, items: Items, clear: fn(&mut T), add: fn(&mut T, &str) -> Result<(), Refused> },
}

/// The variables that the command reads itself; they are no keys of the file.
pub(super) const COMMAND_VARIABLES: [(&str, &str); 3] = [
    ("HANDOVER_CONFIG", "the configuration file, as --config"),
    ("HANDOVER_LOG_FORMAT", "how diagnostics are written to stderr, as --log-format"),
    ("HANDOVER_LOG_LEVEL", "which diagnostics are written to stderr, as --log-level"),
];

/// What every variable of ours begins with.
pub(super) const ENV_PREFIX: &str = "HANDOVER_";
/// What the variables of the platform `Default` begin with.
pub(super) const ENV_PLATFORM_PREFIX: &str = "HANDOVER_DEFAULT_PLATFORM_";

/// The environment variable of a key.
pub(super) fn env_name(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The keys of the platform `Default` that the environment may set: all but its name.
pub(super) fn platform_env_keys() -> impl Iterator<Item = &'static Key<PlatformDraft>> {
    PLATFORM.iter().filter(|key| key.name != "name")
}

/// The flag that sets a key of the root scope, or `max_retries` of the platform `Default`.
pub(super) fn flag_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "listen" => "--listen",
        "data_dir" => "--data-dir",
        "proxy_token" => "--token",
        "nodes" => "--node",
        "origins" => "--origin",
        "max_retries" => "--max-retries",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_variable_has_one_meaning() {
        let mut names: Vec<_> = ROOT.iter().map(|key| env_name(ENV_PREFIX, key.name)).collect();
        names.extend(platform_env_keys().map(|key| env_name(ENV_PLATFORM_PREFIX, key.name)));
        names.extend(COMMAND_VARIABLES.map(|(name, _)| name.to_owned()));
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_key_says_what_it_does_and_why() {
        fn check<T>(keys: &[Key<T>]) {
            for key in keys {
                assert!(key.doc.len() > 15 && key.why.len() > 15, "{} has no sentence", key.name);
                assert!(!key.doc.ends_with('.') && !key.why.ends_with('.'), "{}", key.name);
            }
        }
        check(ROOT);
        check(NODE);
        check(PLATFORM);
        check(ROUTE);
    }
}
