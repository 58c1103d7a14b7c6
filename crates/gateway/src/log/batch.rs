//! A batch of encoded rows on its way from a worker to the writer.
//!
//! Rows are encoded by the worker that served the request, while what they consist of is in its cache, into two buffers
//! that go round between worker and writer: no allocation per row, no reference counts touched by two threads, and a
//! queue whose size in bytes is known.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};

use handover_core::Policy;

use super::encode;
use super::json::ipv4;
use super::row::Row;
use super::{Door, RequestId};

/// Rows of a batch: wakes the writer 200 times a second at 50,000 rows a second, and is at most 100 KiB of text.
pub(super) const BATCH_ROWS: usize = 256;

/// Bytes of text after which a batch is handed over however few rows it has, so that long URLs do not make it grow.
pub(super) const BATCH_BYTES: usize = 128 * 1024;

/// How many texts a row has.
pub(super) const TEXTS: usize = 7;

/// One row: the numbers, and where its texts end.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) id: RequestId,
    pub(super) door: Door,
    pub(super) client: IpAddr,
    pub(super) http_status: u16,
    pub(super) net_ok: bool,
    pub(super) error: Option<&'static str>,
    pub(super) duration_ns: u64,
    pub(super) ingress_bytes: u64,
    pub(super) egress_bytes: u64,
    pub(super) final_attempt: u32,
    /// Index into the batch's policies.
    pub(super) policy: u32,
    ends: [u32; TEXTS],
}

/// The texts of a row.
pub(super) struct Texts<'a> {
    pub(super) platform: &'a str,
    pub(super) account: &'a str,
    pub(super) target_host: &'a str,
    pub(super) target_url: &'a str,
    pub(super) http_method: &'a str,
    pub(super) attempts: &'a str,
    pub(super) decisions: &'a str,
}

/// Up to [`BATCH_ROWS`] rows.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Encoded>,
    text: String,
    pub(super) policies: Vec<Arc<Policy>>,
    /// Where the writer returns the batch to, emptied.
    pub(super) home: Option<mpsc::Sender<Batch>>,
}

impl Batch {
    /// Encodes a row at the end.
    pub(super) fn push(&mut self, row: &Row) {
        let text = &mut self.text;
        let mut ends = [0; TEXTS];
        let parts = [&*row.platform, &*row.account, &*row.target_host, &*row.target_url, row.http_method.as_str()];
        for (slot, part) in ends.iter_mut().zip(parts) {
            text.push_str(part);
            *slot = offset(text);
        }
        encode::attempts(text, &row.record, &row.attempts);
        ends[TEXTS - 2] = offset(text);
        encode::decisions(text, row.id, &row.record);
        ends[TEXTS - 1] = offset(text);
        let policy = self.policy(&row.policy);
        self.rows.push(Encoded {
            id: row.id,
            door: row.door,
            client: row.client,
            http_status: row.http_status,
            net_ok: row.net_ok,
            error: row.error,
            duration_ns: encode::nanoseconds(row.duration),
            ingress_bytes: row.ingress_bytes,
            egress_bytes: row.egress_bytes,
            final_attempt: encode::final_attempt(&row.record) as u32,
            policy,
            ends,
        });
    }

    /// The index of a policy, the last one first: neighbours mostly share theirs.
    fn policy(&mut self, policy: &Arc<Policy>) -> u32 {
        let known = self.policies.iter().rposition(|known| Arc::ptr_eq(known, policy));
        let index = known.unwrap_or_else(|| {
            self.policies.push(Arc::clone(policy));
            self.policies.len() - 1
        });
        index as u32
    }

    /// Whether it should be handed over.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.text.len() >= BATCH_BYTES
    }

    /// What it takes in the queue.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.rows.len() * size_of::<Encoded>()
    }

    /// The texts of the row at `index`.
    pub(super) fn texts(&self, index: usize) -> Texts<'_> {
        let begin = index.checked_sub(1).map_or(0, |before| self.rows[before].ends[TEXTS - 1]);
        let ends = &self.rows[index].ends;
        let part = |at: usize| {
            let from = at.checked_sub(1).map_or(begin, |before| ends[before]);
            &self.text[from as usize..ends[at] as usize]
        };
        Texts {
            platform: part(0),
            account: part(1),
            target_host: part(2),
            target_url: part(3),
            http_method: part(4),
            attempts: part(5),
            decisions: part(6),
        }
    }

    /// Empties it; the buffers stay, unless an unusual row made them large.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.policies.clear();
        self.text.clear();
        self.text.shrink_to(2 * BATCH_BYTES);
    }
}

/// The end of `out` as an offset. A batch is handed over long before it has 4 GiB.
fn offset(out: &str) -> u32 {
    u32::try_from(out.len()).expect("a batch is handed over at 128 KiB, and a row is bounded by the header limits")
}

/// Writes an address into `out`, replacing what was there.
pub(super) fn address_text<'a>(out: &'a mut String, address: &IpAddr) -> &'a str {
    out.clear();
    match address {
        IpAddr::V4(address) => ipv4(out, address),
        IpAddr::V6(address) => write!(out, "{address}").expect("writing to a String succeeds"),
    }
    out
}
