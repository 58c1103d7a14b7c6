//! One worker thread: an event loop of its own with its own view of the nodes, its own connections and its own end of the log.
//!
//! Workers share nothing on the data path. What they are told comes through a channel: a new client, a new plan, the drain.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use crate::auth_limit::AuthLimit;
use crate::log::{IdSource, LogSender, RequestId, Row};
use crate::plan::{Plan, View};
use crate::serve::{self, Client};

/// How often a worker hands its log rows over. With the log's own flush interval, less than a second may be lost.
const TICK: Duration = Duration::from_millis(100);

/// Every how many ticks connections are looked over: a limit of a connection is kept to a second.
const TICKS_PER_SWEEP: u32 = 10;

/// What a worker is told.
pub(crate) enum Order {
    /// Serve this client.
    Serve(serve::Arrival),
    /// From now on, this is the plan.
    Reload(Arc<Plan>),
    /// Finish what is running, then end.
    Drain,
}

/// A client's entry in its worker's list; it leaves when dropped, also by a panic.
pub(crate) struct Entered {
    worker: Rc<Worker>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.worker.clients.borrow_mut().remove(&self.number);
    }
}

/// A worker's state. One per thread, shared by its tasks.
pub(crate) struct Worker {
    ids: RefCell<IdSource>,
    log: RefCell<LogSender>,
    view: RefCell<Rc<View>>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    pub(crate) auth_limit: RefCell<AuthLimit>,
    next_client: Cell<u64>,
    born: Instant,
    /// Wall-clock time of `born`, set anew by each sweep, so that ids follow a clock that was set.
    born_ns: Cell<u64>,
    draining: Cell<bool>,
    /// The drain's time is over: what still runs is cut off.
    cut: Arc<AtomicBool>,
}

impl Worker {
    pub(crate) fn new(number: u8, plan: &Arc<Plan>, log: LogSender, cut: Arc<AtomicBool>) -> Rc<Self> {
        let worker = Worker {
            ids: RefCell::new(IdSource::new(number)),
            log: RefCell::new(log),
            view: RefCell::new(Rc::new(View::new(plan, None))),
            clients: RefCell::default(),
            auth_limit: RefCell::default(),
            next_client: Cell::new(0),
            born: Instant::now(),
            born_ns: Cell::new(0),
            draining: Cell::new(false),
            cut,
        };
        worker.set_clock();
        Rc::new(worker)
    }

    /// The nodes, platforms and routes as they are now. A request keeps the view it began with.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Time since the worker began: the clock of retry budgets.
    pub(crate) fn uptime(&self) -> Duration {
        self.born.elapsed()
    }

    /// The id of a request that began at this time.
    pub(crate) fn next_id(&self, started: Instant) -> RequestId {
        let since = started.saturating_duration_since(self.born).as_nanos() as u64;
        self.ids.borrow_mut().next(self.born_ns.get() + since)
    }

    /// Takes a finished request's row. Never waits.
    pub(crate) fn log(&self, row: Row) {
        self.log.borrow_mut().push(row);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether what still runs is being cut off.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// A client came: it is looked over by the sweep until it leaves.
    pub(crate) fn enter(self: &Rc<Self>, client: &Rc<Client>) -> Entered {
        let number = self.next_client.get();
        self.next_client.set(number + 1);
        self.clients.borrow_mut().insert(number, Rc::clone(client));
        Entered { worker: Rc::clone(self), number }
    }

    fn set_clock(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        self.born_ns.set(now.saturating_sub(self.born.elapsed().as_nanos() as u64));
    }

    fn sweep(&self) {
        self.set_clock();
        let (view, now) = (self.view(), Instant::now());
        for node in &view.nodes {
            node.sweep(now, view.config.limits.node_idle_timeout);
        }
        for client in self.clients.borrow().values() {
            client.look_over(now, &view.config.limits);
        }
    }

    fn reload(&self, plan: &Arc<Plan>) {
        let before = self.view();
        self.view.replace(Rc::new(View::new(plan, Some(&before))));
    }

    fn drain(&self) {
        self.draining.set(true);
        for node in &self.view().nodes {
            node.clear();
        }
        for client in self.clients.borrow().values() {
            client.drain();
        }
    }

    /// Serves until drained, and until every client has left or is cut off. Requests that still run are dropped with the
    /// thread's tasks, and their rows say so.
    pub(crate) async fn run(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tick = tokio::time::interval(TICK);
        let mut ticks = 0;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Serve(arrival)) => {
                        tokio::task::spawn_local(serve::serve(Rc::clone(&self), arrival));
                    }
                    Some(Order::Reload(plan)) => self.reload(&plan),
                    Some(Order::Drain) | None => {
                        self.drain();
                        break;
                    }
                },
                _ = tick.tick() => {
                    self.log.borrow_mut().flush();
                    ticks += 1;
                    if ticks % TICKS_PER_SWEEP == 0 {
                        self.sweep();
                    }
                }
            }
        }
        orders.close();
        while !self.clients.borrow().is_empty() && !self.is_cut() {
            tick.tick().await;
            self.log.borrow_mut().flush();
            ticks += 1;
            if ticks % TICKS_PER_SWEEP == 0 {
                self.sweep();
            }
        }
        self.log.borrow_mut().flush();
    }
}
