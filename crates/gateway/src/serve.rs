//! Serves one client connection: tells HTTP/1 from HTTP/2, runs the protocol, and carries the tunnel if it becomes one.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::accept::Permit;
use crate::client_io::{Activity, ClientIo, ClientStream};
use crate::config::Limits;
use crate::door;
use crate::errors::ErrorCode;
use crate::tunneling::Takeover;
use crate::worker::Worker;
use handover_wire::conn::BUFFER_BYTES_MAX;

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// First read of a connection: a whole ordinary request, so that telling the protocols apart costs no extra system call.
const FIRST_READ_BYTES: usize = 4096;

/// Streams that one HTTP/2 client may have open at once: nginx's and Envoy's order of magnitude (128, 100), and enough for
/// browsers; a bound on what one connection can make the gateway hold.
const HTTP2_STREAMS_MAX: u32 = 128;

/// How often a client of HTTP/2 is asked whether it is still there, and how long it may take to say so: gRPC's server
/// default is 20 s for the answer. One that never answers could keep its place for ever.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// A client that was let in.
pub(crate) struct Arrival {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: Permit,
    pub(crate) tls: Option<tokio_rustls::TlsAcceptor>,
}

/// A client's connection, as the sweep and the doors see it.
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    http1: Cell<bool>,
    activity: Rc<Activity>,
    /// Requests that are not over: their response's last byte has not been handed to the connection.
    active: Cell<usize>,
    /// Requests so far.
    requests: Cell<u64>,
    /// It has become a tunnel, which has its own idle timeout.
    tunnel: Cell<bool>,
    /// What the last sweep saw, and since when it has not changed.
    seen: Cell<Option<Seen>>,
    seen_since: Cell<Instant>,
    ending: Cell<Ending>,
    waker: RefCell<Option<Waker>>,
    pub(crate) takeover: RefCell<Option<Takeover>>,
}

/// What a connection waits for, and how far it is. While it stays the same, nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    waits_for: WaitsFor,
    requests: u64,
    taken: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    /// The rest of a request head, or the first one.
    Head,
    /// The client, to take what was written to it.
    Taking,
    /// The next request.
    Request,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    No,
    /// Running requests finish, no new ones are taken.
    Drain,
    /// A request head did not come in time.
    SlowHead,
    /// Nothing was asked for a long time.
    Idle,
    /// The client took nothing of its response for a long time.
    Stalled,
}

impl Client {
    fn new(ip: IpAddr) -> Self {
        Client {
            ip,
            http1: Cell::new(true),
            activity: Rc::default(),
            active: Cell::new(0),
            requests: Cell::new(0),
            tunnel: Cell::new(false),
            seen: Cell::new(None),
            seen_since: Cell::new(Instant::now()),
            ending: Cell::new(Ending::No),
            waker: RefCell::default(),
            takeover: RefCell::default(),
        }
    }

    /// Whether it speaks HTTP/1.
    pub(crate) fn is_http1(&self) -> bool {
        self.http1.get()
    }

    /// Called every second: closes connections that are too slow or too idle. A slow head is judged by when it began, so
    /// dripping bytes does not help it; a client that takes nothing of its response by when it last took some.
    pub(crate) fn look_over(&self, now: Instant, limits: &Limits) {
        let seen = self.waits_for().map(|waits_for| Seen {
            waits_for,
            requests: self.requests.get(),
            taken: self.activity.taken.get(),
        });
        let before = self.seen.replace(seen);
        let (Some(seen), true) = (seen, before == seen) else {
            self.seen_since.set(now);
            return;
        };
        let (limit, ending) = match seen.waits_for {
            // A gateway that ends does not wait for a request that has not begun to be one.
            WaitsFor::Head if self.ending.get() == Ending::Drain => (Duration::ZERO, Ending::SlowHead),
            WaitsFor::Head => (limits.header_timeout, Ending::SlowHead),
            WaitsFor::Taking => (limits.idle_timeout, Ending::Stalled),
            WaitsFor::Request => (limits.idle_timeout, Ending::Idle),
        };
        if now.saturating_duration_since(self.seen_since.get()) >= limit {
            self.end(ending);
        }
    }

