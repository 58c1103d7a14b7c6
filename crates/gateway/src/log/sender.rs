//! A worker's end of the log: encodes rows into a batch of its own and hands full batches to the writer, never waiting.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};

use super::batch::{BATCH_ROWS, Batch};
use super::row::Row;
use super::writer::{Message, Shared};

/// Empty batches a worker keeps: as many as the writer gathers for one flush, which is how many come back at once.
const SPARES: usize = 16;

/// Bytes a waiting row may take on average before the queue counts as full; a row of one attempt takes 450. Keeps a flood
/// of long URLs from filling the memory.
const ROW_BYTES: usize = 1024;

/// One worker's end of the log. What is still in its batch is handed over when it is dropped.
#[derive(Debug)]
pub struct LogSender {
    open: Option<Open>,
}

/// A sender whose log is not switched off.
#[derive(Debug)]
struct Open {
    batch: Batch,
    spares: Vec<Batch>,
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    queue_rows_max: usize,
    home: mpsc::Sender<Batch>,
    returned: mpsc::Receiver<Batch>,
}

impl LogSender {
    /// A sender that throws everything away.
    pub fn disabled() -> Self {
        Self { open: None }
    }

    pub(super) fn new(queue: mpsc::Sender<Message>, shared: Arc<Shared>, queue_rows_max: usize) -> Self {
        let (home, returned) = mpsc::channel();
        let batch = Batch::default();
        Self { open: Some(Open { batch, spares: Vec::new(), queue, shared, queue_rows_max, home, returned }) }
    }

    /// Takes a finished request. Never waits: when the queue is full, the batch that the row completes is dropped and its
    /// rows are counted.
    pub fn push(&mut self, row: Row) {
        if let Some(open) = &mut self.open {
            open.batch.push(&row);
            if open.batch.is_full() {
                open.hand_over();
            }
        }
    }

    /// Hands over what there is; the worker calls it every 100 ms. Never waits.
    pub fn flush(&mut self) {
        if let Some(open) = &mut self.open {
            open.hand_over();
        }
    }
}

impl Drop for LogSender {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Open {
    fn hand_over(&mut self) {
        let (rows, bytes) = (self.batch.rows.len(), self.batch.bytes());
        if rows == 0 {
            return;
        }
        if !self.reserve(rows, bytes) {
            self.batch.clear();
            self.shared.dropped_queue_full.fetch_add(rows as u64, Relaxed);
            return;
        }
        let next = self.spare();
        let mut batch = std::mem::replace(&mut self.batch, next);
        batch.home = Some(self.home.clone());
        if self.queue.send(Message::Batch(batch)).is_err() {
            // The writer has been shut down.
            self.release(rows, bytes);
            self.shared.dropped_queue_full.fetch_add(rows as u64, Relaxed);
        }
    }

    /// Takes room in the queue, if there is enough.
    fn reserve(&self, rows: usize, bytes: usize) -> bool {
        let rows_before = self.shared.queue_rows.fetch_add(rows, Relaxed);
        let bytes_before = self.shared.queue_bytes.fetch_add(bytes, Relaxed);
        let is_room = rows_before + rows <= self.queue_rows_max
            && bytes_before + bytes <= self.queue_rows_max.saturating_mul(ROW_BYTES);
        if !is_room {
            self.release(rows, bytes);
        }
        is_room
    }

    fn release(&self, rows: usize, bytes: usize) {
        self.shared.queue_rows.fetch_sub(rows, Relaxed);
        self.shared.queue_bytes.fetch_sub(bytes, Relaxed);
    }

    /// An empty batch, a used one if there is one.
    fn spare(&mut self) -> Batch {
        let room = SPARES.saturating_sub(self.spares.len());
        let mut returned = self.returned.try_iter();
        self.spares.extend(returned.by_ref().take(room));
        // After a burst there are more than will be needed: their memory is given back.
        returned.for_each(drop);
        self.spares.pop().unwrap_or_else(|| {
            let mut batch = Batch::default();
            batch.rows.reserve_exact(BATCH_ROWS);
            batch
        })
    }
}
