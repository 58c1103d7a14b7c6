//! The request log: one row per request in an embedded SQLite database, written by one thread behind a bounded queue.
//!
//! The data path never waits for the disk: a worker's [`LogSender`] encodes each finished request into a batch of its own
//! and hands the batch over; when the queue is full, the batch is dropped and its rows are counted. The writer thread
//! puts what came in within a flush interval into one transaction, so that the death of the process costs at most that
//! interval and the worker's tick, and an error of the disk costs the rows of that transaction, which are counted too.
//! [`LogReader`] reads while the gateway runs, and after it died.

mod id;
mod row;
mod stand_in;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use id::{IdSource, IdText, InvalidId, RequestId};
pub use row::{AttemptDetail, Attempts, Door, MESSAGE_BYTES_MAX, Row};

/// The limits of the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Rows that may wait for the writer; more are dropped and counted.
    pub queue_rows_max: usize,
    /// The most bytes the rows may take on disk; beyond it the oldest are deleted. The write-ahead log comes on top.
    pub retention_bytes: u64,
    /// The age beyond which rows are deleted.
    pub retention_age: Duration,
    /// How long rows may wait for their transaction; what is lost by a `kill -9` at most, beside the worker's tick.
    pub flush_interval: Duration,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            // One second of the busiest gateway measured on two cores; about 20 MiB at 300 bytes a row.
            queue_rows_max: 65_536,
            // About three million rows of one attempt.
            retention_bytes: 1 << 30,
            retention_age: Duration::from_secs(7 * 24 * 3600),
            // With the worker's tick of 100 ms less than the second that may be lost.
            flush_interval: Duration::from_millis(250),
        }
    }
}

/// What the log did since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Rows in the database.
    pub written: u64,
    /// Rows dropped because the queue was full.
    pub dropped_queue_full: u64,
    /// Rows dropped because the disk would not take them.
    pub dropped_disk: u64,
    /// Rows that wait for the writer now.
    pub queue_rows: usize,
    /// The last error of the disk, while it lasts: `None` again once rows are written.
    pub last_error: Option<String>,
}

/// The running log: its writer thread and its lock on the data directory. Dropping it is [`RequestLog::shutdown`].
#[derive(Debug)]
pub struct RequestLog {}

impl RequestLog {
    /// Opens the log in `dir`, which is created if missing, and starts the writer thread.
    ///
    /// # Errors
    /// [`LogError`], if another gateway has the directory, or it cannot be created or written, or the database is of a
    /// newer version. A damaged database is no error: it is renamed aside and a new one is started, with a warning.
    pub fn start(_dir: &Path, _settings: LogSettings) -> Result<Self, LogError> {
        unimplemented!()
    }

    /// A log that keeps nothing and touches no file.
    pub fn disabled() -> Self {
        unimplemented!()
    }

    /// A sender for one worker.
    pub fn sender(&self) -> LogSender {
        unimplemented!()
    }

    /// What the log did so far.
    pub fn stats(&self) -> LogStats {
        unimplemented!()
    }

    /// Writes what is queued and stops the writer, waiting for it no longer than `limit`. Senders should have flushed
    /// before; what they push later is dropped and counted. The calling thread waits: not for an async worker.
    pub fn shutdown(&mut self, _limit: Duration) -> LogStats {
        unimplemented!()
    }
}

/// One worker's end of the log. Rows still in its batch are handed over when it is dropped.
#[derive(Debug)]
pub struct LogSender {}

impl LogSender {
    /// Takes a finished request. Never waits.
    pub fn push(&mut self, _row: Row) {
        unimplemented!()
    }

    /// Hands over what there is; the worker calls it every 100 ms. Never waits.
    pub fn flush(&mut self) {
        unimplemented!()
    }
}

/// Why the log cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// Another gateway writes to this directory.
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory or a file in it cannot be created, opened or written.
    Io {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A newer version of Handover wrote the database.
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its tables.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// SQLite failed otherwise.
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { dir } => write!(
                f,
                "data directory {} is in use by another gateway: stop that one, or give this one its own with --data-dir",
                dir.display()
            ),
            Self::Io { path, source } => write!(
                f,
                "cannot use {}: {source}; make it writable for this user, or choose another place with --data-dir",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "request log {} has version {found}, this program knows {known}: use the newer program, or move the file away",
                path.display()
            ),
            Self::Database { path, source } => write!(f, "request log {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Database { source, .. } => Some(source),
            Self::Locked { .. } | Self::Newer { .. } => None,
        }
    }
}
