//! The request log: one row per request in an embedded SQLite database, written by one thread behind a bounded queue.
//!
//! The data path never waits for the disk: a worker's [`LogSender`] encodes each finished request into a batch of its own
//! and hands the batch over; when the queue is full, the batch is dropped and its rows are counted. The writer thread
//! puts what came in within a flush interval into one transaction, so that the death of the process costs at most that
//! interval and the worker's tick, and an error of the disk costs the rows of that transaction, which are counted too.
//! [`LogReader`] reads while the gateway runs, and after it died.

mod batch;
mod decode;
mod encode;
mod errno;
mod id;
mod json;
mod reader;
mod retention;
mod row;
mod schema;
mod sender;
mod store;
mod time;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use store::Store;
use writer::{Message, Shared, Writer};

pub use decode::{AttemptEntry, CandidateEntry, PickEntry, SpentEntry, Unreadable};
pub use id::{IdSource, IdText, InvalidId, RequestId};
pub use reader::{Entry, Filter, Follow, LogReader, Page, ReadError};
pub use row::{AttemptDetail, Attempts, Door, MESSAGE_BYTES_MAX, Row};
pub use sender::LogSender;
pub use time::{parse_rfc3339, rfc3339};

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

/// How long dropping a [`RequestLog`] waits for its writer: a full queue takes a tenth of a second, a slow disk longer.
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// The running log: its writer thread and its lock on the data directory. Dropping it shuts it down.
#[derive(Debug)]
pub struct RequestLog {
    running: Option<Running>,
    shared: Arc<Shared>,
    queue_rows_max: usize,
}

#[derive(Debug)]
struct Running {
    queue: mpsc::Sender<Message>,
    /// Disconnected when the writer has ended and the data directory is free.
    ended: mpsc::Receiver<()>,
}

impl RequestLog {
    /// Opens the log in `dir`, which is created if missing, and starts the writer thread.
    ///
    /// # Errors
    /// [`LogError`], if another gateway has the directory, or it cannot be created or written, or the database is of a
    /// newer version. A damaged database is no error: it is renamed aside and a new one is started, with a warning.
    pub fn start(dir: &Path, settings: LogSettings) -> Result<Self, LogError> {
        let store = Store::open(dir)?;
        let shared = Arc::new(Shared::default());
        let queue_rows_max = settings.queue_rows_max;
        let (queue, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let writer = Writer { queue: receiver, store, shared: Arc::clone(&shared), settings };
        let thread = thread::Builder::new().name("request-log".to_owned()).spawn(move || {
            writer.run();
            drop::<mpsc::Sender<()>>(end);
        });
        thread.map_err(|source| LogError::Io { path: dir.to_owned(), source })?;
        Ok(Self { running: Some(Running { queue, ended }), shared, queue_rows_max })
    }

    /// A log that keeps nothing and touches no file.
    pub fn disabled() -> Self {
        Self { running: None, shared: Arc::default(), queue_rows_max: 0 }
    }

    /// A sender for one worker.
    pub fn sender(&self) -> LogSender {
        match &self.running {
            Some(running) => LogSender::new(running.queue.clone(), Arc::clone(&self.shared), self.queue_rows_max),
            None => LogSender::disabled(),
        }
    }

    /// What the log did so far.
    pub fn stats(&self) -> LogStats {
        self.shared.stats()
    }

    /// Waits until all that was handed over before is in the database, or counted as lost, no longer than `limit`.
    /// Returns whether it is. The calling thread waits: not for an async worker.
    pub fn settle(&self, limit: Duration) -> bool {
        let Some(running) = &self.running else { return true };
        let (barrier, passed) = mpsc::sync_channel(1);
        running.queue.send(Message::Barrier(barrier)).is_ok() && passed.recv_timeout(limit).is_ok()
    }

    /// Writes what is queued and stops the writer, waiting for it no longer than `limit`; what it has not written then
    /// is `queue_rows` of the result. Senders should have flushed before; what they push later is dropped and counted
    /// with the full queue. The calling thread waits: not for an async worker.
    pub fn shutdown(&mut self, limit: Duration) -> LogStats {
        if let Some(running) = self.running.take() {
            let told = running.queue.send(Message::Stop).is_ok();
            let ended = running.ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected);
            if told && ended {
                // Handed over while the writer was stopping.
                let late = self.shared.queue_rows.swap(0, Relaxed);
                self.shared.dropped_queue_full.fetch_add(late as u64, Relaxed);
            }
        }
        self.stats()
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.shutdown(DROP_LIMIT);
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
