//! A gate a scripted peer waits at until the test opens it: causality instead of sleeping.

use std::sync::Arc;

use tokio::sync::watch;

/// Shut when made; once opened it stays open. Clones share the gate.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A shut gate.
    #[must_use]
    pub fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)) }
    }

    /// Lets everyone through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Whether it has been opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until it is open. Cancel safe: nothing is taken from the gate.
    pub async fn wait(&self) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.expect("self holds the sender, so it cannot be gone");
    }
}
