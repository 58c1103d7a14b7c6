//! Which requests to list, as a condition of SQL with its values bound.

use rusqlite::types::Value;

use crate::log::RequestId;

/// Which requests to list. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Started after this, in nanoseconds since the Unix epoch, exclusive.
    pub from_ns: Option<u64>,
    /// Started before this, in nanoseconds since the Unix epoch, exclusive.
    pub to_ns: Option<u64>,
    /// The most rows of a page; 0 means 50, and no more than 100,000 are given.
    pub limit: u32,
    /// The [`next_cursor`](super::Page::next_cursor) of the page before.
    pub cursor: Option<RequestId>,
    /// The platform's name.
    pub platform: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The target's host.
    pub target_host: Option<String>,
    /// Whether the network did its part.
    pub net_ok: Option<bool>,
    /// The status the client got.
    pub http_status: Option<u16>,
    /// Whether there was more than one attempt.
    pub retried: Option<bool>,
    /// Take platform, account and host as a part of the column, in whatever case (of ASCII letters).
    pub fuzzy: bool,
}

impl Filter {
    /// The condition over `request_logs`, and its values in order.
    pub(super) fn condition(&self) -> (String, Vec<Value>) {
        let mut parts = vec!["1".to_owned()];
        let mut values = Vec::new();
        let mut add = |part: &str, value: Option<Value>| {
            if let Some(value) = value {
                parts.push(part.to_owned());
                values.push(value);
            }
        };
        let id = |id: RequestId| Value::Integer(i64::try_from(id.0).unwrap_or(i64::MAX));
        // The last id of the instant, so that a row that started in it is left out.
        add("id > ?", self.from_ns.map(|ns| id(RequestId(RequestId::first_at(ns).0 | 0xff))));
        add("id < ?", self.to_ns.map(|ns| id(RequestId::first_at(ns))));
        add("id < ?", self.cursor.map(id));
        let text = if self.fuzzy { "instr(lower(COLUMN), lower(?)) > 0" } else { "COLUMN = ?" };
        for (column, value) in
            [("platform_name", &self.platform), ("account", &self.account), ("target_host", &self.target_host)]
        {
            add(&text.replace("COLUMN", column), value.clone().map(Value::Text));
        }
        add("net_ok = ?", self.net_ok.map(|ok| Value::Integer(ok.into())));
        add("http_status = ?", self.http_status.map(|status| Value::Integer(status.into())));
        add("(retry_attempts > 0) = ?", self.retried.map(|retried| Value::Integer(retried.into())));
        (parts.join(" AND "), values)
    }
}
