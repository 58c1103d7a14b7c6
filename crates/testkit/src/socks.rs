//! A scripted SOCKS5 proxy (RFC 1928, RFC 1929).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::ledger::Ledger;
use crate::node::relay;
use crate::origin::{End, end};
use crate::socket::Socket;
use crate::target::Directory;
use crate::wire::Wire;

/// What a SOCKS5 node does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum SocksAct {
    /// It relays, without authentication.
    Relay,
    /// It relays when the user and the password are these, else it answers status 1 (RFC 1929 §2).
    Auth(&'static str, &'static str),
    /// This reply code (REP) to the request, and the end.
    Reply(u8),
    /// Nothing after the greeting.
    Hang,
    /// Nothing after the request.
    HangAfterRequest,
    /// The end, without reading a byte.
    EndUnread(End),
    /// The end, after the request was read and before the reply.
    EndAfterRequest(End),
}

/// The running node. It ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Socks5Node {
    addr: SocketAddr,
    ledger: Ledger,
    names: Names,
    task: AbortHandle,
}

type Names = Arc<Mutex<Vec<(String, u16)>>>;

impl Socks5Node {
    /// One that does `act` with every connection, with names from `directory`.
    ///
    /// # Panics
    /// When no port is free. Cancel safe.
    pub async fn start(act: SocksAct, directory: Directory) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let addr = listener.local_addr().expect("the listener is bound");
        let (ledger, names) = (Ledger::default(), Names::default());
        let shared = Arc::new(Shared { act, directory, ledger: ledger.clone(), names: Arc::clone(&names) });
        Self { addr, ledger, names, task: tokio::spawn(accept(listener, shared)).abort_handle() }
    }

    /// One that really relays, with names from `directory`. Cancel safe.
    pub async fn relay(directory: Directory) -> Self {
        Self::start(SocksAct::Relay, directory).await
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `socks5://127.0.0.1:PORT#tag`, as `--node` takes it.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> String {
        format!("socks5://{}#{tag}", self.addr)
    }

    /// What it saw: as raw bytes of each connection, the request from its first byte on.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.ledger.accepted()
    }

    /// The names (or addresses as text) and ports it was asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, u16)> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Socks5Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    act: SocksAct,
    directory: Directory,
    ledger: Ledger,
    names: Names,
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
    if let SocksAct::EndUnread(how) = shared.act {
        return end(Socket::Plain(tcp), how).await;
    }
    let mut wire = Wire::new(tcp);
    if !greet(&mut wire, shared.act).await? {
        return end(Socket::Plain(wire.into_parts().0), End::Fin).await;
    }
    let (host, port) = read_request(&mut wire, number, &shared.ledger).await?;
    shared.names.lock().unwrap_or_else(PoisonError::into_inner).push((host.clone(), port));
    match shared.act {
        SocksAct::HangAfterRequest => std::future::pending().await,
        SocksAct::EndAfterRequest(how) => end(Socket::Plain(wire.into_parts().0), how).await,
        SocksAct::Reply(code) => {
            reply(&mut wire.io, code).await?;
            end(Socket::Plain(wire.into_parts().0), End::Fin).await
        }
        _ => carry(wire, shared.directory.resolve_parts(&host, port)).await,
    }
}

async fn carry(mut wire: Wire<TcpStream>, addr: Option<SocketAddr>) -> io::Result<()> {
    // RFC 1928 §6: 04 is "host unreachable" (also for a name that does not resolve), 05 "connection refused".
    let Some(addr) = addr else { return reply(&mut wire.io, 4).await };
    let Ok(upstream) = TcpStream::connect(addr).await else { return reply(&mut wire.io, 5).await };
    reply(&mut wire.io, 0).await?;
    let (tcp, early) = wire.into_parts();
    relay(Socket::Plain(tcp), upstream, &early).await
}

/// The method negotiation; false when the client is not let in.
async fn greet(wire: &mut Wire<TcpStream>, act: SocksAct) -> io::Result<bool> {
    let head = wire.read_exactly(2).await?;
    let methods = wire.read_exactly(usize::from(head[1])).await?;
    match act {
        SocksAct::Hang => std::future::pending().await,
        SocksAct::Auth(user, password) => {
            if !methods.contains(&2) {
                wire.io.write_all(&[5, 0xff]).await?;
                return Ok(false);
            }
            wire.io.write_all(&[5, 2]).await?;
            let given = (read_field(wire, 1).await?, read_field(wire, 0).await?);
            let right = given == (user.as_bytes().to_vec(), password.as_bytes().to_vec());
            wire.io.write_all(&[1, u8::from(!right)]).await?;
            Ok(right)
        }
        _ => {
            wire.io.write_all(&[5, 0]).await?;
            Ok(true)
        }
    }
}

/// A field with its length before it, behind `skip` other bytes.
async fn read_field(wire: &mut Wire<TcpStream>, skip: usize) -> io::Result<Vec<u8>> {
    let head = wire.read_exactly(skip + 1).await?;
    Ok(wire.read_exactly(usize::from(head[skip])).await?.to_vec())
}

async fn read_request(wire: &mut Wire<TcpStream>, number: usize, ledger: &Ledger) -> io::Result<(String, u16)> {
    let head = wire.read_exactly(4).await?;
    ledger.raw(number, &head);
    let host = match head[3] {
        1 => {
            let octets: [u8; 4] = wire.read_exactly(4).await?[..].try_into().expect("four were read");
            Ipv4Addr::from(octets).to_string()
        }
        4 => {
            let octets: [u8; 16] = wire.read_exactly(16).await?[..].try_into().expect("sixteen were read");
            Ipv6Addr::from(octets).to_string()
        }
        _ => String::from_utf8_lossy(&read_field(wire, 0).await?).into_owned(),
    };
    ledger.raw(number, host.as_bytes());
    let port = wire.read_exactly(2).await?;
    Ok((host, u16::from_be_bytes([port[0], port[1]])))
}

async fn reply(io: &mut TcpStream, code: u8) -> io::Result<()> {
    io.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
}
