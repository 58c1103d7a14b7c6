//! Servers that do what a test says, step by step, under the socket's own code: connections in memory, time in the test's hand.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use url::Url;

use crate::socket::builder::SocketBuilder;
use crate::socket::reach::{Ask, BoxFuture, Reach, Reached, Unreachable};
use crate::socket::transport::{Evidence, Switched, Wire};

/// A connection in memory whose bytes are counted.
struct Counted {
    io: DuplexStream,
    count: Arc<AtomicU64>,
}

impl Wire for Counted {
    fn evidence(&self) -> Evidence {
        let count = Arc::clone(&self.count);
        Evidence::new(move || count.load(Ordering::Relaxed))
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.count.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The server's end of a connection.
pub(crate) struct Peer {
    ws: WebSocketStream<DuplexStream>,
}

impl Peer {
    /// The next text; `None` when the client is gone. Pings and closes are passed over.
    pub(crate) async fn hear(&mut self) -> Option<String> {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(crate) async fn expect(&mut self, text: &str) {
        assert_eq!(self.hear().await.as_deref(), Some(text));
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.ws.send(Message::text(text.to_owned())).await.unwrap();
    }

    /// Opens a Socket.IO session as a server does.
    pub(crate) async fn open(&mut self) {
        self.say(r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#).await;
        self.expect("40").await;
        self.say(r#"40{"sid":"x"}"#).await;
    }
}

struct Server {
    url: Url,
    is_up: AtomicBool,
    capacity: usize,
    accept: mpsc::UnboundedSender<Peer>,
}

/// Two servers and who is better.
pub(crate) struct World {
    servers: Vec<Server>,
    better: Mutex<Option<Url>>,
    elections: watch::Sender<u64>,
    /// How often the socket asked for a connection, whatever came of it.
    pub(crate) asked: Mutex<Vec<String>>,
}

/// A server as a test sees it: who connects.
pub(crate) type Door = mpsc::UnboundedReceiver<Peer>;

impl World {
    /// Servers named `a` and `b`, whose connections hold `capacity` bytes on the way.
    pub(crate) fn new(capacity: usize) -> (Arc<Self>, Door, Door) {
        let server = |name: &str| {
            let (accept, door) = mpsc::unbounded_channel();
            let url = Url::parse(&format!("http://{name}")).unwrap();
            (Server { url, is_up: AtomicBool::new(true), capacity, accept }, door)
        };
        let ((a, door_a), (b, door_b)) = (server("a"), server("b"));
        let elections = watch::Sender::new(0);
        let world = Self { servers: vec![a, b], better: Mutex::default(), elections, asked: Mutex::default() };
        (Arc::new(world), door_a, door_b)
    }

    pub(crate) fn socketio(self: &Arc<Self>) -> SocketBuilder {
        let reach: Arc<dyn Reach> = self.clone();
        SocketBuilder::socketio(reach)
    }

    pub(crate) fn plain(self: &Arc<Self>) -> SocketBuilder {
        let reach: Arc<dyn Reach> = self.clone();
        SocketBuilder::plain(reach, "/ws")
    }

    pub(crate) fn url(&self, name: &str) -> Url {
        self.server(name).url.clone()
    }

    pub(crate) fn set_up(&self, name: &str, is_up: bool) {
        self.server(name).is_up.store(is_up, Ordering::Relaxed);
    }

    /// Says that `name` should be used, or nobody in particular.
    pub(crate) fn elect(&self, name: Option<&str>) {
        *self.better.lock().unwrap() = name.map(|name| self.url(name));
        self.elections.send_modify(|version| *version += 1);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn server(&self, name: &str) -> &Server {
        self.servers.iter().find(|server| server.url.host_str() == Some(name)).unwrap()
    }
}

fn refused() -> Unreachable {
    Unreachable { status: None, not_sent: true, message: "refused".to_owned() }
}

impl World {
    fn connect(&self, ask: &Ask) -> Result<(Reached, Peer), Unreachable> {
        let wanted = |server: &&Server| ask.only.as_ref().is_none_or(|only| *only == server.url);
        let mut reached = self.servers.iter().filter(wanted).filter(|server| {
            self.asked.lock().unwrap().push(server.url.host_str().unwrap().to_owned());
            server.is_up.load(Ordering::Relaxed)
        });
        let server = reached.next().ok_or_else(refused)?;
        let (client, peer) = duplex(server.capacity);
        let key = ask.headers.get("sec-websocket-key").unwrap().as_bytes();
        let accept = HeaderValue::from_str(&derive_accept_key(key)).unwrap();
        let headers: HeaderMap = [(http::header::SEC_WEBSOCKET_ACCEPT, accept)].into_iter().collect();
        let wire = Box::new(Counted { io: client, count: Arc::default() });
        let switched = Switched { wire, early: Bytes::new() };
        let endpoint = server.url.clone();
        Ok((Reached { switched, endpoint, headers }, peer_of(peer)))
    }
}

fn peer_of(io: DuplexStream) -> Peer {
    // It begins with an empty buffer and reads nothing, so it does not wait.
    let ws = futures_util::FutureExt::now_or_never(WebSocketStream::from_raw_socket(io, Role::Server, None));
    Peer { ws: ws.unwrap() }
}

impl Reach for World {
    fn upgrade(&self, ask: Ask) -> BoxFuture<Result<Reached, Unreachable>> {
        let outcome = self.connect(&ask).map(|(reached, peer)| {
            // A test that is over does not accept any more.
            let _ = self.server(reached.endpoint.host_str().unwrap()).accept.send(peer);
            reached
        });
        Box::pin(async move { outcome })
    }

    fn fetch(&self, _: Ask) -> BoxFuture<Result<(String, Url), Unreachable>> {
        Box::pin(async { Err(refused()) })
    }

    fn exchange(&self, _: Ask, _: Option<String>) -> BoxFuture<Result<String, Unreachable>> {
        let status = Some(StatusCode::NOT_FOUND);
        Box::pin(async move { Err(Unreachable { status, ..refused() }) })
    }

    fn order(&self) -> Vec<Url> {
        self.servers.iter().map(|server| server.url.clone()).collect()
    }

    fn better_than(&self, endpoint: &Url) -> Option<Url> {
        self.better.lock().unwrap().clone().filter(|better| better != endpoint)
    }

    fn look(&self, _: Ask, _: &Url) -> Option<BoxFuture<()>> {
        None
    }

    fn elections(&self) -> watch::Receiver<u64> {
        self.elections.subscribe()
    }

    fn lost(&self, _: &Url) {}

    fn good(&self, _: &Url) {}
}
