//! Connections to a peer of the test's own, and bodies that tell what became of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use handover_core::{Fault, Sent};
use handover_testkit::Authority;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use tokio::time::Instant;

use crate::body::TrackedBody;
use crate::conn::ExchangeError;
use crate::dial::{DialNode, Dialer, Dialled, Host, Progress, RawCounter, Target, TargetRules, TlsRoots};
use crate::h2::{H2Body, H2Conn};

/// How long something may take that has to happen. What takes longer is a failure; far above what a loaded machine needs.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// How long a request gets that is meant to run out of time.
pub(super) const SHORT: Duration = Duration::from_millis(150);

pub(super) type Conn = H2Conn<Upload>;

/// A request body; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Upload(Arc<Inner>);

#[derive(Default)]
struct Inner {
    frames: Mutex<VecDeque<Frame<Bytes>>>,
    /// How many zero bytes come in pieces after the frames.
    zeros: Mutex<usize>,
    /// How many in a piece.
    piece: usize,
    /// Whether it waits after that for more that never comes.
    stalls: bool,
    polled: AtomicBool,
    ended: AtomicBool,
}

/// Bytes of a piece of a long body: several frames.
const LARGE: usize = 50_000;
/// Bytes of a piece of a body that dribbles: little enough for `h2` to copy many of them together.
const SMALL: usize = 100;

impl Upload {
    pub(super) fn none() -> Self {
        let body = Upload::default();
        body.0.ended.store(true, Ordering::SeqCst);
        body
    }

    pub(super) fn of(data: &'static [u8]) -> Self {
        Upload::frames([Frame::data(Bytes::from_static(data))])
    }

    pub(super) fn frames(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Self {
        Upload(Arc::new(Inner { frames: Mutex::new(frames.into_iter().collect()), ..Inner::default() }))
    }

    pub(super) fn zeros(length: usize) -> Self {
        Upload(Arc::new(Inner { zeros: Mutex::new(length), piece: LARGE, ..Inner::default() }))
    }

    pub(super) fn dribbling(length: usize) -> Self {
        Upload(Arc::new(Inner { zeros: Mutex::new(length), piece: SMALL, ..Inner::default() }))
    }

    pub(super) fn stalling(data: &'static [u8]) -> Self {
        let frames = Mutex::new(VecDeque::from([Frame::data(Bytes::from_static(data))]));
        Upload(Arc::new(Inner { frames, stalls: true, ..Inner::default() }))
    }

    pub(super) fn was_polled(&self) -> bool {
        self.0.polled.load(Ordering::SeqCst)
    }
}

impl TrackedBody for Upload {
    fn is_ended(&self) -> bool {
        self.0.ended.load(Ordering::SeqCst)
    }

    fn is_waiting(&self) -> bool {
        self.0.stalls && self.0.frames.lock().unwrap().is_empty()
    }

    fn last_read(&self) -> Option<std::time::Instant> {
        None
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.polled.store(true, Ordering::SeqCst);
        if let Some(frame) = self.0.frames.lock().unwrap().pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.0.stalls {
            return Poll::Pending;
        }
        let mut zeros = self.0.zeros.lock().unwrap();
        if *zeros > 0 {
            let piece = self.0.piece.min(*zeros);
            *zeros -= piece;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; piece])))));
        }
        self.0.ended.store(true, Ordering::SeqCst);
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended()
    }
}

/// A connection with what counts its raw bytes.
pub(super) async fn connect_counted(at: SocketAddr) -> (Conn, RawCounter) {
    started(dial(&Dialer::new(TlsRoots::only(Vec::new())), at, false).await).await
}

/// One whose socket is soon full.
pub(super) async fn connect_narrow(at: SocketAddr) -> (Conn, RawCounter) {
    let dialled = dial(&Dialer::new(TlsRoots::only(Vec::new())), at, false).await;
    // The kernel makes at least 4608 bytes of it (socket(7)).
    socket2::SockRef::from(dialled.io.tcp()).set_send_buffer_size(1).unwrap();
    started(dialled).await
}

pub(super) async fn connect(at: SocketAddr) -> Conn {
    connect_counted(at).await.0
}

/// The same by TLS, with ALPN.
pub(super) async fn connect_tls(at: SocketAddr, authority: &Authority) -> (Conn, RawCounter) {
    let roots = TlsRoots::with_ca_files(&[authority.file()]).map_err(|error| error.problem).unwrap();
    let dialled = dial(&Dialer::new(roots).offering_http2(), at, true).await;
    assert!(dialled.io.is_http2(), "the peer chose HTTP/2");
    started(dialled).await
}

async fn dial(dialer: &Dialer, at: SocketAddr, tls: bool) -> Dialled {
    let target = Target { host: Host::Ip(at.ip()), port: at.port(), tls };
    let rules = TargetRules { allow_private: true, own: Vec::new() };
    dialer.dial(&DialNode::direct("test"), &target, &rules, &Progress::new()).await.expect("it listens")
}

async fn started(dialled: Dialled) -> (Conn, RawCounter) {
    let raw = dialled.io.raw_counter();
    let conn = H2Conn::start(dialled.io, dialled.peer).await.map_err(|error| error.text).expect("it takes the preface");
    (conn, raw)
}

pub(super) fn get(path: &str) -> Request<Upload> {
    request("GET", path, Upload::none())
}

pub(super) fn post(path: &str, body: Upload) -> Request<Upload> {
    request("POST", path, body)
}

fn request(method: &str, path: &str, body: Upload) -> Request<Upload> {
    Request::builder().method(method).uri(format!("http://kv.example{path}")).body(body).unwrap()
}

pub(super) type Answered = Result<Response<H2Body>, ExchangeError>;

/// Sends a request that has time.
pub(super) async fn send(conn: &Conn, request: Request<Upload>) -> Answered {
    conn.exchange(request, Instant::now() + LIMIT).await
}

/// Sends it in a task of its own.
pub(super) fn sending(conn: &Conn, request: Request<Upload>, limit: Duration) -> tokio::task::JoinHandle<Answered> {
    let conn = conn.clone();
    tokio::spawn(async move { conn.exchange(request, Instant::now() + limit).await })
}

/// The response's body and its trailers.
pub(super) async fn read(response: Response<H2Body>) -> (Vec<u8>, Option<HeaderMap>) {
    let (mut body, mut bytes, mut trailers) = (response.into_body(), Vec::new(), None);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.expect("the body is whole").into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    (bytes, trailers)
}

/// What is proven of a request that has no answer, and what went wrong.
pub(super) fn told(answered: Answered) -> (Sent, Fault, String) {
    let error = answered.err().expect("there is no answer");
    (error.sent, error.fault, error.text)
}
