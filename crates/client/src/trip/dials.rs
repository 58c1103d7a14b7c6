//! The dials of one request that are under way: usually one, with hedging a few.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use handover_core::Stage;
use handover_wire::dial::{DialError, Progress};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::carrier::{Carrier, Dial, Ready, Wanted};
use crate::endpoint::Endpoint;

/// Dials under way. Dropping it closes their sockets.
pub(super) struct Dials<C>(Vec<UnderWay<C>>);

struct UnderWay<C> {
    attempt: u32,
    endpoint: Arc<Endpoint>,
    progress: Arc<Progress>,
    dial: Dial<C>,
    by: Pin<Box<Sleep>>,
    head_by: Option<Duration>,
}

/// A dial that ended.
pub(super) struct Ended<C> {
    pub(super) attempt: u32,
    pub(super) head_by: Option<Duration>,
    pub(super) result: Result<Ready<C>, DialError>,
}

impl<C> Default for Dials<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C: Send + 'static> Dials<C> {
    /// Starts a dial that must be connected by `by`.
    pub(super) fn start(
        &mut self,
        carrier: &impl Carrier<Conn = C>,
        attempt: u32,
        endpoint: Arc<Endpoint>,
        wanted: Wanted,
        by: Instant,
        head_by: Option<Duration>,
    ) {
        let progress = Arc::new(Progress::new());
        let dial = carrier.dial(Arc::clone(&endpoint), wanted, Arc::clone(&progress));
        let by = Box::pin(sleep_until(by));
        self.0.push(UnderWay { attempt, endpoint, progress, dial, by, head_by });
    }

    /// The next dial to end, or `None` at `until`.
    ///
    /// Cancel safe: what has not ended goes on.
    pub(super) async fn next(&mut self, until: Option<Instant>) -> Option<Ended<C>> {
        if self.0.is_empty() && until.is_none() {
            return None;
        }
        let mut timer: Option<Pin<Box<Sleep>>> = until.map(|until| Box::pin(sleep_until(until)));
        poll_fn(|cx| {
            for at in 0..self.0.len() {
                if let Poll::Ready(result) = self.0[at].poll(cx) {
                    let UnderWay { attempt, head_by, .. } = self.0.swap_remove(at);
                    return Poll::Ready(Some(Ended { attempt, head_by, result }));
                }
            }
            match &mut timer {
                Some(timer) => timer.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Closes what is still under way; gives its attempts, their stages and addresses.
    pub(super) fn lost(self) -> Vec<(u32, Stage, Option<SocketAddr>)> {
        let mut lost: Vec<_> = self.0.iter().map(|d| (d.attempt, d.progress.stage(), d.progress.peer())).collect();
        lost.sort_unstable_by_key(|(attempt, ..)| *attempt);
        lost
    }
}

impl<C> UnderWay<C> {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Ready<C>, DialError>> {
        if let Poll::Ready(result) = self.dial.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        self.by.as_mut().poll(cx).map(|()| Err(DialError::timed_out(&self.endpoint.route.node, &self.progress)))
    }
}
