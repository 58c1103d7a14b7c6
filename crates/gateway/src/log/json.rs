//! Writes JSON into a `String` that is used again and again: the log writes one small document per request, and building
//! a tree of values for it would cost more than the document.

use std::fmt::Write;

/// Appends one JSON object. Fields that hold what is usual are left out by the callers, which keeps rows short.
pub(super) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `out`.
    pub(super) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.out.push('}');
    }

    /// Writes the key; the value must follow. Keys are the log's own words and need no escaping.
    pub(super) fn key(&mut self, key: &'static str) -> &mut String {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        self.out
    }

    /// A string that may hold anything.
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        escaped(self.key(key), value);
    }

    /// A string that is one of the log's own words.
    pub(super) fn word(&mut self, key: &'static str, value: &'static str) {
        let out = self.key(key);
        out.push('"');
        out.push_str(value);
        out.push('"');
    }

    /// A value that prints as text without any character that needs escaping: an address, an id.
    pub(super) fn plain(&mut self, key: &'static str, value: &dyn std::fmt::Display) {
        let out = self.key(key);
        write!(out, "\"{value}\"").expect("writing to a String succeeds");
    }

    /// A number.
    pub(super) fn number(&mut self, key: &'static str, value: u64) {
        digits(self.key(key), value);
    }

    /// `true` if it is so, and nothing otherwise.
    pub(super) fn flag(&mut self, key: &'static str, value: bool) {
        if value {
            self.key(key).push_str("true");
        }
    }
}

/// Appends `value` in decimal. The formatter of `std` takes three times as long for a short number.
pub(super) fn digits(out: &mut String, mut value: u64) {
    // u64::MAX has 20 digits.
    let mut buffer = [0u8; 20];
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&buffer[start..]).expect("digits are ASCII"));
}

/// Appends `value` as a JSON string (RFC 8259 §7).
pub(super) fn escaped(out: &mut String, value: &str) {
    out.push('"');
    let mut clean = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        // An escaped byte is ASCII, so both borders are borders of characters.
        out.push_str(&value[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => write!(out, "\\u{control:04x}").expect("writing to a String succeeds"),
        }
    }
    out.push_str(&value[clean..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_string_reads_back(value in any::<String>()) {
            let mut out = String::new();
            escaped(&mut out, &value);
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), value);
        }

        #[test]
        fn every_number_reads_back(value in any::<u64>()) {
            let mut out = String::new();
            let mut object = Object::begin(&mut out);
            object.number("u", value);
            object.end();
            let read: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            prop_assert_eq!(read["u"].as_u64(), Some(value));
        }
    }

    #[test]
    fn control_characters_quotes_and_line_ends_are_escaped() {
        let mut out = String::new();
        escaped(&mut out, "a\"b\\c\n\r\t\u{0}\u{1b}[31m\u{7f}é\u{2028}");
        assert_eq!(out, "\"a\\\"b\\\\c\\n\\r\\t\\u0000\\u001b[31m\u{7f}é\u{2028}\"");
    }

    #[test]
    fn an_object_separates_its_fields_and_leaves_false_flags_out() {
        let mut out = String::from("x");
        let mut object = Object::begin(&mut out);
        object.flag("no", false);
        object.word("a", "b");
        object.flag("yes", true);
        object.number("n", 0);
        object.plain("p", &std::net::Ipv4Addr::LOCALHOST);
        object.end();
        assert_eq!(out, r#"x{"a":"b","yes":true,"n":0,"p":"127.0.0.1"}"#);
    }
}
