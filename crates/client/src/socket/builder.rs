//! What a socket can be told before it is opened.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use super::error::InvalidSocket;
use super::event::{Event, Handlers};
use super::join::{JoinError, Joining, Resumed};
use super::reach::Reach;
use super::setup::{EventId, Language, Limits, Setup, Transports, event_id};
use super::{FailoverSocket, join};

/// Builds a [`FailoverSocket`].
#[must_use = "a socket is opened by `open`"]
pub struct SocketBuilder {
    reach: Arc<dyn Reach>,
    language: Language,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    limits: Limits,
    handlers: Handlers,
    join: Option<join::JoinHook>,
    catch_up: Option<join::CatchUpHook>,
    event_id: EventId,
    problem: Option<InvalidSocket>,
}

impl std::fmt::Debug for SocketBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketBuilder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SocketBuilder {
    pub(crate) fn plain(reach: Arc<dyn Reach>, path: &str) -> Self {
        Self::new(reach, Language::Plain, path)
    }

    pub(crate) fn socketio(reach: Arc<dyn Reach>) -> Self {
        let language = Language::SocketIo {
            namespace: "/".to_owned(),
            auth: String::new(),
            transports: Transports::WebSocketThenPolling,
        };
        // Where Socket.IO's server listens by default.
        Self::new(reach, language, "/socket.io/")
    }

    fn new(reach: Arc<dyn Reach>, language: Language, path: &str) -> Self {
        Self {
            reach,
            language,
            path: path.to_owned(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            limits: Limits::default(),
            handlers: Handlers::default(),
            join: None,
            catch_up: None,
            event_id: Arc::new(event_id),
            problem: None,
        }
    }

    /// Where the servers listen, behind each endpoint's own path. The default of Socket.IO is `/socket.io/`.
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Adds to the query of each connection: Classworks' servers take a `token` here.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Fields that go with each connection's requests.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The namespace of Socket.IO; `/` by default. A plain WebSocket has none.
    pub fn namespace(mut self, name: &str) -> Self {
        let name = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
        if name.contains(',') {
            self.problem = Some(InvalidSocket("a namespace has no comma in it".to_owned()));
        }
        match &mut self.language {
            Language::SocketIo { namespace, .. } => *namespace = name,
            Language::Plain => self.not_socketio(),
        }
        self
    }

    /// What authenticates when the namespace is entered: a JSON object. A plain WebSocket has none.
    pub fn auth(mut self, value: impl Serialize) -> Self {
        match (serde_json::to_value(value), &mut self.language) {
            (Ok(Value::Object(fields)), Language::SocketIo { auth, .. }) => *auth = Value::Object(fields).to_string(),
            (_, Language::Plain) => self.not_socketio(),
            _ => self.problem = Some(InvalidSocket("what authenticates is an object in JSON".to_owned())),
        }
        self
    }

    /// Which transports Socket.IO may use. A plain WebSocket has no choice.
    pub fn transports(mut self, allowed: Transports) -> Self {
        match &mut self.language {
            Language::SocketIo { transports, .. } => *transports = allowed,
            Language::Plain => self.not_socketio(),
        }
        self
    }

    fn not_socketio(&mut self) {
        self.problem = Some(InvalidSocket("a plain WebSocket has no namespace, no auth and no transports".to_owned()));
    }

    /// Calls `handler` for each event of that name; `message` on a plain WebSocket. It is registered once and outlives every
    /// connection. It is called in the socket's own task, so it must not block; one that panics changes nothing for others.
    pub fn on(self, event: &str, handler: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.handlers.add(event, handler);
        self
    }

    /// Runs on each new connection before anything else is sent on it. If it fails, or takes longer than the connection may,
    /// the next server is tried.
    pub fn join<F>(mut self, hook: impl Fn(Joining) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), JoinError>> + Send + 'static,
    {
        self.join = Some(Arc::new(move |joining| Box::pin(hook(joining))));
        self
    }

    /// Runs once for each time the socket came back or went over, after the join: what happened between is to be asked for
    /// here. One that is not done when the socket is lost again is dropped, and the next begins where that one did.
    pub fn catch_up<F>(mut self, hook: impl Fn(Resumed) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.catch_up = Some(Arc::new(move |resumed| Box::pin(hook(resumed))));
        self
    }

    /// Tells which event it is by its arguments, so that one which the old and the new connection bring while the socket goes
    /// over to a better server is delivered once. By default the field `eventId` of the first argument.
    pub fn event_id(mut self, id: impl Fn(&[Value]) -> Option<String> + Send + Sync + 'static) -> Self {
        self.event_id = Arc::new(id);
        self
    }

    /// How long a connection may take to stand, and again to be joined. 20 s, as in Socket.IO's client.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// The pause after the first round without success, and the longest one; between them it doubles, and each is drawn from
    /// half to one and a half of it. 1 s and 5 s, as in Socket.IO's client. A connection that lasted as long as the first
    /// pause is replaced without any.
    pub fn reconnect_delay(mut self, first: Duration, longest: Duration) -> Self {
        self.limits.reconnect_delay = first;
        self.limits.reconnect_delay_max = longest.max(first);
        self
    }

    /// How long a message may take if it does not say, waiting for a connection included. 20 s.
    pub fn send_timeout(mut self, limit: Duration) -> Self {
        self.limits.send = limit;
        self
    }

    /// How long a connection that is given up for a better one, or closed, may take to answer what it has. 5 s.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.limits.drain = limit;
        self
    }

    /// How often a better server is asked whether it is back, while another one serves: with a request to the socket's own
    /// path, unless the client has a [`Probe`](crate::Probe). 5 s. How long it must have been good is the client's
    /// [`FailbackPolicy`](crate::FailbackPolicy) to say.
    pub fn failback_check(mut self, every: Duration) -> Self {
        self.limits.failback_check = every;
        self
    }

    /// How often in a minute it may go back to a better server, so that one which comes and goes does not take the socket with
    /// it each time. 6; with 0 it never goes back while its connection lives.
    pub fn failbacks_per_minute(mut self, most: u32) -> Self {
        self.limits.failbacks_per_minute = most;
        self
    }

    /// How many messages may be under way or wait, and how many bytes they may have together. 1024, and 16 MiB. One more is an
    /// error at once.
    pub fn queue_max(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.queue = messages;
        self.limits.queue_bytes = bytes;
        self
    }

    /// The largest message that is taken from a server, in bytes. 16 MiB.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// On a plain WebSocket: how long a silence may be before a sign of life is asked for, and how long that may take. 25 s and
    /// 20 s. A Socket.IO server says by itself what counts.
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.limits.ping_interval = interval;
        self.limits.ping_timeout = timeout;
        self
    }

    /// Opens it: it connects at once, and for ever, until it is closed or dropped.
    ///
    /// # Errors
    /// If it was told what cannot be.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(self) -> Result<FailoverSocket, InvalidSocket> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        if self.limits.queue == 0 {
            return Err(InvalidSocket("a socket without room for a message cannot send any".to_owned()));
        }
        let setup = Setup {
            reach: self.reach,
            language: self.language,
            path: self.path,
            query: self.query,
            headers: self.headers,
            limits: self.limits,
            join: self.join,
            catch_up: self.catch_up,
            event_id: self.event_id,
        };
        Ok(FailoverSocket::start(setup, self.handlers))
    }
}
