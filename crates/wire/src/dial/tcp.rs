//! From a host to a TCP connection: resolve, then race the addresses in the manner of RFC 8305.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use handover_core::{Blame, Fault};
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::cause::Cause;
use super::error::Progress;
use super::target::Host;

/// How long one address has before the next is tried beside it: RFC 8305 §5's recommended connection attempt delay. Smaller
/// opens connections that are not needed on slow paths, larger lets a dead address cost every dial more.
const STAGGER: Duration = Duration::from_millis(250);

/// How many addresses of one name are tried. At one every 250 ms, 16 take 4 s, longer than the usual time limit of a dial;
/// and a name that a stranger chose cannot make this machine knock on hundreds of doors.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Who answers what addresses a name has.
#[derive(Clone, Debug)]
pub(super) enum Resolver {
    /// The operating system: hosts file, resolver configuration, name service switch.
    System,
    /// Answers without the network; a name that is not in the list never resolves.
    #[cfg(test)]
    Fixed(Vec<(&'static str, Vec<std::net::IpAddr>)>),
}

impl Resolver {
    /// The addresses of a host; one at least. An address is its own answer.
    ///
    /// Cancel safe: what the operating system was asked runs on in a thread of its own until it answers, to nobody.
    pub(super) async fn resolve(&self, host: &Host, port: u16, party: Option<Blame>) -> Result<Vec<SocketAddr>, Cause> {
        let name = match host {
            Host::Ip(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Name(name) => name,
        };
        match self.ask(name, port).await {
            Ok(found) if found.is_empty() => Err(dns(party, format!("{name} has no address"))),
            Ok(found) => Ok(found),
            // Out of descriptors: the name may well exist.
            Err(error) if error.raw_os_error().is_some() => {
                let cause = Cause::io(&error, party, "while resolving");
                if cause.fault == Fault::Local { Err(cause) } else { Err(dns(party, cause.message)) }
            }
            Err(error) => Err(dns(party, format!("{name} does not resolve: {error}"))),
        }
    }

    async fn ask(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, port)).await?.collect()),
            #[cfg(test)]
            Self::Fixed(names) => match names.iter().find(|row| row.0 == name) {
                Some((_, ips)) => Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
                None => std::future::pending().await,
            },
        }
    }
}

fn dns(party: Option<Blame>, message: impl Into<Box<str>>) -> Cause {
    Cause::new(Fault::Dns, party, "dns_error", message)
}

/// Connects to the first address that answers. `party` is whom a refusal or a reset speaks against.
///
/// If none answers, the error is that of the address that came closest: a refusal says more than a missing route.
///
/// Cancel safe: dropping it closes every socket it has opened.
pub(super) async fn connect(
    addresses: Vec<SocketAddr>,
    party: Option<Blame>,
    progress: &Progress,
) -> Result<(TcpStream, SocketAddr), Cause> {
    let mut waiting = interleave(addresses).into_iter().take(ADDRESSES_MAX).peekable();
    let mut race = Race { running: Vec::new() };
    let mut told: Option<(SocketAddr, Cause)> = None;
    loop {
        if let Some(address) = waiting.next() {
            progress.tries(address);
            race.begin(address);
        } else if race.running.is_empty() {
            let (address, cause) = told.ok_or_else(|| dns(party, "no address to connect to"))?;
            progress.tries(address);
            return Err(cause);
        }
        let next_at = Instant::now() + STAGGER;
        tokio::select! {
            biased;
            (address, ended) = race.next_end() => match ended {
                Ok(tcp) => {
                    progress.tries(address);
                    return Ok((tcp, address));
                }
                Err(error) => {
                    let cause = connect_cause(&error, party);
                    if told.as_ref().is_none_or(|(_, before)| weight(before) < weight(&cause)) {
                        told = Some((address, cause));
                    }
                }
            },
            () = sleep_until(next_at), if waiting.peek().is_some() => {}
        }
    }
}

/// The address families in turn, beginning with the one the resolver put first (RFC 8305 §4), else in its order.
pub(super) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut order = Vec::with_capacity(first.len() + second.len());
    for address in first {
        order.push(address);
        order.extend(second.next());
    }
    order.extend(second);
    order
}

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The addresses that are being tried at the moment.
struct Race {
    running: Vec<(SocketAddr, Dial)>,
}

impl Race {
    fn begin(&mut self, address: SocketAddr) {
        self.running.push((address, Box::pin(open(address))));
    }

    /// Waits for the next one to end, whichever it is. Cancel safe: the others go on.
    async fn next_end(&mut self) -> (SocketAddr, io::Result<TcpStream>) {
        poll_fn(|cx| self.poll_end(cx)).await
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<(SocketAddr, io::Result<TcpStream>)> {
        for index in 0..self.running.len() {
            let (address, dial) = &mut self.running[index];
            if let Poll::Ready(ended) = dial.as_mut().poll(cx) {
                let address = *address;
                drop(self.running.swap_remove(index));
                return Poll::Ready((address, ended));
            }
        }
        Poll::Pending
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    not_itself(&tcp, address)?;
    tcp.set_nodelay(true)?;
    keep_alive(&tcp)?;
    Ok(tcp)
}

/// Silence after which the kernel asks the peer whether it is still there, and how often: a peer that vanished (power,
/// network) is noticed after half a minute and half a minute more, instead of never. Long streams may be silent for that long.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// Has the kernel notice a peer that vanished without a word.
pub fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    let probes = socket2::TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_EVERY)
        .with_retries(KEEP_ALIVE_PROBES);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&probes)
}

/// A connection to a local port where nobody listens can meet itself, when the kernel happens to give it that very port
/// (simultaneous open, RFC 9293 §3.5). It would echo the request back, and keep a restarted node from its port.
pub(super) fn not_itself(tcp: &TcpStream, address: SocketAddr) -> io::Result<()> {
    if tcp.local_addr()? == address { Err(Errno::CONNREFUSED.into()) } else { Ok(()) }
}

fn connect_cause(error: &io::Error, party: Option<Blame>) -> Cause {
    let mut cause = Cause::io(error, party, "while connecting");
    // Without a node between, a missing route may as well be this machine's own network.
    if cause.fault == Fault::Unreachable && cause.blame == Some(Blame::Target) {
        cause.blame = None;
    }
    cause
}

/// How much an address's error says of the name: that of a family this machine does not have says least.
fn weight(cause: &Cause) -> u8 {
    match cause.fault {
        Fault::Unreachable => 0,
        Fault::Local => 1,
        _ => 2,
    }
}
