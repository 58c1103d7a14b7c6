//! From nothing to a connection that has joined: one round over the servers, each of them once.
//!
//! Who can be reached is the client's to find out, in its own order. What comes after (the session, the namespace, the join)
//! can fail at a server that was reached very well, so the others get their turn here.

use std::collections::VecDeque;
use std::sync::Arc;

use http::header::{
    HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::Url;

use super::engineio::{Handshake, Packet, VERSION, read_payload};
use super::frame::Frame;
use super::join::join;
use super::link::{Link, Step};
use super::protocol::Arrived;
use super::reach::{Ask, Reached, Unreachable};
use super::setup::{Language, Setup, Transports};
use super::transport::{Broken, Polling, Transport, WebSocket};

/// A connection that has joined.
pub(crate) struct Established {
    pub(crate) link: Link,
    /// What came before the join was done.
    pub(crate) came: Vec<Arrived>,
}

/// A server that could not be used, if one was reached, and why.
#[derive(Debug)]
struct Failed {
    endpoint: Option<Url>,
    status: Option<http::StatusCode>,
    why: String,
}

impl Failed {
    fn at(endpoint: &Url, why: String) -> Self {
        Self { endpoint: Some(endpoint.clone()), status: None, why }
    }
}

/// Whom a round asks.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// In the client's order, each once.
    Round,
    /// The same, but this one last: it has fallen silent, and finding that out again takes a time limit.
    RoundWithLast(Url),
    /// This one only.
    Only(Url),
}

/// Goes over the servers. Dropping it gives up what it has; nothing was sent that anybody waits for.
///
/// # Errors
/// Why the last one could not be used.
pub(crate) async fn establish(setup: Arc<Setup>, plan: Plan) -> Result<Established, String> {
    let mut tried = Vec::new();
    let (mut only, last) = match plan {
        Plan::Only(url) => return attempt(&setup, Some(url)).await.map_err(|failed| failed.why),
        Plan::Round => (None, None),
        Plan::RoundWithLast(last) => (setup.reach.order().into_iter().find(|url| *url != last), Some(last)),
    };
    loop {
        let asked = only.clone();
        let failed = match attempt(&setup, only).await {
            Ok(established) => return Ok(established),
            Err(failed) => failed,
        };
        // Nobody was reached, in the client's own failover: there is none left to ask.
        let Some(at) = failed.endpoint.or(asked) else { return Err(failed.why) };
        tried.push(at);
        let untried = |url: &Url| !tried.contains(url);
        let next = setup.reach.order().into_iter().find(|url| untried(url) && Some(url) != last.as_ref());
        only = next.or_else(|| last.clone().filter(untried));
        if only.is_none() {
            return Err(failed.why);
        }
    }
}

async fn attempt(setup: &Arc<Setup>, only: Option<Url>) -> Result<Established, Failed> {
    let mut link = connect(setup, only).await?;
    let endpoint = link.endpoint.clone();
    let joined = tokio::time::timeout(setup.limits.connect, open_and_join(setup, &mut link)).await;
    match joined.unwrap_or_else(|_| Err("not joined within the time that it may take".to_owned())) {
        Ok(came) => {
            setup.reach.good(&endpoint);
            Ok(Established { link, came })
        }
        Err(why) => {
            setup.reach.lost(&endpoint);
            Err(Failed::at(&endpoint, why))
        }
    }
}

async fn open_and_join(setup: &Setup, link: &mut Link) -> Result<Vec<Arrived>, String> {
    loop {
        match link.step(false).await {
            Step::Opened => break,
            Step::Lost(lost) => return Err(lost.why),
            Step::Event(_) | Step::Writable | Step::Settled => {}
        }
    }
    match &setup.join {
        Some(hook) => join(link, hook, setup.limits.queue_bytes, setup.limits.connect).await,
        None => Ok(Vec::new()),
    }
}

async fn connect(setup: &Arc<Setup>, only: Option<Url>) -> Result<Link, Failed> {
    let transports = match &setup.language {
        Language::Plain => return websocket(setup, only, None).await.map(|(url, ws)| link(setup, url, Box::new(ws))),
        Language::SocketIo { transports, .. } => *transports,
    };
    match transports {
        Transports::WebSocket => websocket(setup, only, None).await.map(|(url, ws)| link(setup, url, Box::new(ws))),
        Transports::Polling => polling(setup, only, false).await,
        Transports::PollingThenWebSocket => polling(setup, only, true).await,
        Transports::WebSocketThenPolling => match websocket(setup, only.clone(), None).await {
            Ok((url, ws)) => Ok(link(setup, url, Box::new(ws))),
            // Somebody speaks HTTP there and does not switch: polling is HTTP.
            Err(failed) if failed.status.is_some() => polling(setup, only, false).await,
            Err(failed) => Err(failed),
        },
    }
}

fn link(setup: &Setup, endpoint: Url, transport: Box<dyn Transport>) -> Link {
    Link::new(endpoint, transport, setup.protocol())
}

