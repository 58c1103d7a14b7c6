//! How often each request was executed, by its id, over everything that may execute it: what "at most once" is asserted on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Counts executions per id. Clones share the counts, so that several servers can keep one book.
#[derive(Clone, Debug)]
pub struct Executions {
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Executions {
    fn default() -> Self {
        Self { counts: Arc::default(), changed: Arc::new(watch::Sender::new(())) }
    }
}

impl Executions {
    /// How often `id` was executed.
    #[must_use]
    pub fn of(&self, id: &str) -> usize {
        self.with(|counts| counts.get(id).copied().unwrap_or_default())
    }

    /// Executions of all ids together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.with(|counts| counts.values().sum())
    }

    /// How many different ids were executed.
    #[must_use]
    pub fn ids(&self) -> usize {
        self.with(BTreeMap::len)
    }

    /// The ids that were executed more than once, and how often.
    #[must_use]
    pub fn repeated(&self) -> Vec<(String, usize)> {
        self.with(|counts| counts.iter().filter(|(_, n)| **n > 1).map(|(id, n)| (id.clone(), *n)).collect())
    }

    /// Waits until `total` executions have happened. Cancel safe.
    ///
    /// # Panics
    /// Never by itself: bound it with [`within`](crate::within).
    pub async fn until(&self, total: usize) {
        let mut changed = self.changed.subscribe();
        while self.total() < total {
            changed.changed().await.expect("self holds the sender, so it cannot be gone");
        }
    }

    pub(crate) fn add(&self, id: &str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default() += 1;
        self.changed.send_replace(());
    }

    fn with<T>(&self, look: impl FnOnce(&BTreeMap<String, usize>) -> T) -> T {
        look(&self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
