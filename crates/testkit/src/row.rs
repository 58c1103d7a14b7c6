//! Rows of the request log as `handover log --json` prints them, and their attempts in a form tests can state.

use serde_json::Value;

/// One request in the log.
#[derive(Clone, Debug)]
pub struct Row {
    /// The object, as printed.
    pub json: Value,
}

/// One attempt of a request.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The object, as printed.
    pub json: Value,
}

impl Row {
    /// A text column, empty when it is absent or null.
    #[must_use]
    pub fn text(&self, column: &str) -> &str {
        self.json[column].as_str().unwrap_or_default()
    }

    /// A number column, 0 when it is absent or null.
    #[must_use]
    pub fn number(&self, column: &str) -> u64 {
        self.json[column].as_u64().unwrap_or_default()
    }

    /// The attempts, in order.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        let attempts = self.json["attempts"].as_array().cloned().unwrap_or_default();
        attempts.into_iter().map(|json| Attempt { json }).collect()
    }

    /// Each attempt as `node: stage fault sent=… -> verdict(reason)`; an answered one as `node: ok -> …`.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.attempts().iter().map(Attempt::story).collect()
    }
}

impl Attempt {
    /// A text field, empty when it is absent or null.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    /// A number field, 0 when it is absent or null.
    #[must_use]
    pub fn number(&self, field: &str) -> u64 {
        self.json[field].as_u64().unwrap_or_default()
    }

    fn story(&self) -> String {
        let node = self.text("node_tag");
        let verdict = format!("{}({})", self.text("verdict"), self.text("reason"));
        match self.text("fault") {
            "" => format!("{node}: ok -> {verdict}"),
            fault => format!("{node}: {} {fault} sent={} -> {verdict}", self.text("stage"), self.text("sent")),
        }
    }
}
