//! Writes JSON into a `String` that is used again and again: the log writes one small document per request, and building
//! a tree of values for it would cost more than the document.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

/// The key of a field, ready to be written: `"name":`.
macro_rules! key {
    ($name:literal) => {
        concat!("\"", $name, "\":")
    };
}
pub(super) use key;

/// Appends one JSON object. Fields that hold what is usual are left out by the callers, which keeps rows short. Keys are
/// made by [`key!`]; each field ends with a comma, and the last one's becomes the closing brace.
pub(super) struct Object<'a> {
    out: &'a mut String,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `out`.
    pub(super) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out }
    }

    /// Ends it.
    pub(super) fn end(self) {
        if self.out.ends_with(',') {
            self.out.pop();
        }
        self.out.push('}');
    }

    /// Begins an object as a field's value; [`Object::end_within`] ends it.
    pub(super) fn object(&mut self, key: &'static str) -> Object<'_> {
        self.out.push_str(key);
        Object::begin(self.out)
    }

    /// Ends an object that is a field's value.
    pub(super) fn end_within(self) {
        let out = &mut *self.out;
        if out.ends_with(',') {
            out.pop();
        }
        out.push_str("},");
    }

    /// A string that may hold anything.
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.out.push_str(key);
        escaped(self.out, value);
        self.out.push(',');
    }

    /// A string that is one of the log's own words.
    pub(super) fn word(&mut self, key: &'static str, value: &'static str) {
        self.out.push_str(key);
        self.out.push('"');
        self.out.push_str(value);
        self.out.push_str("\",");
    }

    /// A value that prints as text without any character that needs escaping: a fault with its number.
    pub(super) fn plain(&mut self, key: &'static str, value: &dyn std::fmt::Display) {
        write!(self.out, "{key}\"{value}\",").expect("writing to a String succeeds");
    }

    /// An address with its port. Nearly all are IPv4, and the formatter of `std` is slow for them.
    pub(super) fn address(&mut self, key: &'static str, value: &SocketAddr) {
        let SocketAddr::V4(v4) = value else { return self.plain(key, value) };
        self.out.push_str(key);
        self.out.push('"');
        ipv4(self.out, v4.ip());
        self.out.push(':');
        digits(self.out, u64::from(v4.port()));
        self.out.push_str("\",");
    }

    /// A number.
    pub(super) fn number(&mut self, key: &'static str, value: u64) {
        self.out.push_str(key);
        digits(self.out, value);
        self.out.push(',');
    }

    /// A number as a string, for those who keep numbers as doubles.
    pub(super) fn number_as_text(&mut self, key: &'static str, value: u64) {
        self.out.push_str(key);
        self.out.push('"');
        digits(self.out, value);
        self.out.push_str("\",");
    }

    /// Numbers.
    pub(super) fn numbers(&mut self, key: &'static str, values: impl Iterator<Item = u64>) {
        self.out.push_str(key);
        self.out.push('[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            digits(self.out, value);
        }
        self.out.push_str("],");
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, key: &'static str, value: bool) {
        self.out.push_str(key);
        self.out.push_str(if value { "true," } else { "false," });
    }

    /// `true` if it is so, and nothing otherwise.
    pub(super) fn flag(&mut self, key: &'static str, value: bool) {
        if value {
            self.truth(key, true);
        }
    }
}

/// Appends an IPv4 address in dotted decimal.
pub(super) fn ipv4(out: &mut String, address: &Ipv4Addr) {
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        digits(out, u64::from(octet));
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
            object.number(key!("u"), value);
            object.number_as_text(key!("t"), value);
            object.end();
            let read: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            prop_assert_eq!(read["u"].as_u64(), Some(value));
            prop_assert_eq!(read["t"].as_str(), Some(&*value.to_string()));
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
        object.flag(key!("no"), false);
        object.word(key!("a"), "b");
        object.flag(key!("yes"), true);
        let mut inner = object.object(key!("o"));
        inner.number(key!("n"), 0);
        inner.end_within();
        object.object(key!("e")).end_within();
        object.truth(key!("f"), false);
        object.numbers(key!("l"), [1, 20].into_iter());
        object.numbers(key!("m"), std::iter::empty());
        object.plain(key!("p"), &'p');
        object.text(key!("t"), ",");
        object.end();
        Object::begin(&mut out).end();
        assert_eq!(out, r#"x{"a":"b","yes":true,"o":{"n":0},"e":{},"f":false,"l":[1,20],"m":[],"p":"p","t":","}{}"#);
    }

    #[test]
    fn addresses_are_written_as_std_writes_them() {
        for text in ["0.0.0.0:0", "127.0.0.1:9001", "255.255.255.255:65535", "[::1]:80", "[2001:db8::1]:443"] {
            let mut out = String::new();
            let mut object = Object::begin(&mut out);
            object.address(key!("a"), &text.parse().expect("an address"));
            object.end();
            assert_eq!(out, format!("{{\"a\":\"{text}\"}}"));
        }
    }
}