    /// What the connection waits for from the client; `None` while the gateway or a node has the next word.
    fn waits_for(&self) -> Option<WaitsFor> {
        if self.tunnel.get() {
            None
        } else if self.activity.blocked.get() {
            Some(WaitsFor::Taking)
        } else if self.active.get() > 0 {
            None
        } else if self.activity.mid_head.get() || self.requests.get() == 0 {
            Some(WaitsFor::Head)
        } else {
            Some(WaitsFor::Request)
        }
    }

    /// No new requests; running ones finish.
    pub(crate) fn drain(&self) {
        self.end(Ending::Drain);
    }

    fn end(&self, ending: Ending) {
        self.ending.set(ending);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Polled beside the protocol: what is to become of the connection.
    fn ending(&self, waker: &Waker) -> Ending {
        let mut own = self.waker.borrow_mut();
        if own.is_none() {
            *own = Some(waker.clone());
        }
        self.ending.get()
    }

    /// Why its requests broke off, if that was the gateway's doing.
    pub(crate) fn why_cut(&self) -> Option<&'static str> {
        match self.ending.get() {
            Ending::Stalled => Some("cut off: the client took nothing of its response for limits.idle_timeout"),
            Ending::No | Ending::Drain | Ending::SlowHead | Ending::Idle => None,
        }
    }
}

/// Counts a request as being served for as long as it lives.
pub(crate) struct Active(Rc<Client>);

impl Active {
    pub(crate) fn new(client: &Rc<Client>) -> Self {
        client.active.set(client.active.get() + 1);
        client.requests.set(client.requests.get() + 1);
        Active(Rc::clone(client))
    }
}

