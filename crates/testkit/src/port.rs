//! Ports without a server: one that refuses at once, one that never answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// A port that refuses every connection (RST to the SYN).
///
/// The socket is bound and never listens: the port stays reserved, so that no other test can come to live there.
#[derive(Debug)]
pub struct DeadPort {
    socket: Socket,
}

impl Default for DeadPort {
    fn default() -> Self {
        Self::new()
    }
}

impl DeadPort {
    /// Reserves a port.
    ///
    /// # Panics
    /// When the machine has no free port.
    #[must_use]
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&SockAddr::from(any)).expect("a loopback port is free");
        Self { socket }
    }

    /// Reserves this port (0: a free one), also while the kernel still remembers connections of a listener that has left it.
    /// Another listener may use it all the same, if it says SO_REUSEADDR, as most servers do.
    pub(crate) fn on(addr: SocketAddr) -> Self {
        Self::try_on(addr).expect("nobody listens on this port")
    }

    /// Reserves this port as soon as nobody listens on it any more. A listener that was closed lives on for a moment in
    /// children that other tests are just starting: they have a copy of it until they are another program.
    pub(crate) async fn once_free(addr: SocketAddr) -> Self {
        let give_up = tokio::time::Instant::now() + STILL_HELD;
        loop {
            match Self::try_on(addr) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                reserved => return reserved.expect("nobody listens on this port"),
            }
        }
    }

    fn try_on(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(addr))?;
        Ok(Self { socket })
    }

    /// Where it refuses.
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|a| a.as_socket()).expect("a bound socket has an address")
    }

    /// Turns it into a listener on the same port: the server that comes back.
    ///
    /// # Panics
    /// When the kernel refuses to listen. Must be called inside a tokio runtime.
    #[must_use]
    pub fn listen(self) -> TcpListener {
        self.socket.listen(128).expect("a bound socket can listen");
        self.socket.set_nonblocking(true).expect("every socket can be non-blocking");
        TcpListener::from_std(self.socket.into()).expect("called inside a runtime")
    }
}

/// How long a closed listener may be held by a child that is being started: far above what a start takes.
const STILL_HELD: Duration = Duration::from_secs(5);

/// How long a connect must hang before the port counts as blackholed: far above a loopback handshake (tens of µs),
/// short because every blackhole costs it once.
const HANGS: Duration = Duration::from_millis(100);

/// A port whose SYNs get no answer: a listener whose accept queue is full drops them (tcp(7), `listen(2)` backlog).
#[derive(Debug)]
pub struct BlackholePort {
    listener: Socket,
    _queue: Vec<TcpStream>,
}

impl BlackholePort {
    /// Makes one and checks that a connect really hangs.
    ///
    /// # Panics
    /// When connects go on succeeding (a kernel that aborts on overflow). Cancel safe.
    pub async fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&SockAddr::from(any)).expect("a loopback port is free");
        listener.listen(0).expect("a bound socket can listen");
        let mut blackhole = Self { listener, _queue: Vec::new() };
        // A backlog of 0 holds one connection; a few more tries in case a kernel rounds it up.
        for _ in 0..64 {
            match tokio::time::timeout(HANGS, TcpStream::connect(blackhole.addr())).await {
                Ok(connected) => blackhole._queue.push(connected.expect("the queue has room")),
                Err(_) => return blackhole,
            }
        }
        panic!("the accept queue never filled, so this port is no blackhole");
    }

    /// Where SYNs vanish.
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().ok().and_then(|a| a.as_socket()).expect("a bound socket has an address")
    }

    /// Answers from now on: the queue gets room, so the next SYN is taken at once.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn listen(self) -> TcpListener {
        // `listen` on a listening socket changes its backlog; 128 as for a port that comes back.
        self.listener.listen(128).expect("a bound socket can listen");
        self.listener.set_nonblocking(true).expect("every socket can be non-blocking");
        TcpListener::from_std(self.listener.into()).expect("called inside a runtime")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_port_refuses_and_can_come_back() {
        let dead = DeadPort::new();
        let addr = dead.addr();
        let refused = TcpStream::connect(addr).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let _listener = dead.listen();
        TcpStream::connect(addr).await.expect("it listens now");
    }

    #[tokio::test]
    async fn a_blackhole_neither_accepts_nor_refuses() {
        let hole = BlackholePort::new().await;
        assert!(tokio::time::timeout(HANGS * 3, TcpStream::connect(hole.addr())).await.is_err());
    }

    #[tokio::test]
    async fn a_blackhole_can_begin_to_answer() {
        let hole = BlackholePort::new().await;
        let addr = hole.addr();
        let _listener = hole.listen();
        TcpStream::connect(addr).await.expect("it listens now");
    }
}
