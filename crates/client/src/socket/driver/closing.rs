//! The end of a socket: what is under way may still be answered, what waits is not sent, and the server is told.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Closing, Driver};
use crate::socket::letter::CLOSED;
use crate::socket::state::State;

impl Driver {
    /// Begins to close. Nothing is sent from now on.
    pub(super) fn close(&mut self, order: Option<oneshot::Sender<()>>, now: Instant) {
        self.letters.close();
        while let Ok(letter) = self.letters.try_recv() {
            self.outbox.push_back(letter);
        }
        for letter in self.outbox.drain(..) {
            letter.fail_closed();
        }
        self.candidate = None;
        self.catching_up = None;
        if let Some(successor) = self.successor.take() {
            drop(tokio::spawn(successor.connection.link.close()));
        }
        let until = now + self.setup.limits.drain;
        let closing = self.closing.get_or_insert(Closing { until, waiting: Vec::new() });
        closing.waiting.extend(order);
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_closed(&self) -> bool {
        let Some(closing) = &self.closing else { return false };
        let is_settled = self.active.as_ref().is_none_or(|active| active.link.is_settled());
        is_settled || Instant::now() >= closing.until
    }

    /// Says goodbye and tells those who wait for it.
    pub(super) async fn end(mut self) {
        if let Some(mut active) = self.active.take() {
            for letter in active.link.abandon(CLOSED).into_iter().chain(self.outbox.drain(..)) {
                letter.fail_closed();
            }
            active.link.close().await;
        }
        self.tell(State::Closed);
        for waiting in self.closing.into_iter().flat_map(|closing| closing.waiting) {
            // Who waited may be gone.
            let _ = waiting.send(());
        }
    }
}
