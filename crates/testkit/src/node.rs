//! A scripted HTTP proxy: CONNECT only, as the gateway uses its nodes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::gate::Gate;
use crate::ledger::{Ledger, RequestSeen};
use crate::origin::End;
use crate::socket::{Socket, reset};
use crate::target::Directory;
use crate::wire::{Head, Wire};

/// What a proxy node does with a connection.
#[derive(Clone, Debug)]
pub enum NodeAct {
    /// `200`, and then it relays to the target.
    Relay,
    /// This head (any status, any headers), and then it relays to the target.
    RelayAfter(Bytes),
    /// As `Relay`, not before the gate opens; what arrives meanwhile is recorded at once as the connection's raw bytes.
    RelayOnce(Gate),
    /// This head instead of a 2xx, with `Content-Length: 0`, and the connection ends.
    Refuse(u16),
    /// These bytes as they are, and the connection ends.
    Say(Bytes, End),
    /// As `Relay` when the credentials are these, else `407`.
    Auth(&'static str, &'static str),
    /// Nothing after the head.
    Hang,
    /// The end, without reading a byte.
    EndUnread(End),
    /// The end, after the head.
    EndAfterHead(End),
    /// `200`, then the end without relaying.
    EndAfterOk(End),
}

/// Bytes relayed at a time: large, so that 256 MiB pass quickly in a build without optimisation.
const RELAY_BYTES: usize = 256 * 1024;

type Script = dyn Fn(usize, &Head) -> NodeAct + Send + Sync;

/// The running node. It ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct HttpProxyNode {
    addr: SocketAddr,
    ledger: Ledger,
    task: AbortHandle,
}

impl HttpProxyNode {
    /// One that does `act` with every connection. Cancel safe.
    pub async fn start(act: NodeAct, directory: Directory) -> Self {
        Self::scripted(move |_, _| act.clone(), directory).await
    }

    /// One that really relays, with names from `directory`. Cancel safe.
    pub async fn relay(directory: Directory) -> Self {
        Self::start(NodeAct::Relay, directory).await
    }

    /// One whose script is asked with the connection's number (from 0) and the head; [`NodeAct::EndUnread`] is asked
    /// with an empty head, before reading.
    ///
    /// # Panics
    /// When no port is free. Cancel safe.
    pub async fn scripted(
        script: impl Fn(usize, &Head) -> NodeAct + Send + Sync + 'static,
        directory: Directory,
    ) -> Self {
        Self::run(Box::new(script), directory, None).await
    }

    /// One that does `act` with every connection, behind TLS. Cancel safe.
    pub async fn start_tls(act: NodeAct, directory: Directory, acceptor: TlsAcceptor) -> Self {
        Self::run(Box::new(move |_, _| act.clone()), directory, Some(acceptor)).await
    }

    async fn run(script: Box<Script>, directory: Directory, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let addr = listener.local_addr().expect("the listener is bound");
        let ledger = Ledger::default();
        let shared = Arc::new(Shared { script, directory, ledger: ledger.clone(), tls });
        Self { addr, ledger, task: tokio::spawn(accept(listener, shared)).abort_handle() }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT#tag`, as `--node` takes it.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> String {
        format!("http://{}#{tag}", self.addr)
    }

    /// What it saw.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.ledger.accepted()
    }

    /// The CONNECT requests that came.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.ledger.requests()
    }
}

