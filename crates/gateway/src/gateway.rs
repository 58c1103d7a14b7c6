//! The gateway as a whole: starts its threads, takes a new configuration, and ends in order.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::accept::{self, Desk};
use crate::config::Config;
use crate::log::{self, LogError, LogSender, LogStats, RequestLog};
use crate::plan::{Plan, PlanError};
use crate::worker::{Order, Worker};

/// Pending connections the kernel keeps for us: the usual kernel maximum (`net.core.somaxconn`) since Linux 5.4.
const BACKLOG: i32 = 4096;

/// How long the log may take to write what is queued when the gateway ends.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// How long workers may take to drop what they have when it is cut off: a tick of theirs, and room for a loaded machine.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the end looks whether the threads are done.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The gateway.
#[derive(Debug)]
pub struct Gateway(());

/// Why a gateway does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The request log cannot be opened.
    Log(LogError),
    /// The configuration cannot be made ready.
    Plan(PlanError),
    /// A thread or its event loop cannot be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { listen, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {listen}: another program has this port; stop it or choose another with --listen"
                )
            }
            StartError::Bind { listen, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "cannot listen on {listen}: ports below 1024 need a privilege; choose another with --listen")
            }
            StartError::Bind { listen, source } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                write!(
                    f,
                    "cannot listen on {listen}: no interface of this machine has that address; use 0.0.0.0, [::] or one of its own"
                )
            }
            StartError::Bind { listen, source } => write!(f, "cannot listen on {listen}: {source}"),
            StartError::Log(error) => error.fmt(f),
            StartError::Plan(error) => error.fmt(f),
            StartError::Thread(error) => write!(f, "cannot start a worker: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a new configuration is not taken. The old one stays.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// It cannot be made ready.
    Plan(PlanError),
    /// A key that only a restart can change.
    NeedsRestart(&'static str),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Plan(error) => error.fmt(f),
            ReloadError::NeedsRestart(key) => write!(f, "{key} has changed: that needs a restart"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// A running gateway. Dropping it ends it as [`Running::shutdown`] does.
pub struct Running {
    local_addr: SocketAddr,
    plan: Arc<ArcSwap<Plan>>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    stop: watch::Sender<bool>,
    cut: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    log: Mutex<RequestLog>,
}

impl Gateway {
    /// Starts a gateway: listens, opens the log, and starts its threads. Returns as soon as it serves.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: Config) -> Result<Running, StartError> {
        let listen = config.listen;
        let listener = bind(listen).map_err(|source| StartError::Bind { listen, source })?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Bind { listen, source })?;
        let log = open_log(&config).map_err(StartError::Log)?;
        let plan = Arc::new(Plan::try_new(config, local_addr).map_err(StartError::Plan)?);
        let (stop, stopped) = watch::channel(false);
        let workers = plan.config.workers.clamp(1, usize::from(u8::MAX) + 1);
        let mut running = Running {
            local_addr,
            plan: Arc::new(ArcSwap::new(Arc::clone(&plan))),
            orders: Vec::new(),
            stop,
            cut: Arc::default(),
            threads: Vec::new(),
            log: Mutex::new(log),
        };
        let mut desks = Vec::new();
        for number in 0..workers {
            let (orders, inbox) = mpsc::unbounded_channel();
            let sender = running.with_log(RequestLog::sender);
            running.threads.push(start_worker(
                number as u8,
                Arc::clone(&plan),
                sender,
                inbox,
                Arc::clone(&running.cut),
            )?);
            running.orders.push(orders.clone());
            desks.push(Desk { orders, clients: Arc::new(AtomicUsize::new(0)) });
        }
        running.threads.push(start_acceptor(listener, desks, Arc::clone(&running.plan), stopped)?);
        Ok(running)
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for old connections to leave TIME_WAIT; a port in use is still refused.
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn open_log(config: &Config) -> Result<RequestLog, LogError> {
    let own = &config.log;
    if !own.enabled {
        return Ok(RequestLog::disabled());
    }
    let settings = log::LogSettings {
        queue_rows_max: own.queue_rows_max,
        retention_bytes: own.retention_bytes,
        retention_age: own.retention_age,
        flush_interval: own.flush_interval,
    };
    RequestLog::start(&config.data_dir, settings)
}

fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn start_worker(
    number: u8,
    plan: Arc<Plan>,
    log: LogSender,
    inbox: mpsc::UnboundedReceiver<Order>,
    cut: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = event_loop().map_err(StartError::Thread)?;
    let run = move || {
        let worker = Worker::new(number, &plan, log, cut);
        drop(plan);
        LocalSet::new().block_on(&runtime, worker.run(inbox));
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(run).map_err(StartError::Thread)
}

fn start_acceptor(
    listener: TcpListener,
    desks: Vec<Desk>,
    plan: Arc<ArcSwap<Plan>>,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = event_loop().map_err(StartError::Thread)?;
    let run = move || {
        if let Err(error) = runtime.block_on(accept::accept(listener, desks, plan, stop)) {
            tracing::error!("the listener failed: {error}");
        }
    };
    std::thread::Builder::new().name("acceptor".into()).spawn(run).map_err(StartError::Thread)
}

impl Running {
    /// The address it listens on; with port 0 configured, the port it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the request log did so far.
    pub fn log_stats(&self) -> LogStats {
        self.with_log(RequestLog::stats)
    }

    /// Takes a new configuration. Requests that run keep what they began with; the next ones get the new one. Nodes that
    /// stay keep their connections.
    ///
    /// # Errors
    /// [`ReloadError`]; the old configuration stays as it is.
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        let old = self.plan.load();
        let fixed = [
            ("listen", old.config.listen == config.listen),
            ("data_dir", old.config.data_dir == config.data_dir),
            ("workers", old.config.workers == config.workers),
            ("log", old.config.log == config.log),
        ];
        if let Some((key, _)) = fixed.iter().find(|(_, same)| !same) {
            return Err(ReloadError::NeedsRestart(key));
        }
        let plan = Arc::new(Plan::try_new(config, self.local_addr).map_err(ReloadError::Plan)?);
        self.plan.store(Arc::clone(&plan));
        for orders in &self.orders {
            let _ = orders.send(Order::Reload(Arc::clone(&plan)));
        }
        Ok(())
    }

    /// Ends the gateway: no new connections, running requests finish within `drain_timeout`, the log is written.
    ///
    /// The calling thread waits; call it from async code by `spawn_blocking`. True: everything ended in time.
    pub fn shutdown(mut self) -> bool {
        self.end()
    }

    fn with_log<R>(&self, f: impl FnOnce(&RequestLog) -> R) -> R {
        f(&self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) -> bool {
        if self.threads.is_empty() {
            return true;
        }
        let _ = self.stop.send(true);
        for orders in self.orders.drain(..) {
            let _ = orders.send(Order::Drain);
        }
        let in_time = self.wait(self.plan.load().config.drain_timeout);
        if !in_time {
            tracing::warn!("requests were still running when drain_timeout had passed; they are cut off");
            self.cut.store(true, Ordering::Relaxed);
            self.wait(CUT_TIMEOUT);
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).shutdown(LOG_TIMEOUT);
        in_time
    }

    /// Waits for the threads to end; false if some have not.
    fn wait(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while self.threads.iter().any(|t| !t.is_finished()) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        true
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
