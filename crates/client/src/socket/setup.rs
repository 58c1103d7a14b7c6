//! What a socket was told to be: everything that its builder gathers and its connections are made from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::join::{CatchUpHook, JoinHook};
use super::protocol::{Heartbeat, Plain, Protocol, SocketIo};
use super::reach::Reach;

/// Which transports a Socket.IO connection may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// A WebSocket, and polling where a server or something before it refuses that. One round trip less than the other way
    /// round.
    #[default]
    WebSocketThenPolling,
    /// Polling, and then a WebSocket if the server offers one, as Socket.IO's own client begins.
    PollingThenWebSocket,
    /// A WebSocket or nothing.
    WebSocket,
    /// Polling for ever.
    Polling,
}

/// What is spoken on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Language {
    /// Messages as they are.
    Plain,
    /// Socket.IO: its namespace, what authenticates as JSON, and by which transports.
    SocketIo { namespace: String, auth: String, transports: Transports },
}

/// Tells by its arguments which event it is, whoever sends it.
pub(crate) type EventId = Arc<dyn Fn(&[Value]) -> Option<String> + Send + Sync>;

/// Times and bounds.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) reconnect_delay: Duration,
    pub(crate) reconnect_delay_max: Duration,
    pub(crate) send: Duration,
    pub(crate) drain: Duration,
    pub(crate) failback_check: Duration,
    pub(crate) failbacks_per_minute: u32,
    pub(crate) queue: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) message_bytes: usize,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What Socket.IO's client gives a connection (`timeout`).
            connect: Duration::from_secs(20),
            // Its `reconnectionDelay` and `reconnectionDelayMax`.
            reconnect_delay: Duration::from_secs(1),
            reconnect_delay_max: Duration::from_secs(5),
            // Its client waits for ever by default, which no caller can bound; as long as a connection may take.
            send: Duration::from_secs(20),
            // Answers take a round trip and a write to a store; what takes longer than 5 s holds up all that comes after.
            drain: Duration::from_secs(5),
            // A Socket.IO client knocks at a server that is away as often (`reconnectionDelayMax`).
            failback_check: Duration::from_secs(5),
            // What the client's own failback policy allows: a connection that is made anew that often is still of use.
            failbacks_per_minute: 6,
            // As many as tasks of one application may wait for at once; more is a caller that does not look at errors.
            queue: 1024,
            queue_bytes: 16 * 1024 * 1024,
            // tungstenite's limit on one frame. Socket.IO's server takes 1 MB from a client and bounds nothing that it sends.
            message_bytes: 16 * 1024 * 1024,
            // What Engine.IO's server does (`pingInterval`, `pingTimeout`), for connections on which nobody else asks.
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// All of it. Shared by the socket and the futures that connect it.
pub(crate) struct Setup {
    pub(crate) reach: Arc<dyn Reach>,
    pub(crate) language: Language,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) limits: Limits,
    pub(crate) join: Option<JoinHook>,
    pub(crate) catch_up: Option<CatchUpHook>,
    pub(crate) event_id: EventId,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("path", &self.path).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Setup {
    /// A new connection's protocol.
    pub(crate) fn protocol(&self) -> Box<dyn Protocol> {
        match &self.language {
            Language::Plain => Box::new(Plain::new(Heartbeat {
                silence_max: self.limits.ping_interval + self.limits.ping_timeout,
                ask_after: Some(self.limits.ping_interval),
            })),
            Language::SocketIo { namespace, auth, .. } => {
                let opening = Heartbeat { silence_max: self.limits.connect, ask_after: None };
                Box::new(SocketIo::new(namespace.clone(), auth.clone(), self.limits.message_bytes, opening))
            }
        }
    }
}

/// The id that Classworks' servers give an event: the field `eventId` of its first argument.
pub(crate) fn event_id(args: &[Value]) -> Option<String> {
    args.first()?.get("eventId")?.as_str().map(str::to_owned)
}