impl Drop for HttpProxyNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    script: Box<Script>,
    directory: Directory,
    ledger: Ledger,
    tls: Option<TlsAcceptor>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { return };
                let number = shared.ledger.accept();
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _ = serve(tcp, number, &shared).await;
                    shared.ledger.ended(number);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(tcp: TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    if let NodeAct::EndUnread(how) = (shared.script)(number, &Head::default()) {
        return crate::origin::end(Socket::Plain(tcp), how).await;
    }
    let mut wire = Wire::new(match &shared.tls {
        Some(acceptor) => Socket::Tls(Box::new(acceptor.accept(tcp).await?.into())),
        None => Socket::Plain(tcp),
    });
    let Some(head) = wire.read_head().await? else { return Ok(()) };
    let act = (shared.script)(number, &head);
    let target = head.target().to_owned();
    let expected = format!("Basic {}", credentials(&act));
    let authorised = head.header("proxy-authorization") == Some(expected.as_str());
    let request = shared.ledger.request(number, head);
    shared.ledger.complete(number, request, Vec::new());
    match act {
        NodeAct::Relay => relay_after(wire, b"HTTP/1.1 200 OK\r\n\r\n", &target, shared).await,
        NodeAct::RelayAfter(head) => relay_after(wire, &head, &target, shared).await,
        NodeAct::RelayOnce(gate) => {
            let early = hold(&mut wire, &gate).await?;
            shared.ledger.raw(number, &early);
            relay_after(wire, b"HTTP/1.1 200 OK\r\n\r\n", &target, shared).await
        }
        NodeAct::Auth(..) if authorised => relay_after(wire, b"HTTP/1.1 200 OK\r\n\r\n", &target, shared).await,
        NodeAct::Auth(..) => refuse(wire.io, 407).await,
        NodeAct::Refuse(status) => refuse(wire.io, status).await,
        NodeAct::Say(bytes, how) => say(wire.io, &bytes, how).await,
        NodeAct::Hang => std::future::pending().await,
        NodeAct::EndUnread(how) | NodeAct::EndAfterHead(how) => say(wire.io, b"", how).await,
        NodeAct::EndAfterOk(how) => say(wire.io, b"HTTP/1.1 200 OK\r\n\r\n", how).await,
    }
}

/// Waits for the gate and gives what came before it opened.
async fn hold(wire: &mut Wire<Socket>, gate: &Gate) -> io::Result<Bytes> {
    loop {
        tokio::select! {
            () = gate.wait() => return Ok(wire.take_buffered()),
            read = wire.fill() => if read? == 0 { return Err(io::ErrorKind::UnexpectedEof.into()) },
        }
    }
}

async fn relay_after(mut wire: Wire<Socket>, head: &[u8], target: &str, shared: &Shared) -> io::Result<()> {
    let Some(addr) = shared.directory.resolve(target) else { return refuse(wire.io, 502).await };
    let Ok(upstream) = TcpStream::connect(addr).await else { return refuse(wire.io, 502).await };
    wire.io.write_all(head).await?;
    let (socket, early) = wire.into_parts();
    relay(socket, upstream, &early).await
}

/// Relays both ways, each half closed on its own; a reset on one side resets the other.
pub(crate) async fn relay(mut client: Socket, mut upstream: TcpStream, early: &[u8]) -> io::Result<()> {
    upstream.set_nodelay(true)?;
    upstream.write_all(early).await?;
    let result = copy_bidirectional_with_sizes(&mut client, &mut upstream, RELAY_BYTES, RELAY_BYTES).await;
    if result.is_err() {
        reset(client.tcp());
        reset(&upstream);
    }
    result.map(drop)
}

async fn refuse(io: Socket, status: u16) -> io::Result<()> {
    let extra = if status == 407 { "Proxy-Authenticate: Basic realm=\"node\"\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} Scripted\r\n{extra}Content-Length: 0\r\nConnection: close\r\n\r\n");
    say(io, head.as_bytes(), End::Fin).await
}

async fn say(mut io: Socket, bytes: &[u8], how: End) -> io::Result<()> {
    io.write_all(bytes).await?;
    crate::origin::end(io, how).await
}

/// The `Basic` credentials a script asks for, encoded; empty when it asks for none.
fn credentials(act: &NodeAct) -> String {
    match act {
        NodeAct::Auth(user, password) => crate::client::base64(&format!("{user}:{password}")),
        _ => String::new(),
    }
}
