//! A socket that goes to the next server with its work, and comes back.
//!
//! A WebSocket or a Socket.IO connection to one of several servers, in the client's order and with what the client knows of
//! their health. When its connection is lost it goes to the next one, joins there again, and says that there is something to
//! catch up with. When a better server is back it makes the new connection first, and gives the old one up when that has
//! answered what it was sent.
//!
//! ```no_run
//! # async fn example(client: handover_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use handover_client::socket::FailoverSocket;
//! use serde_json::json;
//!
//! let socket = FailoverSocket::socketio(&client)
//!     .join(|mut connection| async move {
//!         connection.emit("join-token", json!({"token": "…"})).await?;
//!         connection.wait_for("joined").await?;
//!         Ok(())
//!     })
//!     .on("kv-key-changed", |event| tracing::info!(data = %event.data()))
//!     .catch_up(|resumed| async move {
//!         tracing::info!(from = %resumed.from(), to = %resumed.to(), "read again what changed meanwhile");
//!     })
//!     .open()?;
//! match socket.emit_with_ack("send-event", json!({"type": "bell", "content": null})).await {
//!     Ok(answer) => tracing::info!(%answer, "executed, once"),
//!     Err(error) if error.is_not_sent() => tracing::info!("not executed, and will not be"),
//!     Err(error) => tracing::info!(%error, "only the server knows"),
//! }
//! # Ok(()) }
//! ```
//!
//! What becomes of a message is one of three things, and never guessed:
//!
//! * the server **acknowledged** it;
//! * it was **not sent**: no connection had it, or the one that had it broke before one byte of it had left. It goes out on
//!   the next connection by itself while its time lasts; the error is final;
//! * it is **unknown**: it was on a connection that broke before the answer. It is never repeated, unless its caller said
//!   that it may be ([`Sending::idempotent`]).

mod builder;
mod driver;
mod engineio;
mod error;
mod establish;
mod event;
mod frame;
mod join;
mod letter;
mod link;
mod over_client;
mod post;
mod protocol;
mod reach;
mod setup;
mod socketio;
mod state;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use builder::SocketBuilder;
pub use error::{InvalidSocket, SendError};
pub use event::{Event, HandlerId};
pub use join::{Cause, JoinError, Joining, Resumed};
pub use post::Sending;
pub use setup::Transports;
pub use state::{State, StateChanges};

use crate::client::Client;
use driver::{Driver, Inputs};
use event::Handlers;
use over_client::OverClient;
use post::Post;
use protocol::Content;
use setup::{Language, Setup};

/// Callers that may ask a socket to close at the same time; more of them wait in line.
const CLOSERS: usize = 8;

/// What the socket and its task both hold.
#[derive(Debug)]
pub(crate) struct Shared {
    handlers: Handlers,
    state: Mutex<State>,
    changes: broadcast::Sender<State>,
}

impl Shared {
    fn tell(&self, state: State) {
        tracing::debug!(?state, "socket");
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state.clone();
        // Nobody has to listen.
        let _ = self.changes.send(state);
    }
}

/// The socket, as its users hold it.
#[derive(Debug)]
pub(crate) struct Inner {
    post: Post,
    orders: mpsc::Sender<oneshot::Sender<()>>,
    shared: Arc<Shared>,
    is_plain: bool,
}

/// A socket that fails over. Clones are the same socket; it ends when the last of them is dropped. A handler that holds one
/// keeps it open.
#[derive(Clone, Debug)]
pub struct FailoverSocket {
    inner: Arc<Inner>,
}

impl FailoverSocket {
    /// A plain WebSocket over a client's endpoints, at this path behind each of them.
    pub fn websocket(client: &Client, path: &str) -> SocketBuilder {
        SocketBuilder::plain(Arc::new(OverClient(client.clone())), path)
    }

