//! Real Socket.IO and WebSocket servers (npm `socket.io` and `ws`) as child processes, to be killed and started again on their
//! port: what a socket that fails over has to live with cannot be shown with an imitation.
//!
//! Each message that a server executes is one line of a journal, a file that servers share and that outlives them.

mod install;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

pub use install::ensure_installed;

use crate::port::DeadPort;
use crate::within;

/// How long node may take to listen: it does in about 0.2 s, and two cores are shared by the whole suite.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Which transports a Socket.IO server allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// Polling, and WebSocket by upgrade or at once.
    #[default]
    Both,
    /// HTTP long polling only.
    Polling,
    /// WebSocket only.
    WebSocket,
}

/// Which server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketKind {
    /// Socket.IO.
    #[default]
    SocketIo,
    /// WebSocket alone: `{"id": …, "text": …}` is answered with `{"ack": id}`.
    WebSocket,
}

/// How a server behaves.
#[derive(Clone, Debug, Default)]
pub struct SocketIoOptions {
    /// Which server speaks.
    pub kind: SocketKind,
    /// Which transports it allows; of no meaning without Socket.IO.
    pub transports: Transports,
    /// How long it waits between executing a message and acknowledging it.
    pub ack_delay: Duration,
    /// Every message of this number (counted from 1 per process) is executed, and the connection closed instead of an
    /// acknowledgement.
    pub drop_ack: Option<u32>,
}

impl SocketIoOptions {
    fn arguments(&self) -> Vec<String> {
        let transports = match self.transports {
            Transports::Both => "both",
            Transports::Polling => "polling",
            Transports::WebSocket => "websocket",
        };
        let ack_delay = self.ack_delay.as_millis().to_string();
        let drop_ack = self.drop_ack.unwrap_or_default().to_string();
        ["--transports", transports, "--ack-delay", &ack_delay, "--drop-ack", &drop_ack].map(str::to_owned).into()
    }

    fn script(&self) -> &'static str {
        match self.kind {
            SocketKind::SocketIo => "server.mjs",
            SocketKind::WebSocket => "ws.mjs",
        }
    }
}

/// A running server process. It is killed when this is dropped.
#[derive(Debug)]
pub struct SocketIoServer {
    addr: SocketAddr,
    /// Keeps the port for the next process while there is none; bound, never listening.
    _port: DeadPort,
    journal: PathBuf,
    options: SocketIoOptions,
    child: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Kept, so that the process can still write to it.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl SocketIoServer {
    /// Installs the packages when that is still to be done, starts the server on this port (`None`: a free one) of the
    /// loopback address, and waits until it listens.
    ///
    /// # Panics
    /// When node or npm is missing, or the server does not start. Cancel safe: the process is killed.
    pub async fn start(port: Option<u16>, journal: &Path, options: SocketIoOptions) -> Self {
        let port = DeadPort::on(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_default())));
        let mut server = Self { addr: port.addr(), _port: port, journal: journal.to_owned(), options, child: None };
        server.restart().await;
        server
    }

    /// Where it listens, running or not.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, or `ws://127.0.0.1:PORT` without Socket.IO.
    #[must_use]
    pub fn url(&self) -> String {
        match self.options.kind {
            SocketKind::SocketIo => format!("http://{}", self.addr),
            SocketKind::WebSocket => format!("ws://{}", self.addr),
        }
    }

    /// The process, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(|running| running.child.id())
    }

    /// Ends the process with SIGKILL and waits until it is gone; its port refuses from then on. Not cancel safe: whether it
    /// is gone is not known then.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.child.take() {
            running.child.kill().await.expect("a child of one's own can be killed");
        }
    }

    /// Starts it again on its port, with the same options; kills it before, if it runs.
    ///
    /// # Panics
    /// When it does not start. Not cancel safe: it may be running then or not.
    pub async fn restart(&mut self) {
        self.kill().await;
        let scripts = tokio::task::spawn_blocking(ensure_installed).await.unwrap_or_else(|error| panic!("{error}"));
        let mut node = Command::new("node");
        node.arg(scripts.join(self.options.script())).args(self.options.arguments());
        node.args(["--port", &self.addr.port().to_string(), "--journal"]).arg(&self.journal);
        node.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = node.spawn().unwrap_or_else(|error| {
            panic!("node cannot be started ({error}): the tests with a real Socket.IO server need Node.js 18 or later")
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = within(START_DEADLINE, "node's first line", stdout.next_line()).await.ok().flatten();
        let expected = format!("listening {}", self.addr.port());
        assert_eq!(
            line.as_deref(),
            Some(expected.as_str()),
            "the Socket.IO server did not start; see what node complained"
        );
        self.child = Some(Running { child, _stdout: stdout });
    }
}

/// How often each message was executed, by its id, over all servers of a journal. No journal yet is an empty one.
///
/// # Panics
/// When the file is no journal.
#[must_use]
pub fn journal_executions(journal: &Path) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let mut executions = BTreeMap::new();
    for line in text.lines() {
        let (_port, id) = line.split_once(' ').expect("a line is a port and an id");
        *executions.entry(id.to_owned()).or_default() += 1;
    }
    executions
}