impl Active {
    /// The client it belongs to.
    pub(crate) fn client(&self) -> &Client {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

/// Serves a client until it leaves.
pub(crate) async fn serve(worker: Rc<Worker>, arrival: Arrival) {
    let Arrival { stream, peer, permit, tls } = arrival;
    let view = worker.view();
    let client = Rc::new(Client::new(crate::node::client_ip(peer.ip())));
    let entered = worker.enter(&client);
    if worker.is_draining() {
        client.drain();
    }
    let mut opening = pin!(tokio::time::timeout(view.config.limits.header_timeout, open(stream, tls.as_ref())));
    let opened = poll_fn(|cx| match client.ending(cx.waker()) {
        Ending::No => opening.as_mut().poll(cx).map(|opened| opened.ok().and_then(Result::ok)),
        _ => Poll::Ready(None),
    });
    let Some((stream, first)) = opened.await else { return };
    let http1 = !first.starts_with(&HTTP2_PREFACE[..14]);
    client.http1.set(http1);
    let io = TokioIo::new(ClientIo::new(stream, first, http1, Rc::clone(&client.activity)));
    drop(view);
    if http1 {
        serve_http1(&worker, &client, io).await
    } else {
        serve_http2(&worker, &client, io).await
    }
    drop((entered, permit));
}

/// The stream, after its TLS handshake if there is one, and its first bytes.
async fn open(
    stream: std::net::TcpStream,
    tls: Option<&tokio_rustls::TlsAcceptor>,
) -> io::Result<(ClientStream, Bytes)> {
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    handover_wire::dial::keep_alive(&stream)?;
    let mut stream = match tls {
        None => ClientStream::Tcp(stream),
        Some(tls) => ClientStream::Tls(Box::new(tls.accept(stream).await?)),
    };
    let mut first = BytesMut::with_capacity(FIRST_READ_BYTES);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The only request that begins like the preface is the preface.
        let undecided = first.len() < 14 && HTTP2_PREFACE.starts_with(&first);
        if !undecided {
            return Ok((stream, first.freeze()));
        }
    }
}

/// The parser's own limit of header fields. It is free; any other makes the parser allocate for every head.
const PARSER_HEADERS: usize = 100;

async fn serve_http1(worker: &Rc<Worker>, client: &Rc<Client>, io: TokioIo<ClientIo>) {
    let (config, own) = (Rc::clone(worker), Rc::clone(client));
    let limits = config.view().config.limits.clone();
    let service = service_fn(move |request| {
        let (worker, client) = (Rc::clone(&config), Rc::clone(&own));
        async move { Ok::<_, Infallible>(door::handle(worker, client, request).await) }
    });
    let mut http = http1::Builder::new();
    // Times are kept by the sweep: a timer of hyper's own would be set and cleared for every single request.
    http.header_read_timeout(None).max_header_size(limits.header_bytes_max);
    http.max_buf_size(BUFFER_BYTES_MAX.max(limits.header_bytes_max));
    if limits.header_count_max != PARSER_HEADERS {
        http.max_headers(limits.header_count_max);
    }
    let mut http = http.serve_connection(io, service);
    let ended = poll_fn(|cx| {
        match client.ending(cx.waker()) {
            Ending::No => {}
            Ending::Drain => Pin::new(&mut http).graceful_shutdown(),
            ending => return Poll::Ready(Err(ending)),
        }
        Pin::new(&mut http).poll(cx).map(Ok)
    })
    .await;
    let parts = http.into_parts();
    let mut stream = parts.io.into_inner().into_stream();
    match ended {
        Ok(Ok(())) => {
            let takeover = client.takeover.borrow_mut().take();
            if let Some(takeover) = takeover {
                client.tunnel.set(true);
                takeover.carry(worker, stream, parts.read_buf).await;
            } else {
                close(stream).await;
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(client = %client.ip, "client connection: {}", handover_wire::conn::full_text(&error))
        }
        // Behind earlier responses, part of which may not have left yet, there is no room for another word.
        Err(Ending::SlowHead) if client.requests.get() == 0 => {
            let late = ErrorCode::RequestTimeout.last_words();
            let _ = tokio::time::timeout(LAST_WORDS, stream.write_all(late.as_bytes())).await;
        }
        Err(_) => {}
    }
}

/// How long the gateway waits for a client to take its last words, or to close after it was told to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes of a client that are read and thrown away after the last response, so that the client gets the response and not
/// a reset for what it was still sending (RFC 9112 §9.6).
const DISCARD_BYTES_MAX: usize = 64 * 1024;

async fn close(mut stream: ClientStream) {
    let _ = tokio::time::timeout(LAST_WORDS, async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut discard = BytesMut::with_capacity(FIRST_READ_BYTES);
        let mut total = 0;
        while total < DISCARD_BYTES_MAX {
            discard.clear();
            match stream.read_buf(&mut discard).await {
                Ok(n) if n > 0 => total += n,
                _ => return,
            }
        }
    })
    .await;
}

/// Runs HTTP/2 streams in this thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

async fn serve_http2(worker: &Rc<Worker>, client: &Rc<Client>, io: TokioIo<ClientIo>) {
    let (own_worker, own) = (Rc::clone(worker), Rc::clone(client));
    let limits = worker.view().config.limits.clone();
    let service = service_fn(move |request| {
        let (worker, client) = (Rc::clone(&own_worker), Rc::clone(&own));
        async move { Ok::<_, Infallible>(door::handle(worker, client, request).await) }
    });
    let header_bytes = u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX);
    let mut http = http2::Builder::new(Local);
    http.timer(TokioTimer::new()).max_header_list_size(header_bytes).max_concurrent_streams(HTTP2_STREAMS_MAX);
    http.keep_alive_interval(HTTP2_PING).keep_alive_timeout(HTTP2_PING);
    let mut http = pin!(http.serve_connection(io, service));
    let result = poll_fn(|cx| {
        match client.ending(cx.waker()) {
            Ending::No => {}
            Ending::Drain | Ending::Idle => http.as_mut().graceful_shutdown(),
            Ending::SlowHead | Ending::Stalled => return Poll::Ready(Ok(())),
        }
        http.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(client = %client.ip, "client connection: {}", handover_wire::conn::full_text(&error));
    }
}
