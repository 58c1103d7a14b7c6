//! The writer thread: takes batches from the queue, writes what came within a flush interval in one transaction, and
//! keeps the log within its limits in between.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::batch::Batch;
use super::store::Store;
use super::{LogError, LogSettings, LogStats, retention};

/// Rows after which a flush begins before its interval has passed: 5 ms of writing, 1.5 MiB of queue.
const FLUSH_ROWS: usize = 4096;
/// How often an idle writer wakes to look for rows that grew too old, and to copy the write-ahead log into the database.
const IDLE: Duration = Duration::from_secs(10);

/// What senders, writer and those who ask for the state share. Counters only: no order between them is needed.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) written: AtomicU64,
    pub(super) dropped_queue_full: AtomicU64,
    pub(super) dropped_disk: AtomicU64,
    pub(super) queue_rows: AtomicUsize,
    pub(super) queue_bytes: AtomicUsize,
    /// Locked by the writer when its state changes and by those who ask; never by the data path.
    last_error: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn stats(&self) -> LogStats {
        LogStats {
            written: self.written.load(Relaxed),
            dropped_queue_full: self.dropped_queue_full.load(Relaxed),
            dropped_disk: self.dropped_disk.load(Relaxed),
            queue_rows: self.queue_rows.load(Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Sets the error, and returns the one that was set before.
    fn replace_error(&self, error: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.last_error.lock().unwrap_or_else(PoisonError::into_inner), error)
    }
}

/// What comes through the queue.
#[derive(Debug)]
pub(super) enum Message {
    /// Rows to write.
    Batch(Batch),
    /// Someone wants to know when all that came before is in the database.
    Barrier(SyncSender<()>),
    /// The end.
    Stop,
}

/// The state of the writer thread.
pub(super) struct Writer {
    pub(super) queue: Receiver<Message>,
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: LogSettings,
}

impl Writer {
    /// Works until it is told to stop, or nobody is left who could send anything.
    pub(super) fn run(mut self) {
        let mut batches = Vec::new();
        let mut barriers = Vec::new();
        let mut is_running = true;
        let mut has_leftovers = false;
        while is_running {
            let patience = if has_leftovers { Duration::ZERO } else { IDLE };
            is_running = match self.queue.recv_timeout(patience) {
                Ok(message) => self.gather(message, &mut batches, &mut barriers),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            let is_idle = batches.is_empty() && !has_leftovers;
            self.write(&mut batches);
            for barrier in barriers.drain(..) {
                // Whoever asked may have stopped waiting.
                let _: Result<(), _> = SyncSender::send(&barrier, ());
            }
            if is_running {
                has_leftovers = self.keep_house(is_idle);
            }
        }
    }

    /// Collects what comes within the flush interval. Returns whether the writer goes on.
    fn gather(&self, first: Message, batches: &mut Vec<Batch>, barriers: &mut Vec<SyncSender<()>>) -> bool {
        let deadline = Instant::now() + self.settings.flush_interval;
        let mut rows = 0;
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Message::Batch(batch)) => {
                    rows += batch.rows.len();
                    batches.push(batch);
                }
                Ok(Message::Barrier(barrier)) => {
                    barriers.push(barrier);
                    return true;
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
            if rows >= FLUSH_ROWS {
                return true;
            }
            next = self.queue.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Writes the batches and sends them back to the workers, emptied.
    fn write(&mut self, batches: &mut Vec<Batch>) {
        if batches.is_empty() {
            return;
        }
        let rows: usize = batches.iter().map(|batch| batch.rows.len()).sum();
        let bytes: usize = batches.iter().map(Batch::bytes).sum();
        let written = match self.store.write(batches) {
            Ok(written) => {
                self.has_worked();
                written
            }
            Err(error) => {
                self.has_failed(&error);
                0
            }
        };
        self.shared.written.fetch_add(written, Relaxed);
        self.shared.dropped_disk.fetch_add(rows as u64 - written, Relaxed);
        self.shared.queue_rows.fetch_sub(rows, Relaxed);
        self.shared.queue_bytes.fetch_sub(bytes, Relaxed);
        for mut batch in batches.drain(..) {
            batch.clear();
            if let Some(home) = batch.home.take() {
                // The worker may be gone, and the batch with it.
                let _: Result<(), _> = home.send(batch);
            }
        }
    }

    /// Deletes what is too old or too much; when nothing else is to do, copies the write-ahead log into the database.
    /// Returns whether there is more to delete.
    fn keep_house(&mut self, is_idle: bool) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let settings = &self.settings;
        let kept = self.store.with_connection(|_, connection| {
            let has_more = retention::retain(connection, settings, now_ns)?;
            if is_idle && !has_more {
                // Passive: waits for nobody, and does nothing if there is nothing to copy.
                connection.query_row("PRAGMA wal_checkpoint(passive)", [], |_| Ok(()))?;
            }
            Ok(has_more)
        });
        kept.unwrap_or_else(|error| {
            self.has_failed(&error);
            false
        })
    }

    /// Notes an error, and says it once until something else is the matter.
    fn has_failed(&self, error: &LogError) {
        let error = error.to_string();
        if self.shared.replace_error(Some(error.clone())).as_ref() != Some(&error) {
            tracing::warn!(%error, "the request log cannot be written: traffic goes on, rows are counted as lost");
        }
    }

    fn has_worked(&self) {
        if self.shared.replace_error(None).is_some() {
            let lost = self.shared.dropped_disk.load(Relaxed);
            tracing::info!(rows_lost_so_far = lost, "the request log is written again");
        }
    }
}
