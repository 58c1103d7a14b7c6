//! Deletes the oldest rows, by size and by age, in slices small enough that the queue does not fill meanwhile.
//!
//! Pages that deleted rows leave free are used again by new rows, so a log at its limit neither grows nor is copied
//! about. Only when much of the file is free, after the limit was lowered or a busy day grew too old, is it made smaller.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{LogSettings, RequestId};

/// Rows deleted in one transaction: half a millisecond, and a fifth of a log limited to 1 MiB.
const SLICE_ROWS: u32 = 500;
/// The time that deleting may take after a flush: a fifth of the shortest sensible flush interval, and at the measured
/// 1 µs a row enough to delete what a flush of that length brings.
const TURN: Duration = Duration::from_millis(50);
/// Free pages given back to the file system in one step: 4 MiB.
const VACUUM_PAGES: u64 = 256;
/// The file is made smaller when more than this part of it is free (one in ...): less would move pages for little.
const FREE_PART: u64 = 4;

/// How the pages of the database are used.
struct Pages {
    bytes: u64,
    all: u64,
    free: u64,
}

impl Pages {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let ask = |pragma: &str| -> rusqlite::Result<u64> {
            let answer: i64 = connection.prepare_cached(pragma)?.query_row([], |row| row.get(0))?;
            Ok(answer.unsigned_abs())
        };
        Ok(Self {
            bytes: ask("PRAGMA page_size")?,
            all: ask("PRAGMA page_count")?,
            free: ask("PRAGMA freelist_count")?,
        })
    }

    fn used_bytes(&self) -> u64 {
        self.all.saturating_sub(self.free) * self.bytes
    }
}

/// Deletes for one turn. Returns whether there is more to delete.
pub(super) fn retain(connection: &mut Connection, settings: &LogSettings, now_ns: u64) -> rusqlite::Result<bool> {
    let begin = Instant::now();
    let age_ns = u64::try_from(settings.retention_age.as_nanos()).unwrap_or(u64::MAX);
    let too_old = RequestId::first_at(now_ns.saturating_sub(age_ns));
    while begin.elapsed() < TURN {
        let pages = Pages::of(connection)?;
        let before = if pages.used_bytes() > settings.retention_bytes { None } else { Some(too_old) };
        if delete_slice(connection, before)? == 0 {
            return give_back(connection, &pages);
        }
    }
    Ok(true)
}

/// Deletes the oldest slice, or what of it is older than `before`. Returns how many rows it deleted.
fn delete_slice(connection: &mut Connection, before: Option<RequestId>) -> rusqlite::Result<usize> {
    let last = "SELECT max(id) FROM (SELECT id FROM requests WHERE id < ?1 ORDER BY id LIMIT ?2)";
    let before = before.map_or(i64::MAX, |id| id.0 as i64);
    let last: Option<i64> = connection.prepare_cached(last)?.query_row((before, SLICE_ROWS), |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    connection.prepare_cached("DELETE FROM requests WHERE id <= ?1")?.execute([last])
}

/// Makes the file smaller by one step if much of it is free. Returns whether there is more to give back.
fn give_back(connection: &mut Connection, pages: &Pages) -> rusqlite::Result<bool> {
    if pages.free < VACUUM_PAGES || pages.free * FREE_PART < pages.all {
        return Ok(false);
    }
    // The pragma gives a row for each page, and stops unless they are fetched.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
