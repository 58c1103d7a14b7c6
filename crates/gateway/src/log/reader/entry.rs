//! One request as it was logged.

use handover_core::{Difference, Record};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::log::decode::{self, AttemptEntry, Unreadable};
use crate::log::{RequestId, rfc3339};

/// The columns that an [`Entry`] is read from, in the order of [`read`].
pub(super) const COLUMNS: &str = "id, proxy_type, door, client_ip, platform_id, platform_name, account, target_host, \
    target_url, node_hash, node_tag, egress_ip, duration_ns, net_ok, http_method, http_status, handover_error, \
    upstream_stage, upstream_err_kind, upstream_errno, upstream_err_msg, ingress_bytes, egress_bytes, retry_attempts, \
    retry_details, attempts, decisions, (SELECT policy FROM policies WHERE policies.policy_id = request_logs.policy_id), \
    final_attempt";

/// One request as it was logged. As JSON it has these names, with the start as `ts` and the duration as `duration_ms`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its identity; the JSON has it as text and its start as `ts`.
    #[serde(flatten, serialize_with = "id_and_time")]
    pub id: RequestId,
    /// 1 for forward and CONNECT, 2 for reverse.
    pub proxy_type: u8,
    /// The way it came in: `forward`, `connect`, `reverse`.
    pub door: String,
    /// Who sent it.
    pub client_ip: String,
    /// The platform's name once more: platforms have no other identity.
    pub platform_id: String,
    /// The platform that served it.
    pub platform_name: String,
    /// The account it was sent for.
    pub account: String,
    /// The target's host.
    pub target_host: String,
    /// The target's URL; empty for CONNECT.
    pub target_url: String,
    /// The hash of the node whose attempt the client got the outcome of.
    pub node_hash: String,
    /// The tag of that node.
    pub node_tag: String,
    /// The node's address towards the target; always empty, as nodes are not asked for it.
    pub egress_ip: String,
    /// From the request's head to the end of the response.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration_ns: u64,
    /// Whether the network did its part.
    pub net_ok: bool,
    /// The method.
    pub http_method: String,
    /// The status the client got; 0 if none.
    pub http_status: u16,
    /// The gateway's own error code; empty if none.
    pub handover_error: String,
    /// How far the final attempt got, if it failed.
    pub upstream_stage: String,
    /// What went wrong with it.
    pub upstream_err_kind: String,
    /// The system's name of the error.
    pub upstream_errno: String,
    /// The error in words.
    pub upstream_err_msg: String,
    /// Bytes from upstream to the client.
    pub ingress_bytes: u64,
    /// Bytes from the client to upstream.
    pub egress_bytes: u64,
    /// Attempts beyond the first.
    pub retry_attempts: u32,
    /// All attempts but the final one: `[{node_hash, node_tag, err_kind, err_msg}]`.
    pub retry_details: Value,
    /// All attempts.
    pub attempts: Vec<AttemptEntry>,
    /// Which of them is the final one, counted from 0.
    #[serde(skip)]
    pub final_attempt: usize,
    #[serde(skip)]
    decisions: String,
    #[serde(skip)]
    policy: Option<String>,
}

impl Entry {
    /// The record that the core kept of the request.
    ///
    /// # Errors
    /// [`Unreadable`], if the row was changed or a later version wrote words that are not known here.
    pub fn record(&self) -> Result<Record, Unreadable> {
        decode::record(self.id, &self.attempts, &self.decisions, self.final_attempt)
    }

    /// Takes the decisions again, from the row alone: the inner result says whether they came out the same.
    ///
    /// # Errors
    /// [`Unreadable`], as for [`record`](Self::record).
    pub fn replay(&self) -> Result<Result<(), Difference>, Unreadable> {
        let policy = decode::policy(self.policy.as_deref().unwrap_or_default())?;
        Ok(handover_core::replay(&policy, &self.record()?))
    }
}

pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    let id: i64 = row.get(0)?;
    let json = |index: usize, error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error)
    };
    let unsigned = |index: usize| row.get::<_, i64>(index).map(|value| value.max(0) as u64);
    Ok(Entry {
        id: RequestId(id as u64),
        proxy_type: row.get(1)?,
        door: row.get(2)?,
        client_ip: row.get(3)?,
        platform_id: row.get(4)?,
        platform_name: row.get(5)?,
        account: row.get(6)?,
        target_host: row.get(7)?,
        target_url: row.get(8)?,
        node_hash: row.get(9)?,
        node_tag: row.get(10)?,
        egress_ip: row.get(11)?,
        duration_ns: unsigned(12)?,
        net_ok: row.get(13)?,
        http_method: row.get(14)?,
        http_status: row.get(15)?,
        handover_error: row.get(16)?,
        upstream_stage: row.get(17)?,
        upstream_err_kind: row.get(18)?,
        upstream_errno: row.get(19)?,
        upstream_err_msg: row.get(20)?,
        ingress_bytes: unsigned(21)?,
        egress_bytes: unsigned(22)?,
        retry_attempts: row.get(23)?,
        retry_details: serde_json::from_str(row.get_ref(24)?.as_str()?).map_err(|error| json(24, error.into()))?,
        attempts: decode::attempts(row.get_ref(25)?.as_str()?).map_err(|error| json(25, error.into()))?,
        decisions: row.get(26)?,
        policy: row.get(27)?,
        final_attempt: row.get::<_, u32>(28)? as usize,
    })
}

fn id_and_time<S: Serializer>(id: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("id", id.text().as_str())?;
    map.serialize_entry("ts", &rfc3339(id.started_ns(), 9))?;
    map.end()
}

fn milliseconds<S: Serializer>(ns: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    // A double holds a duration in milliseconds exactly enough: 53 bits are nanoseconds of 104 days.
    serializer.serialize_f64(*ns as f64 / 1e6)
}