fn ask(setup: &Setup, only: Option<Url>, transport: &str, sid: Option<&str>) -> Ask {
    let mut query = setup.query.clone();
    if matches!(setup.language, Language::SocketIo { .. }) {
        query.push(("EIO".to_owned(), VERSION.to_owned()));
        query.push(("transport".to_owned(), transport.to_owned()));
        query.extend(sid.map(|sid| ("sid".to_owned(), sid.to_owned())));
    }
    let (path, headers) = (setup.path.clone(), setup.headers.clone());
    Ask { path, query, headers, only, limit: setup.limits.connect, answer_bytes_max: setup.limits.message_bytes }
}

/// What a server is asked that may be back: its socket's own path, without opening anything. A server that lives says that
/// this is no way to open a session (400, 426); a proxy before one that does not says 502.
pub(crate) fn question(setup: &Setup) -> Ask {
    ask(setup, None, "none", None)
}

async fn websocket(setup: &Setup, only: Option<Url>, sid: Option<&str>) -> Result<(Url, WebSocket), Failed> {
    let mut ask = ask(setup, only.clone(), "websocket", sid);
    let key = generate_key();
    switching_headers(&mut ask.headers, &key);
    let reached = setup.reach.upgrade(ask).await.map_err(|error| unreachable(only, error))?;
    let Reached { switched, endpoint, headers } = reached;
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        setup.reach.lost(&endpoint);
        return Err(Failed::at(&endpoint, "the server switched to something else than a WebSocket".to_owned()));
    }
    Ok((endpoint, WebSocket::new(switched, setup.limits.message_bytes).await))
}

fn switching_headers(headers: &mut HeaderMap, key: &str) {
    let mut insert = |name: HeaderName, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).expect("a number and base64 are header values"));
    };
    insert(SEC_WEBSOCKET_VERSION, "13");
    insert(SEC_WEBSOCKET_KEY, key);
}

fn unreachable(only: Option<Url>, error: Unreachable) -> Failed {
    Failed { endpoint: only, status: error.status, why: error.message }
}

/// Opens a session by polling, and takes it to a WebSocket if it may and the server offers one. That happens before anything
/// is said in the session, so that no message is between two transports.
async fn polling(setup: &Arc<Setup>, only: Option<Url>, may_upgrade: bool) -> Result<Link, Failed> {
    let fetched = setup.reach.fetch(ask(setup, only.clone(), "polling", None)).await;
    let (body, endpoint) = fetched.map_err(|error| unreachable(only, error))?;
    let (mut came, handshake) = opened(&body).map_err(|why| Failed::at(&endpoint, why))?;
    if may_upgrade && handshake.upgrades {
        let probed = tokio::time::timeout(setup.limits.connect, probe(setup, &endpoint, &handshake.sid)).await;
        if let Ok(Some(ws)) = probed {
            let mut link = link(setup, endpoint, Box::new(ws));
            came.into_iter().for_each(|frame| link.feed(frame));
            return Ok(link);
        }
    }
    let mut ask = ask(setup, Some(endpoint.clone()), "polling", Some(&handshake.sid));
    // A poll waits until the server has something to say, which it has at the latest when it asks for a sign of life.
    ask.limit = handshake.silence_max;
    let first = came.pop_front();
    let transport = Polling::new(Arc::clone(&setup.reach), ask, handshake.body_bytes_max, came);
    let mut link = link(setup, endpoint, Box::new(transport));
    first.into_iter().for_each(|frame| link.feed(frame));
    Ok(link)
}

fn opened(body: &str) -> Result<(VecDeque<Frame>, Handshake), String> {
    let came: VecDeque<Frame> = read_payload(body).map_err(|error| error.to_string())?.into();
    let Some(Frame::Text(first)) = came.front() else {
        return Err("the server opened no session".to_owned());
    };
    match Packet::read(first) {
        Ok(Packet::Open(json)) => {
            let handshake = Handshake::read(json).map_err(|error| error.to_string())?;
            Ok((came, handshake))
        }
        _ => Err("the server opened no session".to_owned()),
    }
}

/// Asks on a WebSocket whether the session can be had there, and moves it if so.
async fn probe(setup: &Setup, endpoint: &Url, sid: &str) -> Option<WebSocket> {
    let (_, mut ws) = websocket(setup, Some(endpoint.clone()), Some(sid)).await.ok()?;
    say(&mut ws, Packet::Ping("probe").write()).await.ok()?;
    let answer = std::future::poll_fn(|cx| ws.poll_next(cx)).await.ok()?;
    if answer != Packet::Pong("probe").write() {
        return None;
    }
    say(&mut ws, Packet::Upgrade.write()).await.ok()?;
    Some(ws)
}

async fn say(ws: &mut WebSocket, frame: Frame) -> Result<(), Broken> {
    std::future::poll_fn(|cx| ws.poll_ready(cx)).await?;
    ws.start_send(frame)?;
    std::future::poll_fn(|cx| ws.poll_flush(cx)).await
}
