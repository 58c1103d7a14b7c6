//! The dials of one request that are under way: usually one, with hedging a few.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use handover_core::Stage;
use tokio::time::{Instant, Sleep};

use crate::node::InFlight;
use crate::worker::Worker;
use handover_wire::dial::{DialError, Dialled, Host, Progress, Target};

/// Dials under way. Dropping it closes their sockets.
#[derive(Default)]
pub(super) struct Dials(Vec<UnderWay>);

struct UnderWay {
    attempt: u32,
    in_flight: Option<InFlight>,
    progress: Rc<Progress>,
    dial: Pin<Box<dyn Future<Output = Result<Dialled, DialError>>>>,
}

/// A dial that ended.
pub(super) struct Ended {
    pub(super) attempt: u32,
    pub(super) in_flight: InFlight,
    pub(super) result: Result<Dialled, DialError>,
}

impl Dials {
    /// Starts a dial that must be connected by `by`.
    pub(super) fn start(
        &mut self,
        worker: &Rc<Worker>,
        attempt: u32,
        in_flight: InFlight,
        target: Option<Rc<Target>>,
        by: Instant,
    ) {
        let progress = Rc::new(Progress::new());
        let (worker, node, seen) = (Rc::clone(worker), Rc::clone(&in_flight.0), Rc::clone(&progress));
        let dial = Box::pin(async move {
            let view = worker.view();
            // A node that is itself the target needs none; what is passed then is never looked at.
            let nowhere = Target { host: Host::Name("".into()), port: 0, tls: false };
            let target = target.as_deref().unwrap_or(&nowhere);
            let dial = view.dialer.dial(&node.dial, target, &view.rules, &seen);
            match tokio::time::timeout_at(by, dial).await {
                Ok(result) => result,
                Err(_) => Err(DialError::timed_out(&node.dial, &seen)),
            }
        });
        self.0.push(UnderWay { attempt, in_flight: Some(in_flight), progress, dial });
    }

    /// The next dial to end, or `None` at `until`.
    ///
    /// Cancel safe: what has not ended goes on.
    pub(super) async fn next(&mut self, until: Option<Instant>) -> Option<Ended> {
        if self.0.is_empty() && until.is_none() {
            return None;
        }
        let mut timer: Option<Pin<Box<Sleep>>> = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
        poll_fn(|cx| {
            for at in 0..self.0.len() {
                if let Poll::Ready(result) = self.0[at].dial.as_mut().poll(cx) {
                    let mut ended = self.0.swap_remove(at);
                    let in_flight = ended.in_flight.take().expect("taken once, when the dial ends");
                    return Poll::Ready(Some(Ended { attempt: ended.attempt, in_flight, result }));
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
