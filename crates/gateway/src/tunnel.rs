//! Tunnels: bytes both ways between a client and a target, each direction closing on its own (half-close).
//!
//! Plain sockets are moved by `splice(2)` once a direction has shown that it carries bulk data; everything else, and every
//! small exchange, is copied. Nothing is retried here: a tunnel that opened is the client's.

mod splice;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Copy buffer of a direction. Interactive traffic fits; bulk moves to splice where it can. 16 KiB is one TLS record.
const COPY_BYTES: usize = 16 * 1024;

/// After how many copied bytes a plain direction moves to splice: below this the two pipes cost more than they save.
const SPLICE_AFTER: u64 = 64 * 1024;

/// One end of a tunnel.
pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {
    /// The plain socket, where bytes can be moved without passing through this process.
    fn plain(&self) -> Option<&TcpStream>;
}

/// How a tunnel ended.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// Bytes from the client to the target.
    pub(crate) egress: u64,
    /// Bytes from the target to the client.
    pub(crate) ingress: u64,
    /// What ended it, unless both sides closed in order.
    pub(crate) error: Option<TunnelError>,
}

/// What ended a tunnel early.
#[derive(Debug)]
pub(crate) enum TunnelError {
    /// The client's side broke.
    Client(io::Error),
    /// The target's side broke.
    Target(io::Error),
    /// No byte moved for the idle timeout.
    Idle,
}

/// Carries bytes both ways until both directions are closed, one breaks, or nothing moves for `idle`.
///
/// `early_client` are bytes the client sent behind its request head, `early_target` bytes behind the node's 2xx.
/// Not cancel safe: dropping it closes both sides.
pub(crate) async fn carry(
    mut client: impl End,
    mut target: impl End,
    early_client: Bytes,
    early_target: Bytes,
    idle: Duration,
) -> Carried {
    let mut up = Direction::new(early_client);
    let mut down = Direction::new(early_target);
    let mut timer = Box::pin(IdleTimer::new(idle));
    let error = std::future::poll_fn(|cx| {
        let up_done = match up.poll(cx, &mut client, &mut target) {
            Poll::Ready(Err(side)) => return Poll::Ready(Some(side.of_upstream())),
            poll => poll.is_ready(),
        };
        let down_done = match down.poll(cx, &mut target, &mut client) {
            Poll::Ready(Err(side)) => return Poll::Ready(Some(side.of_downstream())),
            poll => poll.is_ready(),
        };
        if up_done && down_done {
            return Poll::Ready(None);
        }
        timer.as_mut().poll(cx, up.moved + down.moved).map(|()| Some(TunnelError::Idle))
    })
    .await;
    Carried { egress: up.moved, ingress: down.moved, error }
}

/// On which side of a direction an error happened.
enum SideError {
    Read(io::Error),
    Write(io::Error),
}

impl SideError {
    fn of_upstream(self) -> TunnelError {
        match self {
            SideError::Read(e) => TunnelError::Client(e),
            SideError::Write(e) => TunnelError::Target(e),
        }
    }

    fn of_downstream(self) -> TunnelError {
        match self {
            SideError::Read(e) => TunnelError::Target(e),
            SideError::Write(e) => TunnelError::Client(e),
        }
    }
}

/// Ends a tunnel on which nothing moves. Looks at the byte counters only when it fires, so moving bytes costs nothing.
struct IdleTimer {
    sleep: Pin<Box<Sleep>>,
    idle: Duration,
    seen: u64,
}

impl IdleTimer {
    fn new(idle: Duration) -> Self {
        IdleTimer { sleep: Box::pin(tokio::time::sleep(idle)), idle, seen: 0 }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.seen == moved {
                return Poll::Ready(());
            }
            self.seen = moved;
            let until = Instant::now() + self.idle;
            self.sleep.as_mut().reset(until);
        }
    }
}

/// One direction of a tunnel.
struct Direction {
    state: State,
    moved: u64,
    may_splice: bool,
}

enum State {
    /// Bytes that came before the tunnel opened.
    Early(Bytes),
    /// Copying through a buffer, allocated only once there is something to read.
    Copy {
        buffer: Box<[u8]>,
        start: usize,
        end: usize,
    },
    /// Moving through a pipe in the kernel.
    Splice(splice::Pipe),
    /// Everything was read and written; the other side is being told.
    Closing,
    Closed,
}

