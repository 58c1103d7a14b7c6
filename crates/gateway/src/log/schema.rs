//! The tables of the request log and how older versions of them become the newest.
//!
//! `requests` holds what cannot be computed, in as few bytes as possible, because bytes are what a row costs. The view
//! `request_logs` has every column of the log by the name the API uses and computes the rest from the attempts.
//! The only index beside the rowid is a partial one: requests are found by id and by time through the rowid, which is
//! the time; every other filter scans, newest first, and stops when it has enough rows.

use rusqlite::Connection;

/// The newest version of the tables; kept in `user_version`.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Bytes of a database page. Measured over 400,000 rows of 320 bytes: 1.2 µs of CPU a row with pages of 4 KiB, 0.85 µs
/// with 16 KiB, 0.79 µs with 32 KiB; a flush of one row writes one page, so larger ones cost an idle gateway more.
pub(super) const PAGE_BYTES: u32 = 16 * 1024;

/// Pages of the write-ahead log after which it is copied into the database: 16 MiB. Fewer copy the newest page more often,
/// more leave a larger file beside the database and a longer copy at once.
pub(super) const CHECKPOINT_PAGES: u32 = 1024;

/// Step `n` makes version `n + 1` of version `n`. Steps are never edited once released; a new one is added.
const MIGRATIONS: [&str; 1] = [FIRST];

const FIRST: &str = "
CREATE TABLE policies (
    policy_id INTEGER PRIMARY KEY,
    policy TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    flush INTEGER NOT NULL,
    door TEXT NOT NULL,
    client_ip TEXT NOT NULL,
    platform_name TEXT NOT NULL,
    account TEXT NOT NULL,
    target_host TEXT NOT NULL,
    target_url TEXT NOT NULL,
    http_method TEXT NOT NULL,
    http_status INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    net_ok INTEGER NOT NULL,
    handover_error TEXT NOT NULL,
    ingress_bytes INTEGER NOT NULL,
    egress_bytes INTEGER NOT NULL,
    final_attempt INTEGER NOT NULL,
    attempts TEXT NOT NULL,
    policy_id INTEGER NOT NULL,
    decisions TEXT NOT NULL
) STRICT;
CREATE INDEX requests_slow ON requests (flush) WHERE duration_ns >= 1000000000;
CREATE TABLE progress (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    flush INTEGER NOT NULL
) STRICT;
INSERT INTO progress VALUES (1, 0);
CREATE VIEW request_logs AS
SELECT
    id,
    id & ~255 AS ts_ns,
    iif(door = 'reverse', 2, 1) AS proxy_type,
    door,
    client_ip,
    platform_name AS platform_id,
    platform_name,
    account,
    target_host,
    target_url,
    coalesce(final ->> '$.node_hash', '') AS node_hash,
    coalesce(final ->> '$.node_tag', '') AS node_tag,
    '' AS egress_ip,
    duration_ns,
    net_ok,
    http_method,
    http_status,
    handover_error,
    iif(final ->> '$.fault' IS NULL, '', coalesce(final ->> '$.stage', 'body')) AS upstream_stage,
    coalesce(final ->> '$.fault', '') AS upstream_err_kind,
    coalesce(final ->> '$.errno', '') AS upstream_errno,
    coalesce(final ->> '$.message', '') AS upstream_err_msg,
    ingress_bytes,
    egress_bytes,
    max(0, json_array_length(attempts) - 1) AS retry_attempts,
    (
        SELECT json_group_array(json_object(
            'node_hash', coalesce(each.value ->> '$.node_hash', ''),
            'node_tag', coalesce(each.value ->> '$.node_tag', ''),
            'err_kind', coalesce(each.value ->> '$.fault', ''),
            'err_msg', coalesce(each.value ->> '$.message', '')
        ))
        FROM json_each(attempts) AS each
        WHERE each.key <> final_attempt
    ) AS retry_details,
    attempts,
    policy_id,
    decisions,
    final_attempt,
    flush
FROM (SELECT *, attempts -> ('$[' || final_attempt || ']') AS final FROM requests);
";

/// Brings the tables to [`VERSION`], each step in its own transaction. Returns the version found if it is a newer one.
pub(super) fn migrate(connection: &mut Connection) -> Result<Result<(), i64>, rusqlite::Error> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !(0..=VERSION).contains(&found) {
        return Ok(Err(found));
    }
    for (version, step) in (1i64..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(Ok(()))
}