    /// A Socket.IO connection over a client's endpoints, at `/socket.io/` behind each of them.
    pub fn socketio(client: &Client) -> SocketBuilder {
        SocketBuilder::socketio(Arc::new(OverClient(client.clone())))
    }

    fn start(setup: Setup, handlers: Handlers) -> Self {
        let (post, letters) = Post::new(setup.limits.queue, setup.limits.queue_bytes, setup.limits.send);
        let (orders_in, orders) = mpsc::channel(CLOSERS);
        let (changes, _) = broadcast::channel(state::CHANGES_KEPT);
        let shared = Arc::new(Shared { handlers, state: Mutex::new(State::Connecting), changes });
        let is_plain = matches!(setup.language, Language::Plain);
        let inner = Arc::new(Inner { post, orders: orders_in, shared: Arc::clone(&shared), is_plain });
        let driver = Driver::new(Arc::new(setup), shared, Arc::downgrade(&inner), Inputs { letters, orders });
        // It ends by itself when the last handle is gone.
        drop(tokio::spawn(driver.run()));
        Self { inner }
    }

    /// Calls `handler` for each event of that name, from now on and on every connection. See [`SocketBuilder::on`].
    pub fn on(&self, event: &str, handler: impl Fn(&Event) + Send + Sync + 'static) -> HandlerId {
        self.inner.shared.handlers.add(event, handler)
    }

    /// Takes a handler away; whether it was there.
    pub fn off(&self, handler: HandlerId) -> bool {
        self.inner.shared.handlers.remove(handler)
    }

    /// Sends an event of Socket.IO. `Ok` when it was written to a connection, which does not say that it arrived. `null` is no
    /// argument at all.
    pub fn emit(&self, event: &str, value: impl Serialize) -> Sending<()> {
        self.inner.post.sending(self.has_events().and_then(|()| post::event(event, value)))
    }

    /// Sends an event of Socket.IO and waits for the server's answer: its only argument, or a list of several. `null` is no
    /// argument at all.
    pub fn emit_with_ack(&self, event: &str, value: impl Serialize) -> Sending<Value> {
        self.inner.post.sending(self.has_events().and_then(|()| post::event(event, value)))
    }

    /// Sends an event of Socket.IO with any number of arguments, and waits for the answer.
    pub fn emit_all_with_ack(&self, event: &str, args: Vec<Value>) -> Sending<Value> {
        self.inner.post.sending(self.has_events().map(|()| post::event_of(event, args)))
    }

    /// Sends a text: a message of a plain WebSocket, the event `message` of Socket.IO. `Ok` when it was written.
    pub fn send(&self, text: impl Into<String>) -> Sending<()> {
        self.inner.post.sending(Ok(Content::Text(text.into())))
    }

    /// Sends bytes, as [`send`](Self::send) sends a text.
    pub fn send_bytes(&self, bytes: impl Into<Bytes>) -> Sending<()> {
        self.inner.post.sending(Ok(Content::Bytes(bytes.into())))
    }

    fn has_events(&self) -> Result<(), SendError> {
        if self.inner.is_plain {
            return Err(SendError::invalid("a plain WebSocket has no events and no answers: send a text"));
        }
        Ok(())
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it will be doing: each change from now on.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        StateChanges(self.inner.shared.changes.subscribe())
    }

    /// Waits until it is connected and has joined; false if it was closed before.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn connected(&self) -> bool {
        let mut changes = self.state_changes();
        let mut state = self.state();
        loop {
            match state {
                State::Connected { .. } | State::Switching { .. } => return true,
                State::Closed => return false,
                _ => {}
            }
            let Some(next) = changes.next().await else { return false };
            state = next;
        }
    }

    /// Closes it. Messages that wait are not sent, and told so; those that were sent have the drain timeout to be answered.
    ///
    /// # Cancel safety
    /// It closes all the same.
    pub async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.inner.orders.send(done).await.is_ok() {
            // Gone without a word means gone.
            let _ = wait.await;
        }
    }
}
