//! Lets clients in: one thread accepts, counts, and hands each client to the worker with the fewest.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::plan::Plan;
use crate::serve::Arrival;
use crate::worker::Order;

/// Pause after an accept that failed for want of resources: long enough not to spin, short enough not to be noticed.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the same trouble is logged.
const COMPLAINT_EVERY: Duration = Duration::from_secs(5);

/// One worker, as the acceptor sees it.
pub(crate) struct Desk {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) clients: Arc<AtomicUsize>,
}

/// File descriptors that are not for connections: the log's files, standard streams, listener, and each worker's event loop.
const OWN_DESCRIPTORS: u64 = 32;
const DESCRIPTORS_PER_WORKER: u64 = 4;

/// Room that is not worth a warning though more was allowed: a busy server of one machine.
const ROOM_ENOUGH: usize = 4096;

/// How many clients there is room for: every client may need a connection to a node beside its own, so a gateway that
/// gave all its descriptors to clients could serve none of them.
fn room(workers: u64) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let own = OWN_DESCRIPTORS + DESCRIPTORS_PER_WORKER * workers;
    usize::try_from(limit.saturating_sub(own) / 2).unwrap_or(usize::MAX).max(1)
}

/// How many clients there are, in all and by address.
#[derive(Debug, Default)]
struct Present(Mutex<(usize, HashMap<IpAddr, usize>)>);

/// A client's place. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    present: Arc<Present>,
    ip: IpAddr,
    clients: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
        let mut present = self.present.0.lock().unwrap_or_else(PoisonError::into_inner);
        present.0 -= 1;
        if let Some(count) = present.1.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                present.1.remove(&self.ip);
            }
        }
    }
}

impl Present {
    /// Takes a place, if there is one in all and for this address.
    fn enter(self: &Arc<Self>, ip: IpAddr, plan: &Plan, room: usize, desk: &Desk) -> Option<Permit> {
        let limits = &plan.config.limits;
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if present.0 >= limits.connections_max.min(room) {
            return None;
        }
        let count = present.1.entry(ip).or_default();
        if limits.connections_per_client_max > 0 && *count >= limits.connections_per_client_max {
            return None;
        }
        *count += 1;
        present.0 += 1;
        desk.clients.fetch_add(1, Ordering::Relaxed);
        Some(Permit { present: Arc::clone(self), ip, clients: Arc::clone(&desk.clients) })
    }
}

/// Accepts until told to stop. Dropping the listener at the end refuses new clients at once.
pub(crate) async fn accept(
    listener: TcpListener,
    desks: Vec<Desk>,
    plan: Arc<ArcSwap<Plan>>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let present = Arc::<Present>::default();
    let mut complained: Option<Instant> = None;
    let room = room(desks.len() as u64);
    let wanted = plan.load().config.limits.connections_max;
    if room < wanted.min(ROOM_ENOUGH) {
        tracing::warn!(
            "only {room} clients at a time are let in, not {wanted} (limits.connections_max): each may need two file \
             descriptors; raise the process's limit (ulimit -n)"
        );
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return Ok(()),
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Ok(stream) = stream.into_std() {
                    hand_over(stream, peer, &desks, (&plan.load(), room), &present, &mut complained);
                }
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                complain(&mut complained, || format!("cannot accept a client: {}", remedy(&error)));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn hand_over(
    stream: std::net::TcpStream,
    peer: SocketAddr,
    desks: &[Desk],
    (plan, room): (&Plan, usize),
    present: &Arc<Present>,
    complained: &mut Option<Instant>,
) {
    let desk = desks.iter().min_by_key(|d| d.clients.load(Ordering::Relaxed)).expect("there is at least one worker");
    let Some(permit) = present.enter(crate::node::client_ip(peer.ip()), plan, room, desk) else {
        complain(complained, || {
            format!(
                "refused a client at {}: too many connections (limits.connections_max, limits.connections_per_client_max)",
                peer.ip()
            )
        });
        return turn_away(stream, plan.tls.is_some());
    };
    let tls = plan.tls.clone();
    // A worker that has ended takes nobody any more: the client is closed with its socket.
    let _ = desk.orders.send(Order::Serve(Arrival { stream, peer, permit, tls }));
}

/// Says 503 to a client for whom there is no place, as far as it takes it without waiting.
fn turn_away(mut stream: std::net::TcpStream, tls: bool) {
    if !tls {
        let _ = stream.write_all(crate::errors::ErrorCode::TooManyConnections.last_words().as_bytes());
    }
}

/// The client was gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn remedy(error: &io::Error) -> String {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => {
            "this process has no file descriptor left; raise its limit (ulimit -n) or lower limits.connections_max"
                .into()
        }
        Some(Errno::NFILE) => "this machine has no file descriptor left (fs.file-max)".into(),
        _ => error.to_string(),
    }
}

fn complain(last: &mut Option<Instant>, text: impl FnOnce() -> String) {
    if last.is_none_or(|at| at.elapsed() >= COMPLAINT_EVERY) {
        *last = Some(Instant::now());
        tracing::warn!("{}", text());
    }
}
