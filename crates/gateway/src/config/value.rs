//! Values: from what a source has written to what a key stores, or an error that says what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::keys::{Fallback, Form, Items, Key, Refused, Shown, Zero};
use super::url::without_credentials;
use super::{ConfigError, Place};

/// A value as a source has it, before the form of its key is known.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    /// Text of a source that knows nothing but text: the environment, a flag, the key table.
    Word(String),
    /// A string of the file.
    Text(String),
    /// A whole number of the file; `None` if it is negative or above 64 bits.
    Number(Option<u64>, String),
    /// A truth value of the file.
    Switch(bool),
    /// A list, each item with its place.
    List(Vec<(Raw, Place)>),
    /// What no key takes, such as a date; the words say what it is.
    Other(&'static str),
}

/// A draft of one scope with the places its values came from.
#[derive(Debug)]
pub(super) struct Draft<T> {
    /// The values.
    pub(super) values: T,
    /// Where each key that was named was named last, whether or not its value was good.
    pub(super) places: BTreeMap<&'static str, Place>,
    /// Keys whose last value was refused, so that nothing can be concluded from what is stored for them.
    broken: BTreeSet<&'static str>,
    /// Where the scope as a whole is written.
    pub(super) header: Place,
    /// What names of keys are shown with: `platform "api".`, or nothing for the top level.
    pub(super) prefix: String,
}

impl<T: Default> Draft<T> {
    /// A draft with every default of its table.
    pub(super) fn new(keys: &'static [Key<T>], header: Place, prefix: String) -> Self {
        let mut draft = Self { values: T::default(), places: BTreeMap::new(), broken: BTreeSet::new(), header, prefix };
        let mut errors = Vec::new();
        for key in keys {
            if let Fallback::Value(text) = key.fallback {
                draft.set(key, &Raw::Word(text.into()), Place::Default, &mut errors);
            }
        }
        debug_assert!(errors.is_empty(), "defaults of the key table are valid: {errors:?}");
        draft.places.clear();
        draft
    }
}

impl<T> Draft<T> {
    /// Stores a value, or says what is wrong with it.
    pub(super) fn set(&mut self, key: &'static Key<T>, raw: &Raw, place: Place, errors: &mut Vec<ConfigError>) {
        let before = errors.len();
        let mut error = |(source, found, allowed)| {
            errors.push(ConfigError { source, key: format!("{}{}", self.prefix, key.name), found, allowed });
        };
        match &key.form {
            Form::List { items, clear, add, .. } => {
                clear(&mut self.values);
                let list = list(raw, &place).ok_or_else(|| bad(&key.form, raw, &place)).map_err(&mut error);
                for (item, place) in list.unwrap_or_default() {
                    let stored = match item_text(&item, *items) {
                        Some(text) => add(&mut self.values, &text),
                        None => Err(Refused::Rule),
                    };
                    let _ = stored.map_err(|refused| error(because(refused, bad(&key.form, &item, &place))));
                }
            }
            form => {
                let _ = store(form, &mut self.values, raw, &place).map_err(&mut error);
            }
        }
        if errors.len() > before {
            self.broken.insert(key.name);
        } else {
            self.broken.remove(key.name);
        }
        self.places.insert(key.name, place);
    }

    /// Whether the last value of a key was refused: what is stored for it is not what was meant.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.broken.contains(key)
    }

    /// The place of a key, or of the scope if the key was not named.
    pub(super) fn place(&self, key: &'static str) -> Place {
        self.places.get(key).unwrap_or(&self.header).clone()
    }

    /// An error about a key of this draft that is good in itself.
    pub(super) fn error(&self, key: &'static str, found: impl Into<String>, allowed: impl Into<String>) -> ConfigError {
        let key_shown = format!("{}{key}", self.prefix);
        ConfigError { source: self.place(key), key: key_shown, found: found.into(), allowed: allowed.into() }
    }
}

/// What is said of a bad value: place, what was found, what is allowed.
type Bad = (Place, String, String);

fn bad<T>(form: &Form<T>, raw: &Raw, place: &Place) -> Bad {
    (place.clone(), shown(raw, form), format!("allowed: {}", form.allowed()))
}

/// Stores the value of any form but a list, which has several.
fn store<T>(form: &Form<T>, target: &mut T, raw: &Raw, place: &Place) -> Result<(), Bad> {
    let bad = || bad(form, raw, place);
    match form {
        Form::Time { least, most, zero, set } => {
            let value = duration(raw, *zero == Zero::Off).ok_or_else(bad)?;
            let off = value.is_zero() && *zero == Zero::Off;
            (off || (*least..=*most).contains(&value)).then(|| set(target, value)).ok_or_else(bad)
        }
        Form::Number { least, most, set } => {
            let value = number(raw).filter(|value| (*least..=*most).contains(value));
            value.map(|value| set(target, value)).ok_or_else(bad)
        }
        Form::Bytes { least, most, set } => {
            let value = bytes(raw).filter(|value| (*least..=*most).contains(value));
            value.map(|value| set(target, value)).ok_or_else(bad)
        }
        Form::Switch { set } => switch(raw).map(|value| set(target, value)).ok_or_else(bad),
        Form::Choice { words, set } => {
            let index = text(raw).and_then(|text| words.iter().position(|word| *word == text));
            index.map(|index| set(target, index)).ok_or_else(bad)
        }
        Form::Text { set, .. } => {
            let text = text(raw).ok_or_else(bad)?;
            set(target, text).map_err(|refused| because(refused, bad()))
        }
        Form::List { .. } => Err(bad()),
    }
}