impl Direction {
    fn new(early: Bytes) -> Self {
        Direction { state: State::Early(early), moved: 0, may_splice: true }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut impl End, to: &mut impl End) -> Poll<Result<(), SideError>> {
        loop {
            match &mut self.state {
                State::Early(bytes) => {
                    while !bytes.is_empty() {
                        let n = ready!(write_some(Pin::new(to), cx, bytes))?;
                        drop(bytes.split_to(n));
                        self.moved += n as u64;
                    }
                    self.state = copying();
                }
                State::Copy { buffer, start, end } => {
                    if start == end {
                        if self.may_splice && self.moved >= SPLICE_AFTER {
                            match Self::spliced(from, to) {
                                Some(pipe) => self.state = State::Splice(pipe),
                                None => self.may_splice = false,
                            }
                            continue;
                        }
                        let mut into = ReadBuf::new(buffer);
                        match Pin::new(&mut *from).poll_read(cx, &mut into) {
                            // A TLS peer that closes without saying so has closed; a tunnel promises no more than bytes.
                            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                            Poll::Ready(result) => result.map_err(SideError::Read)?,
                            // What was written into a TLS stream may still lie in its buffer.
                            Poll::Pending => {
                                let _ = Pin::new(to).poll_flush(cx).map_err(SideError::Write)?;
                                return Poll::Pending;
                            }
                        }
                        (*start, *end) = (0, into.filled().len());
                        if *end == 0 {
                            self.state = State::Closing;
                            continue;
                        }
                    }
                    let n = ready!(write_some(Pin::new(&mut *to), cx, &buffer[*start..*end]))?;
                    *start += n;
                    self.moved += n as u64;
                }
                State::Splice(pipe) => {
                    let (Some(source), Some(sink)) = (from.plain(), to.plain()) else {
                        unreachable!("a direction is spliced only between plain sockets")
                    };
                    let done = pipe.poll_move(cx, source, sink, &mut self.moved);
                    ready!(done).map_err(|e| if e.0 { SideError::Read(e.1) } else { SideError::Write(e.1) })?;
                    self.state = State::Closing;
                }
                State::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(SideError::Write)?;
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    fn spliced(from: &impl End, to: &impl End) -> Option<splice::Pipe> {
        from.plain()?;
        to.plain()?;
        splice::Pipe::new().ok()
    }
}

fn copying() -> State {
    State::Copy { buffer: vec![0; COPY_BYTES].into_boxed_slice(), start: 0, end: 0 }
}

fn write_some(to: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, SideError>> {
    match ready!(to.poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(SideError::Write(io::ErrorKind::WriteZero.into()))),
        Ok(n) => Poll::Ready(Ok(n)),
        Err(e) => Poll::Ready(Err(SideError::Write(e))),
    }
}

impl End for TcpStream {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (a, b) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (a.unwrap(), b.unwrap().0)
    }

    /// A tunnel between two sockets; gives their far ends and the running tunnel.
    async fn open(idle: Duration, early: &'static [u8]) -> (TcpStream, TcpStream, tokio::task::JoinHandle<Carried>) {
        let (client, near) = pair().await;
        let (far, target) = pair().await;
        let early = Bytes::from_static(early);
        (client, target, tokio::spawn(carry(near, far, Bytes::new(), early, idle)))
    }

    #[tokio::test]
    async fn each_direction_closes_on_its_own() {
        let (mut client, mut target, tunnel) = open(Duration::from_secs(20), b"").await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        target.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"question", "the client's end reached the target");
        target.write_all(b"answer, after the client had closed its side").await.unwrap();
        drop(target);
        got.clear();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer, after the client had closed its side");
        let carried = tunnel.await.unwrap();
        assert_eq!((carried.egress, carried.ingress), (8, 44));
        assert!(carried.error.is_none());
    }

    #[tokio::test]
    async fn bulk_is_spliced_and_arrives_whole_and_in_order() {
        const SIZE: usize = 8 << 20;
        let (mut client, mut target, tunnel) = open(Duration::from_secs(20), b"early").await;
        let sent: Vec<u8> = (0..SIZE).map(|i| (i * 31 + i / 251) as u8).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            target.write_all(&copy).await.unwrap();
            target.shutdown().await.unwrap();
            let mut end = Vec::new();
            target.read_to_end(&mut end).await.unwrap();
            assert_eq!(end, b"bye");
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got[..5] == *b"early" && got[5..] == sent[..], "{} bytes", got.len());
        client.write_all(b"bye").await.unwrap();
        client.shutdown().await.unwrap();
        writer.await.unwrap();
        assert_eq!(tunnel.await.unwrap().ingress, SIZE as u64 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_on_which_nothing_moves_is_closed_after_the_idle_timeout() {
        let (_client, _target, tunnel) = open(Duration::from_secs(600), b"").await;
        assert!(matches!(tunnel.await.unwrap().error, Some(TunnelError::Idle)));
    }

    #[tokio::test]
    async fn a_reset_names_the_side_that_broke() {
        let (client, target, tunnel) = open(Duration::from_secs(20), b"").await;
        socket2::SockRef::from(&target).set_linger(Some(Duration::ZERO)).unwrap();
        drop(target);
        assert!(matches!(tunnel.await.unwrap().error, Some(TunnelError::Target(_))));
        drop(client);
    }
}
