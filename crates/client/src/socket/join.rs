//! What an application does on each new connection before anything else is sent, and after it has come back.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use super::FailoverSocket;
use super::error::SendError;
use super::event::Event;
use super::link::{Link, Step};
use super::post::{self, Post, Sending};
use super::protocol::Arrived;
use super::reach::BoxFuture;

/// Messages that a join may have under way: it asks for a handful of rooms.
const MESSAGES_MAX: usize = 64;

/// Events that may come before a join is done; a server that sends more is left. It is as much as the history that a
/// Classworks server keeps.
const EVENTS_MAX: usize = 1024;

/// Why a join failed.
pub type JoinError = Box<dyn Error + Send + Sync>;

/// Joins on a new connection.
pub(crate) type JoinHook = Arc<dyn Fn(Joining) -> BoxFuture<Result<(), JoinError>> + Send + Sync>;

/// Catches up after the socket came back.
pub(crate) type CatchUpHook = Arc<dyn Fn(Resumed) -> BoxFuture<()> + Send + Sync>;

/// A new connection that is not used for anything else yet.
#[derive(Debug)]
pub struct Joining {
    post: Post,
    events: mpsc::Receiver<Event>,
    endpoint: Url,
}

impl Joining {
    /// With whom the connection is.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Sends an event on this connection. `null` is no argument at all.
    pub fn emit(&self, event: &str, value: impl Serialize) -> Sending<()> {
        self.post.sending(post::event(event, value))
    }

    /// Sends an event on this connection and waits for the server's answer.
    pub fn emit_with_ack(&self, event: &str, value: impl Serialize) -> Sending<Value> {
        self.post.sending(post::event(event, value))
    }

    /// The next event that comes on this connection; `None` when it broke. Those that came before the join asked for them
    /// are not lost.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Waits for an event by its name, and passes over others; the handlers get those all the same.
    ///
    /// # Errors
    /// When the connection breaks before.
    ///
    /// # Cancel safety
    /// Events that it has passed over do not come again.
    pub async fn wait_for(&mut self, event: &str) -> Result<Event, SendError> {
        self.wait_for_any(&[event]).await
    }

    /// Waits for the first of several events: `["joined", "join-error"]`.
    ///
    /// # Errors
    /// When the connection breaks before.
    ///
    /// # Cancel safety
    /// Events that it has passed over do not come again.
    pub async fn wait_for_any(&mut self, events: &[&str]) -> Result<Event, SendError> {
        while let Some(event) = self.next_event().await {
            if events.contains(&event.name()) {
                return Ok(event);
            }
        }
        Err(SendError::unknown("the connection broke while it was joined"))
    }
}

/// Why a socket is somewhere else than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection broke: events between were lost.
    Lost,
    /// A better server was back. The old connection served until the new one had joined.
    Failback,
}

/// A socket has come back, or gone over. What happened between is not known to it: history has to be asked for, or state read
/// again.
#[derive(Clone, Debug)]
pub struct Resumed {
    pub(crate) from: Url,
    pub(crate) to: Url,
    pub(crate) gap: Duration,
    pub(crate) cause: Cause,
    pub(crate) socket: FailoverSocket,
}

impl Resumed {
    /// Where the socket was.
    #[must_use]
    pub fn from(&self) -> &Url {
        &self.from
    }

    /// Where it is now.
    #[must_use]
    pub fn to(&self) -> &Url {
        &self.to
    }

    /// How long nothing was heard: since the connection broke, or since the first that was not caught up with. Zero after a
    /// failback.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.gap
    }

    /// Why it is somewhere else.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The socket, to ask with.
    #[must_use]
    pub fn socket(&self) -> &FailoverSocket {
        &self.socket
    }
}

/// Ends a task when it is dropped.
#[derive(Debug)]
pub(crate) struct Task<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs the hook on `link` and moves the link meanwhile: what came. Not cancel safe: the connection is of no use then.
///
/// # Errors
/// Why the connection cannot be used.
pub(crate) async fn join(
    link: &mut Link,
    hook: &JoinHook,
    bytes_max: usize,
    limit: Duration,
) -> Result<Vec<Arrived>, String> {
    let (post, mut letters) = Post::new(MESSAGES_MAX, bytes_max, limit);
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let joining = Joining { post, events, endpoint: link.endpoint.clone() };
    // A task of its own, so that a panic in it is seen and ends nothing else.
    let mut task = Task(tokio::spawn(hook(joining)));
    let mut came = Vec::new();
    let mut waiting = None;
    let mut asks = true;
    loop {
        tokio::select! {
            biased;
            done = &mut task.0 => return match done {
                Ok(Ok(())) => Ok(came),
                Ok(Err(error)) => Err(format!("the join failed: {error}")),
                Err(_) => Err("the join panicked".to_owned()),
            },
            letter = letters.recv(), if asks && waiting.is_none() => {
                asks = letter.is_some();
                waiting = letter;
            }
            step = link.step(waiting.is_some()) => match step {
                Step::Writable => {
                    if let Some(letter) = waiting.take_if(|letter| letter.gate.take()) {
                        link.hand(letter);
                    }
                    waiting = None;
                }
                Step::Event(arrived) => {
                    if came.len() >= EVENTS_MAX {
                        return Err("too many events came before it was joined".to_owned());
                    }
                    // The hook may have dropped its end, and is as long as all that may come.
                    let _ = tell.try_send(Event::new(arrived.clone(), link.endpoint.clone(), None, None));
                    came.push(arrived);
                }
                Step::Lost(lost) => return Err(lost.why),
                Step::Opened | Step::Settled => {}
            },
        }
    }
}