fn because(refused: Refused, (place, found, allowed): Bad) -> Bad {
    match refused {
        Refused::Rule => (place, found, allowed),
        Refused::Because(reason) => (place, found, reason),
    }
}

fn text(raw: &Raw) -> Option<&str> {
    match raw {
        // What was not UTF-8 has this character in its place.
        Raw::Word(text) | Raw::Text(text) if !text.contains(char::REPLACEMENT_CHARACTER) => Some(text),
        _ => None,
    }
}

fn number(raw: &Raw) -> Option<u64> {
    match raw {
        Raw::Number(value, _) => *value,
        Raw::Word(text) if is_digits(text) => text.parse().ok(),
        _ => None,
    }
}

fn switch(raw: &Raw) -> Option<bool> {
    match raw {
        Raw::Switch(value) => Some(*value),
        Raw::Word(text) => text.parse().ok(),
        _ => None,
    }
}

/// The items of a list. In the environment they stand between commas, or as a TOML array, for those that contain a comma.
fn list(raw: &Raw, place: &Place) -> Option<Vec<(Raw, Place)>> {
    match raw {
        Raw::List(items) => Some(items.clone()),
        Raw::Word(text) if text.trim().is_empty() => Some(Vec::new()),
        Raw::Word(text) => {
            let items =
                toml_array(text).unwrap_or_else(|| text.split(',').map(|item| item.trim().to_owned()).collect());
            Some(items.into_iter().map(|item| (Raw::Word(item), place.clone())).collect())
        }
        _ => None,
    }
}

fn toml_array(text: &str) -> Option<Vec<String>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    let value = toml::de::DeValue::parse(text.trim()).ok()?;
    let array = value.get_ref().as_array()?;
    array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
}

fn item_text(raw: &Raw, items: Items) -> Option<String> {
    match (items, raw) {
        (Items::Texts, Raw::Text(_) | Raw::Word(_)) => text(raw).map(str::to_owned),
        (Items::Numbers, Raw::Number(..) | Raw::Word(_)) => number(raw).map(|value| value.to_string()),
        _ => None,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Units of time: a number without one could be read as seconds by one reader and as milliseconds by another.
const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn duration(raw: &Raw, may_be_off: bool) -> Option<Duration> {
    let off = match raw {
        Raw::Number(value, _) => *value == Some(0),
        other => text(other)? == "0",
    };
    if off {
        return may_be_off.then_some(Duration::ZERO);
    }
    with_unit(text(raw)?, &TIME_UNITS).map(Duration::from_millis)
}

const SIZE_UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

fn bytes(raw: &Raw) -> Option<u64> {
    number(raw).or_else(|| with_unit(text(raw)?, &SIZE_UNITS))
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration as it is written in a configuration: in the largest unit that leaves no fraction.
pub(super) fn duration_shown(value: Duration) -> String {
    let milliseconds = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    quotient(milliseconds, &TIME_UNITS).unwrap_or_else(|| "0".into())
}

/// A size as it is written in a configuration.
pub(super) fn bytes_shown(value: u64) -> String {
    quotient(value, &SIZE_UNITS).unwrap_or_else(|| value.to_string())
}

fn quotient(value: u64, units: &[(&str, u64)]) -> Option<String> {
    let (name, factor) = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))?;
    Some(format!("{}{name}", value / factor))
}

impl<T> Form<T> {
    /// What values are allowed, in words.
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Time { least, most, zero, .. } => {
                let off = if *zero == Zero::Off { ", or \"0\" to switch it off" } else { "" };
                let (least, most) = (duration_shown(*least), duration_shown(*most));
                format!("a number and a unit, such as \"250ms\", \"3s\", \"1m\", \"1h\", from {least} to {most}{off}")
            }
            Self::Number { least, most, .. } => format!("a whole number from {least} to {most}"),
            Self::Bytes { least, most, .. } => {
                let (least, most) = (bytes_shown(*least), bytes_shown(*most));
                format!("a number of bytes or a size such as \"64KiB\", from {least} to {most}")
            }
            Self::Switch { .. } => "true or false".into(),
            Self::Choice { words, .. } => words.join(", "),
            Self::Text { rule, .. } => (*rule).into(),
            Self::List { rule, .. } => format!("a list of {rule}"),
        }
    }
}

/// A value as an error may show it: one short line, no control characters, no credentials.
fn shown<T>(raw: &Raw, form: &Form<T>) -> String {
    if matches!(form, Form::Text { shown: Shown::Never, .. }) {
        return "a value that is not shown".into();
    }
    match raw {
        Raw::Word(text) | Raw::Text(text) => format!("\"{}\"", one_line(text)),
        Raw::Number(_, text) => one_line(text),
        Raw::Switch(value) => value.to_string(),
        Raw::List(_) => "a list".into(),
        Raw::Other(what) => (*what).into(),
    }
}

/// Longest value that is shown whole: what is longer does not help to find it.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// A text for an error: without credentials and control characters, and not longer than a line.
pub(super) fn one_line(text: &str) -> String {
    let hidden = without_credentials(text);
    let mut line: String = hidden.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if hidden.chars().count() > SHOWN_CHARACTERS_MAX {
        line.push('…');
    }
    line
}
